"""A plain training loop of two optimizers that can be killed at any step and goes on from what it saved.

Trainer has no place for what is read here: it never ends, and changes what the next step reads.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import LlamaForCausalLM


@dataclass
class Saved:
    """The state of a stage of training in a file, as of its last save."""

    path: Path
    seconds: float = 120
    """Between saves."""
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What else changes in a step."""
    rng: random.Random | None = None
    """What draws; seeded anew in each step, so that a resumed training draws the same."""
    last: float = field(default_factory=time.monotonic)

    def begin(self, step: int) -> None:
        """Seed what is drawn in this step."""
        torch.manual_seed(step)
        if self.rng:
            self.rng.seed(f"{self.path.stem} {step}")

    def load(self, parameters: Sequence[torch.Tensor], optimizers: Sequence[torch.optim.Optimizer]) -> int:
        """Read everything in place; returns the next step."""
        if not self.path.exists():
            return 0
        found = load_file(self.path)
        for i, parameter in enumerate(parameters):
            parameter.data.copy_(found[f"parameter {i}"])
        for name, tensor in self.tensors.items():
            tensor.copy_(found[name])
        for k, optimizer in enumerate(optimizers):
            for i, parameter in enumerate(optimizer.param_groups[0]["params"]):
                start = f"optimizer {k} {i} "
                kept = {name.removeprefix(start): value for name, value in found.items() if name.startswith(start)}
                optimizer.state[parameter] = kept
        return int(found["step"])

    def save(
        self, step: int, parameters: Sequence[torch.Tensor], optimizers: Sequence[torch.optim.Optimizer], end: bool
    ) -> None:
        """Save that this is the next step, if it is the end or the last save is long ago."""
        if not end and time.monotonic() - self.last < self.seconds:
            return
        kept = {"step": torch.tensor(step)} | {f"parameter {i}": p.detach() for i, p in enumerate(parameters)}
        kept |= self.tensors
        for k, optimizer in enumerate(optimizers):
            for i, parameter in enumerate(optimizer.param_groups[0]["params"]):
                kept |= {f"optimizer {k} {i} {name}": value for name, value in optimizer.state[parameter].items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        save_file({name: tensor.clone().contiguous() for name, tensor in kept.items()}, partial)
        partial.replace(self.path)
        self.last = time.monotonic()


def train(
    model: LlamaForCausalLM,
    loss: Callable[[], torch.Tensor],
    rate: float,
    steps: int,
    more: Sequence[torch.nn.Parameter] = (),
    saved: Saved | None = None,
) -> None:
    """Muon for the blocks' matrices, AdamW for embeddings and norms, and for `more` parameters."""
    blocks = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [*(p for p in model.parameters() if not any(p is block for block in blocks)), *more]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(blocks, lr=rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    # warm up over 100 steps, hold, then fall to zero over the last 40 %
    falling = max(0.4 * steps, 1)
    first = saved.load([*blocks, *others], optimizers) if saved else 0
    progress = tqdm(range(first, steps), initial=first, total=steps, unit="step", mininterval=10)
    for step in progress:
        if saved:
            saved.begin(step)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate * min((step + 1) / 100, 1.0, (steps - step) / falling)
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_([*blocks, *others], 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{value.item():.3f}")
        if saved:
            saved.save(step + 1, [*blocks, *others], optimizers, end=step == steps - 1)
