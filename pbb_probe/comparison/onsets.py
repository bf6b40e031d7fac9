"""Where each variable sets in, by what can be read and by what is used, side by side.

Used (the transfer map, at the answer position unless said otherwise; every share is that of the map minus that of
random vectors of the same norm):
    program   the last block at whose input the name still carries it: this block takes it away
    input     the same at its own place
    state_k   the first block whose attention or MLP output, put into another run, makes the answer follow state k
    output    the last block whose attention or MLP output makes the answer follow the whole other run
Read (probes, and the logit lens; gain = (accuracy - control) / (1 - control), the strongest of the controls):
    program   the first block after which the first step's operation is read
    state_k, output   the first block after which the value is read, and from which on it stays so

What is read need not be used, and what is used may be held in a form that is not read. Context-stripped decoding is no
measure of the output's layer: it succeeds as soon as program and input have arrived, as the blocks above do the rest.
"""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.comparison.locate import Edge, locate
from pbb_probe.comparison.statistics import each_kind
from pbb_probe.errors import PbbError
from pbb_probe.probing.controls import SHUFFLED

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

STREAM, COMPONENTS = ("resid_pre",), ("attn_out", "mlp_out")
OF_TOKENS = ("op_", "constant_", "input")
"""Targets that may stand in the tokens themselves, so that the embedding is no control of them."""
WAYS = ("used", "read")
PROGRAM = "op_1"
"""What stands for the program where it is read."""


def located_use(
    carried: "xr.Dataset",
    by: Sequence[str] = ("group", "steps"),
    cluster: str = "program",
    threshold: float = 0.5,
    **settings: Any,
) -> "pd.DataFrame":
    """The block in which each variable sets in by use, for each kind of pairs.

    Args:
        carried: from `transfer_map`, with the sites that are there of resid_pre, attn_out and mlp_out, and the roles
            name, input and answer; with the control `random` if it is to be taken into account. Variables whose site or
            role is lacking are left out.
        by: coordinates of the pairs whose values get rows of their own.
        cluster: the coordinate that says which pairs belong together.
        threshold: share of pairs.
        settings: `draws`, `seed` of `locate`.

    Returns:
        A row a kind and variable: `layer` with `lower`, `upper` and `found` as in `locate`, `peak` (the largest share
        over the layers, after its control), n pairs and clusters, `role` and `edge`.

    Raises:
        PbbError: a coordinate that the pairs do not have.
    """
    import pandas as pd

    if lacking := [name for name in (*by, cluster) if name not in carried.coords]:
        raise PbbError(f"The pairs have no coordinate {lacking[0]!r}: {', '.join(map(str, carried.coords))} are there.")
    labels = pd.DataFrame({name: carried[name].values for name in by}, index=range(carried.sizes["pair"]))
    states = [name for name in carried["hypothesis"].values if name.startswith("state_")]
    rules: list[tuple[str, Sequence[str], str, str, Edge]] = [
        ("program", STREAM, "name", "program", "last"),
        ("input", STREAM, "input", "input", "last"),
        *((state, COMPONENTS, "answer", state, "once") for state in states),
        ("output", COMPONENTS, "answer", "everything", "last"),
    ]
    rows = []
    for kind, chosen in each_kind(labels):
        some = _above_random(carried.isel(pair=chosen))
        for variable, sites, role, hypothesis, edge in rules:
            there = [site for site in sites if site in some]
            if not there or role not in some["role"]:
                continue
            values = (
                some[there].sel(role=role, hypothesis=hypothesis).to_array("site").transpose("site", "layer", "pair")
            )
            values = values.isel(pair=values.notnull().all(["site", "layer"]).values)
            if not values.sizes["pair"]:
                continue  # programs of one step have no state
            found = _located(values, values[cluster].values.tolist(), threshold, edge, settings)
            rows.append({**kind, "variable": variable, "role": role, "edge": edge, **found})
    return pd.DataFrame(rows)


def located_reading(
    probes: "xr.Dataset",
    labels: "pd.DataFrame",
    by: Sequence[str] = ("group", "steps"),
    cluster: str = "program",
    margin: float = 0.2,
    **settings: Any,
) -> "pd.DataFrame":
    """The block after which each target is read at the answer position, for each kind of prompts; and op_1 at the name.

    Args:
        probes: from `fit_probes` with controls; the first of its sites counts.
        labels: of the same prompts, with the columns `by` and `cluster`, and the targets.
        by: columns whose combinations of values get rows of their own.
        cluster: the column that says which prompts belong together.
        margin: of the gain, the share of what the strongest control at the same place gets wrong that the probe gets
            right. The embedding is no control of operations, constants and the input, which may stand in the tokens.
        settings: `draws`, `seed` of `locate`.

    Returns:
        As `located_use`, with the largest gain as `peak`.

    Raises:
        PbbError: probes without controls, or a column that the labels do not have.
    """
    import pandas as pd

    if "control_correct" not in probes:
        raise PbbError("These probes have no controls: fit them with controls, such as chance and relabelled.")
    targets, rows = probes["target"].values.tolist(), []
    for kind, chosen in each_kind(_columns(labels, [*by, cluster, *targets])[list(by)]):
        for target in targets:
            known = chosen & labels[target].notna().to_numpy()
            places: list[tuple[str, Edge]] = [("answer", "first")]
            if target == PROGRAM:
                places = [("answer", "once"), ("name", "once")]
            for role, edge in places:
                if role not in probes["role"] or not known.any():
                    continue
                place = probes.sel(target=target, role=role).isel(site=0, prompt=known)
                controls = place["control_correct"]
                if target.startswith(OF_TOKENS):
                    controls = controls.sel(control=controls["control"] != "embedding")
                gain = _gain(place["correct"], _strongest(controls))
                found = _located(gain.expand_dims("site"), labels[cluster][known], margin, edge, settings)
                variable = "program" if target == PROGRAM else target
                rows.append({**kind, "variable": variable, "role": role, "edge": edge, **found})
    return pd.DataFrame(rows)


def located_lens(
    looked: "xr.Dataset",
    labels: "pd.DataFrame",
    by: Sequence[str] = ("group", "steps"),
    cluster: str = "program",
    margin: float = 0.2,
    **settings: Any,
) -> "pd.DataFrame":
    """The same by the logit lens, whose control is its accuracy on the values of other prompts.

    Args:
        looked: from `lens`, of variables and, prefixed `SHUFFLED`, of their `shuffled_values`.
        labels: those of `located_reading`; which prompts have a variable, `looked` says.
        by: as in `located_reading`.
        cluster: as in `located_reading`.
        margin: as in `located_reading`.
        settings: `draws`, `seed` of `locate`.

    Returns:
        As `located_reading`.

    Raises:
        PbbError: a variable without its control, or a column that the labels do not have.
    """
    import pandas as pd

    names = [name for name in looked["variable"].values.tolist() if not name.startswith(SHUFFLED)]
    if lacking := {SHUFFLED + name for name in names} - set(looked["variable"].values.tolist()):
        raise PbbError(f"The lens lacks the control {min(lacking)!r}: give it shuffled_values of the variables too.")
    right = looked["correct"].sel(role="answer")
    rows = []
    for kind, chosen in each_kind(_columns(labels, [*by, cluster])[list(by)]):
        for name in names:
            known = chosen & right.sel(variable=name).notnull().all("layer").values
            if not known.any():
                continue
            some = right.isel(prompt=known)
            gain = _gain(some.sel(variable=name, drop=True), some.sel(variable=SHUFFLED + name, drop=True))
            found = _located(gain.expand_dims("site"), labels[cluster][known], margin, "first", settings)
            rows.append({**kind, "variable": name, "role": "answer", "edge": "first", **found})
    return pd.DataFrame(rows)


def side_by_side(
    used: "pd.DataFrame",
    read: "pd.DataFrame",
    lens: "pd.DataFrame | None" = None,
    by: Sequence[str] = ("group", "steps"),
) -> "pd.DataFrame":
    """A row a kind and variable: where it is used, where a probe reads it, where the lens does, and `agreement`.

    `agreement` compares use with the probe: `agree` where their intervals overlap, `disagree` where they do not,
    `only read`, `only used` or `neither` where one is not found or both, in these programs or in most resamples.
    """
    key = [*by, "variable"]
    numbers = ["layer", "lower", "upper", "peak", "n"]
    read = read[read["role"] == "answer"]
    parts = {"used": used, "read": read, "lens": lens}
    tables = [
        table.set_index(key)[numbers].add_prefix(f"{name}_") for name, table in parts.items() if table is not None
    ]
    both = tables[0].join(tables[1:], how="outer", sort=False)
    names = sorted(dict.fromkeys(used["variable"]), key=_when)
    order = {name: i for i, name in enumerate(names)}
    both = both[[variable in order for variable in both.index.get_level_values("variable")]].reset_index()
    both["agreement"] = [_agreement(row) for row in both.to_dict(orient="records")]
    rank = both["variable"].map(order)
    return both.assign(rank=rank).sort_values([*by, "rank"]).drop(columns="rank").reset_index(drop=True)


def how_evaluated(used: "pd.DataFrame", read: "pd.DataFrame", by: Sequence[str] = ("group", "steps")) -> "pd.DataFrame":
    """How each kind of programs is evaluated, from `located_use` and `located_reading`: a row a kind, `evaluation`.

    `step by step` where a state is carried; without one `compiled` where the program can be read off held-out names or
    where it arrives, so that it is known what its parts do; `looked up` where it is carried but cannot be read: each
    name is an entry of its own; `not found` where neither program nor output is carried anywhere. Programs of a single
    step have no state: `one step` or `looked up`.
    """
    import pandas as pd

    rows = []
    for kind, there in each_kind(used[list(by)]):
        found = used[there].set_index("variable")["layer"]
        states = found[found.index.str.startswith("state_")]
        of_kind = (read[list(by)] == pd.Series(kind)).all(axis=1) & (read["variable"] == "program")
        if states.notna().any():
            evaluation = "step by step"
        elif found.reindex(["program", "output"]).isna().all():
            evaluation = "not found"
        elif read[of_kind]["layer"].isna().all():
            evaluation = "looked up"
        else:
            evaluation = "compiled" if len(states) else "one step"
        rows.append({**kind, "evaluation": evaluation})
    return pd.DataFrame(rows)


def _when(variable: str) -> tuple[bool, int]:
    """States by number, after program and input and before the output."""
    return variable == "output", int(variable.removeprefix("state_")) if variable.startswith("state_") else 0


def _agreement(row: dict) -> str:
    used, read = (all(row[f"{way}_{part}"] == row[f"{way}_{part}"] for part in ("layer", "lower")) for way in WAYS)
    if used and read:
        apart = row["used_lower"] > row["read_upper"] or row["read_lower"] > row["used_upper"]
        return "disagree" if apart else "agree"
    return "only used" if used else "only read" if read else "neither"


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
    """(layer, prompt), whose mean is the gain; 0 where the control is always right, or there is none.

    Missing for prompts that have no control, such as one of relabelled values, where others have one.
    """
    left = 1 - control.mean("prompt")
    return ((correct - control) / left).where(left > 0, 0.0).transpose("layer", "prompt")


def _located(
    values: "xr.DataArray", clusters: Sequence[Hashable], threshold: float, edge: Edge, settings: dict[str, Any]
) -> dict[str, Any]:
    """The row of `locate` for values (site, layer, row), at each layer of the site whose mean is the largest."""
    means = values.mean(str(values.dims[-1]))
    best = values.isel(site=means.argmax("site")).transpose("layer", ...)
    table = locate(
        best, group=[""] * best.shape[-1], clusters=list(clusters), threshold=threshold, edge=edge, **settings
    )
    (row,) = table.drop(columns="group").to_dict(orient="records")
    return {**row, "peak": float(means.max())}


def _columns(labels: "pd.DataFrame", names: Sequence[str]) -> "pd.DataFrame":
    if lacking := [name for name in names if name not in labels]:
        raise PbbError(f"The labels have no column {lacking[0]!r}: {', '.join(map(str, labels.columns))} are there.")
    return labels
