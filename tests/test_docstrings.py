"""Every public name is shown at work: an example of at most six lines, which runs and gives what it says."""

import doctest
import sys
from types import ModuleType

import pytest

import pbb_probe as pbb

MOST = 6
TOP = {name: getattr(pbb, name) for name in pbb.__all__}
PUBLIC = {f"pbb.{name}": found for name, found in TOP.items() if not isinstance(found, ModuleType)} | {
    f"pbb.{space}.{name}": getattr(module, name)
    for space, module in TOP.items()
    if isinstance(module, ModuleType)
    for name in module.__all__
}


def lines_of(example: doctest.Example) -> int:
    return example.source.count("\n")


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_example_runs(name, tmp_path, monkeypatch):
    found = PUBLIC[name]
    module = sys.modules[found.__module__]
    (test,) = doctest.DocTestFinder(recurse=False).find(found, name, module=module)
    assert test.examples, f"{name} has no example"
    assert sum(map(lines_of, test.examples)) <= MOST
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    assert not result.failed, "".join(said)
