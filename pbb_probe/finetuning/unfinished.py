"""The directory of a stage while it is trained: how the work begins, goes on after a kill, and gets its final name.

Until a model is finished, it lies in a hidden directory beside the one it will be renamed to.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pbb_probe.errors import PbbError
from pbb_probe.models.trained import CHECKPOINTS, SETTINGS, foreign_files, read_training, record_trained
from pbb_probe.store.disk import digest, remove, sync, write_sealed
from pbb_probe.store.outputs import first_fault


class StageDirectory:
    """Where a stage's model is written, and with which settings it is trained.

    Args:
        out: directory of the finished model.
        settings: all that the model depends on, as JSON values.
        process: the number of this process, which has examples of its own.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], process: int = 0):
        self.out = out
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.unfinished = out.with_name(f".{out.name}.unfinished")
        self.checkpoints = self.unfinished / CHECKPOINTS
        self.examples = out.with_name(f".{out.name}.examples-{process}")
        self._replaced = out.with_name(f".{out.name}.old")

    @property
    def digest(self) -> str:
        """Of the settings."""
        return digest(self.settings)

    def is_finished(self) -> bool:
        """Does the directory hold a finished model of these settings, every file as it was written?

        If a file is damaged, a line says that the model is trained again.

        Raises:
            PbbError: what is there is no finished model of these settings, or there is a file that training did not
                write and that would be read with the model, or removed.
        """
        if not os.path.lexists(self.out):
            return False
        settings, outputs = read_training(self.out)
        if not outputs:
            raise PbbError(
                f"{self.out} holds no model that this version has trained: give another directory or move it elsewhere."
            )
        if settings != self.settings:
            raise PbbError(
                f"{self.out} holds a model trained with other settings: give another directory or remove it."
            )
        fault = first_fault(self.out, outputs)
        for path in foreign_files(self.out, outputs, hidden=fault is not None):
            raise PbbError(f"{path} is none of the files that training wrote there: move it elsewhere.")
        if fault:
            print(f"{self.out}: trained again, as {fault[0]} is not as it was written ({fault[1]})", file=sys.stderr)
        return fault is None

    def progress(self) -> Literal["training", "trained"] | None:
        """How far unfinished work of these settings has come; None where there is none to continue."""
        settings, outputs = read_training(self.unfinished)
        if settings != self.settings:
            return None
        return "trained" if outputs and not first_fault(self.unfinished, outputs) else "training"

    def begin(self) -> None:
        """Begin or continue training. Work with other settings is discarded, and a line says so."""
        if os.path.lexists(self.unfinished) and self.progress() is None:
            print(f"{self.unfinished}: begun anew, as the work in it has other settings or is damaged", file=sys.stderr)
            remove(self.unfinished)
        self.unfinished.mkdir(parents=True, exist_ok=True)
        write_sealed(self.unfinished / SETTINGS, self.settings)

    def discard(self) -> None:
        """Remove the unfinished work."""
        remove(self.unfinished)

    def empty(self) -> None:
        """Make room for the finished model: what is there is half a model, or did not come from training."""
        for path in self.unfinished.iterdir():
            if not path.name.startswith(".") and path.name != SETTINGS:
                remove(path)

    def record(self) -> None:
        """Record the files of the model that has just been written among the unfinished work."""
        record_trained(self.unfinished, self.settings)

    def finish(self) -> None:
        """Give the trained model its name. A damaged model of that name, or a link to one, makes room."""
        for path in self.unfinished.glob(".*"):  # what was for training only
            remove(path)
        if os.path.lexists(self.out):
            self.clean()  # renamed first: a kill while deleting leaves no half model under the name
            self.out.rename(self._replaced)
        self.unfinished.rename(self.out)
        sync(self.out.parent)
        self.clean()

    def clean(self) -> None:
        """Remove the damaged model that a finished one has replaced."""
        remove(self._replaced)
