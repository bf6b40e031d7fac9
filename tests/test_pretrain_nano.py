"""The pretraining script: its tokenizer is the packaged one, its windows tell the truth and hold nothing held out."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
import pretrain_nano

from pbb_probe.models.bases import load_tokenizer
from pbb_probe.programs.arithmetic import VALUES, step_sequences


@pytest.fixture(scope="module")
def script():
    return pretrain_nano


def test_the_tokenizer_it_makes_is_the_packaged_one(script):
    assert script.make_tokenizer().get_vocab() == load_tokenizer("nano").get_vocab()


def test_windows_bind_names_to_code_and_answer_by_it(script):
    """Every direct call of a window, answered here by executing the code that the same window shows."""
    windows = script.Windows(seed=1)
    checked = 0
    for _ in range(40):
        text = next(windows)
        assert "<unk>" not in script.make_tokenizer().decode(script.make_tokenizer()(text)["input_ids"])
        scope: dict = {}
        for code in re.findall(r"^(?:def \w+\(\w\):\n(?:    .*\n?)+|\w+ = lambda .*)", text, flags=re.MULTILINE):
            exec(code, scope)
        for name, value, answer in re.findall(r"(\w+)\((\d)\)(?: =|\)? :| is| \?) (\d)$", text, flags=re.MULTILINE):
            assert scope[name](int(value)) == int(answer)
            checked += 1
    assert checked > 100


def test_held_out_programs_are_in_no_window(script):
    windows = script.Windows(seed=2)
    for _ in range(2000):
        steps = windows.draw_steps("dolvik")
        assert not script.held_out_composition(steps)
        assert not script.held_out_pair("dolvik", steps)
    held_out = [steps for steps in step_sequences(2) if script.held_out_composition(steps)]
    assert 0.05 < len(held_out) / len(step_sequences(2)) < 0.15
    prompts, answers = script.held_out_calls("direct", 2, context="code", n=20, seed=0)
    assert len(prompts) == 20
    assert all(int(answer) in VALUES for answer in answers)
