"""Where each variable sets in, by what can be read and by what is used, side by side.

Used (the transfer map, at the answer position unless said otherwise; every share is that of the map minus that of
random vectors of the same norm):
    program   the last block at whose input the name still carries it: this block takes it away
    input     the same at its own place
    state_k   the first block whose attention or MLP output, put into another prompt, makes the answer follow state k
    pass_k    the same of what a loop has made after pass k
    output    the last block whose attention or MLP output makes the answer follow the whole donor
Read (probes, and the logit lens; gain = (accuracy - control) / (1 - control), the strongest of the controls):
    program   the first block after which the first step's operation is read
    state_k, pass_k, output   the first block after which the value is read, and from which on it stays so

What is read need not be used, and what is used may be held in a form that is not read. Context-stripped decoding is no
measure of the output's layer: it succeeds as soon as program and input have arrived, as the blocks above do the rest.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pbb_probe.evidence.curves import Curve, lens_curves, patching_curves, reading_curves, use_curves
from pbb_probe.labels import AUTO
from pbb_probe.programs.passes import STATES
from pbb_probe.statistics.groups import each_kind
from pbb_probe.statistics.onset import locate, locate_difference
from pbb_probe.statistics.resampling import weighted_mean

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


SURE = 0.95
"""Share of resamples in which there must be a layer for one to be named: else it was not found."""
UNDETERMINED = "undetermined"
"""An `evaluation` that the evidence does not say."""


def located_use(
    carried: "xr.Dataset",
    by: Sequence[str] = ("group", "steps"),
    clusters: str = AUTO,
    models: str | None = None,
    threshold: float = 0.5,
    **settings: Any,
) -> "pd.DataFrame":
    """The block in which each variable sets in by use, for each kind of pairs.

    Args:
        carried: from `transfer_map`, with the sites that are there of resid_pre, attn_out and mlp_out, and the roles
            name, input and answer; with the control `random` if it is to be taken into account. Variables whose site or
            role is lacking are left out.
        by: coordinates of the pairs whose values get rows of their own.
        clusters: the coordinate that says which pairs belong together; `auto` is `corrupted_function` where programs
            share one, else `corrupted_program` (`labels.cluster_label`).
        models: the coordinate that says which finetuned model a pair is of, where there are several.
        threshold: share of pairs.
        settings: `draws`, `seed` of `locate`.

    Returns:
        A row a kind and variable: `role` and `edge`, `layer` with `lower`, `upper` and `found` as in `locate`, but
        missing unless `found` in nearly all resamples (`SURE`); `peak` (the largest share over the layers, after its
        control), n pairs, clusters, models and programs.

    Raises:
        PbbError: a coordinate that the pairs do not have.

    Example:
        >>> import pbb_probe as pbb
        >>> carried = pbb.open_run("runs/nano").array("transfer/with_io")
        >>> table = pbb.tables.located_use(carried, draws=200)
        >>> table[["variable", "role", "layer", "peak"]].round(1)
          variable   role  layer  peak
        0  program   name    1.0   1.0
        1    input  input    0.0   1.0
    """
    return located_curves(use_curves(carried, by, clusters, models), by, threshold, settings)


def located_reading(
    probes: "xr.Dataset",
    by: Sequence[str] = ("group", "steps"),
    clusters: str = AUTO,
    models: str | None = None,
    margin: float = 0.2,
    **settings: Any,
) -> "pd.DataFrame":
    """The block after which each target is read at the answer position, for each kind of prompts.

    The first step's operation stands for the program, and is also looked for at the name, and in the embeddings (layer
    -1, role `embedding`) where they are a control.

    Args:
        probes: from `fit_probes` with controls, of prompts with labels; the first of its sites counts.
        by: coordinates whose combinations of values get rows of their own.
        clusters: the coordinate that says which prompts belong together; `auto` is `function` where programs share one,
            else `program`.
        models: the coordinate that says which finetuned model a prompt was given, where there are several.
        margin: of the gain, the share of what the strongest control at the same place gets wrong that the probe gets
            right. Controls that are no objection to a target are left out (`curves.NO_OBJECTION`), and so are prompts
            in which a state equals the input or the output.
        settings: `draws`, `seed` of `locate`.

    Returns:
        As `located_use`, with the largest gain as `peak`.

    Raises:
        PbbError: probes without controls, or a coordinate that the prompts do not have.

    Example:
        >>> import pbb_probe as pbb
        >>> probes = pbb.open_run("runs/nano").array("probing/probes")
        >>> table = pbb.tables.located_reading(probes, by=["steps"], draws=200)
        >>> table.query("role == 'answer'")[["variable", "layer"]]
          variable  layer
        0    input    0.0
        1  program    1.0
        4  state_1    2.0
        5   output    3.0
    """
    return located_curves(reading_curves(probes, by, clusters, models), by, margin, settings)


def located_lens(
    looked: "xr.Dataset",
    by: Sequence[str] = ("group", "steps"),
    clusters: str = AUTO,
    models: str | None = None,
    margin: float = 0.2,
    **settings: Any,
) -> "pd.DataFrame":
    """The block after which each value is read at the answer position by the logit lens, for each kind of prompts.

    The control is the lens's accuracy on the values of other prompts.

    Args:
        looked: from `lens` with the control `shuffled`.
        by: as in `located_reading`.
        clusters: as in `located_reading`.
        models: as in `located_reading`.
        margin: as in `located_reading`.
        settings: `draws`, `seed` of `locate`.

    Returns:
        As `located_reading`.

    Raises:
        PbbError: a lens without its control, or a coordinate that the prompts do not have.

    Example:
        >>> import pbb_probe as pbb
        >>> looked = pbb.open_run("runs/nano").array("probing/lens").sel(decode="logit")
        >>> table = pbb.tables.located_lens(looked, draws=200)
        >>> table[["group", "variable", "layer"]]
                group variable  layer
        0     with_io  state_1    NaN
        1     with_io   output    3.0
        2  without_io  state_1    NaN
        3  without_io   output    3.0
    """
    return located_curves(lens_curves(looked, by, clusters, models), by, margin, settings)


def located_patching(
    recovered: "xr.DataArray",
    variable: Literal["program", "input"],
    by: Sequence[str] = ("group", "steps"),
    clusters: str = AUTO,
    models: str | None = None,
    threshold: float = 0.5,
    **settings: Any,
) -> "pd.DataFrame":
    """The last block at whose input the swapped variable still matters at its own place, by activation patching.

    Args:
        recovered: (site, role, layer, pair), from `recovery` of a sweep of pairs that differ in this variable alone;
            of `resid_pre`, and at the role `name` for the program or `input` for the input.
        variable: the one that was swapped.
        by: as in `located_use`.
        clusters: as in `located_use`, but of the clean prompt.
        models: as in `located_use`.
        threshold: mean recovery.
        settings: `draws`, `seed` of `locate`.

    Returns:
        As `located_use`; no rows where the site or the role is lacking.

    Example:
        >>> import pbb_probe as pbb
        >>> effects = pbb.open_run("runs/nano").array("patching/program_with_io")
        >>> recovered = pbb.metrics.recovery(effects).to_array("site")
        >>> table = pbb.tables.located_patching(recovered, "program", draws=200)
        >>> table[["variable", "role", "layer", "found"]]
          variable  role  layer  found
        0  program  name    1.0    1.0
    """
    return located_curves(patching_curves(recovered, variable, by, clusters, models), by, threshold, settings)


def onset_differences(
    curves: "Iterable[Curve]", threshold: float, margin: float = 0.5, **settings: Any
) -> "pd.DataFrame":
    """How many blocks later each variable sets in in one group than in another.

    Args:
        curves: from `use_curves`, `reading_curves` or `lens_curves`, by group and whatever else.
        threshold: as `threshold` of `located_use` or `margin` of `located_reading`.
        margin: in blocks, of `p_equivalent`. An onset is a whole block: where all resamples fall on one block this p is
            as small as can be, and does not show that the groups are alike.
        settings: `draws`, `seed` of `locate_difference`.

    Returns:
        `locate_difference`, a row a variable, kind but for the group, and pair of the groups that have it; with
        `programs_<group>`. A cluster that two groups have counts in each.
    """
    import pandas as pd
    import xarray as xr

    sides: dict[str, list[Curve]] = {}
    for curve in curves:
        sides.setdefault(repr({**curve.place, "group": ""}), []).append(curve)
    tables = []
    for curved in sides.values():
        if len(curved) < 2:
            continue
        values = xr.concat([curve.values.reset_coords(drop=True) for curve in curved], "row")
        group = [curve.kind["group"] for curve in curved for _ in range(curve.values.sizes["row"])]
        rows: dict[str, Any] = {name: [one for curve in curved for one in curve.rows[name]] for name in curved[0].rows}
        rows["clusters"] = [f"{of} {one}" for of, one in zip(group, rows["clusters"], strict=True)]
        table = locate_difference(
            values, group=group, threshold=threshold, edge=curved[0].edge, margin=margin, **rows, **settings
        )
        where = {name: value for name, value in curved[0].place.items() if name != "group"}
        where |= {f"programs_{curve.kind['group']}": curve.programs for curve in curved}
        tables.append(pd.DataFrame([where] * len(table)).join(table))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def side_by_side(
    used: "pd.DataFrame",
    read: "pd.DataFrame",
    lens: "pd.DataFrame | None" = None,
    patched: "pd.DataFrame | None" = None,
    by: Sequence[str] = ("group", "steps"),
) -> "pd.DataFrame":
    """A row a kind and variable: where it is used, where a probe reads it, where the lens does, and `agreement`.

    Args:
        used: from `located_use`.
        read: from `located_reading`; what is read at the answer position.
        lens: from `located_lens`.
        patched: from `located_patching`.
        by: the columns that tell kinds apart.

    Returns:
        Of the program, the input, the states and the output, those that are in either of the first two tables: the
        columns `layer`, `lower`, `upper`, `peak`, `n`, `clusters` and `programs` of each table, prefixed `used_`,
        `read_`, `lens_`, `patched_`. `agreement` compares use with the probe: `agree` where their intervals overlap,
        `disagree` where they do not, `only read`, `only used` or `neither` where one is not found or both, in these
        programs or in most resamples.

    Example:
        >>> import pbb_probe as pbb
        >>> run = pbb.open_run("runs/nano")
        >>> used = pbb.tables.located_use(run.array("transfer/with_io"), draws=200)
        >>> read = pbb.tables.located_reading(run.array("probing/probes"), draws=200)
        >>> table = pbb.tables.side_by_side(used, read).query("group == 'with_io'")
        >>> table[["variable", "used_layer", "read_layer", "agreement"]]
          variable  used_layer  read_layer  agreement
        0  program         1.0         NaN  only used
        1    input         0.0         0.0      agree
        2  state_1         NaN         2.0  only read
        3   output         NaN         3.0  only read
    """
    key = [*by, "variable"]
    numbers = ["layer", "lower", "upper", "peak", "n", "clusters", "programs"]
    read = read[read["role"] == "answer"]
    parts = {"used": used, "read": read, "lens": lens, "patched": patched}
    tables = [
        table.set_index(key).reindex(columns=numbers).add_prefix(f"{name}_")
        for name, table in parts.items()
        if table is not None
    ]
    both = tables[0].join(tables[1:], how="outer", sort=False)
    names = {*used["variable"], *(name for name in read["variable"] if not name.startswith(("op_", "constant_")))}
    order = {name: i for i, name in enumerate(sorted(names, key=when))}
    both = both[[variable in order for variable in both.index.get_level_values("variable")]].reset_index()
    both["agreement"] = [_agreement(row) for row in both.to_dict(orient="records")]
    rank = both["variable"].map(order)
    return both.assign(rank=rank).sort_values([*by, "rank"]).drop(columns="rank").reset_index(drop=True)


def when(variable: str) -> tuple[int, int, str]:
    """Program and input, then states after statements and after passes by number, then the output."""
    if variable.startswith(STATES):
        kind, _, k = variable.partition("_")
        return 1, int(k), kind
    return (2, 0, "") if variable == "output" else (0, int(variable != "program"), variable)


def _agreement(row: dict[str, Any]) -> str:
    used, read = (
        all(row[f"{way}_{part}"] == row[f"{way}_{part}"] for part in ("layer", "lower")) for way in ("used", "read")
    )
    if used and read:
        apart = row["used_lower"] > row["read_upper"] or row["read_lower"] > row["used_upper"]
        return "disagree" if apart else "agree"
    return "only used" if used else "only read" if read else "neither"


def how_evaluated(used: "pd.DataFrame", read: "pd.DataFrame", by: Sequence[str] = ("group", "steps")) -> "pd.DataFrame":
    """How each kind of programs is evaluated, from `located_use` and `located_reading`: a row a kind, `evaluation`.

    `step by step` where a state is carried, after a statement or after a pass of a loop; `not found` where neither
    program nor output is carried anywhere; `one step` where there is a single step and the program can be read; else
    `undetermined`. Compiled and looked up are never said: that no single component at the answer position carries a
    state does not show that there is none, since it may stand elsewhere or be spread over several; and whether a probe
    reads a program off its name does not show how it is evaluated.

    Example:
        >>> import pbb_probe as pbb
        >>> run = pbb.open_run("runs/nano")
        >>> used = pbb.tables.located_use(run.array("transfer/with_io"), draws=200)
        >>> read = pbb.tables.located_reading(run.array("probing/probes"), draws=200)
        >>> pbb.tables.how_evaluated(used, read).to_dict("records")  # its transfer map is of resid_pre alone
        [{'group': 'with_io', 'steps': 2, 'evaluation': 'undetermined'}]
    """
    import pandas as pd

    rows = []
    for kind, there in each_kind(used[list(by)]):
        found = used[there].set_index("variable")["layer"]
        states = found[found.index.str.startswith(STATES)]
        of_kind = (read[list(by)] == pd.Series(kind)).all(axis=1) & (read["variable"] == "program")
        if states.notna().any():
            evaluation = "step by step"
        elif found.reindex(["program", "output"]).isna().all():
            evaluation = "not found"
        else:
            evaluation = UNDETERMINED if len(states) or read[of_kind]["layer"].isna().all() else "one step"
        rows.append({**kind, "evaluation": evaluation})
    return pd.DataFrame(rows, columns=[*by, "evaluation"])


def located_curves(
    curves: Iterable[Curve], by: Sequence[str], threshold: float, settings: dict[str, Any]
) -> "pd.DataFrame":
    """What `located_use` and its like return, of any curves; no rows where there are none."""
    import numpy as np
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for curve in curves:
        one = [""] * curve.values.sizes["row"]
        table = locate(curve.values, group=one, threshold=threshold, edge=curve.edge, **curve.rows, **settings)
        (found,) = table.drop(columns="group").to_dict(orient="records")
        if found["found"] < SURE:
            found |= dict.fromkeys(("layer", "lower", "upper"), float("nan"))
        means = weighted_mean(curve.values.values, np.asarray(curve.rows.get("weights", 1.0)))
        rows.append({**curve.place, **found, "peak": float(pd.Series(means).max()), "programs": curve.programs})
    numbers = ("layer", "lower", "upper", "found", "n", "clusters", "peak", "programs")
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*by, "variable", "role", "edge", *numbers])
