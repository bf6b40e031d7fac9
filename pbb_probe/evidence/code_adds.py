"""What the code adds: programs learned from code and examples against those from examples alone, beside the ceiling.

Right answers to inputs that were never shown may be induced from the answers that were. Programs of which a model saw
the same examples and never the code tell how many are: what is above them is evaluation of code. The ceiling is how the
same models answer with the code in the prompt, where nothing has to be remembered.
"""

from typing import TYPE_CHECKING, Any

from pbb_probe.evidence.subsets import decisive_calls, label_rows
from pbb_probe.evidence.tables import accuracy
from pbb_probe.labels import label
from pbb_probe.statistics.groups import compare_groups, each_kind
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

IN_CONTEXT = "_code_in_context"
"""What the files of behaviour with the code in the prompt end on."""
WITH, WITHOUT = "with_io", "io_only"


def code_adds(run: Run, **settings: Any) -> "pd.DataFrame":
    """What the code adds to direct answers, by steps, on decisive calls whose answers were never shown.

    Args:
        run: whose step `behaviour` is done.
        settings: `draws` and `seed`.

    Returns:
        By `steps` and `what`: the accuracy of the groups with_io and io_only and their difference, and the accuracy of
        each model with code in context on without_io programs of new functions; `mean` with `lower` and `upper`, `p` of
        the difference, `n` calls, `programs` and `clusters`, of the difference of both groups together, and `chance`.
        No difference without io_only programs.
    """
    import pandas as pd

    calls = _counted(run.array("behaviour/finetuned"))
    asked = {group: calls.isel(call=_of_group(calls, group)) for group in (WITH, WITHOUT)}
    ceilings = {
        f"{name.split('/')[1].removesuffix(IN_CONTEXT)}, code in context": _counted(run.array(name))
        for name in run.files("behaviour", ".nc")
        if name.endswith(IN_CONTEXT)
    }
    asked |= {name: calls.isel(call=_of_group(calls, "without_io")) for name, calls in ceilings.items()}
    parts = [
        accuracy(chosen, ("steps",), **settings).drop(columns="forced").assign(what=what)
        for what, chosen in asked.items()
        if chosen.sizes["call"]
    ]
    parts.insert(2, _difference(calls.isel(call=_of_group(calls, WITH) | _of_group(calls, WITHOUT)), settings))
    first = ["steps", "what", "mean", "lower", "upper", "p", "n", "programs", "clusters", "chance"]
    return pd.concat(parts, ignore_index=True).reindex(columns=first)


def _difference(calls: "xr.Dataset", settings: dict[str, Any]) -> "pd.DataFrame":
    """A row a number of steps of which both groups have calls."""
    import pandas as pd

    rows = []
    for kind, here in each_kind(label_rows(calls, ["steps"])):
        chosen = calls["correct"].astype(float).isel(call=here)
        if label(chosen, "group").nunique() < 2:
            continue
        (row,) = compare_groups(chosen, **settings).to_dict(orient="records")
        counts = {
            name: sum(row.get(f"{name}_{group}", row[f"clusters_{group}"]) for group in (WITH, WITHOUT))
            for name in ("n", "programs", "clusters")
        }
        said = {"mean": row["difference"], "lower": row["lower"], "upper": row["upper"], "p": row["p"]}
        rows.append({**kind, "what": f"{WITH} minus {WITHOUT}", **said, **counts})
    return pd.DataFrame(rows)


def _counted(behaviour: "xr.Dataset") -> "xr.Dataset":
    """Direct, decisive calls whose answers were never shown."""
    direct = (label(behaviour, "mode") == "direct").to_numpy() & ~label(behaviour, "seen").eq(True).to_numpy()
    return behaviour.isel(call=direct & decisive_calls(behaviour))


def _of_group(calls: "xr.Dataset", group: str) -> Any:
    return (label(calls, "group") == group).to_numpy()
