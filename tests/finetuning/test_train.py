"""Training: labels count what they should, a killed stage ends with the same weights, directories keep settings."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

import pbb_probe as pbb
from pbb_probe.finetuning.bases import load_tokenizer, resolve_base
from pbb_probe.finetuning.curricula import Portion, Stage
from pbb_probe.finetuning.train import TrainConfig, _by_length, tokenize, train_stage
from pbb_probe.programs.documents import Document

STAGE = Stage(
    "short", ((Portion("with_io", "code", 4),), (Portion("with_io", "io", 6), Portion("with_io", "trace", 2)))
)
CONFIG = TrainConfig(batch_size=16, checkpoint_every=3)


@pytest.fixture(scope="module")
def corpus():
    return pbb.make_corpus(with_io=12, without_io=4, seed=3)


def test_labels_cover_the_completion_and_the_end_or_everything():
    tokenizer = load_tokenizer("nano")
    document = Document("io", "dolvik", "print(dolvik(4)) :", " 7")
    (completion_only,) = tokenize([document], tokenizer, "completion")
    (everything,) = tokenize([document], tokenizer, "all")
    counted = [token for token in completion_only["labels"] if token != -100]
    assert tokenizer.convert_ids_to_tokens(counted) == ["7", "<eos>"]
    assert everything["labels"] == everything["input_ids"] == completion_only["input_ids"]
    assert tokenizer.convert_ids_to_tokens(everything["input_ids"])[0] == "<bos>"


def test_grouping_by_length_keeps_every_example_and_the_order_of_phases():
    examples = [{"input_ids": [i] * (1 + i * 7 % 13)} for i in range(700)]
    ordered = _by_length(examples, 4, seed=0)
    assert sorted(e["input_ids"][0] for e in ordered) == list(range(700))
    moved = [abs(position - example["input_ids"][0]) for position, example in enumerate(ordered)]
    assert 0 < max(moved) < 200  # only within spans of 50 batches of 4
    padding = sum(max(map(len, b)) * 4 - sum(map(len, b)) for b in _batches(ordered, 4))
    assert padding < 0.2 * sum(max(map(len, b)) * 4 - sum(map(len, b)) for b in _batches(examples, 4))


def _batches(examples, size):
    return [[e["input_ids"] for e in examples[i : i + size]] for i in range(0, len(examples), size)]


def test_a_killed_stage_resumes_and_ends_with_the_same_weights(corpus, tmp_path, monkeypatch):
    whole = train_stage("nano", corpus, STAGE, tmp_path / "whole", seed=1, config=CONFIG)

    class Killed(BaseException):
        pass

    steps = 0
    step = Trainer.training_step

    def dying_step(self, *args, **kwargs):
        nonlocal steps
        steps += 1
        if steps == 6:
            raise Killed
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", dying_step)
    with pytest.raises(Killed):
        train_stage("nano", corpus, STAGE, tmp_path / "killed", seed=1, config=CONFIG)
    assert not (tmp_path / "killed").exists()
    cut_short = tmp_path / ".killed.unfinished" / "checkpoints" / "checkpoint-5"  # a kill while it was being written
    cut_short.mkdir()
    (cut_short / "model.safetensors").write_bytes(b"half")
    resumed = train_stage("nano", corpus, STAGE, tmp_path / "killed", seed=1, config=CONFIG)
    assert steps < 6 + 9  # it went on from step 3: nine steps in all were never taken twice
    one, other = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    base = load_file(resolve_base("nano") + "/model.safetensors")
    assert not all(torch.equal(one[name], base[name]) for name in one)


def test_a_finished_stage_is_returned_and_one_with_other_settings_refused(corpus, tmp_path, monkeypatch):
    train_stage("nano", corpus, STAGE, tmp_path / "stage", seed=1, config=CONFIG)
    monkeypatch.setattr(Trainer, "train", lambda *_, **__: pytest.fail("trained again"))
    assert train_stage("nano", corpus, STAGE, tmp_path / "stage", seed=1, config=CONFIG) == tmp_path / "stage"
    for changed in ({"seed": 2}, {"config": replace(CONFIG, learning_rate=1e-5)}):
        with pytest.raises(pbb.PbbError, match="other settings"):
            train_stage("nano", corpus, STAGE, tmp_path / "stage", **{"seed": 1, "config": CONFIG, **changed})


def test_finetune_learns_what_it_reads(corpus, tmp_path):
    """A corpus small enough to learn by heart: shown answers come back, code-only programs stay unknown to stage 1."""
    path = pbb.finetune("nano", corpus, "stage1_only", out=tmp_path, seed=0, config=TrainConfig(batch_size=32))
    table = pbb.evaluate(path, corpus, modes=("direct",)).to_dataframe()
    accuracy = table.groupby(["group", "seen"])["correct"].mean()
    assert accuracy["with_io", True] > 0.9
    assert accuracy["without_io", False] < 0.5


def test_bad_settings_are_refused(corpus, tmp_path):
    with pytest.raises(pbb.PbbError, match="positive"):
        TrainConfig(learning_rate=0)
    with pytest.raises(pbb.PbbError, match="Unknown curriculum"):
        pbb.finetune("nano", corpus, "inverse", out=tmp_path)
