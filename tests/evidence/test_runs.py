"""Several runs at once, on tiny run directories whose means and differences are worked out by hand."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sealed import seal

from pbb_probe.errors import PbbError
from pbb_probe.evidence.runs import MEASURES, compare_runs, gather
from pbb_probe.labels import labels_of, storable
from pbb_probe.programs.corpus import make_corpus
from pbb_probe.store.run import Run

NAN = float("nan")
FEW = {"draws": 60, "seed": 0}
PROMPTS = ("target", "site", "layer", "role", "prompt")
CORPUS = make_corpus(with_io=4, without_io=4, seed=3)
NAMES = {group: [entry.program.name for entry in CORPUS.of(group)] for group in ("with_io", "without_io")}
FACTS = {entry.program.name: entry.program.facts for entry in CORPUS.entries}

# of the without_io programs, two calls each: is the output read after layer 0, and is the call answered right?
READ = {"a": [1, 1, 1, 0, 0, 0, 1, 1], "b": [0, 0, 1, 0, 0, 0, 0, 1]}
RIGHT = {"a": [1, 1, 1, 1, 1, 1, 0, 0], "b": [1, 1, 1, 1, 0, 0, 0, 0]}
# of two pairs, the first of which is answered right: scores of the clean run, of the corrupted one, and patched
CLEAN, CORRUPTED, PATCHED = [3, 5], [1, 1], {"a": [2, 5], "b": [2, 2]}


def write_run(path, kind: str = "a", layers=(0, 1), scale: float = 1.0) -> str:
    """A run that has measured the values above in without_io programs, and nothing in those with_io."""
    run = Run(path)
    CORPUS.save(run.path / "corpus")
    for step in ("probing", "transfer", "patching"):
        (run.path / step).mkdir()
    programs = [name for group in NAMES.values() for name in group for _ in range(2)]
    read = np.array([0] * 8 + READ[kind]) * scale
    prompts = known_of(programs, np.repeat(list(NAMES), 8), [0] * 8 + RIGHT[kind], "prompt")
    by_layer = np.stack([read, 1 - read])[:, None]  # [layer, role, prompt]
    probes = np.stack([by_layer, 0 * by_layer])[:, None]
    where = {"layer": list(layers), "role": ["answer"]}
    coords = {"target": ["output", "op_1"], "site": ["resid_post"], **where, **prompts}
    write(xr.Dataset({"correct": (PROMPTS, probes)}, coords), run.path / "probing/probes.nc")
    looks = np.stack([by_layer[None], 1 - by_layer[None]])
    dims = ("decode", "variable", "layer", "role", "prompt")
    coords = {"decode": ["plain", "stripped"], "variable": ["output"], **where, **prompts}
    write(xr.Dataset({"correct": (dims, looks)}, coords), run.path / "probing/lens.nc")
    for group, names in NAMES.items():
        follows = np.array(READ[kind] if group == "without_io" else [0] * 8, float)
        _write_transfer(run.path / f"transfer/{group}.nc", group, follows, RIGHT[kind], where)
        for swap in ("program", "input"):
            effects = np.array(PATCHED[kind] if group == "without_io" else CORRUPTED, float)
            if swap == "input":
                effects = np.array([1, 1.0])
            sweep = xr.Dataset(
                {
                    "clean": ("pair", np.array(CLEAN, float)),
                    "corrupted": ("pair", np.array(CORRUPTED, float)),
                    "resid_pre": (("layer", "role", "pair"), np.stack([effects, CORRUPTED])[:, None]),
                },
                where | known_of(names[:2], [group] * 2, [True, False], "pair"),
            )
            right = {"corrupted_answered": ("pair", [True, True])}
            write(sweep.assign_coords(right), run.path / f"patching/{swap}_{group}.nc")
    return str(seal(run.path))


def known_of(programs, groups, answered, unit: str, prefix: str = "") -> dict:
    """Labels of prompts or pairs, with the facts of their programs."""
    table = pd.DataFrame([FACTS[name] for name in programs]).assign(
        program=programs, group=groups, answered=np.array(answered, bool)
    )
    return {f"{prefix}{name}": (unit, storable(column)) for name, column in table.items()}


def write(array: xr.Dataset, path) -> None:
    array.to_netcdf(path, engine="h5netcdf")


def _write_transfer(path, group: str, follows: np.ndarray, right: list[int], where: dict) -> None:
    shares = np.stack([np.stack([follows, 1 - follows]), np.stack([1 - follows, follows])])  # [layer, hypothesis, pair]
    both = np.stack([shares, np.ones_like(shares)])[:, :, None]  # [control, layer, role, hypothesis, pair]
    dims = ("control", "layer", "role", "hypothesis", "pair")
    programs, groups = np.repeat(NAMES[group], 2).tolist(), [group] * 8
    base = known_of(programs, groups, right, "pair", "corrupted_")
    donor = known_of(programs[::-1], groups, [True] * 7 + [False], "pair")
    coords = {**where, "control": ["none", "random"], "hypothesis": ["program", "other"], "pair": np.arange(8) + 3}
    write(xr.Dataset({"attn_out": (dims, both)}, {**coords, **base, **donor}), path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("runs")
    made = {name: write_run(folder / name, name[0]) for name in ("a1", "a2", "b1", "b2")}
    return made | {
        "later": write_run(folder / "later", "a", layers=(1, 2)),
        "half": write_run(folder / "half", scale=0.5),
    }


def at(table: pd.DataFrame, **place) -> pd.Series:
    """The one row of a place."""
    (row,) = np.flatnonzero(np.all([table[name] == value for name, value in place.items()], axis=0))
    return table.iloc[row]


# gather


def test_every_prompt_of_every_run_is_a_row(runs):
    found = gather({"one": runs["a1"], "two": runs["b1"]}, "probes")
    assert found.dims == ("target", "site", "layer", "role", "row")
    assert found.sizes["row"] == 32
    assert found["run"].values.tolist() == ["one"] * 16 + ["two"] * 16
    cell = found.sel(target="output", layer=0, role="answer", site="resid_post")
    for name, kind in (("one", "a"), ("two", "b")):
        mine = cell[(cell["run"] == name) & (cell["group"] == "without_io")]
        assert mine.values.tolist() == READ[kind]
        assert mine["correct"].values.tolist() == [bool(x) for x in RIGHT[kind]]
        assert mine["program"].values.tolist() == np.repeat(NAMES["without_io"], 2).tolist()
        assert cell[(cell["run"] == name) & (cell["group"] == "with_io")].values.tolist() == [0] * 8
    assert (found["weight"] == 1).all()


@pytest.mark.parametrize("measure", MEASURES)
def test_the_labels_of_the_program_stand_beside_it(runs, measure):
    found = gather({"one": runs["a1"], "two": Run(runs["b1"])}, measure)
    for row in range(found.sizes["row"]):
        here = labels_of(found.isel(row=[row]), "row").iloc[0]
        facts = FACTS[here["program"]]
        assert {name: here[name] for name in facts} == facts
        others = {name for some in FACTS.values() for name in some} - set(facts)
        assert all(pd.isna(here[name]) for name in others)  # such as a second step
    assert set(found["group"].values.tolist()) == {"with_io", "without_io"}


def test_the_lens_keeps_both_ways_of_decoding(runs):
    found = gather({"one": runs["a1"]}, "lens").sel(variable="output", layer=1, role="answer")
    mine = found[:, found["group"].values == "without_io"]
    assert mine.sel(decode="stripped").values.tolist() == READ["a"]
    assert mine.sel(decode="plain").values.tolist() == [1 - x for x in READ["a"]]


def test_of_a_transfer_map_the_patched_run_counts_and_both_runs_must_be_right(runs):
    found = gather({"one": runs["a1"]}, "transfer")
    assert found.dims == ("site", "layer", "role", "hypothesis", "row")
    mine = found.isel(row=found["group"].values == "without_io")
    assert mine.sel(site="attn_out", layer=0, role="answer", hypothesis="program").values.tolist() == READ["a"]
    everyone_right = gather({"one": runs["later"]}, "transfer")
    assert mine["correct"].values.tolist() == [True] * 6 + [False] * 2
    assert everyone_right["layer"].values.tolist() == [1, 2]


def test_a_pair_is_right_only_if_base_and_donor_are(runs, tmp_path):
    path = write_run(tmp_path / "run")
    for group in NAMES:
        _write_transfer(
            tmp_path / "run" / "transfer" / f"{group}.nc",
            group,
            np.ones(8),
            [0, 1, 1, 1, 1, 1, 1, 1],
            {"layer": [0, 1], "role": ["answer"]},
        )
    seal(tmp_path / "run")
    found = gather({"one": path}, "transfer")
    assert found["correct"].values.tolist() == [False, *[True] * 6, False] * 2  # the last donor is wrong


def test_recovery_has_the_weights_of_its_pairs(runs):
    found = gather({"one": runs["a1"]}, "recovery_program").sel(site="resid_pre", layer=0, role="answer")
    mine = found[found["group"] == "without_io"]
    # distances 2 and 4, on average 3, of which 1 and 4 are recovered
    assert mine.values == pytest.approx([1 / 3, 4 / 3])
    assert mine["weight"].values == pytest.approx([2 / 3, 4 / 3])
    nothing = gather({"one": runs["a1"]}, "recovery_input").sel(site="resid_pre", layer=0, role="answer")
    assert nothing.values.tolist() == [0.0] * 4


def test_runs_with_other_layers_are_joined(runs):
    found = gather({"one": runs["a1"], "two": runs["later"]}, "probes").sel(target="output", role="answer")
    assert found["layer"].values.tolist() == [0, 1, 2]
    missing = found.isel(site=0).isnull().groupby("run").all("row").transpose("run", "layer")
    assert missing.values.tolist() == [[False, False, True], [True, False, False]]


# compare_runs


def test_one_run_a_condition_is_compared_over_programs(runs):
    table = compare_runs({"0": runs["a1"]}, {"0": runs["b1"]}, "probes", correct=False, **FEW)
    row = at(table, target="output", layer=0)
    assert (row["mean_first"], row["mean_second"], row["difference"]) == (5 / 8, 2 / 8, 3 / 8)
    assert (row["n_first"], row["clusters_first"], row["clusters_second"]) == (8, 4, 4)
    assert at(table, target="output", layer=1)["difference"] == -3 / 8
    assert at(table, target="op_1", layer=1)["p"] == 1
    assert not [name for name in table if name.startswith("models")]
    assert list(table.columns[:4]) == ["target", "site", "layer", "role"]
    assert len(table) == 4


def test_only_what_is_answered_right_counts_unless_all_is_asked_for(runs):
    table = compare_runs({"0": runs["a1"]}, {"0": runs["b1"]}, "probes", **FEW)
    row = at(table, target="output", layer=0)
    assert (row["mean_first"], row["n_first"], row["clusters_first"]) == (3 / 6, 6, 3)
    assert (row["mean_second"], row["n_second"], row["clusters_second"]) == (1 / 4, 4, 2)
    row = at(compare_runs({"0": runs["a1"]}, {"0": runs["b1"]}, "transfer", **FEW), hypothesis="program", layer=0)
    assert (row["mean_first"], row["mean_second"]) == (3 / 6, 1 / 4)
    row = at(compare_runs({"0": runs["a1"]}, {"0": runs["b1"]}, "lens", **FEW), decode="stripped", layer=1)
    assert (row["mean_first"], row["mean_second"]) == (3 / 6, 1 / 4)


def test_recovery_is_a_ratio_of_means(runs):
    place = {"site": "resid_pre", "layer": 0, "role": "answer"}
    everything = compare_runs({"0": runs["a1"]}, {"0": runs["b1"]}, "recovery_program", correct=False, **FEW)
    row = at(everything, **place)
    assert row["mean_first"] == pytest.approx((1 + 4) / (2 + 4))
    assert row["mean_second"] == pytest.approx((1 + 1) / (2 + 4))
    row = at(compare_runs({"0": runs["a1"]}, {"0": runs["b1"]}, "recovery_program", **FEW), **place)
    assert row["mean_first"] == row["mean_second"] == pytest.approx(1 / 2)  # the first pair alone
    assert row["n_first"] == 1


def test_several_runs_a_condition_are_what_varies(runs):
    first, second = {"0": runs["a1"], "1": runs["half"]}, {"0": runs["b1"], "1": runs["b2"]}
    table = compare_runs(first, second, "probes", names=("proactive", "retroactive"), correct=False, **FEW)
    row = at(table, target="output", layer=0)
    assert row["mean_proactive"] == pytest.approx((5 + 5 / 2) / 16)
    assert row["mean_retroactive"] == pytest.approx(2 / 8)
    assert row["difference"] == pytest.approx(7.5 / 16 - 1 / 4)
    assert (row["models_proactive"], row["models_retroactive"]) == (2, 2)
    assert (row["clusters_proactive"], row["n_proactive"]) == (8, 16)
    # of the 6 ways to call two of four models proactive, this one and its mirror image are the furthest apart
    assert row["p"] == pytest.approx(2 / 6)


def test_names_of_the_conditions_say_which_is_subtracted(runs):
    """The first in sorted order minus the second, whichever was given first."""
    table = compare_runs({"0": runs["a1"]}, {"0": runs["b1"]}, "probes", names=("z", "b"), correct=False, **FEW)
    row = at(table, target="output", layer=0)
    assert (row["mean_z"], row["mean_b"], row["difference"]) == (5 / 8, 2 / 8, -3 / 8)


def test_one_run_against_several_is_compared_over_programs(runs):
    table = compare_runs({"0": runs["a1"]}, {"0": runs["b1"], "1": runs["b2"]}, "probes", correct=False, **FEW)
    assert "models_first" not in table
    assert at(table, target="output", layer=0)[["clusters_first", "clusters_second"]].tolist() == [4, 8]


def test_the_other_group_can_be_asked_for(runs):
    table = compare_runs(
        {"0": runs["a1"]}, {"0": runs["b1"]}, "transfer", group="with_io", correct=False, margin=0.1, **FEW
    )
    assert table["difference"].tolist() == [0.0] * 4
    assert table["equivalent"].all()
    assert at(table, hypothesis="program", layer=0)["mean_first"] == 0
    with pytest.raises(PbbError, match="No with_io prompt or pair of first was answered correctly"):
        compare_runs({"0": runs["a1"]}, {"0": runs["b1"]}, "probes", group="with_io", **FEW)


@pytest.mark.filterwarnings("error")
def test_layers_of_one_condition_only_have_no_difference(runs):
    table = compare_runs({"0": runs["a1"]}, {"0": runs["later"]}, "probes", correct=False, **FEW)
    found = table[table["target"] == "output"].set_index("layer")
    assert found["mean_first"].fillna(-1).tolist() == [5 / 8, 3 / 8, -1]
    assert found["mean_second"].fillna(-1).tolist() == [-1, 5 / 8, 3 / 8]
    assert found["difference"].fillna(-1).tolist() == [-1, -2 / 8, -1]


# what is refused


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    one = {"0": runs["a1"]}
    with pytest.raises(PbbError, match="Unknown measure 'probe': choose from probes, lens"):
        gather(one, "probe")
    with pytest.raises(PbbError, match="Unknown group 'all': choose from with_io, without_io"):
        compare_runs(one, one, "probes", group="all")
    with pytest.raises(PbbError, match="no runs"):
        gather({}, "probes")
    with pytest.raises(PbbError, match="no runs"):
        compare_runs(one, {}, "probes")
    with pytest.raises(PbbError, match="no run in"):
        gather({"0": tmp_path}, "probes")
    with pytest.raises(PbbError, match="one name twice"):
        compare_runs(one, one, "probes", names=("same", "same"))


def test_a_run_that_lacks_a_step_says_what_it_has(tmp_path):
    path = write_run(tmp_path / "run")
    (tmp_path / "run" / "probing" / "lens.nc").unlink()
    seal(tmp_path / "run")
    with pytest.raises(PbbError, match=r"has no probing/lens\.nc: it has .*probing/probes, transfer/with_io"):
        gather({"0": path}, "lens")
    (tmp_path / "run" / "transfer" / "without_io.nc").unlink()
    seal(tmp_path / "run")
    assert set(gather({"0": path}, "transfer")["group"].values) == {"with_io"}
    (tmp_path / "run" / "transfer" / "with_io.nc").unlink()
    seal(tmp_path / "run")
    with pytest.raises(PbbError, match=r"has no transfer/with_io\.nc"):
        gather({"0": path}, "transfer")
    (tmp_path / "run" / "probing" / "probes.nc").unlink()
    with pytest.raises(PbbError, match=r"not as its step wrote it: probing/probes\.nc \(missing\)"):
        gather({"0": path}, "probes")


@pytest.mark.parametrize(
    "odd",
    [
        {"first": "path"},
        {"first": {"a": 5}},
        {"first": {}},
        {"names": ("a", "b", "c")},
        {"names": "ab"},
        {"names": ("a", 3)},
        {"correct": "x"},
        {"colour": 3},
    ],
)
def test_an_odd_argument_is_one_sentence(odd, runs):
    with pytest.raises(PbbError) as caught:
        compare_runs(**{"first": {"one": runs["a1"]}, "second": {"two": runs["b1"]}, "measure": "probes", **FEW, **odd})
    assert str(caught.value).endswith(".")


def test_one_run_is_not_two_models(runs):
    with pytest.raises(PbbError, match="'one' and 'again' are one run"):
        compare_runs({"one": runs["a1"], "again": Run(runs["a1"])}, {"two": runs["b1"]}, "probes", **FEW)
