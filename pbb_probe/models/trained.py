"""The directory of a trained model: what lies beside its weights says how they were trained and what was written.

`training.json` is sealed. It holds the settings from the start, and the hash of each file once the model is finished.
"""

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pbb_probe.errors import PbbError
from pbb_probe.store.disk import files_in, read_sealed, remove, sync, write_sealed
from pbb_probe.store.outputs import Outputs, first_fault, record_outputs

SETTINGS = "training.json"
CHECKPOINTS = ".checkpoints"


def is_trained(out: Path, settings: Mapping[str, Any]) -> bool:
    """Does a directory hold a finished model of these settings, every file as it was written?

    Of a damaged one a line says that it is trained again.

    Raises:
        PbbError: what is there is no finished model of these settings, or there is a file that training has not written
            and that would be read with the model, or removed.
    """
    if not os.path.lexists(out):
        return False
    record = read_sealed(out / SETTINGS)
    if record is None or not (outputs := record.pop("outputs", None)):
        raise PbbError(
            f"{out} holds no model that this version has trained: give another directory or move it elsewhere."
        )
    if record != _plain(settings):
        raise PbbError(f"{out} holds a model trained with other settings: give another directory or remove it.")
    fault = first_fault(out, outputs)
    for path in _foreign(out, outputs, hidden=fault is not None):
        raise PbbError(f"{path} is none of the files that training wrote there: move it elsewhere.")
    if fault:
        print(f"{out}: trained again, as {fault[0]} is not as it was written ({fault[1]})", file=sys.stderr)
    return fault is None


def begun(unfinished: Path, settings: Mapping[str, Any]) -> Literal["training", "trained"] | None:
    """How far unfinished work of these settings is; None where there is none to go on with."""
    record = read_sealed(unfinished / SETTINGS) or {}
    outputs = record.pop("outputs", None)
    if record != _plain(settings):
        return None
    return "trained" if outputs and not first_fault(unfinished, outputs) else "training"


def begin(unfinished: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of training that begins or goes on; work of others is discarded, and a line says so."""
    if os.path.lexists(unfinished) and begun(unfinished, settings) is None:
        print(f"{unfinished}: begun anew, as the work in it has other settings or is damaged", file=sys.stderr)
        remove(unfinished)
    unfinished.mkdir(parents=True, exist_ok=True)
    write_sealed(unfinished / SETTINGS, settings)


def empty(unfinished: Path) -> None:
    """Make room for the finished model: what lies there is half a model, or nothing of training's."""
    for path in unfinished.iterdir():
        if not path.name.startswith(".") and path.name != SETTINGS:
            remove(path)


def record_trained(unfinished: Path, settings: Mapping[str, Any]) -> None:
    """Record the files of a model that has just been written."""
    outputs = record_outputs(unfinished)
    del outputs[SETTINGS]
    for written in outputs.values():
        del written["modified"]  # equal models have equal records
    write_sealed(unfinished / SETTINGS, {**settings, "outputs": outputs})


def finish(unfinished: Path, out: Path) -> None:
    """Give a trained model its name. What has the name, a damaged model or a link to one, makes room."""
    for path in unfinished.glob(".*"):  # what was for training only
        remove(path)
    if os.path.lexists(out):
        remove(_old(out))  # renamed first: a kill while deleting leaves no half model under the name
        out.rename(_old(out))
    unfinished.rename(out)
    sync(out.parent)
    clean(out)


def clean(out: Path) -> None:
    """Remove the damaged model that a finished one has replaced."""
    remove(_old(out))


def refuse_changed(directory: Path, endings: Collection[str]) -> None:
    """Refuse a finished model that is not as training wrote it; any other directory is left alone.

    Args:
        directory: of the model.
        endings: of the names of files that would be loaded.

    Raises:
        PbbError: a file was changed since, or one that would be loaded came to it.
    """
    outputs = (read_sealed(directory / SETTINGS) or {}).get("outputs")
    if not outputs:
        return
    if fault := first_fault(directory, outputs):
        raise PbbError(
            f"{directory / fault[0]} is not as training wrote it ({fault[1]}): train it again, or remove {SETTINGS} if "
            "the change is yours."
        )
    for path in _foreign(directory, outputs, hidden=False):
        if path.suffix in endings:
            raise PbbError(
                f"{path} is none of the files that training wrote there: move it elsewhere, or remove {SETTINGS} if "
                "the change is yours."
            )


def _foreign(directory: Path, outputs: Outputs, hidden: bool) -> Iterator[Path]:
    """The files in a finished model's directory that training has not written."""
    known = {directory / name for name in (*outputs, SETTINGS)}
    if not hidden:
        return (path for path in files_in(directory) if path not in known)
    every = (path for path in sorted(directory.rglob("*")) if path.is_symlink() or not path.is_dir())
    return (path for path in every if path not in known and path.relative_to(directory).parts[0] != CHECKPOINTS)


def _plain(settings: Mapping[str, Any]) -> Any:
    """Settings as JSON gives them back."""
    return json.loads(json.dumps(settings))


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")
