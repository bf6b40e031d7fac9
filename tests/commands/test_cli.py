"""The command line: documented fields, and a user's mistake is one sentence with exit code 2."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from math import exp
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import xarray as xr

import pbb_probe as pbb
from pbb_probe.commands import cli
from pbb_probe.commands import run as run_command
from pbb_probe.probing.controls import CONTROLS
from pbb_probe.probing.probes import Probes
from pbb_probe.store.run import Run

ROOT = Path(__file__).parents[2]


def refused(capsys, *arguments: str) -> str:
    """What is printed for arguments that must be refused."""
    try:
        code = cli.main(["run", *arguments])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_unknown_field_wrong_type_and_unknown_choice_are_refused(capsys, tmp_path):
    assert "colour" in refused(capsys, "--colour", "red")
    assert "with_io" in refused(capsys, "--corpus.with_io", "many")
    assert "curriculum" in refused(capsys, "--curriculum", "inverse", "--out", str(tmp_path))
    assert "above 0" in refused(capsys, "--corpus.without_io", "0", "--out", str(tmp_path))
    assert "seed must be at least 0, not -1." in refused(capsys, "--seed", "-1", "--out", str(tmp_path))


def test_a_config_file_with_an_unknown_key_is_refused(capsys, tmp_path):
    config = tmp_path / "study.yaml"
    config.write_text("corpus:\n  with_oi: 3\n")
    assert "with_oi" in refused(capsys, "--config", str(config))
    assert "none.yaml" in refused(capsys, "--config", str(tmp_path / "none.yaml"))


def test_fields_come_from_the_file_and_the_command_line_wins(tmp_path, monkeypatch):
    config = tmp_path / "study.yaml"
    config.write_text("seed: 5\ncorpus:\n  with_io: 30\nprobing:\n  roles: [name]\n")
    seen = []
    monkeypatch.setattr(
        run_command, "Study", lambda config: SimpleNamespace(run=lambda: seen.append(config) or Run(tmp_path))
    )
    assert cli.main(["run", "--config", str(config), "--seed", "7", "--out", "elsewhere"]) == 0
    (got,) = seen
    assert (got.seed, got.out, got.corpus.with_io, got.corpus.without_io) == (7, "elsewhere", 30, 150)
    assert tuple(got.probing.roles) == ("name",)


def test_an_unknown_model_is_one_sentence(capsys, tmp_path):
    error = refused(
        capsys, "--base", "./nowhere", "--out", str(tmp_path), "--corpus.with_io=4", "--corpus.without_io=3"
    )
    assert error.strip().splitlines()[-1].startswith("pbb-probe: There is no model directory nowhere")


def test_a_run_directory_that_is_a_file_is_one_sentence(capsys, tmp_path):
    (tmp_path / "taken").write_text("")
    assert "cannot be made" in refused(capsys, "--out", str(tmp_path / "taken"))


def study_that(monkeypatch, does) -> None:
    """Let the command run a study that does this and nothing else."""
    monkeypatch.setattr(run_command, "Study", lambda config: SimpleNamespace(run=does))


def test_a_full_disk_is_one_sentence(capsys, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path))

    study_that(monkeypatch, full)
    assert "make room" in refused(capsys, "--out", str(tmp_path))


def test_a_full_disk_that_a_library_reports_in_its_own_way_is_one_sentence(capsys, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("enforce fail at inline_container.cc: unexpected pos 2964480")  # torch.save on a full disk

    study_that(monkeypatch, fails)
    with pytest.raises(RuntimeError):  # with room on the disk it is a defect, and is shown as one
        cli.main(["run", "--out", str(tmp_path)])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    assert "make room" in refused(capsys, "--out", str(tmp_path))


WORKING = """
import sys, time
from pbb_probe.commands import cli
from pbb_probe.study.run import Study
Study.run = lambda self: (print("working", flush=True), time.sleep(60))
sys.argv = ["pbb-probe", "run", "--out", sys.argv[1]]
sys.exit(cli.program())
"""
IMPORTING = """
import os, sys
from pbb_probe.commands import cli
out, wanted, number = sys.argv[1:]
class Interrupts:
    def find_spec(self, name, *_):
        if name == wanted:
            os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Interrupts())
sys.argv = ["pbb-probe", "run", "--out", out]
sys.exit(cli.program())
"""


@pytest.mark.parametrize(("number", "said"), [(2, "interrupted"), (15, "ended by SIGTERM"), (1, "ended by SIGHUP")])
def test_a_signal_to_end_is_one_sentence(tmp_path, number, said):
    command = [sys.executable, "-c", WORKING, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "working\n"
        for _ in range(4):  # a second one comes when the first is answered, or before
            process.send_signal(number)
        _, error = process.communicate(timeout=20)
    assert error == f"pbb-probe: {said}; the same command goes on from here.\n"
    assert process.returncode == 128 + number


@pytest.mark.parametrize("module", ["jsonargparse", "pbb_probe.study.run", "transformers", "numpy"])
@pytest.mark.parametrize("number", [2, 15])
def test_a_signal_while_importing_is_one_sentence(tmp_path, module, number):
    command = [sys.executable, "-c", IMPORTING, str(tmp_path / "run"), module, str(number)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert re.fullmatch(r"pbb-probe: .*; the same command goes on from here\.\n", ended.stderr)
    assert ended.returncode == 128 + number
    assert not (tmp_path / "run").exists()


def test_under_nohup_a_closed_terminal_ends_nothing(tmp_path):
    command = ["nohup", sys.executable, "-c", WORKING, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert "ended by SIGTERM" in process.communicate(timeout=20)[1]


def test_what_a_library_makes_of_an_interruption_is_told_as_one(tmp_path, monkeypatch, capsys):
    def swallowed(*_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("numpy could not be imported") from None

    study_that(monkeypatch, swallowed)
    assert cli.main(["run", "--out", str(tmp_path)]) == 128 + signal.SIGTERM
    assert "ended by SIGTERM" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_too_little_memory_is_one_sentence(capsys, tmp_path, monkeypatch):
    study_that(monkeypatch, lambda: bytes(1 << 62))
    assert "not enough memory" in refused(capsys, "--out", str(tmp_path))


def test_a_reader_that_leaves_ends_nothing_with_a_traceback():
    command = f"{sys.executable} -m pbb_probe.commands.cli run --help | head -1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert ended.stdout.startswith("usage:")
    assert "Traceback" not in ended.stderr


def test_nothing_is_evaluated_into_a_step_of_a_run(planted_run, monkeypatch, capsys):
    before = (planted_run / "behaviour" / "behaviour.csv").read_bytes()
    monkeypatch.chdir(planted_run)  # where the default --out is the step's folder
    monkeypatch.setattr("pbb_probe.finetuning.behaviour.evaluate", lambda *_: pytest.fail("evaluated"))
    assert cli.main(["evaluate", "--model=nano", "--corpus=corpus"]) == 2
    assert f"behaviour is the folder of a step of the run {planted_run}" in capsys.readouterr().err
    assert (planted_run / "behaviour" / "behaviour.csv").read_bytes() == before


def test_verify_says_which_files_are_not_as_they_were_written(planted_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(planted_run, run)
    assert cli.main(["verify", str(run)]) == 0
    assert "probing: as it was written" in capsys.readouterr().out
    with (run / "probing" / "probes.nc").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    (run / "report.md").unlink()
    assert cli.main(["verify", str(run)]) == 2
    said = capsys.readouterr()
    assert "probing: probing/probes.nc (other content)\n" in said.out
    assert "report: report.md (missing)\n" in said.out
    assert "2 of 12 steps are not as they were written (probing, report)" in said.err
    assert cli.main(["verify", str(tmp_path)]) == 2
    assert "There is no run in" in capsys.readouterr().err


def test_help_documents_every_field():
    out = subprocess.run(
        [sys.executable, "-m", "pbb_probe.commands.cli", "run", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for words in ("--config", "--seed", "--corpus.shown_inputs", "Programs with source only", "Inverse regularisation"):
        assert words in out


TINY = [
    *("--corpus.with_io=6", "--corpus.without_io=3", "--corpus.io_only=3"),
    *("--train.exposures=0.02", "--train.batch_size=16"),
]


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    out = tmp_path_factory.mktemp("finetuned")
    assert cli.main(["finetune", "--curriculum=retroactive_sft", "--out", str(out), *TINY]) == 0
    return out


def test_finetune_writes_a_corpus_and_a_model_a_stage(finetuned, capsys):
    corpus = pbb.Corpus.load(finetuned / "corpus")
    assert corpus == pbb.make_corpus(with_io=6, without_io=3, io_only=3)
    assert sorted(path.name for path in finetuned.iterdir()) == ["all_code", "corpus", "execute"]
    before = (finetuned / "execute" / "model.safetensors").stat().st_mtime_ns
    assert cli.main(["finetune", "--curriculum=retroactive_sft", "--out", str(finetuned), *TINY]) == 0  # nothing to do
    assert (finetuned / "execute" / "model.safetensors").stat().st_mtime_ns == before
    capsys.readouterr()
    other = [*TINY, "--train.learning_rate=0.5", "--curriculum=retroactive_sft", "--out", str(finetuned)]
    assert cli.main(["finetune", *other]) == 2
    assert "other settings" in capsys.readouterr().err
    other = [*TINY, "--seed=1", "--curriculum=retroactive_sft", "--out", str(finetuned)]
    assert cli.main(["finetune", *other]) == 2
    assert "holds another corpus" in capsys.readouterr().err
    assert pbb.Corpus.load(finetuned / "corpus") == corpus


def test_evaluate_prints_the_accuracies_of_every_call(finetuned, tmp_path, capsys):
    model, corpus = str(finetuned / "execute"), str(finetuned / "corpus")
    arguments = ["evaluate", f"--model={model}", f"--corpus={corpus}", "--calls=20", f"--out={tmp_path}"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "behaviour.csv")
    calls = xr.load_dataset(tmp_path / "behaviour.nc").to_dataframe()
    expected = calls.groupby(["mode", "group", "family", "steps", "seen"])["correct"].mean()
    every = table[(table["calls"] == "all") & (table["programs"] == "all")]
    assert list(every["mean"]) == pytest.approx(list(expected))
    assert every["n"].sum() == len(calls) == 3 * 40
    assert all(f"{value:.3f}" in printed for value in table["mean"])
    decisive = table[(table["calls"] == "decisive") & (table["programs"] == "all")]
    assert decisive["n"].sum() == calls["decisive"].sum()


def test_evaluating_nothing_is_one_sentence(finetuned, tmp_path, capsys):
    for given in (
        [f"--model={finetuned / 'execute'}", f"--corpus={tmp_path / 'none'}"],
        [f"--model={tmp_path / 'none'}", f"--corpus={finetuned / 'corpus'}"],
        [f"--model={finetuned / 'execute'}", f"--corpus={finetuned / 'corpus'}", "--modes=[aloud]"],
    ):
        assert cli.main(["evaluate", *given, f"--out={tmp_path}"]) == 2
        error = capsys.readouterr().err
        assert "pbb-probe: " in error
        assert "Traceback" not in error


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--corpus.family=ciphers"], "The tokenizer lacks "),
        (["--base=./nowhere"], "There is no model directory nowhere"),
        (["--train.replay=nowhere.txt"], "nowhere.txt cannot be read"),
        (["--train.chat=true"], "no chat template"),
        (["--train.lora.target_modules=nope"], "train.lora.target_modules"),
    ],
)
def test_what_cannot_be_finetuned_is_one_sentence_with_nothing_written(given, said, tmp_path, capsys):
    assert cli.main(["finetune", *TINY, *given, f"--out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1]
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_finetuned_model_that_was_changed_is_not_evaluated(finetuned, tmp_path, capsys):
    model = shutil.copytree(finetuned / "execute", tmp_path / "execute")
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    given = [f"--model={model}", f"--corpus={finetuned / 'corpus'}", f"--out={tmp_path / 'out'}"]
    assert cli.main(["evaluate", *given]) == 2
    assert "model.safetensors is not as training wrote it" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.fixture
def pairs(tmp_path):
    """The first pairs of the example file."""
    lines = (ROOT / "experiments" / "pairs.jsonl").read_text().splitlines()[:24]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_patch_writes_recoveries_and_the_transfer_map(pairs, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--sites=[resid_pre]", "--whole_spans=true", "--transfer=true", "--controls=[self]", "--draws=200"]
    assert cli.main(["patch", "--model=nano", f"--prompts={pairs}", f"--out={out}", *options]) == 0
    printed = capsys.readouterr().out
    assert "24 of 24 pairs tell whole evaluations apart" in printed
    table = pd.read_csv(out / "recovery.csv").set_index(["layer", "role"])
    # the same cell by TransformerLens's hooks, a pair at a time
    lines = [json.loads(line) for line in pairs.read_text().splitlines()]
    model = pbb.load_model("nano")
    distances, changes = [], []
    for line in lines:
        clean, corrupted = (
            model.tokenizer(line[run], return_tensors="pt")["input_ids"] for run in ("clean", "corrupted")
        )
        right, wrong = (model.tokenizer(f" {answer}")["input_ids"][-1] for answer in line["answers"])
        before = len(model.tokenizer(line["clean"][: line["roles"]["step_2"][0][0]])["input_ids"])
        until = len(model.tokenizer(line["clean"][: line["roles"]["step_2"][0][1]])["input_ids"])
        _, cache = model.run_with_cache(clean)

        def put(activation, hook, given=cache["blocks.3.hook_resid_pre"], span=slice(before, until)):
            activation[:, span] = given[:, span]
            return activation

        patched = model.run_with_hooks(corrupted, fwd_hooks=[("blocks.3.hook_resid_pre", put)])
        last = [logits[0, -1] for logits in (model(clean), model(corrupted), patched)]
        effects = [float(logits[right] - logits[wrong]) for logits in last]
        distances.append(effects[0] - effects[1])
        changes.append(effects[2] - effects[1])
    assert table.loc[(3, "step_2"), "recovery"] == pytest.approx(sum(changes) / sum(distances), abs=1e-4)
    # a line of code that is put in is the program with that line: what it carries is known
    carried = pd.read_csv(out / "carried.csv").set_index(["control", "layer", "role", "hypothesis"])["proportion"]
    assert carried["none", 0, "step_1", "steps_to_1"] >= 0.9
    assert carried["none", 0, "step_2", "steps_after_1"] >= 0.9
    assert carried["none", 0, "input", "input"] >= 0.9
    assert carried["self", :, :, "nothing"].min() >= 0.9
    assert not (out / "layers").exists()
    assert {"effects.nc", "patching.html", "carried.nc", "transfer.html"} <= {path.name for path in out.iterdir()}


def test_patching_every_position_by_several_metrics(pairs, tmp_path, capsys):
    options = ["--every_position=true", "--sites=[z]", "--layers=[2]", "--metrics=[negative_kl,probability,log_prob]"]
    given = ["patch", "--model=nano", f"--prompts={pairs}", f"--out={tmp_path}", "--draws=50", *options]
    assert cli.main(given) == 0
    effects = xr.load_dataset(tmp_path / "effects.nc")
    tokenizer = pbb.load_model("nano").tokenizer
    width = max(len(tokenizer(json.loads(line)["clean"])["input_ids"]) for line in pairs.read_text().splitlines())
    assert dict(effects["z"].sizes) == {"metric": 3, "layer": 1, "head": 4, "position": width, "pair": 24}
    unpatched = effects["clean"].sel(metric="probability"), effects["clean"].sel(metric="log_prob")
    assert unpatched[0].values == pytest.approx([exp(value) for value in unpatched[1].values])
    assert abs(effects["clean"].sel(metric="negative_kl")).max() < 1e-5
    assert pd.read_csv(tmp_path / "recovery.csv")["metric"].nunique() == 3


def test_pairs_that_cannot_be_patched_are_one_sentence(pairs, tmp_path, capsys):
    line = json.loads(pairs.read_text().splitlines()[0])
    longer = tmp_path / "longer.jsonl"
    longer.write_text(json.dumps(line | {"clean": line["clean"].replace("\n    ", "\n    y = 0\n    ", 1)}))
    unlabelled = tmp_path / "unlabelled.jsonl"
    unlabelled.write_text(json.dumps({name: value for name, value in line.items() if name != "source"}))
    for options, said in (
        ([f"--prompts={tmp_path / 'none.jsonl'}"], "cannot be read"),
        ([f"--prompts={longer}"], "Pair 0 has"),
        ([f"--prompts={pairs}", "--roles=[subject]"], "Unknown role 'subject'"),
        ([f"--prompts={pairs}", "--sites=[resid]"], "Unknown site 'resid'"),
        ([f"--prompts={pairs}", "--sites=[]"], "sites must be a list of one or more"),
        ([f"--prompts={pairs}", "--layers=[9]"], "layer"),
        ([f"--prompts={unlabelled}", "--transfer=true"], "lack 'source'"),
        ([f"--prompts={pairs}", "--transfer=true", "--sites=[k]"], "k is patched with its position embedding"),
        ([f"--prompts={pairs}", "--transfer=true", "--every_position=true"], "needs spans of equal lengths"),
        ([f"--prompts={pairs}", "--replace_with=mean"], "needs spans of equal lengths"),
        ([f"--prompts={pairs}", "--replace_with=mean", "--sites=[q]"], "q is patched with its position embedding"),
        ([f"--prompts={pairs}", "--gap=xx"], "The tokenizer lacks a word"),
        ([f"--prompts={pairs}", f"--donor_model={tmp_path / 'none'}"], "none"),
    ):
        assert cli.main(["patch", "--model=nano", f"--out={tmp_path / 'out'}", "--draws=50", *options]) == 2
        error = capsys.readouterr().err
        assert said in error.splitlines()[-1]
        assert "Traceback" not in error
        assert not (tmp_path / "out").exists()
    assert cli.main(["patch", "--model=nano", f"--prompts={pairs}", f"--out={pairs}"]) == 2
    assert "cannot be made" in capsys.readouterr().err


@pytest.fixture
def labelled(tmp_path):
    """Programs in context: which of three constants they have, in two groups, on the inputs 0 to 9."""
    lines = []
    for name in ("dolvik", "gaxnol", "zabrutim", "konsem", "flimp", "brask"):
        for constant in (2, 3, 7):
            for x in range(0, 10, 3):
                text = f"define {name} :\ndef {name}(x):\n    return max(x, {constant})\n{name}({x}) ="
                at = text.index(f", {constant}") + 2
                label = {"program": f"{name} {constant}", "group": "a" if constant < 7 or x < 6 else "b"}
                roles = {"constant": [at, at + 1]}
                known = {"constant": constant, "x": x if x else None, "output": max(x, constant)}
                lines.append({"text": text, "roles": roles, **label, **known})
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_probe_reads_labels_beside_their_controls(labelled, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--targets=[constant,x]", "--kinds={x: ridge}", "--layers=[0,5]", "--folds=3", "--draws=100"]
    more = ["--group=none", "--save_probes=true", "--on_disk=true", f"--out={out}", "--C=[0.1,1.0]"]
    assert cli.main(["probe", "--model=nano", f"--prompts={labelled}", *options, *more]) == 0
    assert "The layer that reads best" in capsys.readouterr().out
    table = pd.read_csv(out / "accuracy.csv").set_index(["control", "target", "layer", "role"])
    assert set(table.index.levels[0]) == {"none", *CONTROLS, "untrained", "embedding"}
    assert table.loc[("none", "constant", 0, "constant"), "score"] == 1.0
    assert table.loc[("embedding", "constant", 0, "constant"), "score"] == 1.0  # the token is its own
    assert table.loc[("chance", "constant", 0, "answer"), "score"] < 0.4
    assert table.loc[("selectivity", "constant", 0, "constant"), "score"] < 0.6
    assert table.loc[("none", "x", 5, "answer"), "measure"] == "r2"
    assert table.loc[("none", "x", 5, "answer"), "n"] == 54  # the rest has no x
    probes = xr.load_dataset(out / "probes.nc")
    assert probes.sizes == {"control": 7, "target": 2, "site": 1, "layer": 2, "role": 2, "prompt": 72, "fold": 3}
    kept = Probes.load(out / "probes.safetensors")
    assert kept.classes == {"constant": (2, 3, 7), "x": ()}
    assert {"probes_resid_post.html", "accuracy.csv", "probes.nc", "probes.safetensors"} <= {
        path.name for path in out.iterdir()
    }
    assert not (out / "activations").exists()


def test_labels_that_cannot_be_probed_are_one_sentence(labelled, tmp_path, capsys):
    for options, said in (
        (
            ["--targets=[colour]"],
            "targets: the prompts have no label 'colour', but program, group, constant, x, output.",
        ),
        (["--types=colour"], "types: the prompts have no label 'colour'"),
        (["--kinds={colour: ridge}"], "kinds: the prompts have no label 'colour'"),
        (["--train=[c]"], "There is no group 'c': the prompts have a, b."),
        (["--train=[a]", "--group=none"], "train names groups, and the prompts have no label 'none'"),
        (["--folds=30"], "30 folds need as many clusters to train on, and there are 18"),
        (["--roles=[colour]"], "Unknown role 'colour'"),
        (["--sites=[colour]"], "Unknown site 'colour'"),
        (["--prompts=none.jsonl"], "cannot be read"),
        ([f"--base={tmp_path / 'none'}"], "none"),
    ):
        given = ["probe", "--model=nano", f"--prompts={labelled}", f"--out={tmp_path / 'out'}", "--draws=50", *options]
        assert cli.main(given) == 2
        error = capsys.readouterr().err
        assert said in error
        assert not (tmp_path / "out").exists()
        assert "Traceback" not in error
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        ({"z": None}, [], "The target 'z' has no value"),
        ({"program": None}, [], "has no 'program'"),
        ({"group": None}, [], "has no 'group'"),
        ({"t": None}, ["--types=t"], "has no 't'"),
        ({"score": 1}, ["--group=score"], "'score' has a name that tables use"),
    ],
)
def test_labels_that_say_nothing_are_one_sentence(labels, options, said, labelled, tmp_path, capsys):
    lines = [json.loads(line) | labels for line in labelled.read_text().splitlines()]
    labelled.write_text("\n".join(map(json.dumps, lines)))
    given = ["--untrained=false", "--layers=[0]", "--draws=20", f"--out={tmp_path / 'out'}", *options]
    assert cli.main(["probe", "--model=nano", f"--prompts={labelled}", *given]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_explore_refuses_what_it_cannot_serve(planted_run, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, said in (
            ([str(tmp_path)], "There is no run in"),
            ([str(planted_run), "--port", "70000"], "port must be at most 65535, not 70000."),
            ([str(planted_run), "--port", str(port)], f"127.0.0.1:{port} cannot be served"),
            ([str(planted_run), "--host", "192.0.2.1", "--port", "0"], "192.0.2.1:0 cannot be served"),
        ):
            assert cli.main(["explore", *arguments]) == 2
            error = capsys.readouterr().err
            assert said in error
            assert "Traceback" not in error


def test_explore_says_where_it_serves(planted_run):
    command = [sys.executable, "-m", "pbb_probe.commands.cli", "explore", str(planted_run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as explorer:
        said = explorer.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", said)[0]
        assert b"pbb_probe: nano, proactive, seed 0" in urllib.request.urlopen(url).read()
        explorer.send_signal(signal.SIGINT)
        assert explorer.wait(20) == 0


def test_a_study_of_another_family_is_smaller_unless_sizes_are_given():
    for given, sizes in (
        ([], (1000, 850, 100)),
        (["--corpus.family=algorithms"], (300, 500, 60)),
        (["--corpus.family=ciphers", "--corpus.with_io=7", "--probing.folds=2"], (300, 7, 60)),
        (["--corpus.family=ciphers", "--calls=1000"], (1000, 500, 60)),
    ):
        _, config = cli._parsed(["run", *given])
        assert (config.calls, config.corpus.with_io, config.corpus.io_only) == sizes
    assert config.probing.targets[0] == "cipher"
