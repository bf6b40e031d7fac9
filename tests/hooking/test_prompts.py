"""A role is where its text stands: decoding the tokens of its span gives it back, on either side of the padding."""

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from pbb_probe.errors import PbbError
from pbb_probe.hooking.load import load_model
from pbb_probe.hooking.prompts import Prompts, answer_tokens, make_prompts

TEXTS = ("run dolvik(7) :", "the value of zabrutim(40961) is", "gaxnol of 3 is")
NAMES = ("dolvik", "zabrutim", "gaxnol")
NUMBERS = ("7", "40961", "3")


def where(words, texts=TEXTS):
    """The characters that each word covers in its text."""
    return [(text.index(word), text.index(word) + len(word)) for word, text in zip(words, texts, strict=True)]


def read(model, prompts, role) -> list[str]:
    """The text of each prompt's tokens from the first to the last of the role."""
    spans = prompts.spans[role].tolist()
    return [
        model.tokenizer.decode(row[first : last + 1]).strip()
        for row, (first, last) in zip(prompts.tokens, spans, strict=True)
    ]


@pytest.mark.parametrize("side", ["left", "right"])
def test_spans_decode_to_their_words_where_words_are_many_tokens(side, bridge):
    model = bridge("llama")
    roles = {"name": where(NAMES), "number": where(NUMBERS)}
    prompts = Prompts.from_texts(model, TEXTS, roles, padding_side=side)
    assert read(model, prompts, "name") == list(NAMES)
    assert read(model, prompts, "number") == list(NUMBERS)
    sizes = {role: (span[:, 1] - span[:, 0] + 1).tolist() for role, span in prompts.spans.items()}
    assert min(sizes["name"]) > 1
    assert sizes["number"][1] > 1
    assert all(torch.equal(prompts.roles[role], span[:, 1]) for role, span in prompts.spans.items())


@pytest.mark.parametrize("side", ["left", "right"])
def test_spans_decode_to_their_words_where_words_are_tokens(side, bridge):
    model = bridge("nano")
    texts = ["run dolvik(7) :", "the value of dolvik(4) is", "what does dolvik do ? 9"]
    roles = {"number": where(("7", "4", "9"), texts), "word": where(("run", "value", "what"), texts)}
    prompts = Prompts.from_texts(model, texts, roles, padding_side=side)
    assert read(model, prompts, "number") == ["7", "4", "9"]
    assert read(model, prompts, "word") == ["run", "value", "what"]
    assert (prompts.spans["number"][:, 0] == prompts.spans["number"][:, 1]).all()


@pytest.mark.parametrize("name", ["llama", "nano"])
def test_left_padding_shifts_every_position_by_the_padding(name, bridge):
    model = bridge(name)
    roles = {"name": where(NAMES), "number": where(NUMBERS)}
    right = Prompts.from_texts(model, TEXTS, roles)
    left = Prompts.from_texts(model, TEXTS, roles, padding_side="left")
    lengths = [len(model.tokenizer(text)["input_ids"]) for text in TEXTS]
    assert len(set(lengths)) == len(TEXTS)
    for i, length in enumerate(lengths):
        shift = max(lengths) - length
        for role in ("name", "number", "answer"):
            assert (left.spans[role][i] - right.spans[role][i]).tolist() == [shift, shift]
        assert right.tokens[i, :length].tolist() == model.tokenizer(TEXTS[i])["input_ids"]
        assert left.tokens[i, shift:].tolist() == model.tokenizer(TEXTS[i])["input_ids"]
        assert right.attention_mask[i].tolist() == [1] * length + [0] * shift
        assert left.attention_mask[i].tolist() == [0] * shift + [1] * length


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_answer_is_predicted_from_the_last_token_unless_said_otherwise(side, bridge):
    model = bridge("llama")
    prompts = Prompts.from_texts(model, TEXTS, padding_side=side)
    last_tokens = prompts.tokens[range(3), prompts.roles["answer"]].tolist()
    assert last_tokens == [model.tokenizer(text)["input_ids"][-1] for text in TEXTS]
    own = Prompts.from_texts(model, TEXTS, {"answer": where(NUMBERS)}, padding_side=side)
    assert read(model, own, "answer") == list(NUMBERS)


def test_a_role_that_is_part_of_a_token_is_that_token(bridge):
    prompts = Prompts.from_texts(bridge("nano"), ["call dolvik ( 3 )"], {"middle": [(2, 3)]})
    assert read(bridge("nano"), prompts, "middle") == ["call"]


@pytest.mark.parametrize("mode", ["direct", "trace"])
@pytest.mark.parametrize("name", ["llama", "nano"])
def test_the_output_follows_the_answer_position(name, mode, bridge, corpus):
    model = bridge(name)
    prompts = make_prompts(corpus, model, mode=mode, n=25, seed=3)
    assert len(prompts) == 50
    for i, row in enumerate(prompts.labels.to_dict(orient="records")):
        document = model.tokenizer(row["prompt"] + row["completion"])["input_ids"]
        answer = int(prompts.roles["answer"][i])
        assert prompts.tokens[i, : answer + 1].tolist() == document[: answer + 1]
        assert model.tokenizer.decode(document[answer + 1 :]).strip() == str(row["output"])
        assert len(document) == answer + 2
    assert read(model, prompts, "name") == list(prompts.labels["program"])
    assert read(model, prompts, "input") == [str(value) for value in prompts.labels["input"]]


def test_the_labels_are_the_runs_of_the_programs(bridge, corpus):
    prompts = make_prompts(corpus, bridge("nano"), group="without_io")
    assert set(prompts.labels["group"]) == {"without_io"}
    assert len(prompts) == 10 * 8
    for row in prompts.labels.to_dict(orient="records"):
        program = next(entry.program for entry in corpus.entries if entry.program.name == row["program"])
        scope = {}
        exec(program.source, scope)
        assert scope[program.name](row["input"]) == row["output"]


def test_the_seed_draws_the_calls(bridge, corpus):
    first, again, other = (make_prompts(corpus, bridge("nano"), n=10, seed=seed).texts for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", ["llama", "nano"])
def test_answer_tokens_are_what_follows_a_prompt(name, bridge):
    model = bridge(name)
    answers = [7, "3", 7, 0]
    tokens = answer_tokens(model, answers).tolist()
    assert tokens == [model.tokenizer(f"run it = {answer}")["input_ids"][-1] for answer in answers]
    assert [model.tokenizer.decode(token).strip() for token in tokens] == ["7", "3", "7", "0"]


@pytest.mark.parametrize("answer", ["40961", "7 3", "dolvik"])
def test_answers_of_several_tokens_are_refused(answer, bridge):
    with pytest.raises(PbbError, match="tokens"):
        answer_tokens(bridge("llama"), ["7", answer])


def test_answers_outside_the_vocabulary_are_refused(bridge):
    assert bridge("nano").tokenizer(" 77")["input_ids"][-1] == bridge("nano").tokenizer.unk_token_id
    with pytest.raises(PbbError, match="77"):
        answer_tokens(bridge("nano"), ["7", "77"])


@pytest.mark.parametrize("span", [(40, 44), (8, 99), (-3, 2), (5, 5), (6, 4), (3, 4)])
def test_a_role_that_is_not_in_its_text_is_refused(span, bridge):
    with pytest.raises(PbbError, match="'word' covers characters"):
        Prompts.from_texts(bridge("nano"), ["run it = 3", "run it = 3"], {"word": [(0, 3), span]})


def test_arguments_that_do_not_fit_are_refused(bridge):
    model = bridge("llama")
    with pytest.raises(PbbError, match="2 spans for 3 texts"):
        Prompts.from_texts(model, TEXTS, {"name": where(NAMES)[:2]})
    with pytest.raises(PbbError, match="3 texts and 2 rows"):
        Prompts.from_texts(model, TEXTS, labels=pd.DataFrame({"subject": [1, 2]}))
    with pytest.raises(PbbError, match="no prompts"):
        Prompts.from_texts(model, [])


@pytest.mark.parametrize("texts", [[""], ["", "run it"]])
def test_a_text_without_tokens_is_refused(texts, bridge):
    """The tokenizer adds no BOS: there is no token from which an answer could be predicted."""
    with pytest.raises(PbbError):
        Prompts.from_texts(bridge("llama"), texts)


def test_a_model_without_a_tokenizer_is_refused(bare):
    model = AutoModelForCausalLM.from_config(bare("llama").config)
    model.config.name_or_path = ""
    with pytest.raises(PbbError, match="no tokenizer"):
        Prompts.from_texts(load_model(model), ["run it"])


def test_select_takes_rows_of_everything(bridge):
    labels = pd.DataFrame({"subject": list("abc")}, index=[7, 7, 9])
    prompts = Prompts.from_texts(bridge("llama"), TEXTS, {"name": where(NAMES)}, labels, padding_side="left")
    chosen = prompts.select([2, 0])
    assert chosen.texts == (TEXTS[2], TEXTS[0])
    assert len(chosen) == 2
    assert list(chosen.labels["subject"]) == ["c", "a"]
    assert list(chosen.labels.index) == [0, 1]
    assert read(bridge("llama"), chosen, "name") == ["gaxnol", "dolvik"]
    kept = [row[mask == 1].tolist() for row, mask in zip(chosen.tokens, chosen.attention_mask, strict=True)]
    assert kept == [bridge("llama").tokenizer(text)["input_ids"] for text in chosen.texts]
