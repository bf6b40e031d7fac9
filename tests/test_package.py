"""The package as installed: light to import, complete as a wheel, its base model small and whole."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import pbb_probe as pbb
from pbb_probe._moved import MOVED
from pbb_probe.models.bases import resolve_base
from pbb_probe.programs.names import PACKAGED, nonsense_words

ROOT = Path(pbb.__file__).parent.parent


def test_importing_loads_neither_torch_nor_transformers():
    heavy = (
        "import sys, pbb_probe; print([m for m in ('torch', 'transformers', 'pandas', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_public_name_resolves_and_one_list_names_them():
    stub = ast.parse(Path(pbb.__file__).with_suffix(".pyi").read_text())
    listed = [alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(listed) == pbb.__all__ == dir(pbb)
    for name in pbb.__all__:
        found = getattr(pbb, name)
        assert found.__doc__, name
    with pytest.raises(AttributeError, match="No pbb_probe attribute nothing"):
        _ = pbb.nothing


@pytest.mark.parametrize("namespace", ["metrics", "tables", "controls", "prompts", "figures"])
def test_every_name_of_a_namespace_resolves(namespace):
    module = getattr(pbb, namespace)
    assert module.__all__ == sorted(module.__all__)
    assert all(getattr(module, name).__doc__ for name in module.__all__)


@pytest.mark.parametrize("name", MOVED)
def test_a_name_that_has_moved_warns_and_gives_what_stands_there_now(name):
    with pytest.warns(
        FutureWarning, match=f"pbb_probe.{name} goes with the next release: (it is pbb_probe.{MOVED[name]} now|use)"
    ):
        found = getattr(pbb, name)
    module, _, attribute = MOVED[name].rpartition(".")
    assert found is getattr(import_module(f"pbb_probe.{module}"), attribute)
    assert name not in pbb.__all__


def test_type_checkers_know_every_public_name(tmp_path):
    """None is `Any`: mypy reveals a type of each that is in this package."""
    names = [name for name in pbb.__all__ if not isinstance(getattr(pbb, name), ModuleType)]
    (tmp_path / "asks.py").write_text(
        "import pbb_probe as pbb\n" + "".join(f"reveal_type(pbb.{name})\n" for name in names)
    )
    command = [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports", "silent", "asks.py"]
    path = os.environ | {"MYPYPATH": str(ROOT)}
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=path).stdout
    revealed = re.findall(r'Revealed type is "(.*)"', told)
    assert len(revealed) == len(names), told
    assert "Any" not in revealed


def test_nano_is_small_and_loads_offline_as_a_hugging_face_model():
    directory = Path(resolve_base("nano"))
    assert sum(path.stat().st_size for path in directory.iterdir()) < 10e6
    model, tokenizer = AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    assert type(model).__name__ == "LlamaForCausalLM"
    words = [*nonsense_words(), *"0123456789", "+", "-", "*", "%"]
    assert len(nonsense_words()) == PACKAGED >= 2000
    assert len(set(words)) == len(words)
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    assert all(len(one) == 1 for one in ids)
    assert tokenizer.unk_token_id not in [one[0] for one in ids]


def test_the_wheel_carries_the_model_and_what_pages_are_made_of(tmp_path):
    tree = tmp_path / "tree"  # a copy, so that nothing left over from an earlier build can be in the wheel
    shutil.copytree(ROOT / "pbb_probe", tree / "pbb_probe", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(tree)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "pbb_probe/assets/nano/model.safetensors",
        "pbb_probe/assets/nano/tokenizer.json",
        "pbb_probe/assets/nano/README.md",
        "pbb_probe/views/report.html.jinja",
        "pbb_probe/views/report.css",
        "pbb_probe/views/report.js",
        "pbb_probe/views/explorer/assets/explorer.css",
        "pbb_probe/views/explorer/assets/explorer.js",
        "pbb_probe/__init__.pyi",
        "pbb_probe/py.typed",
    } <= names
