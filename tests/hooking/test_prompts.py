"""A role is where its text stands: decoding the tokens of its span gives it back, on either side of the padding.

Prompt, answer and end are, token by token, the document that was trained.
"""

import doctest
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from pbb_probe.errors import PbbError
from pbb_probe.hooking.answers import answer_ids, with_answers
from pbb_probe.hooking.calls import make_prompts, prompts_of_calls
from pbb_probe.hooking.load import load_model
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.models.tokens import encode, end_ids
from pbb_probe.programs.corpus import make_corpus
from pbb_probe.programs.documents import Document

TEXTS = ("run dolvik(7) :", "the value of zabrutim(40961) is", "gaxnol of 3 is")
NAMES = ("dolvik", "zabrutim", "gaxnol")
NUMBERS = ("7", "40961", "3")
ANSWERS = ("'abc'", 7, "[1, -20]")
CHAT = (
    "{% for turn in messages %}<|{{ turn.role }}|>\n{{ turn.content }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def opened(tokenizer):
    """What tokenizing asks of an opened model."""
    return SimpleNamespace(tokenizer=tokenizer, cfg=SimpleNamespace(d_vocab=len(tokenizer)))


@pytest.fixture(scope="module")
def families(corpus):
    """A corpus of each family."""
    others = {name: make_corpus(name, with_io=6, without_io=3) for name in ("algorithms", "ciphers")}
    return {"arithmetic": corpus, **others}


@pytest.fixture(scope="module")
def tokenizers(tokenizer_dir, families):
    """`plain`; `bos`, which begins texts with a token; `merging`, which joins ` :` and a line break; and with a chat
    template `chat` and `spaced`, which begins texts with a token and a space."""
    made = {name: AutoTokenizer.from_pretrained(tokenizer_dir) for name in ("plain", "chat", "bos", "spaced")}
    made["chat"].chat_template = made["spaced"].chat_template = CHAT
    made["spaced"].backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    for name in ("bos", "spaced"):
        made[name].backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<eos> $A", special_tokens=[("<eos>", made[name].eos_token_id)]
        )
    merging = Tokenizer(models.BPE())
    pattern = Regex(r" ?[^\s\p{L}\p{N}]+[\r\n]*| ?\p{L}+| ?\p{N}|\s+")  # as Qwen and Llama 3 split texts
    merging.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    merging.decoder = decoders.ByteLevel()
    calls = [corpus.calls(mode) for corpus in families.values() for mode in ("direct", "trace")]
    texts = [text for table in calls for text in table["prompt"] + table["completion"]]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet)
    merging.train_from_iterator(texts, trainer)
    made["merging"] = PreTrainedTokenizerFast(tokenizer_object=merging, pad_token="<pad>", eos_token="<eos>")
    return made


def attended(prompts) -> list[list[int]]:
    """Each prompt's tokens without padding."""
    return [row[mask == 1].tolist() for row, mask in zip(prompts.tokens, prompts.attention_mask, strict=True)]


def without_padding(ids) -> list[list[int]]:
    """Each answer's token ids."""
    return [row[row >= 0].tolist() for row in ids]


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


@pytest.mark.parametrize("mode", ["direct", "trace"])
@pytest.mark.parametrize("family", ["arithmetic", "algorithms", "ciphers"])
@pytest.mark.parametrize("name", ["plain", "bos", "merging", "chat", "spaced"])
def test_prompt_answer_and_end_are_the_trained_document(name, family, mode, tokenizers, families):
    tokenizer = tokenizers[name]
    model = opened(tokenizer)
    prompts = make_prompts(families[family], model, mode=mode, n=20, seed=1)
    labels = prompts.labels
    documents = [
        Document("io", *fields)
        for fields in zip(labels["program"], labels["prompt"], labels["completion"], strict=True)
    ]
    trained = [row["input_ids"] for row in encode(documents, tokenizer)]
    answers = without_padding(answer_ids(model, prompts, labels["output"]))
    end = end_ids(tokenizer)
    assert [a + b + end for a, b in zip(attended(prompts), answers, strict=True)] == trained
    before = [row[: answer + 1].tolist() for row, answer in zip(prompts.tokens, prompts.roles["answer"], strict=True)]
    assert before == attended(prompts)
    starts = without_padding(prompts.answer_start)
    whole = [tokenizer.decode(start + ids).strip() for start, ids in zip(starts, answers, strict=True)]
    assert whole == [str(output) for output in labels["output"]]
    for role, column in (("name", "program"), ("input", "call")):
        for word, text in zip(labels[column], read(model, prompts, role), strict=True):
            assert word in text
            assert len(text) <= len(word) + 4  # a bracket or a quote that is in the same token
    if family != "arithmetic":
        assert max(map(len, answers)) > 2
        assert len(set(map(len, answers))) > 2


def test_the_border_cases_are_there(tokenizers, families):
    """In `merging` tokens do span the border, and in `chat` a completion does begin without a space."""
    calls = families["ciphers"].calls("trace")
    tokenizer = tokenizers["merging"]
    asked = tokenizer(list(calls["prompt"]))["input_ids"]
    whole = tokenizer(list(calls["prompt"] + calls["completion"]))["input_ids"]
    assert any(text[: len(prompt)] != prompt for prompt, text in zip(asked, whole, strict=True))
    chat = opened(tokenizers["chat"])
    direct = make_prompts(families["ciphers"], chat, n=3)
    assert all(text.endswith("<eos>\n<|assistant|>\n") for text in direct.texts)
    assert direct.gap == ""
    assert make_prompts(families["ciphers"], chat, mode="trace", n=3).gap == " "
    both = pd.concat([families["ciphers"].calls(mode, n=2) for mode in ("direct", "trace")], ignore_index=True)
    with pytest.raises(PbbError, match="one mode"):
        prompts_of_calls(chat, both)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["plain", "bos"])
def test_answers_follow_texts_of_your_own(name, side, tokenizers):
    tokenizer = tokenizers[name]
    model = opened(tokenizer)
    prompts = Prompts.from_texts(model, TEXTS, padding_side=side)
    ids = answer_ids(model, prompts, ANSWERS)
    assert ids.dtype == torch.long
    for i, (text, answer) in enumerate(zip(TEXTS, ANSWERS, strict=True)):
        whole = tokenizer(f"{text} {answer}")["input_ids"]
        expected = whole[len(tokenizer(text)["input_ids"]) :]
        assert ids[i].tolist() == expected + [-1] * (ids.shape[1] - len(expected))
    assert (ids >= 0).sum(1).max() > (ids >= 0).sum(1).min()
    chosen = answer_ids(model, prompts.select([2, 0]), [ANSWERS[2], ANSWERS[0]])
    assert without_padding(chosen) == [without_padding(ids)[i] for i in (2, 0)]


@pytest.mark.parametrize("name", ["plain", "bos"])
def test_a_token_over_the_border_leaves_the_prompt_as_it_is(name, tokenizers):
    tokenizer = tokenizers["plain"]
    assert len(tokenizer(" return")["input_ids"]) < len(tokenizer(" ret")["input_ids"] + tokenizer("urn")["input_ids"])
    model = opened(tokenizers[name])
    prompts = Prompts.from_texts(model, ["it is a ret", "it is a"], gap="")
    ids = without_padding(answer_ids(model, prompts, ["urn", " return"]))
    assert ids == [tokenizer("urn")["input_ids"], tokenizer(" return")["input_ids"]]


def test_an_answer_in_the_middle_of_its_text_is_tokenized_alike(tokenizers):
    tokenizer = tokenizers["plain"]
    model = opened(tokenizer)
    prompts = Prompts.from_texts(model, TEXTS, {"answer": where(NAMES)})
    ids = without_padding(answer_ids(model, prompts, ANSWERS))
    assert ids == [tokenizer(f" {answer}")["input_ids"] for answer in ANSWERS]


@pytest.mark.parametrize("name", ["llama", "nano"])
def test_answers_of_one_token_are_what_follows_a_call(name, bridge, corpus):
    model = bridge(name)
    for mode in ("direct", "trace"):
        prompts = make_prompts(corpus, model, mode=mode, n=20)
        outputs = prompts.labels["output"]
        expected = [model.tokenizer(f"run it = {output}")["input_ids"][-1] for output in outputs]
        assert answer_ids(model, prompts, outputs).tolist() == [[token] for token in expected]


def test_answers_that_do_not_fit_are_refused(bridge):
    model = bridge("nano")
    prompts = Prompts.from_texts(model, ["run dolvik(7) :", "7 is"])
    with pytest.raises(PbbError, match="2 prompts and 3 answers"):
        answer_ids(model, prompts, [1, 2, 3])
    with pytest.raises(PbbError, match="77"):
        answer_ids(model, prompts, ["7", "77"])
    with pytest.raises(PbbError, match="no tokens"):
        answer_ids(model, prompts, ["7", ""])


@pytest.mark.parametrize("side", ["left", "right"])
def test_answers_put_behind_have_a_role(side, bridge):
    model = bridge("llama")
    prompts = Prompts.from_texts(model, TEXTS, {"name": where(NAMES)}, padding_side=side)
    answered = with_answers(model, prompts, ANSWERS)
    assert read(model, answered, "output") == [str(answer) for answer in ANSWERS]
    assert read(model, answered, "name") == list(NAMES)
    assert torch.equal(answered.roles["answer"], prompts.roles["answer"])
    assert attended(answered) == [
        model.tokenizer(f"{text} {answer}")["input_ids"] for text, answer in zip(TEXTS, ANSWERS, strict=True)
    ]
    assert torch.equal(answer_ids(model, answered, ANSWERS), answer_ids(model, prompts, ANSWERS))
    other = with_answers(model, answered, ["3", "12345", "4"])  # in place of the first ones
    assert read(model, other, "output") == ["3", "12345", "4"]
    assert attended(other) == attended(with_answers(model, prompts, ["3", "12345", "4"]))


def test_worked_steps_may_be_answered(tokenizers, families):
    model = opened(tokenizers["plain"])
    prompts = make_prompts(families["ciphers"], model, mode="trace", n=5, answered=True)
    assert ["'" + text for text in read(model, prompts, "output")] == list(prompts.labels["output"])
    assert {text[-1] for text in read(model, prompts, "answer")} == {"'"}  # with which all answers begin


@pytest.mark.parametrize("span", [(40, 44), (8, 99), (-3, 2), (5, 5), (6, 4), (3, 4)])
def test_a_role_that_is_not_in_its_text_is_refused(span, bridge):
    with pytest.raises(PbbError, match="'word' covers characters"):
        Prompts.from_texts(bridge("nano"), ["run it = 3", "run it = 3"], {"word": [(0, 3), span]})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"texts": "run it"}, "texts must be a list"),
        ({"texts": ["run it", None]}, "a list of texts"),
        ({"roles": {"word": [None]}}, "Role 'word' has the span None"),
        ({"roles": {"word": [(0,)]}}, "Role 'word' has the span"),
        ({"padding_side": "middle"}, "left or right, not 'middle'"),
        ({"labels": {"x": [[1, 2]]}}, r"The label 'x' holds \[1, 2\]"),
        ({"labels": {"x": [{"a": 1}]}}, "The label 'x' holds"),
        ({"labels": {"x": [1, 2]}}, "1 texts and 2 rows"),
    ],
)
def test_what_is_no_prompt_is_refused_in_words(change, said, bridge):
    with pytest.raises(PbbError, match=said):
        Prompts.from_texts(bridge("nano"), **{"texts": ["run it"]} | change)


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


def test_the_example_of_the_docstring_runs():
    (example,) = doctest.DocTestFinder(recurse=False).find(Prompts.from_texts, "from_texts")
    assert len(example.examples) == 4
    assert doctest.DocTestRunner().run(example).failed == 0


def test_recitations_are_no_calls_to_be_opened():
    with pytest.raises(PbbError, match="Unknown mode of a call 'recite': choose from direct, trace"):
        make_prompts(make_corpus(with_io=2, without_io=1), load_model("nano"), mode="recite")
