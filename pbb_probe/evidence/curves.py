"""What is located: for each kind of rows and each variable, a measure over the layers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pbb_probe.errors import PbbError
from pbb_probe.evidence.transfer import check_coordinates
from pbb_probe.probing.controls import SHUFFLED
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

    @property
    def place(self) -> dict[str, Any]:
        """What tells its row in a table from others."""
        return {**self.kind, "variable": self.variable, "role": self.role, "edge": self.edge}


def use_curves(
    carried: "xr.Dataset", by: Sequence[str] = ("group", "steps"), cluster: str = "program", models: str | None = None
) -> Iterator[Curve]:
    """What `located_use` locates: shares of pairs minus those with random vectors."""
    import pandas as pd

    needed = [*by, cluster, *([models] if models else [])]
    check_coordinates(carried, needed)
    labels = pd.DataFrame({name: carried[name].values for name in needed}, index=range(carried.sizes["pair"]))
    states = [name for name in carried["hypothesis"].values if name.startswith("state_")]
    rules: list[tuple[str, Sequence[str], str, str, Edge]] = [
        ("program", STREAM, "name", "program", "last"),
        ("input", STREAM, "input", "input", "last"),
        *((state, COMPONENTS, "answer", state, "once") for state in states),
        ("output", COMPONENTS, "answer", "everything", "last"),
    ]
    for kind, chosen in each_kind(labels[list(by)]):
        some, table = _above_random(carried.isel(pair=chosen)), labels[chosen]
        for variable, sites, role, hypothesis, edge in rules:
            there = [site for site in sites if site in some]
            if not there or role not in some["role"]:
                continue
            values = some[there].sel(role=role, hypothesis=hypothesis).to_array("site")
            values = values.transpose("site", "layer", "pair").rename(pair="row")
            known = values.notnull().all(["site", "layer"]).values
            if known.any():  # programs of one step have no state
                best = _best_site(values.isel(row=known))
                yield Curve(kind, variable, role, edge, best, _rows(table[known], cluster, models))


def patching_curves(
    recovered: "xr.DataArray",
    variable: Literal["program", "input"],
    by: Sequence[str] = ("group", "steps"),
    cluster: str = "program",
    models: str | None = None,
) -> Iterator[Curve]:
    """What `located_patching` locates: recovery of the stream at the swapped variable's own place."""
    import pandas as pd

    role = "input" if variable == "input" else "name"
    if role not in recovered["role"] or STREAM[0] not in recovered["site"]:
        return
    values = recovered.sel(site=STREAM[0], role=role).transpose("layer", "pair").rename(pair="row")
    names = [name for name in recovered.coords if recovered[name].dims == ("pair",)]
    table = pd.DataFrame({name: recovered[name].values for name in names})
    for kind, chosen in each_kind(table[list(by)]):
        rows = _rows(table[chosen], cluster, models) | {"weights": table["weight"][chosen].tolist()}
        yield Curve(kind, variable, role, "last", values.isel(row=chosen), rows)


def reading_curves(
    probes: "xr.Dataset",
    labels: "pd.DataFrame",
    by: Sequence[str] = ("group", "steps"),
    cluster: str = "program",
    models: str | None = None,
) -> Iterator[Curve]:
    """What `located_reading` locates: gains over the strongest control."""
    if "control_correct" not in probes:
        raise PbbError("These probes have no controls: fit them with controls, such as chance and relabelled.")
    targets = probes["target"].values.tolist()
    _check_columns(labels, [*by, *targets], cluster, models)
    for kind, chosen in each_kind(labels[list(by)]):
        for target in targets:
            known = chosen & _apart(labels, target)
            places: list[tuple[str, Edge]] = [("answer", "first")]
            if target == PROGRAM:
                places = [("answer", "once"), ("name", "once")]
            for role, edge in places:
                if role not in probes["role"] or not known.any():
                    continue
                place = probes.sel(target=target, role=role).isel(site=0, prompt=known)
                left_out = NO_OBJECTION.get(target.split("_")[0], ())
                controls = place["control_correct"].isel(control=~place["control"].isin(left_out))
                gain = _gain(place["correct"], _strongest(controls))
                variable = "program" if target == PROGRAM else target
                yield Curve(kind, variable, role, edge, gain, _rows(labels[known], cluster, models))
            if target == PROGRAM and "embedding" in probes["control"] and known.any():
                everywhere = probes["control_correct"].sel(target=target).isel(site=0, role=0, prompt=known)
                tokens = everywhere.sel(control="embedding", drop=True).isel(layer=[0]).assign_coords(layer=[TOKENS])
                others = everywhere.isel(layer=[0]).isel(control=~everywhere["control"].isin(NO_OBJECTION["op"]))
                gain = _gain(tokens, _strongest(others.assign_coords(layer=[TOKENS])))
                rows = _rows(labels[known], cluster, models)
                yield Curve(kind, "program", "embedding", "once", gain, rows)


def lens_curves(
    looked: "xr.Dataset",
    labels: "pd.DataFrame",
    by: Sequence[str] = ("group", "steps"),
    cluster: str = "program",
    models: str | None = None,
) -> Iterator[Curve]:
    """What `located_lens` locates: gains over values of other prompts."""
    names = [name for name in looked["variable"].values.tolist() if not name.startswith(SHUFFLED)]
    if lacking := {SHUFFLED + name for name in names} - set(looked["variable"].values.tolist()):
        raise PbbError(f"The lens lacks the control {min(lacking)!r}: give it shuffled_values of the variables too.")
    _check_columns(labels, by, cluster, models)
    right = looked["correct"].sel(role="answer")
    for kind, chosen in each_kind(labels[list(by)]):
        for name in names:
            known = chosen & _apart(labels, name) & right.sel(variable=name).notnull().all("layer").values
            if not known.any():
                continue
            some = right.isel(prompt=known)
            gain = _gain(some.sel(variable=name, drop=True), some.sel(variable=SHUFFLED + name, drop=True))
            yield Curve(kind, name, "answer", "first", gain, _rows(labels[known], cluster, models))


def _apart(labels: "pd.DataFrame", target: str) -> "np.ndarray":
    """Prompts [prompt] that have the target; of a state, where it is neither the input nor the output."""
    known = labels[target].notna()
    if target.startswith("state_"):
        for other in ("input", "output"):
            known &= labels[target] != labels[other] if other in labels else True
    return known.to_numpy()


def _above_random(carried: "xr.Dataset") -> "xr.Dataset":
    if "run" not in carried.dims:
        return carried
    patched = carried.sel(run="patched", drop=True)
    return patched - carried.sel(run="random", drop=True) if "random" in carried["run"] else patched


def _strongest(controls: "xr.DataArray") -> "xr.DataArray":
    """(layer, prompt) of the control that is right most often at each layer."""
    means = controls.mean("prompt")
    return controls.sel(control=means.fillna(-1).idxmax("control")).drop_vars("control")


def _gain(correct: "xr.DataArray", control: "xr.DataArray") -> "xr.DataArray":
    """(layer, row), whose mean is the gain; 0 where the control is always right, or there is none.

    Missing for prompts that have no control, such as one of relabelled values, where others have one.
    """
    left = 1 - control.mean("prompt")
    return ((correct - control) / left).where(left > 0, 0.0).transpose("layer", "prompt").rename(prompt="row")


def _best_site(values: "xr.DataArray") -> "xr.DataArray":
    """(layer, row) of values (site, layer, row): at each layer the site whose mean is the largest."""
    return values.isel(site=values.mean("row").argmax("site")).transpose("layer", "row").drop_vars("site")


def _rows(table: "pd.DataFrame", cluster: str, models: str | None) -> dict[str, Any]:
    return {"clusters": table[cluster].tolist()} | ({"models": table[models].tolist()} if models else {})


def _check_columns(labels: "pd.DataFrame", by: Sequence[str], cluster: str, models: str | None) -> None:
    needed = [*by, cluster, *([models] if models else [])]
    if lacking := [name for name in needed if name not in labels]:
        raise PbbError(f"The labels have no column {lacking[0]!r}: {', '.join(map(str, labels.columns))} are there.")
