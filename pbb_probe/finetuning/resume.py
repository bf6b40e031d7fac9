"""Checkpoints that are known to be whole: each is recorded with hashes once all processes have written it."""

import sys
from collections.abc import Callable
from pathlib import Path

from transformers import TrainerCallback

from pbb_probe.disk import read_sealed, write_sealed
from pbb_probe.outputs import Checker, record_outputs

KEPT = 2
"""Checkpoints that are kept: where the last is damaged, training goes on from the one before it."""
_RECORD = "checkpoint.json"


class RecordCheckpoints(TrainerCallback):
    """Records each checkpoint when it is saved.

    Args:
        together: waits for the other processes and says whether this one is the first.
    """

    def __init__(self, together: Callable[[], bool]):
        self.together = together

    def on_save(self, args, state, control, **_) -> None:
        """Called after a checkpoint was written."""
        if self.together():
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / _RECORD).unlink(missing_ok=True)
            write_sealed(folder / _RECORD, {"outputs": record_outputs(folder)})


def last_whole_checkpoint(checkpoints: Path) -> str | None:
    """The newest checkpoint that is as it was written, or None. Of each that is not, a line says so."""
    found = [path for path in checkpoints.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for checkpoint in sorted(found, key=lambda path: -int(path.name.removeprefix("checkpoint-"))):
        record = read_sealed(checkpoint / _RECORD)
        if record is None:
            fault = "is not whole"
        else:
            checker = Checker()
            faults = ((name, checker.fault(checkpoint, name, at)) for name, at in record["outputs"].items())
            fault = next((f"has a damaged {name} ({damage})" for name, damage in faults if damage), "")
        if not fault:
            print(f"training goes on from {checkpoint.name}", file=sys.stderr)
            return str(checkpoint)
        print(f"{checkpoint} {fault}: passed over", file=sys.stderr)
    return None
