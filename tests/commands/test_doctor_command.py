"""`doctor` says what is there and what is not, and whatever is broken, it ends well."""

import importlib.metadata
import os
import platform
import subprocess
import sys

import pytest
from jsonargparse import ArgumentParser

from pbb_probe.commands import doctor as doctor_command
from pbb_probe.commands.doctor import DoctorConfig, doctor
from pbb_probe.errors import PbbError
from pbb_probe.programs import child


@pytest.fixture
def told(capsys):
    """`told()`: what doctor prints, by the first words of each line."""

    def tell() -> dict[str, str]:
        doctor(DoctorConfig())
        lines = capsys.readouterr().out.splitlines()
        cut = [line.strip().partition("  ") for line in lines if line.startswith("  ")]
        return {what: state.strip() for what, _, state in cut}

    return tell


def test_each_layer_is_told_as_the_child_found_it(told, monkeypatch):
    monkeypatch.setattr(doctor_command, "confinement", lambda: {"landlock": "", "seccomp": "no\nkernel", "new": ""})
    rows = told()
    assert rows["Landlock: no files, no network"] == "in force"
    assert rows["seccomp: few system calls"] == "missing: no kernel"
    assert rows["new"] == "in force"


@pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
def test_the_layers_of_this_machine_are_those_that_a_child_really_set(told):
    layers = child.confinement()
    rows = told()
    assert set(layers) == set(doctor_command.LAYERS)
    for layer, words in doctor_command.LAYERS.items():
        assert rows[words] == (f"missing: {layers[layer]}" if layers[layer] else "in force")


def test_machine_and_packages_are_told(told):
    rows = told()
    assert rows["Python"] == platform.python_version()
    assert int(rows["CPU cores"].split()[0]) <= int(rows["CPU cores"].split()[-1]) == os.cpu_count()
    assert rows["numpy"] == importlib.metadata.version("numpy")
    assert rows["torch"] == importlib.metadata.version("torch")
    assert "accelerator" in " ".join(rows)
    assert "nnsight" in rows
    assert "Chromium" in rows


def test_packages_that_are_missing_or_too_old_are_told(told, monkeypatch):
    versions = {"numpy": "1.26.0", "torch": None, "nnsight": None, "umap-learn": "0.6"}
    installed = doctor_command._version
    monkeypatch.setattr(doctor_command, "_version", lambda name: versions.get(name, installed(name)))
    rows = told()
    assert rows["numpy"] == "1.26.0, but >=2.0 is needed"
    assert rows["torch"].startswith("not installed, but >=")
    assert rows["nnsight"].startswith("not installed (")
    assert rows["umap-learn"].startswith("0.6 (")


@pytest.mark.parametrize("module", ["torch", "choreographer.browsers.chromium", "packaging.requirements"])
def test_what_cannot_be_imported_leaves_the_rest(module: str, told, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    rows = told()
    assert module in rows["cannot be told"]
    assert rows["Python"] == platform.python_version()


def test_what_fails_leaves_the_rest(told, monkeypatch):
    def fails(*_):
        raise PbbError("No child process could be confined: a reason")

    monkeypatch.setattr(doctor_command, "confinement", fails)
    monkeypatch.setattr(os, "sysconf", fails)
    rows = told()
    assert rows["cannot be told"] == "No child process could be confined: a reason"
    assert rows["memory"] == "unknown"
    assert "numpy" in rows


def test_a_package_that_is_not_installed_itself_leaves_the_rest(told, monkeypatch):
    def unknown(name: str):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", unknown)
    assert "pbb-probe" in told()["cannot be told"]


def test_it_is_a_command_without_options():
    parser = ArgumentParser()
    parser.add_class_arguments(DoctorConfig, as_group=False)
    assert vars(parser.parse_args([])) == {}
    script = "from pbb_probe.commands.doctor import *; doctor(DoctorConfig())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Confinement of programs\n")
