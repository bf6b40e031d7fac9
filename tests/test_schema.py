"""Every value passes the schema before anything is loaded or written: it is taken, or refused in one sentence."""

import dataclasses
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pbb_probe.calibration.trials import Instrument
from pbb_probe.commands import cli
from pbb_probe.commands.calibrate import CalibrateConfig
from pbb_probe.commands.evaluate import EvaluateConfig
from pbb_probe.commands.explore import ExploreConfig
from pbb_probe.commands.finetune import FinetuneConfig
from pbb_probe.commands.patch import PatchConfig
from pbb_probe.commands.probe import ProbeConfig
from pbb_probe.errors import PbbError
from pbb_probe.finetuning.config import LoraSettings, TrainConfig
from pbb_probe.runs.config import CorpusConfig, PatchingConfig, ProbingConfig, StudyConfig, TransferConfig
from pbb_probe.schema import Count, Layers, Name, Names, Place, Seed, Share, checked

GIVEN: dict[type, dict[str, Any]] = {
    StudyConfig: {},
    CorpusConfig: {},
    ProbingConfig: {},
    PatchingConfig: {},
    TransferConfig: {},
    TrainConfig: {},
    LoraSettings: {},
    FinetuneConfig: {},
    CalibrateConfig: {},
    Instrument: {},
    EvaluateConfig: {"model": "nano", "corpus": "corpus"},
    ProbeConfig: {"model": "nano", "prompts": "prompts.jsonl"},
    PatchConfig: {"model": "nano", "prompts": "pairs.jsonl"},
    ExploreConfig: {"run": "run"},
}
"""Every configuration, with the fields that it must be given."""
FIELDS = [(cls, field.name) for cls in GIVEN for field in dataclasses.fields(cls)]


def refused(make, *words: str) -> str:
    """The sentence with which something is refused."""
    with pytest.raises(PbbError) as caught:
        make()
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith(".")
    assert len(said) < 600
    for word in words:
        assert word in said
    return said


def test_the_defaults_are_what_they_were_before_they_were_checked():
    for cls, needed in GIVEN.items():
        made = cls(**needed)
        for field in dataclasses.fields(cls):
            if field.default is not dataclasses.MISSING:
                assert getattr(made, field.name) == field.default
                assert type(getattr(made, field.name)) is type(field.default)
        assert cls(**{f.name: getattr(made, f.name) for f in dataclasses.fields(cls)}) == made


NEVER = [math.nan, -math.inf, b"x", {1}, {"a": "b"}, object(), 10**5000, -1, "\ud800", "a\0b", [None, None]]


@pytest.mark.parametrize("value", NEVER, ids=[str(i) for i in range(len(NEVER))])
def test_no_field_takes_what_is_no_value_of_it(value):
    for cls, name in FIELDS:
        refused(lambda cls=cls, name=name: cls(**{**GIVEN[cls], name: value}), name)


def test_numbers_are_no_texts_no_truth_values_and_not_out_of_range():
    for cls, name in FIELDS:
        default = getattr(cls(**GIVEN[cls]), name)
        if isinstance(default, bool):
            odd: list = [0, 1, "true", None]
        elif isinstance(default, int):
            odd = [True, 1.0, "3", -1, 2**70, None if (cls, name) != (EvaluateConfig, "calls") else 0]
        elif isinstance(default, float):
            odd = [True, "0.5", math.inf, -1e-9, 1e300] + [None] * (name != "new_functions")
        elif isinstance(default, str):
            odd = [3, True, None, [], Path] + ([""] if name != "gap" else [])
        elif isinstance(default, tuple):
            odd = ["resid_post", 3, [default[0], default[0]] if name != "shapes" else [], {"a": 1}, [[]], None]
        else:
            continue
        for value in odd:
            refused(lambda cls=cls, name=name, value=value: cls(**{**GIVEN[cls], name: value}), name)


def test_an_odd_value_is_taken_or_refused_whichever_field_gets_it():
    """Seeded: values of all kinds in all fields, two at a time, of all configurations."""
    rng = random.Random("odd values")
    pool = [
        *NEVER, None, True, False, 0, 1, 2, 3.5, 0.0, 1e-320, -0.0, 2**31, 2**32, 2**63, 2**64, "", " ", "nano", "null",
        "1", "é", "😀", "a" * 5000, "~", "~nobody-of-this-name/x", "../..", [], [1], [2.5], (), ("name",),
        ["resid_post"], [[1]], {}, {"x": "ridge"}, np.int64(3), np.float32(0.5), np.nan, np.array([1, 2]),
        np.array("x"), range(3), Path("x"), type, len, TrainConfig(), LoraSettings(), CorpusConfig(), 1e308, 1j,
        (x for x in "a"), ["a", "a"],
    ]  # fmt: skip
    made = 0
    for _ in range(6000):
        cls = rng.choice(list(GIVEN))
        names = [field.name for field in dataclasses.fields(cls)]
        given = {name: rng.choice(pool) for name in rng.sample(names, rng.choice((1, 1, 1, 2)))}
        try:
            config = cls(**{**GIVEN[cls], **given})
        except PbbError:
            continue
        made += 1
        json.dumps(dataclasses.asdict(config), allow_nan=False).encode("utf-8")
    assert 200 < made < 5800


@pytest.mark.parametrize(
    ("cls", "fields", "words"),
    [
        (ProbingConfig, {"folds": 1}, "probing.folds must be at least 2, not 1."),
        (ProbingConfig, {"C": 1e6}, "probing.C must be at most 100000, not 1000000.0."),
        (PatchingConfig, {"sites": ("resid_pre", "z")}, "patching.sites names 'z', which is split into heads"),
        (TransferConfig, {"sites": ("k",)}, "transfer.sites names 'k', which is split into heads"),
        (ProbingConfig, {"C": 0}, "probing.C must be at least 1e-06, not 0."),
        (ProbingConfig, {"C": math.nan}, "probing.C must be a finite number, not nan."),
        (ProbingConfig, {"roles": ("nme",)}, "Unknown role 'nme' in probing.roles: choose from name, input, answer"),
        (PatchingConfig, {"roles": ("output",)}, "Unknown role 'output' in patching.roles"),
        (PatchingConfig, {"sites": ("resid",)}, "Unknown site 'resid' in patching.sites"),
        (TransferConfig, {"sites": ("resid_pre", "resid_pre")}, "transfer.sites must be a list of one or more"),
        (TransferConfig, {"controls": ("none",)}, "transfer.controls must be a list of different controls out of self"),
        (TrainConfig, {"warmup": 5}, "train.warmup must be at most 1, not 5."),
        (TrainConfig, {"warmup": 0.7, "decay": 0.7}, "together at most 1"),
        (TrainConfig, {"learning_rate": math.inf}, "train.learning_rate must be a finite number"),
        (TrainConfig, {"lora": {"rank": 3}}, "train.lora must be a mapping of fields or null"),
        (LoraSettings, {"target_modules": []}, "train.lora.target_modules must be"),
        (CorpusConfig, {"with_io": 10**10}, "corpus.with_io must be at most 100000"),
        (CorpusConfig, {"with_io": 60_000, "without_io": 60_000, "io_only": 0}, "120000 programs"),
        (CorpusConfig, {"with_io": 0, "without_io": 0}, "both 0"),
        (CorpusConfig, {"shown_inputs": 11}, "corpus.shown_inputs must be at most 10"),
        (CorpusConfig, {"family": "poems"}, "Unknown family 'poems'"),
        (CorpusConfig, {"shapes": ("round",)}, "Unknown shape 'round'"),
        (StudyConfig, {"corpus": CorpusConfig(without_io=2)}, "probing.folds must be at most 2"),
        (StudyConfig, {"probing": ProbingConfig(prompts=2)}, "probing.folds must be at most 2"),
        (StudyConfig, {"corpus": CorpusConfig(shown_inputs=10)}, "corpus.shown_inputs must be below 10"),
        (StudyConfig, {"curriculum": "retroactive_grpo", "train": TrainConfig(generations=7)}, "of generations"),
        (FinetuneConfig, {"corpus": CorpusConfig(without_io=0)}, "reads without_io programs"),
        (CalibrateConfig, {"seed": 2**32 - 1}, "seed must be at most 429495"),
        (EvaluateConfig, {"modes": ("aloud",)}, "different modes out of direct, trace"),
        (ProbeConfig, {"kinds": {"x": "square"}}, "kinds must be a mapping"),
        (ProbeConfig, {"C": (0.1, 0.1)}, "C must be a list of one or more different numbers from 1e-06 to 100000"),
        (ProbeConfig, {"layers": (-1,)}, "layers must be a list of one or more different layers"),
        (PatchConfig, {"memory_gib": 0}, "memory_gib must be above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(cls, fields, words):
    refused(lambda: cls(**{**GIVEN[cls], **fields}), words)


def test_programs_of_ones_own_are_not_judged_by_counts_that_do_not_hold_for_them():
    own = CorpusConfig(with_io=1, without_io=1, shown_inputs=12, programs="own.py")
    assert StudyConfig(corpus=own).corpus.counts() is None
    assert StudyConfig(corpus=CorpusConfig(with_io=3, without_io=2, composed_without_io=1)).probing.folds == 3


def test_values_come_back_as_their_types_have_them():
    assert checked("n", np.int64(3), Count) == 3
    assert type(checked("n", np.int64(3), Count)) is int
    assert type(checked("x", np.float32(0.5), Share)) is float
    assert type(checked("x", 1, Share)) is float
    assert checked("layers", range(3), Layers) == checked("layers", np.arange(3), Layers) == (0, 1, 2)
    assert checked("out", Path("a/b"), Place) == "a/b"
    assert checked("names", ["é", "日本"], Names | None) == ("é", "日本")
    assert checked("names", None, Names | None) is None
    for value in ("", "   ", "\n\0", 3, None, "x" * 201):
        refused(lambda value=value: checked("a", value, Name), "a must be a name")
    for value in (-1, 2**32, 0.5, np.float64(3), np.bool_(True), np.nan):
        refused(lambda value=value: checked("seed", value, Seed), "seed must be")


# The command line and configuration files


def said_by(capsys, arguments: list[str]) -> str:
    """The sentence that the command line prints for arguments that it refuses."""
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("pbb-probe: ")
    assert len(line) < 700
    return line


COMMANDS = cli.commands()


@pytest.fixture
def nothing_runs(monkeypatch):
    """Every command fails the test: what is refused must be so before."""

    def runs(config):
        pytest.fail(f"{config} was run")

    given = {name: (settings, runs) for name, (settings, _) in COMMANDS.items()}
    monkeypatch.setattr(cli, "commands", lambda: given)


FILES = {
    "a list": (b"- 1\n- 2", "holds no fields"),
    "a number": (b"3", "holds no fields"),
    "a word": (b"seed", "holds no fields"),
    "nothing": (b"", "holds no fields"),
    "a comment": (b"# later\n", "holds no fields"),
    "no fields": (b"{}", "holds no fields"),
    "a null part": (b"corpus: null", "corpus must be a mapping of fields, not null"),
    "a number for a part": (b"probing: 5", "probing must be a mapping of fields, not 5"),
    "a list for a part": (b"train: [1]", "train must be a mapping of fields"),
    "a null adapter's rank": (b"train: {lora: {rank: null}}", "train.lora"),
    "latin 1": ("out: é".encode("latin-1"), "not text in UTF-8"),
    "utf 16": ("seed: 1".encode("utf-16"), "not text in UTF-8"),
    "binary": (bytes(range(256)), "not text in UTF-8"),
    "NUL": (b"out: a\0b", "not YAML"),
    "an escaped NUL": (b'out: "a\\0b"', "out must be a path or name"),
    "half a character": (b'out: "\\ud83d"', "character"),
    "half a character in JSON": (b'{"out": "\\ud83d"}', "character"),
    "an unknown field": (b"colour: red", "'colour'"),
    "an unknown field of a part": (b"corpus: {with_oi: 3}", "'corpus.with_oi'"),
    "an unknown field of an adapter": (b"train: {lora: {rnk: 3}}", "'train.lora.rnk'"),
    "a number for a name": (b"1: 2", "1"),
    "a list for a name": (b"? [a]\n: 2", "where a field's name should be"),
    "a field twice": (b"seed: 1\nseed: 2", "'seed' twice"),
    "a field of a part twice": (b"corpus: {with_io: 30, with_io: 40}", "'with_io' twice"),
    "two documents": (b"seed: 1\n---\nseed: 2", "not YAML"),
    "an object": (b"seed: !!python/object/apply:os.system ['touch pwned']", "tag"),
    "a tag of its own": (b"seed: !mine 3", "tag"),
    "an unknown alias": (b"seed: *x", "not YAML"),
    "itself": (b"seed: &x [*x]", "nested too deeply"),
    "a deep list": (b"seed: " + b"[" * 50 + b"]" * 50, "nested too deeply"),
    "a very deep list": (b"seed: " + b"[" * 20_000 + b"]" * 20_000, "nested too deeply"),
    "laughs": (
        b"out: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
            b"%c: &%c [%s]\n" % (c + 1, c + 1, b",".join([b"*%c" % c] * 9)) for c in range(97, 106)
        ),
        "aliases",
    ),
    "a large file": (b"#" * (1 << 21), "bytes"),
    "a tab": (b"seed:\n\t- 1", "not YAML"),
    "another file": (b"config: other.yaml", "config"),
    "not a number": (b"threshold: .nan", "threshold must be a finite number"),
    "infinity": (b"train: {learning_rate: .inf}", "train.learning_rate must be a finite number"),
    "true for a number": (b"seed: true", "seed must be a whole number"),
    "a date for a number": (b"seed: 2020-01-01", "seed must be a whole number"),
    "a huge number": (b"seed: 1" + b"0" * 5000, "digits"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_configuration_is_one_sentence(name, nothing_runs, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, words = FILES[name]
    Path("study.yaml").write_bytes(content)
    assert words in said_by(capsys, ["run", "--config", "study.yaml"])
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


@pytest.mark.parametrize(
    "path", ["", " ", ".", "none.yaml", "none/none.yaml", "~nobody-of-this-name/x", "x" * 300, "x/" * 3000]
)
def test_a_file_that_is_not_there_is_one_sentence(path, nothing_runs, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "cannot be read" in said_by(capsys, ["run", "--config", path])


ARGUMENTS = {
    "no run directory": (["run", "--out", ""], "out must be a path or name"),
    "a blank run directory": (["finetune", "--out", "  "], "out must be a path or name"),
    "NUL": (["run", "--out", "a\0b"], "character"),
    "half a character": (["run", "--out", "a\udcffb"], "character"),
    "no model": (["evaluate", "--model", "", "--corpus", "c"], "model must be a path or name"),
    "nobody's home": (["run", "--out", "~nobody-of-this-name/x"], "out must be a path or name"),
    "no value": (["run", "--seed"], "expected one argument"),
    "an empty value": (["run", "--seed="], "seed must be a whole number"),
    "a null part": (["run", "--corpus=null"], "corpus must be a mapping of fields, not null"),
    "a word for a part": (["run", "--train=fast"], "train must be a mapping of fields, not fast"),
    "an unknown option": (["run", "--colour=red"], "--colour=red"),
    "an unknown command": (["dance"], "'dance'"),
    "no command": ([], "command"),
    "something more": (["run", "more"], "more"),
    "what is required": (["probe", "--model=nano"], "prompts"),
    "a word for numbers": (["probe", "--model=nano", "--prompts=p", "--layers=all"], "layers must be a list"),
    "a number for numbers": (["probe", "--model=nano", "--prompts=p", "--C=0.1"], "C must be a list"),
    "a fraction": (["run", "--seed=1.5"], "seed must be a whole number from 0 to 4294967295, not 1.5."),
    "a huge seed": (["run", "--seed=4294967296"], "seed must be at most 4294967295"),
    "an odd adapter": (["run", "--train.lora.rank=x"], "train.lora.rank must be a whole number"),
    "an adapter of nothing": (["run", "--train.lora.rank=0"], "train.lora.rank must be at least 1"),
    "itself": (["run", "--probing.sites=&a [*a]"], "nested too deeply"),
    "laughs": (
        ["run", "--probing.sites", "[&a [x,x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a], "
         "&c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b], &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]]"], "aliases",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_that_cannot_be_are_one_sentence(name, nothing_runs, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, words = ARGUMENTS[name]
    assert words in said_by(capsys, arguments)
    assert not list(tmp_path.iterdir())


def test_a_part_in_a_file_of_its_own_is_looked_at_too(nothing_runs, capsys, tmp_path):
    (tmp_path / "corpus.yaml").write_bytes(b"with_io: 3\nwith_io: 4")
    assert "'with_io' twice" in said_by(capsys, ["run", "--corpus", str(tmp_path / "corpus.yaml")])


@pytest.mark.parametrize("out", ["runs/plain", "runs/é 日本 😀", "runs/a'b\"c: #d"])
def test_the_configuration_that_a_study_writes_is_read_again(out, tmp_path, monkeypatch):
    config = StudyConfig(
        out=out, seed=2**32 - 1, train=TrainConfig(learning_rate=1e-5, lora=LoraSettings(target_modules=["q_proj"]))
    )
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1))
    seen: list[StudyConfig] = []
    monkeypatch.setattr(cli, "commands", lambda: COMMANDS | {"run": (StudyConfig, seen.append)})
    assert cli.main(["run", "--config", str(tmp_path / "config.json")]) == 0
    assert seen == [config]


def test_merged_mappings_and_aliases_of_ordinary_size_are_read(tmp_path, monkeypatch):
    (tmp_path / "study.yaml").write_text(
        "\ufeffpatching: &part {pairs: 7, roles: &roles [name, answer]}\ntransfer: {<<: *part, pairs: 9}\n"
        "probing: {roles: *roles}\n",
        encoding="utf-8",
    )
    seen: list[StudyConfig] = []
    monkeypatch.setattr(cli, "commands", lambda: COMMANDS | {"run": (StudyConfig, seen.append)})
    assert cli.main(["run", "--config", str(tmp_path / "study.yaml"), "--seed=1", "--seed=2"]) == 0
    assert (seen[0].patching.pairs, seen[0].transfer.pairs, seen[0].seed) == (7, 9, 2)
    assert seen[0].transfer.roles == seen[0].probing.roles == ("name", "answer")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_says_ranges_in_words(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    assert exit_.value.code in (0, None)
    said = " ".join(capsys.readouterr().out.split())
    assert "Annotated" not in said
    assert "Optional[" not in said
    if command not in ("explore", "programs", "verify", "doctor"):
        assert "a whole number from 0 to " in said


def test_the_longest_number_that_python_writes_is_no_matter():
    assert sys.get_int_max_str_digits() == 4300
    assert "16610 bits" in refused(lambda: StudyConfig(seed=10**5000))
