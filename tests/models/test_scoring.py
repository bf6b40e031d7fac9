"""Scores of answers are those of a loop over their tokens, one sequence at a time, for bare and opened models alike."""

import copy

import pytest
import torch

from pbb_probe.models.scoring import answer_log_probs, batches, gives_answers, next_logits

PROMPTS = ["run zabrutim(40961) :", "f(2) =", "what is the value of dolvik on the number 7 , please ?"]
ANSWERS = [" 7", " [1, 2, 3]", " 'some words'"]


@torch.inference_mode()
def following(model, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids])).logits[0, -1]


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("family", ["llama3", "gpt2", "neox", "mistral", "gemma2"])
def test_scores_are_those_of_one_token_at_a_time(family, opened, bare, bridge, tokenizer):
    model = bridge(family) if opened else bare(family)
    asked, answers = (tokenizer(texts)["input_ids"] for texts in (PROMPTS, ANSWERS))
    assert len(set(map(len, asked))) == len(set(map(len, answers))) == 3
    scores = answer_log_probs(model, batches(asked, answers, 0, batch_size=2))
    for score, prompt, answer in zip(scores, asked, answers, strict=True):
        steps = [following(bare(family), prompt + answer[:k]).log_softmax(-1)[token] for k, token in enumerate(answer)]
        assert float(score) == pytest.approx(float(sum(steps)), abs=1e-3)
    logits = next_logits(model, batches(asked, None, 0, batch_size=2))
    torch.testing.assert_close(
        logits, torch.stack([following(bare(family), prompt) for prompt in asked]), atol=1e-3, rtol=1e-4
    )


def test_greedy_answers_are_told_from_answers_with_one_other_token(bare, tokenizer):
    model, asked, greedy = bare("llama"), tokenizer(PROMPTS)["input_ids"], []
    for prompt, n in zip(asked, (3, 1, 2), strict=True):
        ids = list(prompt)
        for _ in range(n):
            ids.append(int(following(model, ids).argmax()))
        greedy.append(ids[len(prompt) :])
    assert gives_answers(model, batches(asked, greedy, 0, batch_size=2)).tolist() == [True] * 3
    last_changed = [[*answer[:-1], (answer[-1] + 1) % 300] for answer in greedy]
    assert gives_answers(model, batches(asked, last_changed, 0)).tolist() == [False] * 3


def test_scores_in_half_precision_are_normalised_in_float32(bare, tokenizer):
    model = copy.deepcopy(bare("llama")).to(torch.bfloat16)
    asked, answers = (tokenizer(texts)["input_ids"] for texts in (PROMPTS, ANSWERS))
    scores = answer_log_probs(model, batches(asked, answers, 0, batch_size=1))
    for score, prompt, answer in zip(scores, asked, answers, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0]
        assert logits.dtype == torch.bfloat16
        steps = logits.float().log_softmax(-1)[len(prompt) - 1 : -1]
        assert float(score) == pytest.approx(float(steps[range(len(answer)), answer].sum()), rel=1e-4)
