"""Directories of trained models: what was changed in one is never read, and no file of anyone else is removed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from damaged import flipped
from safetensors.torch import load_file

import pbb_probe as pbb
from pbb_probe.finetuning import train
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import Portion, Stage
from pbb_probe.finetuning.train import train_stage
from pbb_probe.models.bases import load_base

STAGE = Stage("tiny", ((Portion("with_io", "io", 4),),))  # four steps
CONFIG = TrainConfig(batch_size=4, checkpoint_every=2)


@pytest.fixture(scope="module")
def few():
    return pbb.make_corpus(with_io=4, without_io=2, seed=3)


@pytest.fixture(scope="module")
def finished(few, tmp_path_factory):
    return train_stage("nano", few, STAGE, tmp_path_factory.mktemp("finished") / "stage", config=CONFIG)


@pytest.fixture
def stage(finished, tmp_path):
    """A finished model that a test may do what it likes with."""
    return shutil.copytree(finished, tmp_path / "stage")


def same_weights(one: Path, other: Path) -> bool:
    one, other = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def refusal(function, *arguments, **named) -> str:
    with pytest.raises(pbb.PbbError) as caught:
        function(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.safetensors", flipped),
        ("tokenizer.json", flipped),
        ("config.json", lambda path: path.write_text(path.read_text() + " ")),
        ("generation_config.json", Path.unlink),
        ("chat_template.jinja", lambda path: path.write_text("another way to ask")),
        ("adapter_config.json", lambda path: path.write_text("{}")),
    ],
)
def test_a_model_that_is_not_as_it_was_trained_is_not_read(name, change, stage, few):
    change(stage / name)
    said = refusal(pbb.evaluate, stage, few, n=1)
    assert str(stage / name) in said
    assert "remove training.json if the change is yours" in said


@pytest.mark.parametrize("record", ["removed", "unsealed", "without hashes"])
def test_a_changed_model_without_a_whole_record_is_its_owners(record, stage):
    path = stage / "training.json"
    if record == "removed":
        path.unlink()
    elif record == "unsealed":
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    else:
        path.write_text(json.dumps({"seed": 0}))
    (stage / "config.json").write_text((stage / "config.json").read_text() + " ")
    load_base(stage)


def test_a_model_with_a_note_beside_it_is_read(stage):
    (stage / "README.md").write_text("my best model")
    load_base(stage)


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("notes.txt", False),
        ("adapter_config.json", False),
        ("notes.txt", True),
        (".notes", True),
        (".git/HEAD", True),
        ("results/accuracy.csv", True),
    ],
)
def test_files_of_others_are_neither_taken_for_the_models_nor_removed(name, damaged, stage, few):
    (stage / name).parent.mkdir(exist_ok=True)
    (stage / name).write_text("mine")
    if damaged:
        flipped(stage / "model.safetensors")
    said = refusal(train_stage, "nano", few, STAGE, stage, config=CONFIG)
    assert str(stage / name) in said
    assert "move it elsewhere" in said
    assert (stage / name).read_text() == "mine"
    assert [path.name for path in stage.parent.iterdir()] == ["stage"]


def test_hidden_files_beside_a_whole_model_are_nobodys_business(stage, few):
    (stage / ".DS_Store").write_text("")
    assert train_stage("nano", few, STAGE, stage, config=CONFIG) == stage


def test_a_link_to_a_damaged_model_is_replaced_and_what_it_leads_to_left(stage, finished, few, tmp_path):
    elsewhere = stage.rename(tmp_path / "elsewhere")
    stage.symlink_to(elsewhere)
    assert train_stage("nano", few, STAGE, stage, config=CONFIG) == stage  # whole: the link will do
    assert stage.is_symlink()
    flipped(elsewhere / "model.safetensors")
    before = (elsewhere / "model.safetensors").read_bytes()
    train_stage("nano", few, STAGE, stage, config=CONFIG)
    assert not stage.is_symlink()
    assert same_weights(stage, finished)
    assert (elsewhere / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "stage"]


@pytest.mark.parametrize("what", ["a file", "a link to nothing", "an empty folder"])
def test_what_is_no_model_is_refused_before_training(what, few, tmp_path, monkeypatch):
    out = tmp_path / "stage"
    {"a file": out.touch, "a link to nothing": lambda: out.symlink_to("nothing"), "an empty folder": out.mkdir}[what]()
    monkeypatch.setattr(train, "prepared", lambda *_: pytest.fail("began to train"))
    assert "holds no model" in refusal(train_stage, "nano", few, STAGE, out, config=CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]


@pytest.mark.parametrize("what", ["a file", "a link to nothing", "a link"])
def test_what_is_in_the_way_of_unfinished_work_makes_room(what, few, finished, tmp_path):
    unfinished, elsewhere = tmp_path / ".stage.unfinished", tmp_path / "elsewhere"
    if what == "a file":
        unfinished.touch()
    else:
        unfinished.symlink_to(elsewhere)
    if what == "a link":
        elsewhere.mkdir()
        (elsewhere / "mine").touch()
    train_stage("nano", few, STAGE, tmp_path / "stage", config=CONFIG)
    assert same_weights(tmp_path / "stage", finished)
    assert not unfinished.is_symlink()
    assert not elsewhere.exists() or [path.name for path in elsewhere.iterdir()] == ["mine"]


def test_a_kill_between_the_renamings_trains_nothing_anew(stage, finished, few, tmp_path, monkeypatch):
    whole = stage.rename(tmp_path / ".stage.unfinished")
    (shutil.copytree(whole, tmp_path / ".stage.old") / "config.json").unlink()
    monkeypatch.setattr(train, "prepared", lambda *_: pytest.fail("began to train"))
    train_stage("nano", few, STAGE, stage, config=CONFIG)
    assert same_weights(stage, finished)
    train_stage("nano", few, STAGE, stage, config=CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]


def test_what_lies_among_unfinished_work_does_not_become_a_part_of_the_model(few, finished, tmp_path, monkeypatch):
    unfinished = killed_before_finishing("nano", few, tmp_path / "stage", 0, CONFIG, monkeypatch).parent
    (unfinished / "adapter_config.json").write_text("{}")
    (unfinished / "model-00001-of-00002.safetensors").write_bytes(b"half")
    stage = train_stage("nano", few, STAGE, tmp_path / "stage", config=CONFIG)
    assert {path.name for path in stage.iterdir()} == {path.name for path in finished.iterdir()}
    assert same_weights(stage, finished)


class Killed(BaseException):
    pass


def killed_before_finishing(base, corpus, out, seed, config, monkeypatch) -> Path:
    """The checkpoints of a stage that dies after its last step."""

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(train, "refuse_weights", killed)
        with pytest.raises(Killed):
            train_stage(base, corpus, STAGE, out, seed=seed, config=config)
    return out.with_name(f".{out.name}.unfinished") / ".checkpoints"


@pytest.mark.parametrize("whose", ["another seed", "another rate", "another step"])
def test_a_checkpoint_of_other_training_is_passed_over(whose, few, finished, tmp_path, monkeypatch, capsys):
    own = killed_before_finishing("nano", few, tmp_path / "stage", 0, CONFIG, monkeypatch)
    seed = 1 if whose == "another seed" else 0
    config = TrainConfig(batch_size=4, checkpoint_every=2, learning_rate=3e-3) if whose == "another rate" else CONFIG
    other = killed_before_finishing("nano", few, tmp_path / "other", seed, config, monkeypatch)
    last, *_ = sorted(path.name for path in own.iterdir())[::-1]
    given = sorted(path.name for path in other.iterdir())[0 if whose == "another step" else -1]
    shutil.rmtree(own / last)
    shutil.copytree(other / given, own / last)
    capsys.readouterr()
    stage = train_stage("nano", few, STAGE, tmp_path / "stage", config=CONFIG)
    assert f"{last} is of other training or of another step: passed over" in capsys.readouterr().err
    assert same_weights(stage, finished)


@pytest.mark.parametrize("method", ["sft", "grpo"])
@pytest.mark.parametrize("what", ["loss", "weights"])
def test_training_that_diverges_ends_and_leaves_nothing(what, method, few, tmp_path, monkeypatch):
    from transformers import Trainer

    step = Trainer.training_step
    taken = []

    def diverging(self, model, *args, **kwargs):
        taken.append(step(self, model, *args, **kwargs))
        if what == "loss":
            return taken[-1] * float("nan")
        with torch.no_grad():
            next(model.parameters())[0] = float("inf")
        return taken[-1].new_zeros(())

    monkeypatch.setattr(Trainer, "training_step", diverging)
    config = TrainConfig(batch_size=4, generations=2, checkpoint_every=1)
    diverges = Stage("tiny", STAGE.phases, method=method)
    said = refusal(train_stage, "nano", few, diverges, tmp_path / "stage", config=config)
    assert what in said
    assert "train.learning_rate" in said
    assert taken
    assert not list(tmp_path.iterdir())


def test_a_base_with_weights_that_are_no_numbers_is_refused(stage, few, tmp_path):
    model, tokenizer = load_base(stage)
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "nan")
    tokenizer.save_pretrained(tmp_path / "nan")
    assert "NaN or infinite" in refusal(train_stage, tmp_path / "nan", few, STAGE, tmp_path / "out", config=CONFIG)
    assert not (tmp_path / "out").exists()
