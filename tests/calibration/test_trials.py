"""What is tried in calibration, and how it is counted: designs, random splits, and shares with exact intervals."""

from collections import Counter
from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from pbb_probe.calibration import trials
from pbb_probe.calibration.circuits import DECOYS
from pbb_probe.calibration.planted import check_design
from pbb_probe.calibration.summary import calibration_table
from pbb_probe.calibration.trials import Instrument, draw_designs, null_comparisons
from pbb_probe.errors import PbbError

NAN = float("nan")
SMALL = Instrument(pairs=12, prompts=60, draws=60, folds=2)

# designs


@pytest.fixture(scope="module")
def drawn():
    return draw_designs(60, seed=0)


def test_every_design_can_be_built(drawn):
    for design in drawn:
        assert check_design(*astuple(design)[:-1])
        assert 4 <= design.n_layers <= 10
        assert len(design.states) <= 2
        assert len(design.decoys) <= 3


def test_every_decoy_and_every_number_of_steps_occurs_and_no_design_twice(drawn):
    assert {decoy for design in drawn for decoy in design.decoys} == set(DECOYS)
    assert {len(design.states) for design in drawn} == {0, 1}
    assert {design.where for design in drawn} == {"answer", "name"}
    assert {design.arrive > design.retrieve for design in drawn} == {True, False}
    assert sum(not design.decoys for design in drawn) >= 3
    assert len({astuple(design)[:-1] for design in drawn}) == 60
    assert len({design.seed for design in drawn}) == 60


def test_designs_follow_from_the_seed_and_not_from_how_many_are_drawn(drawn):
    assert draw_designs(60, seed=0) == drawn
    assert draw_designs(7, seed=0) == drawn[:7]
    other = draw_designs(60, seed=1)
    assert not {astuple(design)[:-1] for design in other[:10]} & {astuple(design)[:-1] for design in drawn[:10]}
    assert not {design.seed for design in other} & {design.seed for design in drawn}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pairs": 0}, "at least 1"),
        ({"draws": 0}, "at least 1"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"C": 0.0}, "C must be at least 1e-06"),
        ({"threshold": 0.0}, "threshold must be above 0"),
        ({"margin": 1.5}, "margin must be at most 1"),
    ],
)
def test_an_instrument_that_measures_nothing_is_refused(change, words):
    with pytest.raises(PbbError, match=words):
        Instrument(**change)


# random splits


@pytest.fixture(scope="module")
def splits():
    """Every comparison that is made of a planted model: its groups, clusters and values."""
    made, compare = [], trials.compare_groups

    def watched(values, *, group, clusters, **settings):
        made.append((values, list(group), list(clusters), settings))
        return compare(values, group=group, clusters=clusters, **settings)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trials, "compare_groups", watched)
        table = null_comparisons("programs", 3, SMALL, seed=1)
    return table, made


def test_programs_are_split_whole_and_in_halves(splits):
    table, made = splits
    assert len(made) == 2 * len(table) == 2 * 3 * 3  # by programs and by rows, of three measures
    by_program = made[::2]
    for values, group, programs, settings in by_program:
        assert values.dims[0] == "place"
        of = {program: {g for g, p in zip(group, programs, strict=True) if p == program} for program in programs}
        assert all(len(groups) == 1 for groups in of.values())
        halves = Counter(groups.pop() for groups in of.values())
        assert abs(halves["first"] - halves["second"]) <= 1
        assert settings["draws"] == SMALL.draws
    for (_, group, _, _), (_, same, rows, _) in zip(by_program, made[1::2], strict=True):
        assert same == group
        assert rows == list(range(len(group)))  # every row is its own


def test_splits_differ_and_do_not_follow_the_groups(splits):
    _, made = splits
    for measure in range(3):
        groups = [tuple(made[at][1]) for at in range(2 * measure, len(made), 6)]
        assert len(set(groups)) == 3


def test_p_is_the_smallest_over_all_places(splits):
    """Held to the same comparison made here, from the values that were compared."""
    table, made = splits
    assert table["measure"].tolist() == ["probes", "lens", "transfer"] * 3
    assert table["split"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert set(table["data"]) == {"programs"}
    for at, column in ((0, "p"), (1, "p_of_rows")):
        values, group, clusters, settings = made[at]
        found = trials.compare_groups(values, group=group, clusters=clusters, **settings)
        assert len(found) > 1
        assert table[column][0] == min(found["p_adjusted"])
    assert table["p"].between(1 / (1 + SMALL.draws), 1).all()


def test_what_is_compared_varies_between_programs(splits):
    """Otherwise nothing could be reported: the model gets some programs wrong, and others right."""
    _, made = splits
    for values, _, programs, _ in made[:6:2]:
        means = pd.DataFrame(np.asarray(values, float).T).groupby(programs).mean()
        assert means.std().max() > 0.2


def test_the_patched_run_is_compared_and_not_its_control(splits):
    """The planted model takes the program from its name in block 1; random vectors say nothing of another program."""
    _, made = splits
    values = made[4][0]
    place = {"site": "resid_pre", "role": "name", "hypothesis": "program", "layer": 1}
    (row,) = np.flatnonzero(np.all([values[name].values == value for name, value in place.items()], axis=0))
    assert float(values[row].mean()) > 0.4


def test_a_planted_difference_is_reported_by_the_same_machinery(monkeypatch):
    """Were programs split by the place in which they differ most, the p of the same comparison would say so."""
    made, compare = [], trials.compare_groups

    def split_by_score(values, *, group, clusters, **settings):
        means = pd.DataFrame(np.asarray(values, float).T).groupby(np.asarray(clusters)).mean()
        scores = means[means.std().idxmax()]
        high = set(scores.sort_values().index[len(scores) // 2 :])
        parted = ["first" if cluster in high else "second" for cluster in clusters]
        made.append(parted)
        return compare(values, group=parted, clusters=clusters, **settings)

    monkeypatch.setattr(trials, "compare_groups", split_by_score)
    table = null_comparisons("programs", 1, SMALL, seed=1)
    assert len(made) == 6
    assert (table["p"] < 0.05).all()


def test_where_nothing_can_be_read_nothing_is_located():
    table = null_comparisons("labels", 1, SMALL, seed=2)
    assert table["measure"].tolist() == ["probes", "lens", "probes", "lens"]  # labels say nothing of a transfer map
    located = table[table["split"] == -1].set_index("measure")
    assert located["n"].to_dict() == {"probes": 8, "lens": 4}  # in two groups: op_1 at two roles, state 1, output
    assert located["found"].tolist() == [0, 0]
    assert located["p"].isna().all()


def test_an_untrained_model_is_another_model():
    table = null_comparisons("untrained", 1, SMALL, seed=1)
    assert table["measure"].tolist() == ["probes", "lens", "transfer", "probes", "lens"]
    assert table["found"].dropna().tolist() == [0, 0]
    assert set(table["data"]) == {"untrained"}


# counts


def design(
    number: int, decoys: str = "", p: float = 1.0, evaluation: str = "step by step", said: str = "", **found
) -> list[dict]:
    """Two variables in both groups, planted in blocks 1 and 3, found there unless said otherwise."""
    rows = []
    for group in ("with_io", "without_io"):
        for variable, layer in (("program", 1.0), ("output", 3.0)):
            row = {"design": number, "decoys": decoys, "group": group, "variable": variable, "layer": layer, "p": p}
            row |= {f"{way}_layer": layer for way in ("used", "read", "lens")}
            row |= {"evaluation": evaluation, "found_evaluation": said or evaluation}
            rows.append(row | found if (group, variable) == ("without_io", "output") else row)
    return rows


def state(number: int, layer: float, used: float, read: float) -> dict:
    return design(number)[0] | {"variable": "state_1", "layer": layer, "used_layer": used, "read_layer": read}


NULLS = pd.DataFrame(
    [
        {"data": "programs", "measure": "lens", "split": 0, "p": 0.04, "p_of_rows": 0.01},
        {"data": "programs", "measure": "lens", "split": 1, "p": 0.05, "p_of_rows": 0.01},
        {"data": "programs", "measure": "probes", "split": 0, "p": 0.5, "p_of_rows": 0.04},
        {"data": "untrained", "measure": "lens", "split": 0, "p": 0.9, "p_of_rows": 0.9},
        {"data": "untrained", "measure": "lens", "split": -1, "found": 1, "n": 4},
        {"data": "untrained", "measure": "lens", "split": -1, "found": 0, "n": 4},
        {"data": "untrained", "measure": "probes", "split": -1, "found": 0, "n": 8},
    ]
)


@pytest.fixture(scope="module")
def counted() -> pd.DataFrame:
    rows = [
        *design(0),
        *design(1, used_layer=2.0, read_layer=2.0),
        *design(2, decoys="later, twice", p=0.01, lens_layer=NAN),
        *design(3, decoys="lookup", p=0.2, found_evaluation="step by step", evaluation="one step"),
        *design(4, decoys="later_than_that, twice", p=0.001),
        *design(5, decoys="lookup", p=0.3),  # neither what is carried nor how it is evaluated tells the groups apart
        *design(6, evaluation="compiled", said="undetermined"),
        *design(7, decoys="lookup", p=0.4, found_evaluation="undetermined"),  # which is no difference
        *design(8, evaluation="looked up"),  # and so it is called, without evidence
        state(0, 2.0, 2.0, 1.0),
        state(1, NAN, NAN, 1.0),  # there is none, and none is used
        state(2, NAN, 3.0, NAN),
    ]
    return calibration_table(pd.DataFrame(rows), NULLS).set_index("question")


def test_counts_by_hand(counted):
    assert counted[["count", "n"]].T.to_dict("list") == {
        "designs in which use names every planted block": [7, 9],
        "use name the block of program": [18, 18],
        "use name the block of output": [17, 18],
        "use name the block of state_1": [2, 3],
        "probes name the block of program": [18, 18],
        "probes name the block of output": [17, 18],
        "probes name the block of state_1": [1, 3],
        "logit lens name the block of output": [17, 18],
        "evaluation named: step by step": [12, 12],
        "evaluation named: one step": [2, 2],
        "evaluation left undetermined: compiled": [2, 2],
        "evaluation left undetermined: looked up": [0, 2],
        "groups differ: reported": [2, 4],
        "groups do not differ: difference reported": [1, 5],
        "difference reported, all comparisons": [1, 4],
        "difference reported: programs, lens": [1, 2],
        "difference reported: programs, probes": [0, 1],
        "difference reported: untrained, lens": [0, 1],
        "the same, were prompts the unit and not programs": [3, 4],
        "a variable located: untrained, lens": [1, 8],
        "a variable located: untrained, probes": [0, 8],
    }


def test_what_a_perfect_instrument_would_say(counted):
    wanted = counted["wanted"].to_dict()
    assert {wanted[name] for name in wanted if "name" in name or name == "groups differ: reported"} == {1.0}
    assert wanted["groups do not differ: difference reported"] == 0
    assert {wanted[name] for name in wanted if name.startswith("a variable located")} == {0.0}
    assert {wanted[name] for name in counted.index[counted["part"] == "nothing"] if "located" not in name} == {0.05}


def test_bounds_are_those_of_clopper_and_pearson(counted):
    for row in counted.to_dict(orient="records"):
        count, n = row["count"], row["n"]
        assert row["share"] == count / n
        assert row["lower"] == pytest.approx(beta.ppf(0.025, count, n - count + 1) if count else 0, abs=1e-9)
        assert row["upper"] == pytest.approx(beta.ppf(0.975, count + 1, n - count) if count < n else 1, abs=1e-9)
    # the rule of three, exactly: 0 of 8 leaves 1 - 0.025 ** (1 / 8); and tables give 72.7 to 99.9 % for 17 of 18
    assert counted.loc["a variable located: untrained, probes", "upper"] == pytest.approx(1 - 0.025 ** (1 / 8))
    assert counted.loc["use name the block of output", ["lower", "upper"]].tolist() == pytest.approx(
        [0.7271, 0.9986], abs=1e-4
    )


def test_tables_that_were_written_and_read_again_are_counted_alike(tmp_path):
    rows = pd.DataFrame([*design(0), *design(1, decoys="lookup", p=0.01)])
    for name, table in (("designs", rows), ("nulls", NULLS)):
        table.to_csv(tmp_path / name, index=False)
    again = calibration_table(*(pd.read_csv(tmp_path / name) for name in ("designs", "nulls")))
    pd.testing.assert_frame_equal(again, calibration_table(rows, NULLS))
