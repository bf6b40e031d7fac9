"""Every public name is shown at work: an example of at most six lines, which runs and gives what it says."""

import doctest
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pbb_probe as pbb

MOST = 6
EXPERIMENTS = Path(__file__).parents[1] / "experiments"
TOP = {name: getattr(pbb, name) for name in pbb.__all__}
PUBLIC = {f"pbb.{name}": found for name, found in TOP.items() if not isinstance(found, ModuleType)} | {
    f"pbb.{space}.{name}": getattr(module, name)
    for space, module in TOP.items()
    if isinstance(module, ModuleType)
    for name in module.__all__
}


@pytest.fixture
def files(planted_run, tmp_path, monkeypatch):
    """What the examples read, in the working directory: a finished run under two names, and the files of prompts."""
    (tmp_path / "runs").mkdir()
    for name in ("nano", "again"):
        (tmp_path / "runs" / name).symlink_to(planted_run)
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    monkeypatch.chdir(tmp_path)


def lines_of(example: doctest.Example) -> int:
    return example.source.count("\n")


@pytest.mark.filterwarnings("ignore:This model is patched by")  # the planted one
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_example_runs(name):
    found = PUBLIC[name]
    module = sys.modules[found.__module__]
    (test,) = doctest.DocTestFinder(recurse=False).find(found, name, module=module)
    assert test.examples, f"{name} has no example"
    assert sum(map(lines_of, test.examples)) <= MOST
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    assert not result.failed, "".join(said)
