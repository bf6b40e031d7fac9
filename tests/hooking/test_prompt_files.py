"""Prompts from a file stand where their characters do, and a line that is no prompt is named."""

import json

import pandas as pd
import pytest

from pbb_probe.errors import PbbError
from pbb_probe.hooking.files import read_prompts

LINES = [
    {"text": "run flimp on 3 and 3", "roles": {"name": "flimp", "input": [13, 14]}, "program": "a", "output": 7},
    {
        "text": "run brask on 5",
        "roles": {"input": "5", "name": "brask"},
        "program": "b",
        "state_1": "x",
        "output": None,
    },
]


def written(tmp_path, *lines) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


def test_texts_roles_and_labels_are_those_of_the_file(bridge, tmp_path):
    model = bridge("llama")
    prompts = read_prompts(written(tmp_path, *LINES), model)
    assert prompts.texts == ("run flimp on 3 and 3", "run brask on 5")
    for row, (name, value) in enumerate((("flimp", "3"), ("brask", "5"))):
        for role, word in (("name", name), ("input", value)):
            start, end = prompts.spans[role][row].tolist()
            assert word in model.tokenizer.decode(prompts.tokens[row, start : end + 1])
    assert prompts.roles["input"][0] < prompts.roles["answer"][0] - 1  # the first 3, not the second
    assert list(prompts.labels) == ["program", "output", "state_1"]
    assert prompts.labels["output"][0] == 7
    assert pd.isna(prompts.labels["output"][1])
    assert pd.isna(prompts.labels["state_1"][0])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Line 3 of .* is no prompt"),
        ("[1]", "Line 3 of .* is no prompt"),
        ({"roles": {}}, "it has no 'text'"),
        ({"text": 5}, "`text` is no text"),
        (
            {"text": "run flimp on 3", "roles": {"name": "flimp"}},
            "its roles are not those of the first line, name, input",
        ),
        ({"text": "run 3 on 3", "roles": {"name": "3", "input": "3"}}, "'3' stands 2 times"),
        ({"text": "run 3", "roles": {"name": 3, "input": "3"}}, "role 'name' is neither"),
    ],
)
def test_a_line_that_is_no_prompt_is_named(bridge, tmp_path, line, said):
    with pytest.raises(PbbError, match=said):
        read_prompts(written(tmp_path, LINES[0], line), bridge("llama"))


def test_no_file_and_no_prompts(bridge, tmp_path):
    with pytest.raises(PbbError, match="cannot be read"):
        read_prompts(tmp_path / "none.jsonl", bridge("llama"))
    with pytest.raises(PbbError, match="There are no prompts in"):
        read_prompts(written(tmp_path, ""), bridge("llama"))


ODD_LINES = {
    "a label that is a list": '{"text": "run 3", "x": [1]}',
    "a label that is an object": '{"text": "run 3", "x": {"a": 1}}',
    "a label that is NaN": '{"text": "run 3", "x": NaN}',
    "a label that is infinite": '{"text": "run 3", "x": -Infinity}',
    "a label beyond all numbers": '{"text": "run 3", "x": 1e999}',
    "a label of many digits": '{"text": "run 3", "x": 1' + "0" * 5000 + "}",
    "a label of some digits": '{"text": "run 3", "x": 1' + "0" * 30 + "}",
    "half a character in a label": '{"text": "run 3", "x": "\\ud83d"}',
    "a NUL in a label": '{"text": "run 3", "x": "a\\u0000"}',
    "half a character in a label's name": '{"text": "run 3", "\\ud83d": 1}',
    "a label without a name": '{"text": "run 3", "": 1}',
    "a label called layer": '{"text": "run 3", "layer": 1}',
    "a label called role": '{"text": "run 3", "role": 1}',
    "a label called prompt": '{"text": "run 3", "prompt": 1}',
    "a label called target": '{"text": "run 3", "target": 1}',
    "a label twice": '{"text": "run 3", "x": 1, "x": 2}',
    "more labels than can be": json.dumps({"text": "run 3"} | {f"x{i}": i for i in range(2000)}),
    "half a character": '{"text": "run \\ud83d"}',
    "no text in it": '{"text": "  "}',
    "roles in a list": '{"text": "run 3", "roles": ["3"]}',
    "null roles": '{"text": "run 3", "roles": null}',
    "a role without a name": '{"text": "run 3", "roles": {"": "3"}}',
    "half a character in a role": '{"text": "run 3", "roles": {"\\ud83d": "3"}}',
    "a role of no characters": '{"text": "run 3", "roles": {"a": [1, 1]}}',
    "an empty role": '{"text": "run 3", "roles": {"a": ""}}',
    "a role from end to start": '{"text": "run 3", "roles": {"a": [3, 1]}}',
    "a role before the text": '{"text": "run 3", "roles": {"a": [-2, 1]}}',
    "a role behind the text": '{"text": "run 3", "roles": {"a": [4, 9]}}',
    "a role of truth values": '{"text": "run 3", "roles": {"a": [false, true]}}',
    "a role of fractions": '{"text": "run 3", "roles": {"a": [0.0, 1.0]}}',
    "a role of one end": '{"text": "run 3", "roles": {"a": [1]}}',
    "a role of nothing": '{"text": "run 3", "roles": {"a": null}}',
    "a text": '"run 3"',
    "null": "null",
    "a deep list": "[" * 100_000,
}


@pytest.mark.parametrize("name", ODD_LINES)
def test_a_line_that_could_not_be_kept_is_named_in_one_sentence(name, bridge, tmp_path):
    with pytest.raises(PbbError, match=r"Line 1 of .* is no prompt") as caught:
        read_prompts(written(tmp_path, ODD_LINES[name]), bridge("llama"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("content", [b"\xff\xfe", '{"text": "a"}'.encode("utf-16"), b"\x80"])
def test_a_file_that_is_no_text_is_refused(content, bridge, tmp_path):
    (tmp_path / "prompts.jsonl").write_bytes(content)
    with pytest.raises(PbbError, match="not text in UTF-8"):
        read_prompts(tmp_path / "prompts.jsonl", bridge("llama"))


@pytest.mark.parametrize("path", ["", "a\0b", ".", "x" * 300, "~nobody-of-this-name/x"])
def test_a_path_that_is_none_is_refused(path, bridge):
    with pytest.raises(PbbError):
        read_prompts(path, bridge("llama"))
