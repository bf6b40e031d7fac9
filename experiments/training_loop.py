"""A plain training loop of two optimizers.

Trainer has no place for what is read here: it never ends, and changes what the next step reads.
"""

from collections.abc import Callable, Sequence

import torch
from tqdm import tqdm
from transformers import LlamaForCausalLM


def train(
    model: LlamaForCausalLM,
    loss: Callable[[], torch.Tensor],
    rate: float,
    steps: int,
    more: Sequence[torch.nn.Parameter] = (),
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
    progress = tqdm(range(steps), unit="step", mininterval=10)
    for step in progress:
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
