"""Pairs from a file stand where their characters do, and a line that is no pair is named."""

import json

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.patching.files import pair_from_texts, read_pairs

LINE = {
    "clean": "run flimp on 3 and 3",
    "corrupted": "run brask on 5 and 3",
    "answers": [7, "two"],
    "roles": {"name": ["flimp", "brask"], "input": ["on 3", "on 5"], "again": [19, 20], "and": "and"},
    "program": ["a", "b"],
    "steps": 2,
    "path": "xyz",
}


def written(tmp_path, *lines) -> str:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n\n")
    return str(path)


def read_back(model, prompts, role, row) -> str:
    start, end = prompts.spans[role][row].tolist()
    return model.tokenizer.decode(prompts.tokens[row, start : end + 1])


def test_roles_answers_and_labels_are_those_of_the_file(bridge, tmp_path):
    model = bridge("llama")
    pairs = read_pairs(written(tmp_path, LINE, LINE), model)
    assert pairs.clean.texts == (LINE["clean"],) * 2
    assert pairs.corrupted.texts == (LINE["corrupted"],) * 2
    for prompts, name, value in ((pairs.clean, "flimp", "on 3"), (pairs.corrupted, "brask", "on 5")):
        assert name in read_back(model, prompts, "name", 1)
        assert value in read_back(model, prompts, "input", 1)
        assert read_back(model, prompts, "again", 0).strip() == "3"
        assert read_back(model, prompts, "and", 0).strip() == "and"
        assert prompts.roles["answer"].tolist() == (prompts.attention_mask.sum(1) - 1).tolist()
        assert list(prompts.labels["steps"]) == [2, 2]
        assert prompts.labels["path"][0] == "xyz"
    assert [pairs.clean.labels["output"][0], pairs.corrupted.labels["output"][0]] == [7, "two"]
    assert [pairs.clean.labels["program"][0], pairs.corrupted.labels["program"][0]] == ["a", "b"]


def test_a_gap_and_special_tokens_are_handed_on(bridge, tmp_path):
    pairs = read_pairs(written(tmp_path, LINE), bridge("llama"), gap="", special_tokens=False)
    assert (pairs.clean.gap, pairs.corrupted.special_tokens) == ("", False)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", "Line 2 of .* is no pair of prompts"),
        ("[1, 2]", "Line 2 of .* is no pair"),
        ({key: value for key, value in LINE.items() if key != "corrupted"}, "it has no 'corrupted'"),
        (LINE | {"clean": 5}, "`clean` is no text"),
        (LINE | {"answers": [None, 4]}, "an answer is neither a text nor a number"),
        (LINE | {"answers": 7}, "is not a list of the clean and the corrupted answer"),
        (LINE | {"roles": {"name": ["flimp", "flimp"]}}, r"'flimp' stands 0 times .*give \[start, end\]"),
        (LINE | {"roles": {"name": ["flimp", "brask"], "input": "3"}}, "'3' stands 2 times"),
        (LINE | {"roles": {"name": 4}}, "neither a text nor"),
        (LINE | {"roles": {"name": ["flimp", "brask"]}}, "not those of the first line"),
    ],
)
def test_a_line_that_is_no_pair_is_named(line, said, bridge, tmp_path):
    with pytest.raises(PbbError, match=said):
        read_pairs(written(tmp_path, LINE, line), bridge("llama"))


def test_characters_outside_a_text_an_empty_file_and_none_are_refused(bridge, tmp_path):
    with pytest.raises(PbbError, match="covers characters 90 to 95"):
        read_pairs(written(tmp_path, LINE | {"roles": {"name": [90, 95]}}), bridge("llama"))
    with pytest.raises(PbbError, match="There are no pairs"):
        read_pairs(written(tmp_path, ""), bridge("llama"))
    with pytest.raises(PbbError, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl", bridge("llama"))


def test_a_pair_of_texts_is_that_of_a_file(bridge, tmp_path):
    model = bridge("nano")
    row = {"clean": "flimp(3) =", "corrupted": "flimp(5) =", "answers": ["7", "2"], "roles": {"input": ["3", "5"]}}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    read = read_pairs(tmp_path / "pairs.jsonl", model)
    made = pair_from_texts(model, row["clean"], row["corrupted"], ("7", "2"), row["roles"])
    for side in ("clean", "corrupted"):
        mine, other = getattr(made, side), getattr(read, side)
        assert mine.tokens.tolist() == other.tokens.tolist()
        assert {r: p.tolist() for r, p in mine.roles.items()} == {r: p.tolist() for r, p in other.roles.items()}
        assert mine.labels.equals(other.labels)


def test_without_answers_the_models_own_are_taken(bridge):
    model = bridge("nano")
    texts = ["def zor(x): return x + 1 ; zor(3) =", "def zor(x): return x + 1 ; zor(5) ="]
    pair = pair_from_texts(model, *texts)
    for side, text in ((pair.clean, texts[0]), (pair.corrupted, texts[1])):
        logits = model(model.tokenizer(text, return_tensors="pt")["input_ids"])[0, -1]
        assert side.labels["output"].item() == model.tokenizer.decode([logits.argmax().item()]).strip()


@pytest.mark.parametrize(
    ("texts", "more", "said"),
    [
        (("flimp(3) =", "flimp =", ("1", "2")), {}, "have 6 and 3 tokens"),
        (("flimp(3) =", "", ("1", "2")), {}, "A text is empty"),
        (("flimp(3) =", "flimp(4) =", ("1", "1")), {}, "Both texts have the answer '1'"),
        (("flimp(3) =", "flimp(4) =", ("1", "2")), {"roles": {"input": "9"}}, "no pair of prompts"),
    ],
)
def test_texts_that_are_no_pair_are_refused(bridge, texts, more, said):
    with pytest.raises(PbbError, match=said):
        pair_from_texts(bridge("nano"), *texts, **more)


@pytest.mark.parametrize(
    "change",
    [
        {"answers": []},
        {"answers": [1]},
        {"answers": [1, 2, 3]},
        {"answers": {"a": 1, "b": 2}},
        {"answers": "ab"},
        {"answers": None},
        {"answers": [True, False]},
        {"answers": [[1], [2]]},
        {"source": 3},
        {"source": ["def f(x): return x", None]},
        {"source": ["a", "b", "c"]},
        {"call": {"x": 3}},
        {"call": True},
        {"clean": "\ud83d"},
        {"corrupted": " "},
        {"steps": [1, [2]]},
        {"layer": 3},
        {"roles": {"name": [True, False]}},
        {"roles": {"name": [[0, 3], [3, 0]]}},
        {"roles": {"name": [[0, 3], [0.0, 3]]}},
        {"roles": []},
    ],
    ids=str,
)
def test_a_pair_that_could_not_be_kept_is_named_in_one_sentence(change, bridge, tmp_path):
    with pytest.raises(PbbError, match=r"Line 1 of .* is no pair of prompts") as caught:
        read_pairs(written(tmp_path, LINE | change), bridge("llama"))
    assert "\n" not in str(caught.value)
