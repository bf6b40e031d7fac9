"""What all answers begin with belongs to the prompt: the role `answer` is where they part, in every tokenizer."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import save_small_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import pbb_probe as pbb
from pbb_probe.errors import PbbError
from pbb_probe.finetuning.behaviour import evaluate
from pbb_probe.hooking.answers import covering, with_answers
from pbb_probe.hooking.load import load_model

TEXTS = ["run dolvik(3) =", "run zabrut(4) =", "x ="]


@pytest.fixture(scope="module")
def digits(corpus, tmp_path_factory):
    """A model directory whose tokenizer cuts every digit off, as that of SmolLM2: ` 7` is a space and a digit."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<pad>", "<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([entry.program.source for entry in corpus.entries], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    return save_small_model("llama", fast, tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def model(digits):
    return load_model(digits)


def ids(model, text: str) -> list[int]:
    return model.tokenizer(text)["input_ids"]


def attended(prompts) -> list[list[int]]:
    return [row[mask.bool()].tolist() for row, mask in zip(prompts.tokens, prompts.attention_mask, strict=True)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("answers", "shared"),
    [
        (range(10), " "),
        ([12, 17], " 1"),
        ([12, 17, 5], " "),
        ([1, 12], " "),  # the whole of one begins the other: it keeps a token of its own
        (["[1, 2]", "[1, 3, 4]"], " [1, "),
        (["yes", 3], ""),  # ` y` is one token: nothing is shared
        ([7], ""),  # one answer parts from none
        (["'a'", "'b'"], " '"),
    ],
)
def test_the_shared_start_stands_in_the_prompt(answers, shared, side, model):
    answers = list(answers)
    prompts = pbb.Prompts.from_texts(model, TEXTS, padding_side=side, answers=answers)
    plain = pbb.Prompts.from_texts(model, TEXTS, padding_side=side)
    assert attended(prompts) == [ids(model, text + shared) for text in TEXTS]
    assert attended(plain) == [ids(model, text) for text in TEXTS]
    last = [row[place] for row, place in zip(prompts.tokens.tolist(), prompts.roles["answer"].tolist(), strict=True)]
    assert last == [row[-1] for row in attended(prompts)]
    for answer in answers:
        rest = pbb.answer_ids(model, prompts, [answer] * 3)
        for row, text, begun in zip(rest.tolist(), TEXTS, attended(prompts), strict=True):
            assert begun + [i for i in row if i >= 0] == ids(model, f"{text} {answer}")
        whole = attended(with_answers(model, prompts, [answer] * 3))
        assert whole == [ids(model, f"{text} {answer}") for text in TEXTS]


def test_an_answer_that_begins_otherwise_is_refused_or_covered(model):
    prompts = pbb.Prompts.from_texts(model, TEXTS, answers=[12, 17])
    with pytest.raises(PbbError, match=r"The answer '35' does not begin as all possible answers .*answers="):
        pbb.answer_ids(model, prompts, [35, 12, 17])
    wider = covering(model, prompts, [[35, 12, 17], [12, 12, 1]])
    assert attended(wider) == [ids(model, text + start) for text, start in zip(TEXTS, (" ", " 1", " "), strict=True)]
    assert pbb.answer_ids(model, wider, [35, 12, 17]).tolist() == [
        [*ids(model, "35")], [*ids(model, "2"), -1], [*ids(model, "17")],
    ]  # fmt: skip
    assert covering(model, prompts, [[12, 17, 12]]) is prompts


def test_a_role_answer_and_answers_contradict(model):
    with pytest.raises(PbbError, match="Give either the role 'answer' or answers"):
        pbb.Prompts.from_texts(model, ["x ="], roles={"answer": [(0, 1)]}, answers=[1, 2])
    with pytest.raises(PbbError, match="no possible answers"):
        pbb.Prompts.from_texts(model, ["x ="], answers=[])


@pytest.mark.parametrize("mode", ["direct", "trace"])
def test_calls_go_on_to_where_the_outputs_of_the_corpus_part(mode, model, corpus):
    prompts = pbb.make_prompts(corpus, model, mode=mode, n=20, seed=1)
    assert prompts.answer_start.tolist() == [ids(model, " ")] * len(prompts)
    answers = pbb.answer_ids(model, prompts, prompts.labels["output"])
    assert answers.tolist() == [ids(model, str(output)) for output in prompts.labels["output"]]  # one token each
    one = pbb.prompts_of_calls(model, corpus.calls(mode, n=20, seed=1).iloc[:1], answers=corpus.outputs)
    assert attended(one) == attended(prompts)[:1]


def test_patching_at_the_answer_shows_it(model, corpus):
    """Behind the last block nothing but the answer position decides, so that the clean answer comes back whole."""
    pairs = pbb.make_pairs(corpus, model, "input", "with_io", n=8)
    metric = pbb.answer_difference(*pairs.answer_ids(model))
    effects = pbb.patch_sweep(model, pairs, metric=metric, sites=("resid_post",), positions=["answer"])
    distance = effects["clean"] - effects["corrupted"]
    assert float(abs(distance).min()) > 1e-3
    recovered = (effects["resid_post"].sel(layer=2, role="answer") - effects["corrupted"]) / distance
    assert np.allclose(recovered, 1, atol=1e-4)
    # the metric is that of whole answers in the bare model, teacher-forced
    bare = AutoModelForCausalLM.from_pretrained(model.original_model.config.name_or_path).eval()
    for i, (text, right, wrong) in enumerate(
        zip(pairs.clean.texts, pairs.clean.labels["output"], pairs.corrupted.labels["output"], strict=True)
    ):
        expected = [of_answer(bare, model, text, f" {answer}") for answer in (right, wrong)]
        assert float(effects["clean"][i]) == pytest.approx(expected[0] - expected[1], abs=1e-4)


def of_answer(bare, model, text: str, answer: str) -> float:
    """The log-probability of an answer's tokens behind a text."""
    before, whole = ids(model, text), ids(model, text + answer)
    with torch.inference_mode():
        steps = bare(torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(float(steps[i - 1, whole[i]]) for i in range(len(before), len(whole)))


def test_later_tokens_that_distinguish_are_scored_teacher_forced(model):
    pair = pbb.pair_from_texts(model, "f(3) =", "f(5) =", answers=("12", "17"), roles={"input": ["3", "5"]})
    assert attended(pair.clean) == [ids(model, "f(3) = 1")]
    assert [side.tolist() for side in pair.answer_ids(model)] == [[ids(model, "2")], [ids(model, "7")]]
    pair = pbb.pair_from_texts(model, "f(3) =", "f(5) =", answers=("12", "352"))
    assert attended(pair.clean) == [ids(model, "f(3) = ")]
    effects = pbb.patch_sweep(model, pair, metric=pbb.answer_difference(*pair.answer_ids(model)))
    bare = AutoModelForCausalLM.from_pretrained(model.original_model.config.name_or_path).eval()
    expected = of_answer(bare, model, "f(3) =", " 12") - of_answer(bare, model, "f(3) =", " 352")
    assert float(effects["clean"][0]) == pytest.approx(expected, abs=1e-4)


def test_the_models_own_answers_are_tokens_and_no_texts(bridge):
    """Of a token without a space before it the text, tokenized behind a space, would be another."""
    model = bridge("llama")
    plain = [f"{a} of {b}" for a, b in itertools.product(("run", "call", "say", "f(", "x"), ("it", "3"))]
    odd = 0
    for text in plain:
        other = text.replace("it", "no").replace("3", "5")
        alone = [pbb.Prompts.from_texts(model, [one]) for one in (text, other)]
        if len({int(pbb.answer_logits(model, side).argmax()) for side in alone}) == 1:
            with pytest.raises(PbbError, match="Both texts have the answer"):
                pbb.pair_from_texts(model, text, other)
            continue
        pair = pbb.pair_from_texts(model, text, other)
        found = [side.item() for side in pair.answer_ids(model)]
        likeliest = [int(pbb.answer_logits(model, side).argmax()) for side in (pair.clean, pair.corrupted)]
        assert found == likeliest
        said = pair.clean.labels["output"].item()
        odd += model.tokenizer(f" {said}")["input_ids"] != [found[0]]
    assert odd > 3


def test_evaluation_chooses_among_digits(digits, corpus, monkeypatch):
    """With the space in the prompt every answer is one token, so that all answers are choices, as for other models."""
    found = evaluate(digits, corpus, modes=("direct",), n=10, seed=2)
    bare = AutoModelForCausalLM.from_pretrained(digits).eval()
    tokenizer = AutoTokenizer.from_pretrained(digits)
    opened = SimpleNamespace(tokenizer=tokenizer)
    calls = corpus.calls("direct", n=10, seed=2)
    outputs = sorted({str(output) for output in calls["output"]})
    for i, row in enumerate(calls.to_dict(orient="records")):
        scores = [of_answer(bare, opened, row["prompt"], f" {output}") for output in outputs]
        assert bool(found["forced"][i]) == (outputs[int(np.argmax(scores))] == str(row["output"]))
        asked = torch.tensor([tokenizer(row["prompt"] + " ")["input_ids"]])
        written = bare.generate(asked, max_new_tokens=4, do_sample=False)[0, asked.shape[1] - 1 :]
        first = tokenizer.decode(written).strip()
        assert first.startswith(str(found["answer"][i].item())[:1])


def test_lens_and_probes_read_where_answers_part(model, corpus):
    prompts = pbb.make_prompts(corpus, model, n=10)
    looked = pbb.lens(model, prompts, prompts.labels[["output"]])
    logits = pbb.answer_logits(model, prompts)
    right = pbb.answer_ids(model, prompts, prompts.labels["output"])
    expected = logits.log_softmax(-1).gather(1, right)[:, 0]
    top = looked["log_prob"].sel(variable="output", role="answer", layer=2)
    assert np.allclose(top, expected, atol=1e-4)


def test_a_transfer_map_covers_answers_that_nobody_named(model, corpus):
    """The prompts know of 12 and 17; under a hypothesis the answer is 35, which begins otherwise."""
    rows = pd.DataFrame(
        {
            "program": ["f", "g"],
            "call": ["1", "2"],
            "source": ["def f(x):\n    return {1: 12, 2: 17}[x]", "def g(x):\n    return {1: 35, 2: 14}[x]"],
        }
    )
    base, source = (
        pbb.Prompts.from_texts(
            model, [text], {"input": [(2, 3)]}, rows.iloc[i : i + 1].reset_index(drop=True), answers=[12, 17]
        )
        for i, text in enumerate(("f(1) =", "g(2) ="))
    )
    carried = pbb.transfer_map(model, pbb.Pairs(source, base), sites=("resid_pre",))
    assert set(carried["hypothesis"].values) == {"nothing", "everything", "program", "input", "other"}


def test_files_name_the_possible_answers(model, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "\ufeff"  # as some editors begin files
        '{"clean": "f(3) =", "corrupted": "f(5) =", "answers": [12, 17]}\n'
        '{"clean": "f(4) =", "corrupted": "f(6) =", "answers": [3, 8]}\n'
    )
    pairs = pbb.read_pairs(path, model)
    assert attended(pairs.clean) == [ids(model, "f(3) = "), ids(model, "f(4) = ")]
    assert [row.tolist() for row in pairs.answer_ids(model)[0]] == [
        ids(model, "12"),
        [*ids(model, "3"), -1],
    ]
