"""The rooms are walked one way: what the package imports is read from its text, and held to the order of the rooms."""

import ast
import itertools
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pbb_probe as pbb

PACKAGE = Path(pbb.__file__).parent
BEFORE = ("errors", "rules", "schema", "labels", "store")
"""What every room may use."""
ROOMS = (
    *BEFORE,
    *("programs", "models", "finetuning", "hooking", "probing", "patching", "statistics", "runs", "evidence"),
    *("calibration", "views", "study", "commands"),
)
NAMESPACES = ("__init__", "_moved", "_former", "metrics", "tables", "controls", "prompts", "figures")
"""The public surface, which stands in front of the rooms: none of them imports it."""
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imported(module: str) -> set[str]:
    """The modules of the package that a module's text imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "pbb_probe":
                inside = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
                found.add(next((name for name in inside if name in MODULES), "__init__"))
    return found - {module}


IMPORTS = {module: imported(module) for module in MODULES}


def room(module: str) -> str:
    return module.split(".")[0]


def test_every_module_is_in_a_room():
    assert {room(module) for module in MODULES} == {*ROOMS, *NAMESPACES}


@pytest.mark.parametrize("module", sorted(module for module in MODULES if room(module) in ROOMS))
def test_no_import_runs_backwards(module):
    later = [
        name
        for name in IMPORTS[module]
        if room(name) in NAMESPACES or ROOMS.index(room(name)) > ROOMS.index(room(module))
    ]
    assert not later, f"{module} imports {later}, which stand behind it"


def test_no_imports_go_in_circles():
    """Imports within functions and for types count, too."""
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_reader_of_imports_sees_those_that_are_there():
    """A module of each kind of import, so that the tests above cannot pass by seeing nothing."""
    assert "programs.corpus" in IMPORTS["hooking.calls"]  # at the top
    assert "hooking.load" in IMPORTS["runs.opened"]  # within a function
    assert "hooking.prompts" in IMPORTS["probing.controls"]  # for types
    assert len(list(itertools.chain.from_iterable(IMPORTS.values()))) > 500
