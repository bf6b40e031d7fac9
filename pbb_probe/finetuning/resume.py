"""Resuming: checkpoints that are known to be complete and of this training, and the callbacks that record them.

A checkpoint is recorded once all processes have written it: its hashes, its step, and a digest of the settings.
"""

import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

from pbb_probe.finetuning.diverged import refuse_loss, refuse_weights
from pbb_probe.finetuning.trainer import first_of_all
from pbb_probe.store.disk import read_sealed, write_sealed
from pbb_probe.store.outputs import first_fault, record_outputs

_RECORD = "checkpoint.json"


class RecordCheckpoints(TrainerCallback):
    """Records each checkpoint when it is saved, on the first process, once all have written it.

    Args:
        settings: digest of the training's settings.
    """

    def __init__(self, settings: str):
        self.settings = settings

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Called after a checkpoint was written."""
        if first_of_all():
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            (folder / _RECORD).unlink(missing_ok=True)
            whose = {"settings": self.settings, "step": state.global_step}
            write_sealed(folder / _RECORD, whose | {"outputs": record_outputs(folder)})


class RefuseDivergence(TrainerCallback):
    """Stops training at the first logged loss that is NaN or infinite.

    Args:
        samples: is the model sampled from during training? Sampling fails obscurely where weights are not finite, so
            they are checked after each step.
    """

    def __init__(self, samples: bool):
        self.samples = samples

    def on_step_end(self, *_: Any, model: Any = None, **__: Any) -> None:
        """Called after each step."""
        if self.samples:
            refuse_weights(model)

    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        """Called ten times in a stage."""
        refuse_loss((logs or {}).get("loss", 0.0))


def last_whole_checkpoint(checkpoints: Path, settings: str) -> str | None:
    """The newest undamaged checkpoint of the training with this digest of settings; None where there is none.

    For each checkpoint that is passed over, a line says why.
    """
    saved = [path for path in checkpoints.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for checkpoint in sorted(saved, key=_step, reverse=True):
        if fault := _fault(checkpoint, settings):
            print(f"{checkpoint} {fault}: passed over", file=sys.stderr)
            continue
        print(f"training goes on from {checkpoint.name}", file=sys.stderr)
        return str(checkpoint)
    return None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _fault(checkpoint: Path, settings: str) -> str | None:
    """Why training cannot go on from a checkpoint, in a few words; None where it can."""
    record = read_sealed(checkpoint / _RECORD)
    if record is None:
        return "is not whole"
    if (record.get("settings"), record.get("step")) != (settings, _step(checkpoint)):
        return "is of other training or of another step"
    damaged = first_fault(checkpoint, record["outputs"])
    return f"has a damaged {damaged[0]} ({damaged[1]})" if damaged else None
