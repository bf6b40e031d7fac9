"""Every name of the package that the scripts, README and the notebook use is there, and none is one that has moved."""

import ast
import re
import warnings
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import nbformat
import pytest

import pbb_probe as pbb

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "experiments" / "notebooks" / "explore_activations.ipynb"
CODE = {path.name: path.read_text() for path in sorted((ROOT / "experiments").glob("*.py"))}
CODE["README.md"] = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL))
CODE[NOTEBOOK.name] = "\n".join(
    cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"
)


def used(code: str) -> set[str]:
    """What follows `pbb.` wherever a name of the package is used."""
    names = (ast.unparse(node) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute))
    dotted = {name.removeprefix("pbb.") for name in names if re.fullmatch(r"pbb(\.\w+)+", name)}
    return {name for name in dotted if not any(longer.startswith(f"{name}.") for longer in dotted)}


def imported(code: str) -> set[tuple[str, str]]:
    """Modules and the names imported from them, anywhere in the code."""
    return {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pbb_probe"
        for alias in node.names
    }


@pytest.mark.parametrize("name", CODE)
def test_names_are_there_and_have_not_moved(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        for dotted in used(CODE[name]):
            attrgetter(dotted)(pbb)
        for module, wanted in imported(CODE[name]):
            if not hasattr(import_module(module), wanted):
                import_module(f"{module}.{wanted}")


def test_a_name_that_has_moved_is_noticed():
    assert used("import pbb_probe as pbb\npbb.recovery(x).mean()\npbb.Prompts.from_texts(y)") == {
        "recovery",
        "Prompts.from_texts",
    }
    with pytest.warns(FutureWarning, match=r"metrics\.recovery"):
        attrgetter("recovery")(pbb)
