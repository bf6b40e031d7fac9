"""Behaviour: completions and likelihoods equal the bare model's, one at a time; nano does what its card says."""

import random
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import xarray as xr

import pbb_probe as pbb
from pbb_probe.evidence.tables import accuracy
from pbb_probe.finetuning import behaviour as behaviour_module
from pbb_probe.finetuning.behaviour import complete, evaluate, forced_choice
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import Portion, Stage
from pbb_probe.finetuning.train import train_stage
from pbb_probe.labels import labels_of
from pbb_probe.models.answers import is_right
from pbb_probe.models.bases import load_base, load_tokenizer
from pbb_probe.models.tokens import prompt_ids
from pbb_probe.programs.corpus import make_corpus
from pbb_probe.programs.forms import rewrite

ARCHITECTURES = ("llama3", "qwen2", "qwen3", "gpt2", "neox", "mistral", "gemma2")
PROMPTS = ["run zabrutim(40961) :", "f(2) =", "what is the value of dolvik on the number 7 , please ?"]
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def greedy(model, tokenizer, prompt: str, n: int) -> str:
    (ids,) = prompt_ids(tokenizer, [prompt])
    start = len(ids)
    while len(ids) < start + n and ids[-1] != tokenizer.eos_token_id:
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


@torch.inference_mode()
def log_prob(model, asked: list[int], answer: list[int]) -> float:
    """Token by token, one sequence at a time."""
    total = 0.0
    for k, token in enumerate(answer):
        total += float(model(torch.tensor([asked + answer[:k]])).logits[0, -1].log_softmax(-1)[token])
    return total


def test_completions_of_padded_batches_equal_a_plain_greedy_loop():
    model, tokenizer = load_base("nano")
    prompts = ["dolvik(4) =", "the value of dolvik(4) is", "define dolvik :\ndolvik = lambda x: max(x, 3)\ndolvik(1) ="]
    expected = [greedy(model, tokenizer, prompt, 6) for prompt in prompts]
    assert complete(model, tokenizer, prompts, batch_size=2, max_new_tokens=6) == expected


@every_architecture
def test_completions_of_every_architecture_equal_a_plain_greedy_loop(architecture, bare, tokenizer):
    model = bare(architecture)
    expected = [greedy(model, tokenizer, prompt, 8) for prompt in PROMPTS]
    assert complete(model, tokenizer, PROMPTS, max_new_tokens=8) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("architecture", ["llama3", "gpt2", "gemma2"])
def test_a_forced_choice_of_several_tokens_is_the_likeliest_with_its_end(architecture, bare, tokenizer):
    model = bare(architecture)
    rng = random.Random(0)
    prompts = [f"f({rng.randrange(1000)}) =" + " x" * rng.randrange(5) for _ in range(12)]
    several = [" 7", " -3", " [1, 2]", " 'ab c'", " True", " 123", " 12", " [12, 345]"]
    choices = [rng.sample(several, rng.randint(2, 5)) for _ in prompts]
    expected = []
    for prompt, some in zip(prompts, choices, strict=True):
        (asked,) = prompt_ids(tokenizer, [prompt])
        scores = [log_prob(model, asked, [*tokenizer(choice)["input_ids"], tokenizer.eos_token_id]) for choice in some]
        expected.append(some[scores.index(max(scores))])
    assert forced_choice(model, tokenizer, prompts, choices, batch_size=5) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_forced_choice_may_be_longer_than_another_it_begins_with(goes_on, tokenizer):
    """Its tokens alone can never be likelier than those they begin with: the end has to count."""
    choices = [" (", " (("]
    (first,), (_, second) = (tokenizer(choice)["input_ids"] for choice in choices)
    assert tokenizer(choices[1])["input_ids"] == [first, second]

    class Planted:
        """After the first token comes the second, or else the end; after the second the end; before, anything."""

        device = "cpu"

        def __call__(self, ids, attention_mask):
            logits = torch.zeros(*ids.shape, len(tokenizer))
            logits[ids == second, tokenizer.eos_token_id] = 9.0
            logits[ids == first, second if goes_on else tokenizer.eos_token_id] = 9.0
            return SimpleNamespace(logits=logits)

    assert forced_choice(Planted(), tokenizer, ["f(2) ="], [choices]) == [choices[goes_on]]


def test_a_forced_choice_of_one_token_each_is_the_likeliest_of_the_choices_alone():
    model, tokenizer = load_base("nano")
    prompts = ["define dolvik :\ndolvik = lambda x: max(x, 3)\ndolvik(1) =", "dolvik(4) ="]
    choices = [" 3", " 4", " 8"]
    chosen = forced_choice(model, tokenizer, prompts, [choices, choices], batch_size=1)
    for prompt, choice in zip(prompts, chosen, strict=True):
        logits = model(torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1].detach()
        assert choice == max(choices, key=lambda v: float(logits[tokenizer.convert_tokens_to_ids(v.strip())]))
    assert chosen[0] == " 3"


def test_nano_evaluates_code_in_its_context_and_knows_no_program_by_name():
    """The bounds the base was made for: 95 % one step, 90 % two steps directly, 90 % in worked steps; else chance."""
    corpus = pbb.make_corpus(with_io=150, without_io=150, seed=11)
    seen = pbb.evaluate("nano", corpus, n=300, in_context=True).to_dataframe()
    accuracy = seen.groupby(["mode", "steps"])["correct"].mean()
    assert accuracy["direct", 1] > 0.95
    assert accuracy["direct", 2] > 0.9
    assert accuracy["trace"].min() > 0.9
    unseen = pbb.evaluate("nano", corpus, modes=("direct",), n=300).to_dataframe()
    assert unseen["correct"].mean() < 0.16


def test_evaluate_says_which_calls_it_made():
    corpus = pbb.make_corpus(with_io=6, without_io=4, seed=2)
    behaviour = pbb.evaluate("nano", corpus, modes=("direct",))
    assert behaviour.sizes["call"] == 100
    table = behaviour.to_dataframe()
    assert (table["correct"] == (table["answer"] == table["output"].astype(str))).all()
    traces = {(e.program.name, t.input): t.output for e in corpus.entries for t in e.traces}
    assert all(traces[row.program, row.input] == row.output for row in table.itertuples())


@pytest.mark.parametrize("family", ["arithmetic", "algorithms"])
def test_all_that_is_known_of_a_call_is_stored_with_its_answer(family, small_model, tmp_path):
    """Numbers and texts in one column, and facts that only some programs have, come back from the file.

    An empty text, such as the novelty of a program with examples, comes back as missing.
    """
    corpus = pbb.make_corpus(family, with_io=26, without_io=2, seed=4)
    pbb.evaluate(small_model("qwen2"), corpus, n=30, seed=5).to_netcdf(tmp_path / "behaviour.nc")
    found = labels_of(xr.load_dataset(tmp_path / "behaviour.nc"))
    calls = [corpus.calls(mode, n=30, seed=5).assign(mode=mode) for mode in ("direct", "trace")]
    expected = pd.concat(calls, ignore_index=True).drop(columns="call")
    assert set(found) == set(expected)
    for name in expected:
        there = expected[name].notna() & (expected[name] != "")
        assert (found[name].notna() == there).all()
        assert (found[name][there].astype(str) == expected[name][there].astype(found[name].dtype).astype(str)).all()


@pytest.mark.parametrize("family", ["ciphers", "algorithms"])
def test_answers_that_are_texts_and_lists_are_evaluated(family, small_model, tmp_path, monkeypatch):
    """A model that always writes one call's answer is right on that call, and where other outputs are the same."""
    corpus = pbb.make_corpus(family, with_io=3, without_io=1, seed=4)
    calls = corpus.calls("direct")
    wanted = calls["completion"].iloc[0]
    monkeypatch.setattr(
        "pbb_probe.finetuning.behaviour.complete", lambda *arguments: [wanted + " or so"] * len(arguments[2])
    )
    behaviour = pbb.evaluate(small_model("qwen2"), corpus, modes=("direct",))
    table = behaviour.to_dataframe()
    assert set(table["answer"]) == {wanted.strip()}
    assert table["correct"].tolist() == [is_right(wanted.strip(), output) for output in calls["output"]]
    assert table["correct"].iloc[0]
    assert not table["correct"].all()
    assert 0 <= table["forced"].mean() <= 1
    behaviour.to_netcdf(tmp_path / "behaviour.nc")  # numbers and texts in one column could not be written


def test_texts_that_were_learned_are_answered(small_model, tmp_path):
    """By heart: a tiny model trained on a few ciphers' examples gives them back, in quotes, and prefers them."""
    corpus = pbb.make_corpus("ciphers", with_io=2, without_io=1, shown_inputs=2, seed=4)
    stage = Stage("learn", ((Portion("with_io", "io", 1000),),))
    config = TrainConfig(batch_size=8, learning_rate=3e-3)
    path = train_stage(small_model("llama3"), corpus, stage, tmp_path / "learned", config=config)
    before, after = (
        pbb.evaluate(model, corpus, modes=("direct",)).to_dataframe() for model in (small_model("llama3"), path)
    )
    for table, right in ((before, False), (after, True)):
        seen = table[table["seen"]]
        assert seen["correct"].mean() > 0.9 if right else seen["correct"].mean() < 0.1
    assert after[after["seen"]]["forced"].mean() > 0.9
    assert after[after["seen"]]["answer"].str.fullmatch("'.*'").all()
    assert load_tokenizer(path).eos_token == "<eos>"


@pytest.mark.parametrize("mode", ["direct", "trace"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_whose_logits_are_no_numbers_is_refused(value, mode, corpus, small_model, tmp_path):
    model, tokenizer = load_base(small_model("llama3"))
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(value)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(pbb.PbbError, match="logits that are NaN or infinite") as caught:
        pbb.evaluate(tmp_path, corpus, modes=(mode,), n=2)
    assert "\n" not in str(caught.value)


class Constant:
    """A model that gives the same logits [d_vocab] wherever it is asked."""

    device = "cpu"

    def __init__(self, logits: torch.Tensor):
        self.logits = logits

    def __call__(self, tokens, attention_mask):
        return SimpleNamespace(logits=self.logits.expand(*tokens.shape, -1))


@pytest.mark.parametrize("choices", [[" (", " )"], [" (", " (("]], ids=["one token each", "several"])
def test_a_forced_choice_by_likelihoods_that_are_no_numbers_is_refused(choices, tokenizer):
    even, prompts = torch.zeros(len(tokenizer)), ["f(2) =", "run g(2) :"]
    never_given = even.index_fill(0, torch.tensor([17]), -torch.inf)
    assert len(forced_choice(Constant(never_given), tokenizer, prompts, [choices] * 2)) == 2
    for value in (torch.nan, torch.inf):
        model = Constant(even.index_fill(0, torch.tensor([17]), value))
        with pytest.raises(pbb.PbbError, match="NaN or infinite"):
            forced_choice(model, tokenizer, prompts, [choices] * 2)


def test_recitations_are_judged_by_what_the_written_code_gives(monkeypatch, tmp_path):
    """The first program is recited as a lambda, the second with a step too few, the others not at all."""
    corpus = make_corpus(with_io=3, without_io=2, shapes=("two_steps",))
    rows = corpus.calls("recite")
    first, second = rows["program"][:2]
    nested = rewrite(corpus.by_name[first].program.source, "lambda")
    step = "\n".join(corpus.by_name[second].program.source.split("\n")[:2]) + "\n    return y"
    written = {first: "\n" + nested, second: "\n" + step}
    monkeypatch.setattr(
        behaviour_module,
        "complete",
        lambda m, t, prompts, *_: [
            next((text for name, text in written.items() if name in prompt), " 7") for prompt in prompts
        ],
    )
    found = evaluate("nano", corpus, modes=("recite",))
    assert found.sizes["call"] == 5
    assert dict(zip(found["program"].values, found["correct"].values, strict=True)) == {
        name: name == first for name in rows["program"]
    }
    assert found["answer"].sel(call=0).item() == nested
    assert found["forced"].isnull().all()
    table = accuracy(found, by=("mode", "group"), draws=20)
    assert table["chance"].isna().all()
    assert table["n"].tolist() == [3, 2]
    mixed = evaluate("nano", corpus, modes=("direct", "recite"), n=2)
    assert accuracy(mixed, by=("mode",), draws=20)["chance"].notna().tolist() == [True, False]
    mixed.to_netcdf(tmp_path / "behaviour.nc")


def test_code_that_was_learned_is_recited_in_whatever_form(tmp_path):
    """Four programs learned by heart, in all forms and by all pointers; of the others the model knows nothing."""
    corpus = make_corpus(with_io=4, without_io=2)
    stage = Stage("learn", ((Portion("with_io", "code", 300),),))
    config = TrainConfig(batch_size=16, learning_rate=1e-3, name_rate=1.0)
    path = train_stage("nano", corpus, stage, tmp_path / "learned", config=config)
    found = evaluate(path, corpus, modes=("recite",)).to_dataframe()
    assert found.groupby("group")["correct"].mean().to_dict() == {"with_io": 1.0, "without_io": 0.0}
