"""Answers of an opened model are those that a loop of forward passes of the bare model finds, a prompt at a time."""

import pandas as pd
import pytest
import torch

from pbb_probe.errors import PbbError
from pbb_probe.hooking.answering import answer_log_probs, answer_logits, gives_answers, with_answered
from pbb_probe.hooking.answers import answer_ids, with_answers
from pbb_probe.hooking.calls import make_prompts
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.models.bases import load_base
from pbb_probe.models.tokens import prompt_ids

TEXTS = ("run dolvik(7) :", "the value of zabrutim(4) is", "gaxnol of 3 is", "what is dolvik(12345) ?", "7")
ANSWERS = ("'abc'", 1234, 7, "[1, -20]", "dolvik")


def make(model, side="right", labels=None) -> Prompts:
    return Prompts.from_texts(model, TEXTS, {}, labels, padding_side=side)


def close(found, expected) -> bool:
    return torch.allclose(torch.as_tensor(found), expected, rtol=0, atol=1e-4 * float(expected.std()))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "neox"])
def test_answer_logits_are_those_of_each_prompt_alone(family, side, bridge, bare, tokenizer):
    logits = answer_logits(bridge(family), make(bridge(family), side), batch_size=2)
    with torch.inference_mode():
        alone = [bare(family)(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1] for text in TEXTS]
    assert close(logits.numpy(), torch.stack(alone))


def test_answer_logits_are_taken_at_the_answer_role(bridge, bare, tokenizer):
    text = TEXTS[1]
    end = text.index("zabrutim") + len("zabrutim")
    prompts = Prompts.from_texts(bridge("llama"), [text], {"answer": [(end - 1, end)]})
    with torch.inference_mode():
        alone = bare("llama")(torch.tensor([tokenizer(text[:end])["input_ids"]])).logits[0, -1]
    assert close(answer_logits(bridge("llama"), prompts).numpy(), alone)


def next_logits(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0, -1]


def log_prob_alone(model, prompt, answer) -> float:
    """Summed over the answer's tokens, a forward pass each."""
    return float(sum(next_logits(model, prompt + answer[:i]).log_softmax(-1)[answer[i]] for i in range(len(answer))))


def greedy(model, prompt, n) -> list[int]:
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(next_logits(model, ids).argmax()))
    return ids[len(prompt) :]


def padded(rows):
    return torch.tensor([row + [-1] * (max(map(len, rows)) - len(row)) for row in rows])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "mistral", "gemma2"])
def test_log_probabilities_of_answers_are_those_of_a_loop_over_their_tokens(family, side, bridge, bare, tokenizer):
    model = bridge(family)
    prompts = make(model, side)
    ids = answer_ids(model, prompts, ANSWERS)
    assert len(set((ids >= 0).sum(1).tolist())) > 2
    expected = [
        log_prob_alone(bare(family), tokenizer(text)["input_ids"], tokenizer(f" {answer}")["input_ids"])
        for text, answer in zip(TEXTS, ANSWERS, strict=True)
    ]
    for size in (2, 5):
        assert close(answer_log_probs(model, prompts, ids, batch_size=size).numpy(), torch.tensor(expected))
    wider = torch.cat([ids, torch.full((5, 3), -1)], dim=1)
    assert close(answer_log_probs(model, prompts, wider).numpy(), torch.tensor(expected))
    assert torch.equal(
        answer_log_probs(model, with_answers(model, prompts, ANSWERS), ids).argsort(), torch.tensor(expected).argsort()
    )


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "mistral", "gemma2"])
def test_greedy_answers_are_those_of_greedy_decoding(family, side, bridge, bare, tokenizer):
    model = bridge(family)
    prompts = make(model, side)
    lengths = [1, 4, 2, 3, 3]
    right = [greedy(bare(family), tokenizer(text)["input_ids"], n) for text, n in zip(TEXTS, lengths, strict=True)]
    assert gives_answers(model, prompts, padded(right), batch_size=2).tolist() == [True] * 5
    for wrong_at in range(4):
        answers = [
            [(token + 1) % 300 if i == wrong_at else token for i, token in enumerate(answer)] for answer in right
        ]
        expected = [wrong_at >= n for n in lengths]
        assert gives_answers(model, prompts, padded(answers), batch_size=2).tolist() == expected


@pytest.mark.parametrize("name", ["nano", "llama"])
def test_greedy_answers_of_one_token_are_the_largest_logits(name, bridge, corpus):
    model = bridge(name)
    prompts = make_prompts(corpus, model, n=40)
    likeliest = answer_logits(model, prompts).argmax(-1)
    ids = answer_ids(model, prompts, prompts.labels["output"])
    assert ids.shape == (80, 1)
    ids[::3, 0] = likeliest[::3]
    assert torch.equal(gives_answers(model, prompts, ids), likeliest == ids[:, 0])
    assert 0 < int((likeliest == ids[:, 0]).sum()) < 80
    logits = answer_logits(model, prompts).log_softmax(-1)
    assert close(answer_log_probs(model, prompts, ids).numpy(), logits.gather(1, ids)[:, 0])


def test_answers_follow_the_answer_role(bridge, bare, tokenizer):
    """What stands behind it in the text is not read."""
    text = TEXTS[1]
    end = text.index("zabrutim") + len("zabrutim")
    prompts = Prompts.from_texts(bridge("llama"), [text, text], {"answer": [(end - 1, end)] * 2})
    ids = answer_ids(bridge("llama"), prompts, [1234, 7])
    start = tokenizer(text[:end])["input_ids"]
    expected = [log_prob_alone(bare("llama"), start, tokenizer(answer)["input_ids"]) for answer in (" 1234", " 7")]
    assert close(answer_log_probs(bridge("llama"), prompts, ids).numpy(), torch.tensor(expected))


@pytest.mark.parametrize(
    "ids",
    [
        torch.tensor([[3], [4]]),
        torch.tensor([3, 4, 5, 6, 7]),
        torch.zeros(5, 0, dtype=torch.long),
        torch.tensor([[3, 4]] * 4 + [[-1, 3]]),
        torch.tensor([[3, 4, 5]] * 4 + [[3, -1, 3]]),
        torch.ones(5, 2),
    ],
)
def test_ids_that_are_not_an_answer_a_prompt_are_refused(ids, bridge):
    model = bridge("llama")
    for ask in (answer_log_probs, gives_answers):
        with pytest.raises(PbbError, match="answer_ids"):
            ask(model, make(model), ids)


def test_the_label_correct_says_which_outputs_greedy_decoding_gives(bridge, nano):
    plain, tokenizer = load_base(nano)
    texts = [f"dolvik({k}) =" for k in range(8)]
    said = [tokenizer.decode(greedy(plain, ids, 1)).strip() for ids in prompt_ids(tokenizer, texts)]
    wrong = next(digit for digit in "0123456789" if digit not in said)
    labels = pd.DataFrame({"output": [word if k % 3 else wrong for k, word in enumerate(said)]})
    prompts = Prompts.from_texts(bridge("nano"), texts, labels=labels)
    found = with_answered(bridge("nano"), prompts, batch_size=3)
    assert found.labels["answered"].tolist() == [k % 3 > 0 for k in range(8)]
    assert found.labels["output"].tolist() == labels["output"].tolist()
    assert "answered" not in prompts.labels
    with pytest.raises(PbbError, match="no label `output`"):
        with_answered(bridge("nano"), Prompts.from_texts(bridge("nano"), texts))
