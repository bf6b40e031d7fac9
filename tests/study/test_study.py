"""The study end to end on a small corpus: done once, resumed after a kill, redone only where something changed."""

import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr
from blank import blank_report
from dash_parts import control_values, figures_of, parts_of
from sealed import seal

from pbb_probe.errors import PbbError
from pbb_probe.evidence.comparison import transfer_table
from pbb_probe.evidence.located import located_tables
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.labels import labels_of
from pbb_probe.models.bases import resolve_base
from pbb_probe.probing.brewing import OUTCOMES
from pbb_probe.programs.corpus import GROUPS, Corpus, make_corpus
from pbb_probe.runs.config import CorpusConfig, PatchingConfig, ProbingConfig, StudyConfig, TransferConfig
from pbb_probe.store.run import Run
from pbb_probe.store.writable import WritableRun
from pbb_probe.study import steps
from pbb_probe.study.run import VERSIONS, Study
from pbb_probe.views.explorer import activations, attention, layers, overview, program
from pbb_probe.views.explorer.cards import Asked
from pbb_probe.views.explorer.explored import Explored

STEPS = (
    "corpus",
    "stage1",
    "stage2",
    "stage2_alone",
    "behaviour",
    "effective",
    "probing",
    "patching",
    "transfer",
    "interchange",
    "comparison",
    "report",
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return StudyConfig(
        out=str(tmp_path_factory.mktemp("study") / "run"),
        corpus=CorpusConfig(with_io=20, without_io=10, io_only=10),
        train=TrainConfig(exposures=0.3),
        calls=40,
        probing=ProbingConfig(prompts=60, roles=("name", "answer"), targets=("input", "op_1", "output"), folds=2),
        patching=PatchingConfig(pairs=20, sites=("resid_pre",), roles=("name", "answer")),
        transfer=TransferConfig(pairs=30, sites=("resid_pre",), roles=("answer",), controls=("self", "random")),
        draws=200,
    )


@pytest.fixture(scope="module")
def run(config):
    return Study(config).run()


def made(path: Path) -> dict[str, float]:
    return {step: (path / step / "step.json").stat().st_mtime_ns for step in STEPS}


def test_everything_is_there_and_readable(run):
    assert {path.name for path in run.path.iterdir()} == {
        *STEPS,
        "config.json",
        "manifest.json",
        "report.html",
        "report.md",
    }
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert set(manifest["steps"]) == set(STEPS)
    assert all(step["seconds"] >= 0 and step["key"] for step in manifest["steps"].values())
    assert xr.load_dataset(run.path / "behaviour" / "finetuned.nc").sizes["call"] == 3 * 80
    probes = xr.load_dataset(run.path / "probing" / "probes.nc")
    assert dict(probes["accuracy"].sizes) == {
        **{"control": 9, "target": 3, "site": 1, "layer": 6, "role": 2, "fold": 2}
    }
    effects = xr.load_dataset(run.path / "patching" / "program_without_io.nc")
    assert effects["resid_pre"].dims == ("layer", "role", "pair")
    table = pd.read_csv(run.path / "behaviour" / "behaviour.csv")
    models = {"finetuned", "stage1 alone", "stage2 alone", "base"}
    in_context = {f"{name}, code in context" for name in ("base", "stage1", "finetuned")}
    assert set(table["model"]) == models | in_context
    added = pd.read_csv(run.path / "comparison" / "code_adds.csv")
    assert {"with_io", "io_only", "with_io minus io_only", *in_context} == set(added["what"])
    leak = pd.read_csv(run.path / "comparison" / "probing_leak.csv")
    assert len(leak) == 0 or (run.path / "probing" / "probes_by_program.nc").exists()  # so few may share no function
    assert list((run.path / "report").glob("*.png"))


def test_the_tables_follow_from_the_arrays(run):
    """The recovery of one cell, computed here from the NetCDF file alone."""
    effects = xr.load_dataset(run.path / "patching" / "program_with_io.nc")
    cell = effects["resid_pre"].sel(layer=1, role="name")
    clean, corrupted = float(effects["clean"].mean()), float(effects["corrupted"].mean())
    expected = (float(cell.mean()) - corrupted) / (clean - corrupted)
    table = pd.read_csv(run.path / "comparison" / "patching.csv")
    row = table[
        (table["swap"] == "program") & (table["subset"] == "all") & (table["layer"] == 1) & (table["role"] == "name")
    ]
    assert row["mean_with_io"].unique().item() == pytest.approx(expected, abs=1e-5)  # in the rows of each pair


def test_the_transfer_table_follows_from_its_arrays(run):
    """The shares of one cell, computed here from the NetCDF file alone; the control that puts in what is there."""
    carried = xr.load_dataset(run.path / "transfer" / "with_io.nc")
    two = carried.isel(pair=carried["steps"].values == 2)
    cell = two["resid_pre"].sel(control="none", layer=5, role="answer", hypothesis="everything")
    table = pd.read_csv(run.path / "comparison" / "transfer.csv")
    table = table[(table["subset"] == "all") & (table["group"] == "with_io") & (table["steps"] == 2)]
    last = table[(table["layer"] == 5) & (table["role"] == "answer")].set_index(["control", "hypothesis"])
    assert last.loc[("none", "everything"), "proportion"] == pytest.approx(float(cell.mean()))
    assert last.loc[("none", "everything"), "n"] == int(cell.notnull().sum()) > 0
    own = table[(table["control"] == "self") & (table["hypothesis"] == "everything")]
    assert own["proportion"].nunique() == 1  # what is put in is what is there, wherever


def test_probes_stand_beside_every_control(run):
    """One cell of each table, computed here from the NetCDF files alone."""
    table = pd.read_csv(run.path / "comparison" / "probing_controls.csv")
    controls = {"selectivity", "permutation", "chance", "shuffled", "relabelled", "untrained", "base", "embedding"}
    assert set(table["control"]) == {"none", *controls}
    probes = xr.load_dataset(run.path / "probing" / "probes.nc")
    mine = probes["group"].values == "without_io"
    place = {"target": "output", "site": "resid_post", "layer": 4, "role": "answer"}
    own = probes["correct"].sel({"control": "none", **place}).values[mine]
    base = probes["correct"].sel({"control": "base", **place}).values[mine]
    rows = table[(table["subset"] == "all") & (table["group"] == "without_io")]
    for name, value in place.items():
        rows = rows[rows[name] == value]
    row = rows.set_index("control").loc["base"]
    assert (row["score"], row["gain"]) == pytest.approx((base.mean(), (own - base).mean()), abs=1e-6)
    across = pd.read_csv(run.path / "comparison" / "probing_across.csv")
    assert set(across["fitted_on"]) == set(across["group"]) == set(GROUPS)
    between = {f"between {first} and {second}" for first, second in itertools.combinations(sorted(GROUPS), 2)}
    assert set(pd.read_csv(run.path / "comparison" / "cosines.csv")["halves"]) == {*GROUPS, *between}


def test_onsets_do_without_what_a_study_did_not_measure(run, tmp_path):
    """No transfer map, no controls of the probes, no lens: what is left is recovery, which names nothing by itself."""
    whole = located_tables({"": run}, draws=50)
    assert set(whole["onsets"]["variable"]) >= {"program", "output"}
    assert {"probes", "lens"} <= set(whole["onset_differences"]["measure"])
    for step in ("corpus", "probing", "patching"):
        shutil.copytree(run.path / step, tmp_path / step)
    (tmp_path / "probing" / "lens.nc").unlink()
    probes = xr.load_dataset(tmp_path / "probing" / "probes.nc")
    probes.sel(control="none", drop=True).to_netcdf(tmp_path / "probing" / "probes.nc")
    bare = located_tables({"": Run(seal(tmp_path))}, draws=50)
    assert {name: len(table) for name, table in bare.items()} == {"onsets": 0, "evaluation": 0, "onset_differences": 0}


def test_the_lens_ends_at_what_the_model_answers(run):
    table = pd.read_csv(run.path / "comparison" / "lens.csv")
    prompts = labels_of(xr.load_dataset(run.path / "probing" / "lens.nc"))
    last = table[(table["layer"] == 5) & (table["variable"] == "output") & (table["subset"] == "all")]
    for group, chosen in prompts.groupby("group"):
        said = last.drop_duplicates("decode").set_index("decode")[f"mean_{group}"]
        assert said["logit"] == pytest.approx(said["stripped"])  # behind the last block nothing is stripped
        assert said["logit"] >= chosen["answered"].mean()  # the likeliest of all tokens is that of the candidates too
    outcomes = pd.read_csv(run.path / "comparison" / "outcomes.csv")
    shares = outcomes[outcomes["measure"].isin(OUTCOMES)].groupby(["variable", "group", "steps"])["mean"].sum()
    assert shares.to_numpy() == pytest.approx(1)


def test_probes_subspaces_are_interchanged(run):
    table = pd.read_csv(run.path / "comparison" / "interchange.csv")
    assert set(table["variable"]) == {"state_1", "output"}
    assert set(table["control"]) == {"none", "random"}
    carried = xr.load_dataset(run.path / "interchange" / "output" / "with_io.nc")
    cell = carried["resid_post"].sel(control="none", layer=5, role="answer", hypothesis="everything")
    two = float(cell[carried["steps"].values == 2].mean())
    rows = table[(table["variable"] == "output") & (table["control"] == "none") & (table["hypothesis"] == "everything")]
    rows = rows[(rows["layer"] == 5) & (rows["role"] == "answer") & (rows["group"] == "with_io")]
    assert rows[(rows["steps"] == 2) & (rows["subset"] == "all")]["proportion"].item() == pytest.approx(two)


def test_a_group_without_a_transfer_map_leaves_the_rest_standing(config, run, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("pbb_probe.patching.transfer_pairs.ROUNDS", 0)  # no candidate is drawn
    steps.transfer(config.transfer, Corpus.load(run.path / "corpus"), str(run.path / "stage2" / "model"), 0, tmp_path)
    assert "No transfer map of with_io. No pair of with_io calls" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    table = transfer_table(Run(tmp_path))
    assert table.empty
    assert {"subset", "group", "hypothesis", "proportion"} <= set(table)


def test_the_report_is_one_offline_file_that_says_what_was_found(run):
    page, words = ((run.path / name).read_text() for name in ("report.html", "report.md"))
    for text in (page, words):
        assert "Behaviour on inputs whose answers were never shown" in text
    assert page.count('class="plot"') == words.count("[Figure ") / 2 >= 5  # a picture and a caption each
    pictures = set(re.findall(r"\]\((report/\w+\.png)\)", words))
    assert pictures == {f"report/{path.name}" for path in (run.path / "report").glob("*.png")}


def test_a_second_run_does_nothing(config, run):
    before = made(run.path)
    Study(config, train=lambda *_: pytest.fail("trained again")).run()
    assert made(run.path) == before


def test_another_spelling_of_a_path_or_another_release_redoes_nothing(config, run, tmp_path, monkeypatch):
    """A copy of the run, by a relative path, its base by a path, in what a patch release would be called."""
    copy = shutil.copytree(run.path, tmp_path / "run")
    before = made(copy)
    monkeypatch.setattr("pbb_probe.store.writable.version", lambda package: "9.9.9")
    monkeypatch.chdir(tmp_path)
    Study(replace(config, out="run"), report=blank_report).run()
    assert made(copy) == before
    Study(replace(config, base=resolve_base("nano"), out="../" + tmp_path.name + "/./run"), report=blank_report).run()
    assert {step for step in STEPS if made(copy)[step] != before[step]} == {"report"}  # it names the base


def test_what_would_fail_is_refused_before_a_finished_run_is_touched(config, run, tmp_path, monkeypatch):
    copy = shutil.copytree(run.path, tmp_path / "run")
    before = {path: path.read_bytes() for path in copy.rglob("*.json")}
    for wrong, said in (
        (replace(config, probing=replace(config.probing, targets=("inputt",))), "Unknown probe target 'inputt'"),
        (replace(config, base="./nowhere"), "no model directory"),
    ):
        with pytest.raises(PbbError, match=said):
            Study(replace(wrong, out=str(copy))).run()
        assert {path: path.read_bytes() for path in copy.rglob("*.json")} == before
        with pytest.raises(PbbError, match=said):
            Study(replace(wrong, out=str(tmp_path / "new"))).run()
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "report.md", "stage2/notes.txt", "corpus/a"])
def test_what_no_study_wrote_is_never_replaced(config, tmp_path, name):
    mine = tmp_path / "run" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(PbbError, match="in the way"):
        Study(replace(config, out=str(tmp_path / "run"))).run()
    assert [path.read_text() for path in (tmp_path / "run").rglob("*") if path.is_file()] == ["mine"]


def test_no_other_command_writes_into_a_step(run):
    for name in ("behaviour", "interchange"):
        with pytest.raises(PbbError, match=f"{name} is the folder of a step of the run {run.path}"):
            WritableRun(run.path / name).writing().__enter__()
    WritableRun(run.path / "notes").writing().__enter__()
    shutil.rmtree(run.path / "notes")


def test_what_is_taught_is_what_its_version_says():
    """A corpus that comes out otherwise needs another `VERSIONS["corpus"]`, or old ones would pass for it."""
    contents = {
        family: make_corpus(family=family, with_io=6, without_io=4, seed=0).digest
        for family in ("arithmetic", "algorithms", "ciphers")
    }
    assert VERSIONS["corpus"] == 2
    assert contents == {
        "arithmetic": "e5b7123f2cdbbb8a",
        "algorithms": "fe2a4734870a0a92",
        "ciphers": "2c1d0984937dac77",
    }


def test_a_changed_field_redoes_what_follows_from_it_and_a_kill_loses_nothing(config, run):
    before = made(run.path)
    changed = replace(config, patching=replace(config.patching, pairs=15))

    def killed(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Study(changed, report=killed).run()
    assert not (run.path / ".report").exists()
    after_kill = made(run.path)
    assert {step for step in STEPS if after_kill[step] != before[step]} == {"patching", "comparison"}

    Study(changed, report=blank_report).run()
    after = made(run.path)
    assert {step for step in STEPS if after[step] != after_kill[step]} == {"report"}
    assert xr.load_dataset(run.path / "patching" / "program_with_io.nc").sizes["pair"] <= 15
    assert not list(run.path.glob(".*"))


def test_both_groups_are_needed(tmp_path):
    with pytest.raises(PbbError, match="both counts must be above 0"):
        StudyConfig(corpus=CorpusConfig(without_io=0))


def test_an_unknown_probe_target_is_refused(config, run):
    wrong = replace(config, probing=replace(config.probing, targets=("colour",)))
    with pytest.raises(PbbError, match="Unknown probe target 'colour'"):
        Study(wrong).run()


def test_programs_on_texts_with_answers_of_several_tokens_go_all_the_way(small_model, tmp_path):
    config = StudyConfig(
        base=small_model("qwen3"),
        out=str(tmp_path / "run"),
        corpus=CorpusConfig(family="ciphers", with_io=14, without_io=14, io_only=0),
        curriculum="description",
        train=TrainConfig(exposures=0.01, batch_size=32),
        calls=6,
        probing=ProbingConfig(prompts=40, roles=("output",), targets=("cipher",), folds=2),
        patching=PatchingConfig(pairs=30, sites=("resid_pre",), roles=("answer",)),
        transfer=TransferConfig(pairs=20, sites=("resid_pre",), roles=("answer",), controls=("self",)),
        draws=50,
    )
    run = Study(config).run()
    effects = xr.load_dataset(run.path / "patching" / "program_with_io.nc")
    assert effects.sizes["pair"] > 0
    assert set(effects["corrupted_group"].values.tolist()) == {"with_io"}
    # put into the last block's input at the last token of the prompt, the clean run's residual is not everything: the
    # answers' later tokens see the corrupted prompt
    last = effects["resid_pre"].isel(layer=-1, role=0)
    assert not bool((abs(last - effects["clean"]) < 1e-6).any())
    assert float(abs(last - effects["corrupted"]).max()) > 1e-3
    calls = xr.load_dataset(run.path / "behaviour" / "finetuned.nc").to_dataframe()
    assert (calls["output"].str[0] == "'").all()
    assert (run.path / "report.html").exists()
    explored = Explored(run.path)  # what such a run lacks, a lens say, is said and nothing fails
    for page in (overview, layers, program, activations, attention):
        shown = page.content(Asked(explored, control_values(page.controls(explored, {}))))
        assert figures_of(shown)
        assert not [part for part in parts_of(shown) if "could not be made" in str(getattr(part, "children", ""))]


def test_unknown_targets_are_refused_before_anything_is_trained(tmp_path):
    config = StudyConfig(
        out=str(tmp_path / "run"),
        corpus=CorpusConfig(family="algorithms", with_io=3, without_io=3, io_only=0),
        probing=ProbingConfig(targets=("op_1",)),
    )
    with pytest.raises(PbbError, match="Unknown probe target 'op_1'"):
        Study(config).run()
    assert not (tmp_path / "run" / "stage1").exists()
