// What happens in the browser alone: the address, the theme, copying, downloads, and stepping through layers.
(function () {
  "use strict";
  const say = (text) => { document.getElementById("said").textContent = text; };
  // What one view passes on to the next: a program looked at here is the one looked at there.
  const SHARED = ["group", "program", "call", "swap", "other", "role", "site", "layer", "subset", "selection", "variable"];

  function plotOf(id) {
    const card = document.getElementById(id);
    return card && card.querySelector(".js-plotly-plot");
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch (refused) { // outside of localhost and https there is no clipboard but this
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }

  const actions = {
    async copy(button) {
      await copy(document.getElementById(button.dataset.of + "-code").textContent);
      say("Copied.");
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy as Python"; }, 1500);
    },
    download(button, format) {
      const plot = plotOf(button.dataset.of);
      const name = button.dataset.of.replace("figure-", "");
      const { width, height } = plot.getBoundingClientRect();
      window.Plotly.downloadImage(plot, { format, filename: name, width, height, scale: format === "png" ? 2 : 1 });
    },
    png(button) { actions.download(button, "png"); },
    svg(button) { actions.download(button, "svg"); },
    clear() {
      window.dash_clientside.set_props({ quiet: "selection" }, { value: "" });
      window.dash_clientside.set_props("wanted", { value: "" });
    },
    play(button) {
      const id = { quiet: "layer" };
      const last = Number(button.dataset.last);
      let layer = -1;
      clearInterval(actions.playing);
      actions.playing = setInterval(() => {
        layer += 1;
        if (layer > last || !document.body.contains(button)) { clearInterval(actions.playing); return; }
        window.dash_clientside.set_props(id, { value: layer });
      }, 500);
    },
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (button && actions[button.dataset.action]) { actions[button.dataset.action](button); }
  });
  // The link of the view that is shown leads nowhere new; going back within a view shows what its address says.
  document.addEventListener("click", (event) => {
    if (event.target.closest("nav .here")) { event.preventDefault(); event.stopPropagation(); }
  }, true);
  let shownPath = location.pathname;
  window.addEventListener("popstate", () => { if (location.pathname === shownPath) { location.reload(); } });

  document.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => { // Alt and a number opens a view
    if (event.altKey && /^[1-9]$/.test(event.key)) {
      const link = document.querySelectorAll("nav .link")[Number(event.key) - 1];
      if (link) { event.preventDefault(); link.click(); }
    }
  });

  // An open list puts the focus on the option that is chosen, or is about to: what is typed searches it all the same.
  document.addEventListener("keydown", (event) => {
    const list = event.target.closest(".dash-dropdown-wrapper");
    const search = list && list.querySelector(".dash-dropdown-search");
    const typed = event.key.length === 1 && event.key !== " "; // a space chooses the option
    if (search && typed && !event.altKey && !event.ctrlKey && !event.metaKey) { search.focus(); }
  }, true);

  // A view that is drawn anew has new parts in place of the old: what was unfolded among them is unfolded again.
  const unfolded = new Set();
  document.addEventListener("toggle", ({ target }) => { unfolded[target.open ? "add" : "delete"](target.id); }, true);
  new MutationObserver(() => {
    for (const id of unfolded) {
      const part = document.getElementById(id);
      if (part) { part.open = true; }
    }
  }).observe(document.body, { childList: true, subtree: true });

  function current() {
    const kept = localStorage.getItem("pbb-theme");
    return kept || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    explorer: {
      theme(clicks) {
        let theme = current();
        if (clicks) {
          theme = theme === "dark" ? "light" : "dark";
          localStorage.setItem("pbb-theme", theme);
        }
        document.documentElement.dataset.theme = theme;
        return theme;
      },

      // The values of all controls go into the address; the links to the other views take along what they share.
      address(values, quietValues, ids, quietIds, links) {
        const query = new URLSearchParams();
        ids.forEach((id, i) => query.set(id.control, values[i] ?? ""));
        quietIds.forEach((id, i) => { if ((quietValues[i] ?? "") !== "") { query.set(id.quiet, quietValues[i]); } });
        const shared = new URLSearchParams(location.search);
        quietIds.forEach((id, i) => { if ((quietValues[i] ?? "") === "") { shared.delete(id.quiet); } });
        for (const [name, value] of query) { shared.set(name, value); }
        for (const name of [...shared.keys()]) { if (!SHARED.includes(name)) { shared.delete(name); } }
        shownPath = location.pathname;
        if (ids.length || quietIds.length) {
          for (const [name, value] of shared) { if (!query.has(name)) { query.set(name, value); } }
          history.replaceState(history.state, "", `${location.pathname}?${query}`);
        }
        const text = shared.toString();
        return links.map((id) => (text ? `${id.link}?${text}` : id.link));
      },

      // Another layer of the scatter: its frame has the coordinates and nothing else changes.
      layer(layer) {
        const plot = plotOf("figure-activations");
        const frames = plot && plot._transitionData && plot._transitionData._frameHash;
        if (frames && frames[String(layer)]) {
          // with the outline of a lasso left, plotly would select anew what lies inside it at the other layer
          if ((plot.layout.selections || []).length) { window.Plotly.relayout(plot, { selections: [] }); }
          const traces = frames[String(layer)].data;
          const axes = ["x", "y", "z"].filter((axis) => axis in traces[0]);
          // what Plotly.animate would do, in less than half of its time
          window.Plotly.restyle(plot, Object.fromEntries(axes.map((axis) => [axis, traces.map((t) => t[axis])])));
        }
        return window.dash_clientside.no_update;
      },

      // Whatever the selection was made by, its points stand out; without one all do.
      mark(selection) {
        const plot = plotOf("figure-activations");
        if (!plot || plot.data[0].type !== "scattergl") { return window.dash_clientside.no_update; }
        const bytes = Uint8Array.from(atob((selection || "").replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
        const chosen = (row) => bytes[row >> 3] & (1 << (row & 7));
        const points = plot.data.map((trace) => (
          bytes.length ? [...trace.customdata.keys()].filter((i) => chosen(trace.customdata[i][0])) : null));
        if (!bytes.length && (plot.layout.selections || []).length) { window.Plotly.relayout(plot, { selections: [] }); }
        window.Plotly.restyle(plot, { selectedpoints: points });
        return window.dash_clientside.no_update;
      },

      // A bit a prompt, as address.encode_selection has it.
      lasso(selected, n) {
        const drawn = selected && (selected.lassoPoints || selected.range);
        if (!drawn) { return window.dash_clientside.no_update; } // the view was drawn anew, or its outline taken away
        if (!selected.points.length) { return ""; }
        const bytes = new Uint8Array(Math.ceil(n / 8));
        for (const point of selected.points) {
          const row = Number([].concat(point.customdata)[0]);
          bytes[row >> 3] |= 1 << (row & 7);
        }
        let text = "";
        for (const byte of bytes) { text += String.fromCharCode(byte); }
        return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
      },
    },
  });
})();
