"""Reinforcement: right answers are rewarded, become likelier, and are asked for with the tokens of evaluation."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

import pbb_probe as pbb
from pbb_probe.finetuning.config import LoraSettings, TrainConfig
from pbb_probe.finetuning.curricula import Portion, Stage, stage_documents
from pbb_probe.finetuning.reinforce import grpo_trainer
from pbb_probe.finetuning.train import train_stage
from pbb_probe.models.bases import load_base
from pbb_probe.models.scoring import answer_log_probs, batches, next_logits
from pbb_probe.models.tokens import completion_ids, end_ids, prompt_ids

WARM_UP = Stage("warm_up", ((Portion("with_io", "io", 60),),))
REINFORCE = Stage("reinforce", ((Portion("with_io", "io", 32),),), method="grpo")
SHORT = Stage("short", ((Portion("with_io", "io", 3),), (Portion("with_io", "trace", 1),)), method="grpo")
CONFIG = TrainConfig(batch_size=32, generations=8, learning_rate=3e-4, warmup=0.0, checkpoint_every=2)


@pytest.fixture(scope="module")
def few():
    return pbb.make_corpus(with_io=4, without_io=2, shown_inputs=7, seed=3)


@pytest.fixture(scope="module")
def warm(few, tmp_path_factory):
    """nano after some examples: it answers a part of the calls."""
    config = TrainConfig(batch_size=16, learning_rate=1e-3)
    return train_stage("nano", few, WARM_UP, tmp_path_factory.mktemp("warm") / "warm_up", config=config)


def probability(directory, corpus) -> float:
    """The mean probability of the right answers of the shown calls, ends included."""
    model, tokenizer = load_base(directory)
    calls = corpus.calls("direct", group="with_io")
    calls = calls[calls["seen"]]
    prompts = list(calls["prompt"])
    answers = [ids + end_ids(tokenizer) for ids in completion_ids(tokenizer, prompts, list(calls["completion"]))]
    return float(
        answer_log_probs(model, batches(prompt_ids(tokenizer, prompts), answers, tokenizer.pad_token_id)).exp().mean()
    )


def trainer_of(directory, corpus, stage, tmp_path, config=CONFIG):
    model, tokenizer = load_base(directory)
    return grpo_trainer(model, tokenizer, stage, corpus, config, 0, tmp_path), tokenizer


def asked_documents(stage, corpus):
    for phase in stage_documents(stage, corpus, 0):
        made = list(phase)
        yield from (made[i] for i in phase.order)


def test_known_completions_get_their_rewards(few, tmp_path):
    trainer, _ = trainer_of("nano", few, SHORT, tmp_path)
    (reward,) = trainer.reward_funcs
    completions = ["7", "8", "- 3", "\nx = 7\nreturn 2 + 5 = 7", "\nx = 7", "[1,2]", ""]
    modes = ["direct", "direct", "direct", "trace", "trace", "direct", "direct"]
    answers = ["7", "7", "-3", "7", "7", "[1, 2]", "7"]
    expected = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0]
    assert reward(completions=completions, mode=modes, answer=answers, prompts=completions) == expected
    turns = [[{"role": "assistant", "content": text}] for text in completions]
    assert reward(completions=turns, mode=modes, answer=answers, prompts=turns) == expected


def test_the_right_answers_of_all_documents_are_known_and_none_is_asked_twice_as_often(few, tmp_path):
    trainer, _ = trainer_of("nano", few, SHORT, tmp_path)
    documents = list(asked_documents(SHORT, few))
    assert [row["prompt"] for row in trainer.train_dataset] == [document.prompt for document in documents]
    (reward,) = trainer.reward_funcs
    rows = list(trainer.train_dataset)
    fields = {name: [row[name] for row in rows] for name in ("mode", "answer")}
    assert reward(completions=[document.completion for document in documents], **fields) == [1.0] * 16
    assert reward(completions=[" nothing"] * 16, **fields) == [0.0] * 16


@pytest.mark.parametrize("name", ["nano", "chatml", "llama3"])
def test_answers_are_asked_with_the_tokens_of_evaluation(name, few, chat_model, tmp_path, monkeypatch):
    trainer, tokenizer = trainer_of(name if name == "nano" else chat_model(name), few, SHORT, tmp_path)
    asked = []
    generate = type(trainer.model).generate

    def spy(self, *args, **arguments):
        asked.extend(
            tuple(ids[mask.bool()].tolist())
            for ids, mask in zip(arguments["input_ids"], arguments["attention_mask"], strict=True)
        )
        return generate(self, *args, **arguments)

    monkeypatch.setattr(type(trainer.model), "generate", spy)
    trainer.train()
    documents = list(asked_documents(SHORT, few))
    expected = prompt_ids(tokenizer, [document.prompt for document in documents])
    assert asked == [tuple(ids) for ids in expected for _ in range(CONFIG.generations)]
    if name != "chatml":  # it has no beginning
        assert {ids.count(tokenizer.bos_token_id) for ids in asked} == {1}


def test_right_answers_become_likelier(few, warm, tmp_path):
    path = train_stage(warm, few, REINFORCE, tmp_path / "reinforced", config=replace(CONFIG, learning_rate=1e-4))
    before, after = probability(warm, few), probability(path, few)
    assert 0.02 < before < 0.9  # there is something to be rewarded, and something to be gained
    assert 1 - after < 0.6 * (1 - before)


def test_a_rewarded_answer_becomes_likelier_whatever_it_is(few, warm, tmp_path, monkeypatch):
    """The sign of the advantage: planted, only `4` is rewarded."""
    monkeypatch.setattr("pbb_probe.finetuning.reinforce.is_right", lambda answer, right: answer == "4")
    path = train_stage(warm, few, replace(REINFORCE, rate=0.5), tmp_path / "planted", config=CONFIG)
    calls = few.calls("direct", group="with_io")

    def of_four(directory) -> float:
        model, tokenizer = load_base(directory)
        asked = prompt_ids(tokenizer, list(calls["prompt"]))
        four = tokenizer.convert_tokens_to_ids("4")
        return float(next_logits(model, batches(asked, None, tokenizer.pad_token_id)).softmax(-1)[:, four].mean())

    assert of_four(path) > of_four(warm) + 0.2


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4, alpha=8)], ids=["all", "lora"])
def test_a_killed_stage_resumes_and_ends_with_the_same_weights(lora, few, warm, tmp_path, monkeypatch):
    config = replace(CONFIG, batch_size=16, lora=lora)
    whole = train_stage(warm, few, SHORT, tmp_path / "whole", seed=1, config=config)
    steps = 0
    step = Trainer.training_step

    class Killed(BaseException):
        pass

    def dying_step(self, *args, **kwargs):
        nonlocal steps
        steps += 1
        if steps == 6:
            raise Killed
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", dying_step)
    with pytest.raises(Killed):
        train_stage(warm, few, SHORT, tmp_path / "killed", seed=1, config=config)
    resumed = train_stage(warm, few, SHORT, tmp_path / "killed", seed=1, config=config)
    assert steps == 6 + 8 - 4  # it went on from step 4 of 8
    one, other, base = (load_file(directory / "model.safetensors") for directory in (whole, resumed, warm))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], base[name]) for name in one)


def test_a_chat_is_reinforced_with_an_adapter(few, chat_model, tmp_path):
    config = replace(CONFIG, chat=True, lora=LoraSettings(rank=4, alpha=8), gradient_accumulation=2)
    path = train_stage(chat_model("llama3"), few, SHORT, tmp_path / "stage", config=config)
    assert pbb.evaluate(path, few, n=2).sizes["call"] == 2 * 2 * 2


def test_answers_of_a_step_must_be_drawn_to_whole_prompts(few, tmp_path):
    with pytest.raises(pbb.PbbError, match="multiple of generations") as caught:
        train_stage("nano", few, SHORT, tmp_path / "stage", config=replace(CONFIG, batch_size=20))
    assert "\n" not in str(caught.value)


def test_a_base_with_learned_positions_is_refused(few, small_model, tmp_path):
    with pytest.raises(pbb.PbbError, match="learned positions"):
        trainer_of(small_model("gpt2"), few, SHORT, tmp_path)
    trainer_of(small_model("neox"), few, SHORT, tmp_path)
