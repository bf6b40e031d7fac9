"""What is located: for each kind of rows and each variable, a measure over the layers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.evidence.subsets import label_rows
from pbb_probe.labels import AUTO, CONTROL, CORRUPTED, NONE, cluster_label, labels_of, measurement
from pbb_probe.programs.passes import STATES
from pbb_probe.statistics.groups import each_kind
from pbb_probe.statistics.onset import Edge

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

STREAM, COMPONENTS = ("resid_pre",), ("attn_out", "mlp_out")
NO_OBJECTION = {
    "input": ("permutation", "untrained", "base", "relabelled", "embedding"),
    "op": ("permutation", "embedding"),
    "constant": ("permutation", "embedding"),
}
"""Controls that say nothing against a target: the input stands in its token, and any model may bring it to the answer;
operations and constants may stand in the name's token, and are the same in all calls of a program."""
TOKENS = -1
"""The layer of what stands in the tokens' embeddings."""
PROGRAM = "op_1"
"""What stands for the program where it is read."""


class Curve(NamedTuple):
    """What is located: a measure over the layers in which one kind of rows has a variable."""

    kind: dict[str, Any]
    variable: str
    role: str
    edge: Edge
    values: "xr.DataArray"
    """(layer, row)."""
    rows: dict[str, Any]
    """The clusters of the rows and, of several finetunings, their models, as `locate` takes them."""
    programs: int
    """How many the rows have."""

    @property
    def place(self) -> dict[str, Any]:
        """What tells its row in a table from others."""
        return {**self.kind, "variable": self.variable, "role": self.role, "edge": self.edge}


def use_curves(
    carried: "xr.Dataset",
    by: Sequence[str] = ("group", "steps"),
    clusters: str = AUTO,
    models: str | None = None,
) -> Iterator[Curve]:
    """What `located_use` locates: shares of pairs minus those with random vectors."""
    clusters = cluster_label(carried, clusters, CORRUPTED)
    label_rows(carried, _needed(by, clusters, models))  # refuses what is not there
    labels = labels_of(carried, "pair")
    states = [name for name in carried["hypothesis"].values if name.startswith(STATES)]
    rules: list[tuple[str, Sequence[str], str, str, Edge]] = [
        ("program", STREAM, "name", "program", "last"),
        ("input", STREAM, "input", "input", "last"),
        *((state, COMPONENTS, "answer", state, "once") for state in states),
        ("output", COMPONENTS, "answer", "everything", "last"),
    ]
    for kind, chosen in each_kind(labels[list(by)]):
        shares, table = _above_random(carried.isel(pair=chosen)), labels[chosen]
        for variable, sites, role, hypothesis, edge in rules:
            there = [site for site in sites if site in shares]
            if not there or role not in shares["role"]:
                continue
            values = shares[there].sel(role=role, hypothesis=hypothesis).to_array("site")
            values = values.transpose("site", "layer", "pair").rename(pair="row")
            known = values.notnull().all(["site", "layer"]).values
            if known.any():  # programs of one step have no state
                best = _best_site(values.isel(row=known))
                rows, programs = _rows(table[known], clusters, models), _programs(table[known], clusters)
                yield Curve(kind, variable, role, edge, best, rows, programs)


def patching_curves(
    recovered: "xr.DataArray",
    variable: Literal["program", "input"],
    by: Sequence[str] = ("group", "steps"),
    clusters: str = AUTO,
    models: str | None = None,
) -> Iterator[Curve]:
    """What `located_patching` locates: recovery of the stream at the swapped variable's own place."""
    role = "input" if variable == "input" else "name"
    if role not in recovered["role"] or STREAM[0] not in recovered["site"]:
        return
    values = recovered.sel(site=STREAM[0], role=role).transpose("layer", "pair").rename(pair="row")
    table, clusters = labels_of(recovered, "pair"), cluster_label(recovered, clusters)
    for kind, chosen in each_kind(table[list(by)]):
        rows = _rows(table[chosen], clusters, models) | {"weights": table["weight"][chosen].tolist()}
        yield Curve(kind, variable, role, "last", values.isel(row=chosen), rows, _programs(table[chosen], clusters))


def reading_curves(
    probes: "xr.Dataset",
    by: Sequence[str] = ("group", "steps"),
    clusters: str = AUTO,
    models: str | None = None,
) -> Iterator[Curve]:
    """What `located_reading` locates: gains over the strongest control."""
    if CONTROL not in probes.dims:
        raise PbbError("These probes have no controls: fit them with controls, such as chance and relabelled.")
    targets, clusters = probes["target"].values.tolist(), cluster_label(probes, clusters)
    label_rows(probes, [*_needed(by, clusters, models), *targets])  # refuses what is not there
    labels, correct = labels_of(probes, "prompt"), measurement(probes)["correct"]
    controls = probes["correct"].sel({CONTROL: [name for name in probes[CONTROL].values if name != NONE]})
    for kind, chosen in each_kind(labels[list(by)]):
        for target in targets:
            known = chosen & _apart(labels, target)
            places: list[tuple[str, Edge]] = [("answer", "first")]
            if target == PROGRAM:
                places = [("answer", "once"), ("name", "once")]
            for role, edge in places:
                if role not in probes["role"] or not known.any():
                    continue
                place = {"target": target, "role": role}
                here, beside = (values.sel(place).isel(site=0, prompt=known) for values in (correct, controls))
                left_out = NO_OBJECTION.get(target.split("_")[0], ())
                gain = _gain(here, _strongest(beside.isel({CONTROL: ~beside[CONTROL].isin(left_out)})))
                variable = "program" if target == PROGRAM else target
                rows, programs = _rows(labels[known], clusters, models), _programs(labels[known], clusters)
                yield Curve(kind, variable, role, edge, gain, rows, programs)
            if target == PROGRAM and "embedding" in controls[CONTROL] and known.any():
                everywhere = controls.sel(target=target).isel(site=0, role=0, prompt=known)
                tokens = everywhere.sel({CONTROL: "embedding"}, drop=True).isel(layer=[0])
                others = everywhere.isel({"layer": [0], CONTROL: ~everywhere[CONTROL].isin(NO_OBJECTION["op"])})
                tokens, others = (values.assign_coords(layer=[TOKENS]) for values in (tokens, others))
                rows, programs = _rows(labels[known], clusters, models), _programs(labels[known], clusters)
                yield Curve(kind, "program", "embedding", "once", _gain(tokens, _strongest(others)), rows, programs)


def lens_curves(
    looked: "xr.Dataset",
    by: Sequence[str] = ("group", "steps"),
    clusters: str = AUTO,
    models: str | None = None,
) -> Iterator[Curve]:
    """What `located_lens` locates: gains over values of other prompts."""
    if CONTROL not in looked.dims or "shuffled" not in looked[CONTROL]:
        raise PbbError('The lens has no control: call it with controls=["shuffled"].')
    clusters = cluster_label(looked, clusters)
    label_rows(looked, _needed(by, clusters, models))  # refuses what is not there
    labels, correct = labels_of(looked, "prompt"), looked["correct"].sel(role="answer")
    right, by_chance = (correct.sel({CONTROL: name}, drop=True) for name in (NONE, "shuffled"))
    for kind, chosen in each_kind(labels[list(by)]):
        for name in looked["variable"].values.tolist():
            known = chosen & _apart(labels, name) & right.sel(variable=name).notnull().all("layer").values
            if not known.any():
                continue
            here, beside = (values.sel(variable=name, drop=True).isel(prompt=known) for values in (right, by_chance))
            gain = _gain(here, beside)
            rows, programs = _rows(labels[known], clusters, models), _programs(labels[known], clusters)
            yield Curve(kind, name, "answer", "first", gain, rows, programs)


def _apart(labels: "pd.DataFrame", target: str) -> "np.ndarray":
    """Prompts [prompt] that have the target; of a state, where it is neither the input nor the output."""
    known = labels[target].notna()
    if target.startswith(STATES):
        for other in ("input", "output"):
            known &= labels[target] != labels[other] if other in labels else True
    rows: np.ndarray = known.to_numpy()
    return rows


def _above_random(carried: "xr.Dataset") -> "xr.Dataset":
    """The shares of pairs, less those with random vectors where these are a control."""
    if CONTROL not in carried.dims or "random" not in carried[CONTROL]:
        return measurement(carried)
    return measurement(carried) - carried.sel({CONTROL: "random"}, drop=True)


def _strongest(controls: "xr.DataArray") -> "xr.DataArray":
    """(layer, prompt) of the control that is right most often at each layer."""
    means = controls.mean("prompt")
    return controls.sel({CONTROL: means.fillna(-1).idxmax(CONTROL)}).drop_vars(CONTROL)


def _gain(correct: "xr.DataArray", control: "xr.DataArray") -> "xr.DataArray":
    """(layer, row), whose mean is the gain; 0 where the control is always right, or there is none.

    Missing for prompts that have no control, such as one of relabelled values, where others have one.
    """
    left = 1 - control.mean("prompt")
    return ((correct - control) / left).where(left > 0, 0.0).transpose("layer", "prompt").rename(prompt="row")


def _best_site(values: "xr.DataArray") -> "xr.DataArray":
    """(layer, row) of values (site, layer, row): at each layer the site whose mean is the largest."""
    return values.isel(site=values.mean("row").argmax("site")).transpose("layer", "row").drop_vars("site")


def _rows(table: "pd.DataFrame", clusters: str, models: str | None) -> dict[str, Any]:
    return {"clusters": table[clusters].tolist()} | ({"models": table[models].tolist()} if models else {})


def _programs(table: "pd.DataFrame", clusters: str) -> int:
    """How many programs rows have: of the side that the clusters are of; clusters where no programs are named."""
    name = clusters.replace("function", "program")
    return int(table[name if name in table else clusters].nunique())


def _needed(by: Sequence[str], clusters: str, models: str | None) -> list[str]:
    return [*by, clusters, *([models] if models else [])]
