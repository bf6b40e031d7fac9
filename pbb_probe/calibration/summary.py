"""What calibration says: how often planted truth was found, and how often something that is not there."""

from typing import TYPE_CHECKING

from pbb_probe.calibration.circuits import DIFFERENT, UNSAID
from pbb_probe.evidence.onsets import UNDETERMINED

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05


def calibration_table(designs: "pd.DataFrame", nulls: "pd.DataFrame") -> "pd.DataFrame":
    """Counts with their exact 95 % intervals (Clopper and Pearson 1934).

    Args:
        designs: of `try_design`, with the columns `design` and `decoys` (their names, joined by commas; empty or
            missing without any).
        nulls: of `null_comparisons`.

    Returns:
        A row a question: `part` (planted, or nothing to be found), `question`, `count` of `n`, `share` with `lower`
        and `upper`, and `wanted`, the share of a perfect instrument. Compiled and looked up are not told yet: of such
        programs it is asked whether they are left undetermined, and that is no difference from the other group.
    """
    import pandas as pd

    rows = []

    def ask(part: str, question: str, right: "pd.Series", wanted: float) -> None:
        if len(right):
            rows.append({"part": part, "question": question, **_proportion(right), "wanted": wanted})

    exact = {way: same_block(designs["layer"], designs[f"{way}_layer"]) for way in ("used", "read", "lens")}
    whole = designs.assign(right=exact["used"]).groupby("design")["right"].all()
    ask("planted", "designs in which use names every planted block", whole, 1.0)
    for way, words in (("used", "use"), ("read", "probes"), ("lens", "logit lens")):
        for variable, of in designs.groupby("variable", sort=False):
            if way == "used" or (variable != "input" and (way == "read" or variable == "output")):
                ask("planted", f"{words} name the block of {variable}", exact[way][of.index], 1.0)
    groups = designs.drop_duplicates(["design", "group"])
    for kind, of in groups.groupby("evaluation", sort=False):
        wanted, words = (UNDETERMINED, "left undetermined") if kind in UNSAID else (kind, "named")
        ask("planted", f"evaluation {words}: {kind}", of["found_evaluation"] == wanted, 1.0)
    models = designs.drop_duplicates("design")
    differ = models["decoys"].fillna("").map(lambda names: bool(set(names.split(", ")) & set(DIFFERENT)))
    said = designs["found_evaluation"].where(designs["found_evaluation"] != UNDETERMINED)  # which nothing differs from
    kinds = said.groupby(designs["design"]).nunique().reindex(models["design"]).to_numpy()
    reported = (models["p"] < ALPHA) | (kinds > 1)  # what places carry, or how it is evaluated
    ask("planted", "groups differ: reported", reported[differ], 1.0)
    ask("planted", "groups do not differ: difference reported", reported[~differ], 0.0)
    splits = nulls[nulls["split"] >= 0]
    ask("nothing", "difference reported, all comparisons", splits["p"] < ALPHA, ALPHA)
    for (data, measure), of in splits.groupby(["data", "measure"], sort=False):
        ask("nothing", f"difference reported: {data}, {measure}", of["p"] < ALPHA, ALPHA)
    ask("nothing", "the same, were prompts the unit and not programs", splits["p_of_rows"] < ALPHA, ALPHA)
    for (data, measure), of in nulls[nulls["split"] < 0].groupby(["data", "measure"], sort=False):
        each = [
            found for row in of.itertuples() for found in [True] * int(row.found) + [False] * int(row.n - row.found)
        ]
        ask("nothing", f"a variable located: {data}, {measure}", pd.Series(each), 0.0)
    return pd.DataFrame(rows)


def same_block(planted: "pd.Series", found: "pd.Series") -> "pd.Series":
    """The same block, or none in both."""
    return (planted == found) | (planted.isna() & found.isna())


def _proportion(right: "pd.Series") -> dict[str, float]:
    from scipy.stats import binomtest

    count, n = int(right.sum()), len(right)
    bounds = binomtest(count, n).proportion_ci()
    return {"count": count, "n": n, "share": count / n, "lower": bounds.low, "upper": bounds.high}
