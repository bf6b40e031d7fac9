"""The examples in the docstrings of what makes, teaches and asks run, and give what they say."""

import doctest

import pytest

import pbb_probe as pbb

NAMES = ("make_corpus", "Corpus", "line_targets", "finetune", "evaluate", "TrainConfig", "LoraSettings")


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_docstrings_run(name):
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(pbb, name), name)
    assert 1 < len(example.examples) <= 6
    assert doctest.DocTestRunner().run(example).failed == 0
