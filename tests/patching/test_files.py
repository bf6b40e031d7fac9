"""Pairs from a file stand where their characters do, and a line that is no pair is named."""

import json

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.patching.files import read_pairs

LINE = {
    "clean": "run flimp on 3 and 3",
    "corrupted": "run brask on 5 and 3",
    "answers": [7, "two"],
    "roles": {"name": ["flimp", "brask"], "input": ["on 3", "on 5"], "again": [19, 20], "and": "and"},
    "program": ["a", "b"],
    "steps": 2,
    "path": ["x", "y", "z"],
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
        assert prompts.labels["path"][0] == ["x", "y", "z"]
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
        (LINE | {"clean": 5}, "are not texts"),
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
