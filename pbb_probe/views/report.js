// Draws each figure when it comes near the window, all of them before printing, and again when light turns to dark.
(() => {
  const read = (id) => document.getElementById(id).textContent;
  const templates = JSON.parse(read("templates"));
  // colours of lines and bars that are too near to the dark page's own
  const onDark = { "#000000": "#f0f0f0", "#E6E6E6": "#3d3d3d", "#444444": "#bbbbbb", "#666666": "#999999" };
  const printWidth = 960; // in CSS pixels: as wide as an A4 page holds at the zoom of the print style
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const print = matchMedia("print");
  const plots = [...document.querySelectorAll(".plot")];
  let printing = false;
  let folded = [];

  function draw(plot) {
    const isDark = dark.matches && !printing;
    let text = read(plot.dataset.spec);
    if (isDark) {
      text = text.replace(/"(#\w{6})"/g, (all, colour) => `"${onDark[colour] ?? colour}"`);
    }
    const { data, layout } = JSON.parse(text);
    layout.template = templates[isDark ? "dark" : "white"];
    if (isDark) {
      layout.paper_bgcolor = layout.plot_bgcolor = "#111111";
      for (const trace of data) {
        if (trace.textfont && trace.marker?.opacity < 1) trace.textfont.color = "#f0f0f0"; // faint is dark here
      }
    }
    if (printing) {
      layout.width = printWidth;
    }
    Plotly.newPlot(plot, data, layout, { responsive: !printing, displaylogo: false });
    plot.dataset.drawn = "";
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting) {
          near.unobserve(target);
          draw(target);
        }
      }
    },
    { rootMargin: "100% 0px" },
  );

  function drawWhenNear() {
    for (const plot of plots) {
      if ("drawn" in plot.dataset) {
        Plotly.purge(plot);
        delete plot.dataset.drawn;
      }
      near.unobserve(plot);
      near.observe(plot);
    }
  }

  function toPrint() {
    if (printing) return; // a browser may say it twice
    printing = true;
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const part of folded) part.open = true;
    for (const plot of plots) {
      near.unobserve(plot);
      draw(plot);
    }
  }

  function toScreen() {
    if (!printing) return;
    printing = false;
    for (const part of folded) part.open = false;
    drawWhenNear();
  }

  addEventListener("beforeprint", toPrint);
  addEventListener("afterprint", toScreen);
  print.addEventListener("change", () => (print.matches ? toPrint() : toScreen()));
  dark.addEventListener("change", () => printing || drawWhenNear());
  if (print.matches) toPrint();
  else drawWhenNear();
})();
