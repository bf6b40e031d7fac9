"""Layer by layer: what is read, said, restored and carried in each group, and their differences below."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.labels import AUTO, CONTROL, NONE, cluster_label
from pbb_probe.views.explorer.address import decode_selection
from pbb_probe.views.explorer.cards import Asked, card, guarded, notice, select, values_of
from pbb_probe.views.explorer.controls import choice, hidden
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.recorded import Recorded, decisive, decoded, named, np, pbb, pd, value_of
from pbb_probe.views.pairs import FIRST, SECOND, pairs_of
from pbb_probe.views.words import explorer as words
from pbb_probe.views.words.phrases import SHORT_SUBSETS, steps_words

if TYPE_CHECKING:
    from dash.development.base_component import Component

PATH, TITLE = "/layers", "Layer by layer"
DRAWS = 2000
"""Resamples of what is compared while one waits."""
SELECTED = ("selected", "others")
PAIRED = "/"
"""Between the groups of a pair in an address."""


def controls(explored: Explored, query: Mapping[str, str]) -> "list[Component]":
    """What is followed, and where."""
    settings = explored.run.config
    variables = [*settings.probing.targets]
    carried: list[str] = []
    if explored.run.key("comparison"):  # a selection of prompts can be compared without
        carried = [
            name for name in values_of(explored.run.table("comparison/transfer"), "hypothesis") if name != "other"
        ]
    return [
        choice(query, "variable", "variable read", variables, "output" if "output" in variables else None),
        choice(query, "role", "at the role", settings.probing.roles, "answer"),
        choice(query, "swap", "swapped (patching)", ("program", "input"), "program"),
        choice(query, "carried", "carried (transfer map)", carried, "program", few=0),
        choice(query, "site", "site patched", settings.patching.sites),
        choice(query, "subset", "calls", calls_of(explored)),
        *pair_choice(explored, query),
        choice(query, "by", "compare", {"group": "the groups", "selection": "selected prompts with the others"}),
        hidden(query, "selection"),
    ]


def calls_of(explored: Explored) -> dict[str, str]:
    """The subsets of single calls that can be chosen, with their words."""
    return {name: SHORT_SUBSETS[name] for name in explored.subsets()}


def pair_choice(explored: Explored, query: Mapping[str, str], every: bool = True) -> "list[Component]":
    """Which two groups are compared, where a run has more than two: all pairs of them, or one."""
    pairs = pairs_of(explored.run.table("comparison/probing")) if explored.run.key("comparison") else []
    if len(pairs) < 2:
        return []
    options = {PAIRED.join(pair): words.BOTH.format(first=pair[0], second=pair[1]) for pair in pairs}
    return [choice(query, "pair", "groups compared", {"": words.ALL_PAIRS} | options if every else options)]


def content(asked: Asked) -> "list[Component]":
    """The curves, or those of a selection of prompts; beside them the probe with all its controls."""
    if asked["by"] == "selection":
        return guarded(lambda: _of_selection(asked))
    return guarded(lambda: _of_groups(asked), lambda: _beside_controls(asked))


def _of_groups(asked: Asked) -> "Component":
    run, variable, site = asked.explored.recorded(), asked["variable"], asked["site"]
    at = {"subset": asked["subset"], "role": asked["role"]}
    pair = tuple(asked["pair"].split(PAIRED)) if asked["pair"] else ()
    at |= dict(zip((FIRST, SECOND), pair, strict=False))
    probed = asked.explored.run.config.probing.sites[0]
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        words.READ.format(variable=variable, site=probed): ("probing", {"target": variable, "site": probed}),
        words.SAID.format(variable=variable): ("lens", {"decode": "logit", "variable": variable}),
        words.USED.format(swap=asked["swap"], site=site): ("patching", {"swap": asked["swap"], "site": site}),
    }
    for n in map(int, values_of(asked.explored.run.table("comparison/transfer_differences"), "steps")):
        title = words.CARRIED.format(hypothesis=asked["carried"].replace("_", " "), steps=steps_words(n), site=site)
        where = {"hypothesis": asked["carried"], "steps": n, "site": site}
        wanted[title] = ("transfer_differences", where)
    tables, absent = {}, []
    for title, (name, where) in wanted.items():
        try:
            tables[title] = select(run.table(f"comparison/{name}"), **at, **where)
        except PbbError:
            absent.append(title)
    if not tables:
        raise PbbError("Nothing was measured here: choose another role, site or variable.")
    title = words.LAYERS.format(role=asked["role"], calls=SHORT_SUBSETS[asked["subset"]])
    said = words.GROUPS_BY_LAYER + words.ABSENT.format(curves="; ".join(absent)) * bool(absent)
    return _curves(asked, tables, said, title=title, **({"groups": pair} if pair else {}))


def _of_selection(asked: Asked) -> "Component":
    """Prompts selected in the scatter against all others: probes and lens, compared here and now."""
    selected = decode_selection(asked["selection"], len(value_of(asked.explored.labels())))
    if selected is None or selected.all():
        return notice(words.SELECT_ELSEWHERE, "hint")
    where = (asked["subset"], asked["variable"], asked["role"])
    tables = asked.explored.crunched(compare_selected, asked["selection"], *where)
    title = words.SELECTED.format(n=selected.sum(), role=asked["role"], calls=SHORT_SUBSETS[asked["subset"]])
    return _curves(asked, tables, words.OF_SELECTION.format(draws=DRAWS), groups=SELECTED, title=title)


def _curves(asked: Asked, tables: dict[str, Recorded], said: str, **settings: Any) -> "Component":
    """Curves and their differences, of tables by heading."""
    joined = pd.concat([table.assign(curve=title) for title, table in tables.items()], ignore_index=True)
    return card(asked, "layers", pbb.figures.curves_with_difference(named(tables, "tables"), **settings), joined, said)


def compare_selected(explored: Explored, selection: str, subset: str, variable: str, role: str) -> dict[str, Recorded]:
    """Probe and lens by layer of selected prompts and the others.

    Raises:
        PbbError: nothing was measured there, or no prompt is left on one side.
    """
    labels = explored.labels()
    selected = named(decoded(selection, len(value_of(labels))), "selected")
    unit = cluster_label(explored.run.array("probing/probes"), AUTO)
    group, programs = named(np.where(selected, *SELECTED), "group"), labels[unit]
    if subset != "all":
        rows = labels["answered"].to_numpy("bool")
        if subset == "decisive":
            rows = decisive(explored.recorded().array("probing/probes"))
        right = named(rows, "right")
        group, programs = named(group[right], "group_of_right"), programs[right]
    if value_of(selected) is None or len(set(value_of(group))) < 2:
        raise PbbError("No prompt is left on one side: select others, or all calls.")
    clusters = named(programs.radd(group), "clusters")
    tables = {}
    for title, (name, where) in _read_at(explored, variable, role).items():
        values = explored.recorded().array(name)["correct"].sel(where).transpose("layer", "prompt")
        values = values.isel(prompt=right) if subset != "all" else values
        tables[title] = pbb.compare_groups(values, group=group.tolist(), clusters=clusters.tolist(), draws=DRAWS)
    return tables


def _read_at(explored: Explored, variable: str, role: str) -> dict[str, tuple[str, dict[str, str]]]:
    """What reads a variable at a role: by title the array's name and where in it."""
    run, readable = explored.run, {}
    site = str(run.array("probing/probes")["site"].values[0])
    probe = words.READ.format(variable=variable, site=site), "probing/probes", {"target": variable, "site": site}
    lens = words.SAID.format(variable=variable), "probing/lens", {"variable": variable, "decode": "logit"}
    for title, name, where in [probe, lens] if run.holds("probing/lens.nc") else [probe]:
        array, at = run.array(name), where | {"role": role}
        if all(value in array[dim] for dim, value in at.items()):
            readable[title] = (name, at | ({CONTROL: NONE} if CONTROL in array.dims else {}))
    if not readable:
        raise PbbError(f"Nothing was measured of {variable} at the {role}: choose something else.")
    return readable


def _beside_controls(asked: Asked) -> "Component":
    where = {"subset": asked["subset"], "target": asked["variable"], "role": asked["role"]}
    where["site"] = asked.explored.run.config.probing.sites[0]
    table = select(asked.explored.recorded().table("comparison/probing_controls"), **where)
    title = words.PROBE_AND_CONTROLS.format(variable=asked["variable"], role=asked["role"])
    figure = pbb.figures.probe_curves(table, title).update_layout(height=480)
    return card(asked, "controls", figure, table, words.CONTROLS)
