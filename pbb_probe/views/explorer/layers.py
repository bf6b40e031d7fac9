"""Layer by layer: what is read, said, restored and carried in both groups, and the difference below."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.views import figures
from pbb_probe.views.explorer.address import decode_selection
from pbb_probe.views.explorer.cards import Asked, Shown, card, guarded, notice, rows_of, select, values_of
from pbb_probe.views.explorer.controls import choice, hidden
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.overview import SUBSETS
from pbb_probe.views.words.phrases import steps_words

if TYPE_CHECKING:
    import pandas as pd
    from dash.development.base_component import Component

PATH, TITLE = "/layers", "Layer by layer"
DRAWS = 2000
"""Resamples of what is compared while one waits."""
SELECTED = ("selected", "others")


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """What is followed, and where."""
    settings = explored.run.config
    variables = [*settings["probing"]["targets"]]
    carried: list[str] = []
    if explored.run.key("comparison"):  # a selection of prompts can be compared without
        carried = [name for name in values_of(explored.table("comparison/transfer"), "hypothesis") if name != "other"]
    return [
        choice(query, "variable", "variable read", variables, "output" if "output" in variables else None),
        choice(query, "role", "at the role", settings["probing"]["roles"], "answer"),
        choice(query, "swap", "swapped (patching)", ("program", "input"), "program"),
        choice(query, "carried", "carried (transfer map)", carried, "program", few=0),
        choice(query, "site", "site patched", settings["patching"]["sites"]),
        choice(query, "subset", "calls", SUBSETS, "all"),
        choice(query, "by", "compare", {"group": "the groups", "selection": "selected prompts with the others"}),
        hidden(query, "selection"),
    ]


def content(asked: Asked) -> "list[Component]":
    """The curves, or those of a selection of prompts; beside them the probe with all its controls."""
    if asked["by"] == "selection":
        return guarded(lambda: _of_selection(asked))
    return guarded(lambda: _of_groups(asked), lambda: _beside_controls(asked))


def _of_groups(asked: Asked) -> "Component":
    probing = {"subset": asked["subset"], "role": asked["role"], "target": asked["variable"]}
    probed = asked.explored.run.config["probing"]["sites"][0]
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        f"read: probe of {asked['variable']} ({probed})": ("comparison/probing", {**probing, "site": probed}),
        f"said: logit lens of {asked['variable']}": (
            "comparison/lens",
            {"decode": "logit", "subset": asked["subset"], "role": asked["role"], "variable": asked["variable"]},
        ),
        f"used: recovery, {asked['swap']} swapped ({asked['site']})": (
            "comparison/patching",
            {key: asked[key] for key in ("subset", "role", "swap", "site")},
        ),
    }
    for n in map(int, values_of(asked.explored.table("comparison/transfer_differences"), "steps")):
        wanted[f"carried: {asked['carried'].replace('_', ' ')}, {steps_words(n)} ({asked['site']})"] = (
            "comparison/transfer_differences",
            {key: asked[key] for key in ("subset", "role", "site")} | {"hypothesis": asked["carried"], "steps": n},
        )
    tables, lines, absent = {}, [], []
    for title, (name, where) in wanted.items():
        try:
            tables[title] = select(asked.explored.table(name), **where)
            lines.append(f"    {title!r}: {rows_of(name, **where)},")
        except PbbError:
            absent.append(title)
    if not tables:
        raise PbbError("Nothing was measured here: choose another role, site or variable.")
    title = f"Layer by layer at the {asked['role']}, {SUBSETS[asked['subset']]}"
    code = "\n".join(
        ["tables = {", *lines, "}", f"figure = pbb.figures.curves_with_difference(tables, title={title!r})"]
    )
    words = (
        "Above, both groups with 95 % bands from resampling programs; below, their difference, marked where it is "
        "significant over all places of its table (adjusted p < 0.05)."
    )
    if absent:
        words += f" Not measured here: {'; '.join(absent)}."
    figure = figures.curves_with_difference(tables, title=title)
    return card(asked, Shown(figure, code, _joined(tables), words), "layers")


def _of_selection(asked: Asked) -> "Component":
    """Prompts selected in the scatter against all others: probes and lens, compared here and now."""
    labels = asked.explored.table("probing/prompts")
    selected = decode_selection(asked["selection"], len(labels))
    if selected is None or selected.all():
        return notice(
            "No prompts are selected: draw a lasso around some of them under Activations, and come back.", "hint"
        )
    variable, role, subset = asked["variable"], asked["role"], asked["subset"]
    tables = asked.explored.crunched(compare_selected, asked["selection"], subset, variable, role)
    title = f"{int(selected.sum())} selected prompts and the others, at the {role}, {SUBSETS[subset]}"
    arrays = "\n".join(
        f"    {name!r}: run.array({array!r})['correct'].sel({where}),"
        for name, (array, where) in _read_at(asked.explored, variable, role).items()
    )
    code = f"""import numpy as np
from pbb_probe.views.explorer.address import decode_selection

labels = run.table('probing/prompts')
selected = decode_selection({asked["selection"]!r}, len(labels))
rows = {"labels['correct'].to_numpy(bool)" if subset == "correct" else "np.ones(len(labels), bool)"}
arrays = {{
{arrays}
}}
tables = {{
    name: pbb.compare_groups(
        values.isel(prompt=rows).transpose('layer', 'prompt'),
        group=np.where(selected, *{SELECTED})[rows].tolist(),
        clusters=(np.where(selected, *{SELECTED}) + labels['program'])[rows].tolist(),
        draws={DRAWS},
    )
    for name, values in arrays.items()
}}
figure = pbb.figures.curves_with_difference(tables, groups={SELECTED}, title={title!r})"""
    figure = figures.curves_with_difference(tables, groups=SELECTED, title=title)
    words = (
        f"Compared over programs with {DRAWS:,} draws; one with prompts on both sides counts on either. Of a selection "
        "made by looking at these prompts p is a guide and no test."
    )
    return card(asked, Shown(figure, code, _joined(tables), words), "layers")


def compare_selected(
    explored: Explored, selection: str, subset: str, variable: str, role: str
) -> "dict[str, pd.DataFrame]":
    """Probe and lens by layer of selected prompts and the others.

    Raises:
        PbbError: nothing was measured there, or no prompt is left on one side.
    """
    import numpy as np

    from pbb_probe.statistics.groups import compare_groups

    labels = explored.table("probing/prompts")
    selected = decode_selection(selection, len(labels))
    rows = labels["correct"].to_numpy(bool) if subset == "correct" else np.ones(len(labels), bool)
    if selected is None or not (selected & rows).any() or not (~selected & rows).any():
        raise PbbError("No prompt is left on one side: select others, or all calls.")
    side = np.where(selected, *SELECTED)
    return {
        title: compare_groups(
            explored.array(array)["correct"].sel(where).isel(prompt=rows).transpose("layer", "prompt"),
            group=side[rows].tolist(),
            clusters=(side + labels["program"])[rows].tolist(),
            draws=DRAWS,
        )
        for title, (array, where) in _read_at(explored, variable, role).items()
    }


def _read_at(explored: Explored, variable: str, role: str) -> dict[str, tuple[str, dict[str, str]]]:
    """What reads a variable at a role: by title the array's name and where in it."""
    probes, found = explored.array("probing/probes"), {}
    if variable in probes["target"] and role in probes["role"]:
        site = str(probes["site"].values[0])
        where = {"target": variable, "site": site, "role": role}
        found[f"read: probe of {variable} ({site})"] = ("probing/probes", where)
    if (explored.run.path / "probing" / "lens.nc").exists():
        lens = explored.array("probing/lens")
        if variable in lens["variable"] and role in lens["role"]:
            where = {"decode": "logit", "variable": variable, "role": role}
            found[f"said: logit lens of {variable}"] = ("probing/lens", where)
    if not found:
        raise PbbError(f"Nothing was measured of {variable} at the {role}: choose something else.")
    return found


def _beside_controls(asked: Asked) -> "Component":
    where = {"subset": asked["subset"], "target": asked["variable"], "role": asked["role"]}
    where["site"] = asked.explored.run.config["probing"]["sites"][0]
    table = select(asked.explored.table("comparison/probing_controls"), **where)
    title = f"The probe of {asked['variable']} at the {asked['role']} beside its controls"
    rows = rows_of("comparison/probing_controls", **where)
    code = f"figure = pbb.figures.probe_curves({rows}, {title!r}).update_layout(height=480)"
    words = "Thin lines are controls on with_io prompts; what the probe reads counts by how far it is above them."
    figure = figures.probe_curves(table, title).update_layout(height=480)
    return card(asked, Shown(figure, code, table, words), "controls")


def _joined(tables: "Mapping[str, pd.DataFrame]") -> "pd.DataFrame":
    import pandas as pd

    return pd.concat([table.assign(curve=title) for title, table in tables.items()], ignore_index=True)
