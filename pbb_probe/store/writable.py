"""Writing a run directory: each step's output is kept as long as nothing it depends on has changed.

A step writes into a hidden directory that is renamed when it is done, so that a directory with a step's name is
complete. One process at a time writes into a run.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.store.disk import digest, remove, sync, write_sealed
from pbb_probe.store.outputs import content, record_outputs
from pbb_probe.store.records import MANIFEST, RECORD, owner_of
from pbb_probe.store.run import Run
from pbb_probe.store.writers import only_writer

_PACKAGES = ("pbb-probe", "torch", "transformers", "transformer-lens", "peft", "scikit-learn", "numpy", "xarray")


class WritableRun(Run):
    """A run directory to write into, which is created when something is written.

    Raises:
        PbbError: the path is not a directory, or cannot become one.
    """

    def write_manifest(self, **facts: Any) -> None:
        """Write `manifest.json`: versions, the given facts, and the key, inputs and seconds of each finished step.

        `written` lists all steps that the run has ever had. The fact `asked`, if given, holds for each step the digest
        of its current inputs without `after`: a step with other inputs is no longer read.
        """
        records = {name: record for name in self.done() if (record := self.record(name))}
        steps = {
            name: {field: record[field] for field in ("key", "inputs", "seconds")} for name, record in records.items()
        }
        versions = {package: version(package) for package in _PACKAGES}
        facts = {"python": sys.version.split()[0], "versions": versions, **facts, "steps": steps}
        facts["written"] = sorted({*steps, *self.manifest_read().get("written", [])})
        write_sealed(self.path / MANIFEST, facts)

    def refuse_owned(self) -> None:
        """Refuse a directory that is a step of another run.

        Raises:
            PbbError: names that run.
        """
        if owner := owner_of(self.path):
            raise PbbError(f"{self.path} is the folder of a step of the run {owner}: give another directory.")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Create the directory and be its only writer.

        Raises:
            PbbError: it cannot be created, it belongs to another run, or another process, which the message names, is
                writing into it.
        """
        self.refuse_owned()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unmade(error) from error
        with only_writer(self.path):
            yield

    def step(
        self,
        name: str,
        inputs: Mapping[str, Any],
        make: Callable[[Path], None],
        also: Sequence[Path] = (),
        resumes: bool = False,
    ) -> str:
        """Make the step's directory, unless it is there, undamaged, for the same inputs.

        Args:
            name: of the directory.
            inputs: all that the output depends on, as JSON values. `after` holds the contents of earlier steps by name:
                once one of them changes, what was made of it is no longer read.
            make: writes the output into the directory it is given.
            also: files elsewhere in the run that the step writes.
            resumes: after a kill, `make` is given the directory with what it had written; otherwise an empty one.

        Returns:
            The content: a hash of what the step wrote, the same for the same output.

        Raises:
            PbbError: another process is writing into the run, the step was written by version 0.7, or there are files
                beside its outputs that it did not write.
        """
        key = digest(inputs)
        done, unfinished, old = self.path / name, self.path / f".{name}.{key}", self.path / f".{name}.old"
        with self.writing():
            record = self.record(name)
            if record:
                self.refuse_foreign(name, record["outputs"])
            if record and record["key"] == key:
                if not (faults := self.faults(name, record)):
                    self._clean(name)
                    return content(record["outputs"])
                print(f"{name}: done again, as a file is not as it was written: {faults[0]}", file=sys.stderr)
            elif not record and os.path.lexists(done):
                self.refuse_unknown(name)
                print(f"{name}: done again, as it has no record that can be read", file=sys.stderr)
            print(f"{name}: started", file=sys.stderr)
            started = time.monotonic()
            if not (resumes and unfinished.is_dir()):
                remove(unfinished)
                unfinished.mkdir()
            make(unfinished)
            remove(unfinished / RECORD)  # left by a kill right before the renaming
            outputs = record_outputs(unfinished, also)
            if not record and done.is_dir():  # only what is made again is known to be the step's
                self.refuse_foreign(name, outputs)
            seconds = round(time.monotonic() - started, 1)
            record = {"step": name, "key": key, "inputs": dict(inputs), "outputs": outputs, "seconds": seconds}
            write_sealed(unfinished / RECORD, record)
            if os.path.lexists(done):
                _keep_hidden(done, unfinished)
                remove(old)  # renamed first: a kill while deleting leaves no half step under the name
                done.rename(old)
            unfinished.rename(done)
            sync(self.path)
            self._clean(name)
            print(f"{name}: done in {seconds} s", file=sys.stderr)
            return content(outputs)

    def _clean(self, name: str) -> None:
        """Remove the run's own leftovers of a step that is done."""
        for path in self.path.glob(f".{name}.*"):
            if re.fullmatch(r"[0-9a-f]{16}|old", path.name.removeprefix(f".{name}.")):
                remove(path)


def _keep_hidden(old: Path, new: Path) -> None:
    """Keep hidden files, which belong to no step but to a file manager or an editor."""
    for path in old.rglob(".*") if old.is_dir() else ():
        target = new / path.relative_to(old)
        if target.parent.is_dir() and not os.path.lexists(target) and path.exists():
            path.rename(target)
