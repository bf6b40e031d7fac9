"""Tables of three groups made by hand: every number in them is another one, so that a wrong one is seen."""

import itertools

import pandas as pd

GROUPS = ("with_io", "without_io", "io_only")
PAIRS = (("with_io", "without_io"), ("with_io", "io_only"), ("without_io", "io_only"))
PLACES = {"site": ("resid_pre", "mlp_out"), "layer": (0, 1, 2), "role": ("name", "answer")}


def mean(group: str, place: int) -> float:
    """0.01 more at each place, and for each group at another level."""
    return round({"with_io": 0.6, "without_io": 0.4, "io_only": 0.1}[group] + 0.01 * place, 3)


def p_adjusted(pair: tuple[str, str], layer: int) -> float:
    """With io_only both differ at layer 2; the other two nowhere but at layer 1."""
    return 0.01 if layer == (2 if "io_only" in pair else 1) else 0.5


def compared(pairs=PAIRS, **places) -> pd.DataFrame:
    """As `compare_groups` gives it: a row a pair and place."""
    places = places or PLACES
    rows = []
    for pair in pairs:
        for n, place in enumerate(itertools.product(*places.values())):
            row = dict(zip(places, place, strict=True))
            for k, group in enumerate(GROUPS):
                m = mean(group, n)
                row |= {f"mean_{group}": m, f"lower_{group}": m - 0.05, f"upper_{group}": m + 0.04}
                row |= {f"n_{group}": 100 + k, f"clusters_{group}": 30 + k}
            apart = mean(pair[0], n) - mean(pair[1], n)
            p = p_adjusted(pair, row["layer"])
            of_pair = {"difference": apart, "lower": apart - 0.1, "upper": apart + 0.2, "p": p / 2, "p_adjusted": p}
            rows.append(row | {"first": pair[0], "second": pair[1]} | of_pair)
    return pd.DataFrame(rows)


def earlier(table: pd.DataFrame) -> pd.DataFrame:
    """The same of an earlier release: two groups, and no word of which pair."""
    chosen = table[(table["first"] == "with_io") & (table["second"] == "without_io")]
    return chosen.drop(columns=["first", "second", *(name for name in table if name.endswith("io_only"))])
