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
