"""The package as installed: light to import, complete as a wheel, its base model small and whole."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import pbb_probe as pbb
from pbb_probe.models.bases import resolve_base
from pbb_probe.programs.names import PACKAGED, nonsense_words

ROOT = Path(pbb.__file__).parent.parent


def test_importing_loads_neither_torch_nor_transformers():
    heavy = (
        "import sys, pbb_probe; print([m for m in ('torch', 'transformers', 'pandas', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_public_name_resolves_and_they_are_sorted():
    assert pbb.__all__ == sorted(pbb.__all__)
    assert all(getattr(pbb, name) is not None for name in pbb.__all__)
    with pytest.raises(AttributeError, match="no attribute"):
        _ = pbb.nothing


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
    } <= names
