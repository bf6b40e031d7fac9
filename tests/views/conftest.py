"""A finished run that holds nothing but tables, drawn at random: what the report is made from, in no time.

Names that a user may choose are hostile: what looks like markup in them must be shown as text everywhere.
"""

import itertools
import json
import shutil
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from sealed import seal

from pbb_probe.probing.brewing import OUTCOMES
from pbb_probe.programs.corpus import GROUPS
from pbb_probe.runs.config import StudyConfig

HOSTILE = "<img src=x onerror=alert(1)>"
BASE = "<script>alert(1)</script>*[x](http://example.com)"
LAYERS, STEPS, SUBSETS = range(3), (1, 2), ("all", "correct")
ROLES, VARIABLES = ("name", "answer", HOSTILE), ("program", "state_1", "output")
HYPOTHESES = ("nothing", "everything", "program", "input", "other", "state_1")


def _rows(**values) -> pd.DataFrame:
    """A row for every combination of values."""
    return pd.DataFrame(itertools.product(*values.values()), columns=list(values))


def _share(table: pd.DataFrame, rng, name: str, *more: str) -> pd.DataFrame:
    share = rng.uniform(0.2, 0.8, len(table)).round(3)
    lower, upper = more or ("lower", "upper")
    return table.assign(**{name: share, lower: share - 0.1, upper: share + 0.1})


def _compared(table: pd.DataFrame, rng) -> pd.DataFrame:
    for group in GROUPS:
        table = _share(table, rng, f"mean_{group}", f"lower_{group}", f"upper_{group}")
        table[[f"n_{group}", f"clusters_{group}"]] = 40, 20
    pairs = []
    for first, second in itertools.combinations(GROUPS, 2):
        apart = table[f"mean_{first}"] - table[f"mean_{second}"]
        pair = table.assign(first=first, second=second, difference=apart, lower=apart - 0.1, upper=apart + 0.1)
        p = [0.01 if second == "without_io" else 0.4] + [0.6] * (len(table) - 1)
        pairs.append(pair.assign(p=0.5, p_equivalent=0.2, p_adjusted=p, equivalent=False))
    return pd.concat(pairs, ignore_index=True)


def _tables(rng) -> dict[str, pd.DataFrame]:
    place = {"site": ["resid_post"], "layer": LAYERS, "role": ROLES, "subset": SUBSETS}
    carried = {"group": GROUPS, "steps": STEPS, **place, "control": ["none", "random"], "hypothesis": HYPOTHESES}
    read = {"group": GROUPS, "target": [HOSTILE, "output"], **place, "measure": ["accuracy"]}
    controls = _share(_rows(control=["none", "selectivity", "chance"], **read), rng, "score")
    onsets = _rows(group=GROUPS, steps=STEPS, variable=VARIABLES, subset=SUBSETS).assign(agreement="agree")
    for way in ("used", "read", "lens", "patched"):
        found = {"layer": 2.0, "lower": 1.0, "upper": 2.0, "peak": 0.7, "n": 40, "clusters": 20}
        onsets = onsets.assign(**{f"{way}_{name}": value for name, value in found.items()})
    nowhere = onsets["variable"] == "state_1"
    onsets.loc[nowhere, [f"{way}_{name}" for way in ("used", "read") for name in ("layer", "lower", "upper")]] = np.nan
    apart = _rows(measure=["use", "probes"], steps=STEPS, variable=VARIABLES, role=["answer"], subset=SUBSETS)
    found = {"layer": 2.0, "n": 40, "clusters": 20}
    for group in GROUPS:
        apart = apart.assign(**{f"{name}_{group}": value for name, value in found.items()})
    pairs = itertools.combinations(GROUPS, 2)
    apart = pd.concat([apart.assign(first=first, second=second) for first, second in pairs], ignore_index=True)
    interchanged = _share(_rows(variable=["output"], **carried), rng, "proportion").assign(n=40, programs=20)
    return {
        "transfer": _share(_rows(**carried), rng, "proportion").assign(n=40, programs=20),
        "interchange": interchanged,
        "transfer_differences": _compared(_rows(steps=STEPS, hypothesis=HYPOTHESES, **place), rng),
        "patching": _compared(_rows(swap=["program", "input"], **place), rng),
        "probing": _compared(_rows(target=[HOSTILE, "output"], **place), rng),
        "probing_controls": controls.assign(n=40, clusters=20, gain=0.2, gain_lower=0.1, gain_upper=0.3),
        "probing_across": _share(_rows(fitted_on=GROUPS, **read), rng, "score").assign(n=40, clusters=20),
        "cosines": _rows(halves=[*GROUPS, "between"], target=[HOSTILE, "output"], **place).assign(cosine=0.5),
        "lens": _compared(
            _rows(decode=["logit", "stripped"], variable=[HOSTILE], role=["answer"], layer=LAYERS, subset=SUBSETS), rng
        ).assign(shuffled=0.1),
        "outcomes": _share(_rows(variable=[HOSTILE], group=GROUPS, steps=STEPS, measure=OUTCOMES), rng, "mean").assign(
            n=40, shuffled=0.1
        ),
        "onsets": onsets,
        "evaluation": _rows(group=GROUPS, steps=STEPS, subset=SUBSETS).assign(evaluation="undetermined"),
        "onset_differences": apart.assign(difference=0.0, lower=-1.0, upper=1.0, found=1.0, p=1.0, p_equivalent=0.01),
    }


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The directory of the run. Copy it to write into it."""
    run, rng = tmp_path_factory.mktemp("finished"), np.random.default_rng(0)
    for step in ("behaviour", "comparison", "report"):
        (run / step).mkdir()
    for name, table in _tables(rng).items():
        table.to_csv(run / "comparison" / f"{name}.csv", index=False)
    models = {"model": ["finetuned", "base"], "mode": ["direct", "trace"], "group": GROUPS, "family": ["arithmetic"]}
    behaviour = _share(_rows(**models, steps=STEPS, seen=[False]), rng, "mean").assign(n=40, programs=20, chance=0.1)
    weak = (behaviour["group"] == "without_io") & (behaviour["steps"] == 2)
    behaviour.loc[weak, "chance"] = 0.9  # of these nothing can be said
    behaviour.to_csv(run / "behaviour" / "behaviour.csv", index=False)
    config = json.loads(json.dumps(asdict(StudyConfig(base=BASE, seed=3))))
    (run / "config.json").write_text(json.dumps(config))
    return seal(run, seconds=12.5)


SENTENCE = "not evaluated (15 % [11, 20] on 212 decisive calls, chance 13 %)"


@pytest.fixture(scope="session")
def gated_run(finished_run, tmp_path_factory):
    """The same with decisive calls, effective programs and the gate, which without_io programs of 2 steps fail."""
    run = shutil.copytree(finished_run, tmp_path_factory.mktemp("gated") / "run")
    for path in (run / "comparison").glob("*.csv"):
        table = pd.read_csv(path)
        if "subset" in table:
            pd.concat([table, table[table["subset"] == "correct"].assign(subset="decisive")]).to_csv(path, index=False)
    gate = _rows(group=GROUPS, steps=STEPS).assign(accuracy=0.6, lower=0.5, upper=0.7, n=80, programs=40, chance=0.1)
    closed = (gate["group"] == "without_io") & (gate["steps"] == 2)
    gate = gate.assign(evaluated=~closed, sentence=np.where(closed, SENTENCE, ""))
    gate.to_csv(run / "comparison" / "evaluation_gate.csv", index=False)
    behaviour = pd.read_csv(run / "behaviour" / "behaviour.csv").rename(columns={"programs": "n_programs"})
    kinds = [("all", "all", 0.3), ("decisive", "all", 0.2)]
    new = [("decisive", "new functions", 0.0), ("decisive", "known functions", 0.1), ("all", "new functions", 0.1)]
    parts = [
        behaviour[behaviour["group"].eq("without_io") | (of == "all")].assign(calls=calls, programs=of, more=more)
        for calls, of, more in (*kinds, *new)
    ]
    table = pd.concat(parts, ignore_index=True)
    table["n"] //= table["calls"].map({"all": 1, "decisive": 4})
    table["n_programs"] //= table["programs"].map({"all": 1, "new functions": 2, "known functions": 2})
    table["mean"] = (table["mean"] / 2 + table.pop("more")).round(3)
    table.to_csv(run / "behaviour" / "behaviour.csv", index=False)
    adds = pd.DataFrame(
        {"steps": 1, "what": ["with_io", "io_only", "with_io minus io_only", "stage1, code in context"]}
    )
    adds = adds.assign(mean=[0.5, 0.4, 0.1, 0.9], lower=0.05, upper=0.95, p=0.2, n=40, programs=20, chance=0.1)
    adds.to_csv(run / "comparison" / "code_adds.csv", index=False)
    effective = _rows(group=GROUPS, steps=STEPS, mode=["direct"], difference=["none", "the order"])
    effective["novelty"] = np.where(effective["group"] == "without_io", "new_function", "")
    effective["share"] = np.where(effective["difference"] == "none", 0.7, 0.3)
    (run / "effective").mkdir()
    effective = effective.assign(lower=0.1, upper=0.9, n=20)
    effective.to_csv(run / "effective" / "effective.csv", index=False)
    recited = effective.rename(columns={"difference": "outcome"})
    recited = recited.replace({"outcome": {"none": "recalled and computed", "the order": "not recalled"}})
    recited.to_csv(run / "effective" / "recited.csv", index=False)
    return seal(run, seconds=12.5)


@pytest.fixture(scope="session")
def earlier_run(finished_run, tmp_path_factory):
    """The same of an earlier release: two groups, whose comparisons do not name them."""
    run = shutil.copytree(finished_run, tmp_path_factory.mktemp("earlier") / "run")
    for path in [*(run / "comparison").glob("*.csv"), run / "behaviour" / "behaviour.csv"]:
        table = pd.read_csv(path)
        for name in ("group", "fitted_on", "halves", "second"):
            if name in table:
                table = table[table[name] != "io_only"]
        gone = [name for name in table if name in ("first", "second") or name.endswith("_io_only")]
        table.drop(columns=gone).to_csv(path, index=False)
    return seal(run, seconds=12.5)
