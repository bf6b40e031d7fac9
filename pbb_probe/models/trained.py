"""What the directory of a trained model records about itself: its training settings, and the hash of each file.

`training.json` is sealed. It holds the settings from the start, and the hashes once the model is finished.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.store.disk import files_in, read_sealed, write_sealed
from pbb_probe.store.outputs import Outputs, first_fault, record_outputs

SETTINGS = "training.json"
CHECKPOINTS = ".checkpoints"


def read_training(directory: Path) -> tuple[dict[str, Any] | None, Outputs]:
    """The settings a model was trained with, and its files by name.

    The settings are None where there is no record that can be read; the files are none before the model is finished.
    """
    record = read_sealed(directory / SETTINGS)
    outputs = record.pop("outputs", {}) if record else {}
    return record, outputs


def record_trained(directory: Path, settings: Mapping[str, Any]) -> None:
    """Record the files of a model that has just been written."""
    outputs = record_outputs(directory)
    del outputs[SETTINGS]
    for written in outputs.values():
        del written["modified"]  # equal models have equal records
    write_sealed(directory / SETTINGS, {**settings, "outputs": outputs})


def refuse_changed(directory: Path, endings: Collection[str]) -> None:
    """Refuse a finished model that is not as training wrote it; any other directory is left alone.

    Args:
        directory: of the model.
        endings: of the names of files that would be loaded.

    Raises:
        PbbError: a file has changed since, or a file that would be loaded has been added.
    """
    _, outputs = read_training(directory)
    if not outputs:
        return
    if fault := first_fault(directory, outputs):
        raise PbbError(
            f"{directory / fault[0]} is not as training wrote it ({fault[1]}): train it again, or remove {SETTINGS} if "
            "the change is yours."
        )
    for path in foreign_files(directory, outputs):
        if path.suffix in endings:
            raise PbbError(
                f"{path} is none of the files that training wrote there: move it elsewhere, or remove {SETTINGS} if "
                "the change is yours."
            )


def foreign_files(directory: Path, outputs: Outputs, hidden: bool = False) -> Iterator[Path]:
    """The files in a finished model's directory that training has not written; hidden ones too where asked for."""
    known = {directory / name for name in (*outputs, SETTINGS)}
    if not hidden:
        return (path for path in files_in(directory) if path not in known)
    every = (path for path in sorted(directory.rglob("*")) if path.is_symlink() or not path.is_dir())
    return (path for path in every if path not in known and path.relative_to(directory).parts[0] != CHECKPOINTS)
