"""Behaviour: greedy completions equal a plain loop, answers are read where they stand, nano does what its card says."""

import pytest
import torch

import pbb_probe as pbb
from pbb_probe.finetuning.bases import load_base
from pbb_probe.finetuning.behaviour import complete, forced_choice, read_answer


def test_completions_of_padded_batches_equal_a_plain_greedy_loop():
    model, tokenizer = load_base("nano")
    prompts = ["dolvik(4) =", "the value of dolvik(4) is", "define dolvik :\ndolvik = lambda x: max(x, 3)\ndolvik(1) ="]
    expected = []
    for prompt in prompts:
        ids = tokenizer(prompt)["input_ids"]
        start = len(ids)
        while len(ids) < start + 6 and ids[-1] != tokenizer.eos_token_id:
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        expected.append(tokenizer.decode(ids[start:], skip_special_tokens=True))
    assert complete(model, tokenizer, prompts, batch_size=2, max_new_tokens=6) == expected


@pytest.mark.parametrize(
    ("completion", "mode", "answer"),
    [
        (" 7", "direct", "7"),
        ("7 \n something", "direct", "7"),
        ("", "direct", ""),
        ("\ny = ( 4 + 3 ) % 10 = 7 \n return max ( 7 , 5 ) = 7", "trace", "7"),
        ("\nreturn abs(4 - 3) = 1\nreturn abs(4 - 3) = 2", "trace", "1"),
        ("\ny = 4 + 3 = 7", "trace", ""),
    ],
)
def test_the_answer_is_read_where_it_stands(completion, mode, answer):
    assert read_answer(completion, mode) == answer


def test_nano_evaluates_code_in_its_context_and_knows_no_program_by_name():
    """The bounds the base was made for: 95 % one step, 60 % two steps directly, 95 % in worked steps; else chance."""
    corpus = pbb.make_corpus(with_io=150, without_io=150, seed=11)
    seen = pbb.evaluate("nano", corpus, n=300, in_context=True).to_dataframe()
    accuracy = seen.groupby(["mode", "steps"])["correct"].mean()
    assert accuracy["direct", 1] > 0.95
    assert accuracy["direct", 2] > 0.6
    assert accuracy["trace"].min() > 0.95
    unseen = pbb.evaluate("nano", corpus, modes=("direct",), n=300).to_dataframe()
    assert unseen["correct"].mean() < 0.16


def test_a_forced_choice_is_the_likeliest_of_the_choices_alone():
    model, tokenizer = load_base("nano")
    prompts = ["define dolvik :\ndolvik = lambda x: max(x, 3)\ndolvik(1) =", "dolvik(4) ="]
    chosen = forced_choice(model, tokenizer, prompts, [3, 4, 8], batch_size=1)
    for prompt, choice in zip(prompts, chosen, strict=True):
        logits = model(torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1].detach()
        assert choice == max([3, 4, 8], key=lambda v: float(logits[tokenizer.convert_tokens_to_ids(str(v))]))
    assert chosen[0] == 3
    assert forced_choice(model, tokenizer, prompts, [3, 123]) is None


def test_evaluate_says_which_calls_it_made():
    corpus = pbb.make_corpus(with_io=6, without_io=4, seed=2)
    behaviour = pbb.evaluate("nano", corpus, modes=("direct",))
    assert behaviour.sizes["call"] == 100
    table = behaviour.to_dataframe()
    assert (table["correct"] == (table["answer"] == table["output"].astype(str))).all()
    traces = {(e.program.name, t.input): t.output for e in corpus.entries for t in e.traces}
    assert all(traces[row.program, row.input] == row.output for row in table.itertuples())
