"""How a stage is trained: the fields of a configuration file, each with what it means."""

from dataclasses import dataclass
from typing import Literal

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.tokens import LossOn


@dataclass(frozen=True)
class LoraSettings:
    """A low-rank adapter (PEFT's LoRA) trained instead of the weights, and merged into them after each stage."""

    rank: int = 16
    """Rank of each update."""
    alpha: int = 32
    """The update is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Dropout on the adapter's input."""
    target_modules: str | list[str] = "all-linear"
    """Names of the modules that get an adapter, or all linear ones but the head."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise PbbError("lora: rank and alpha must be positive and dropout between 0 and 1.")


@dataclass(frozen=True)
class TrainConfig:
    """How a stage is trained. The defaults are the packaged nano model's."""

    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    batch_size: int = 64
    """Documents a step, over all processes."""
    gradient_accumulation: int = 1
    """Parts in which the documents of a step are read one after the other, to save memory."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass, to save memory."""
    loss_on: LossOn = "completion"
    """Tokens that count: the completion only (better on nano, which knows the language already) or all of them."""
    warmup: float = 0.03
    """Share of the steps in which the learning rate rises."""
    decay: float = 0.4
    """Share of the steps in which it falls to zero at the end."""
    weight_decay: float = 0.1
    """Decay of the weights a step, times the learning rate."""
    bf16: bool = False
    """Multiply in bfloat16."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights while they are trained; bfloat16 halves their memory and suits LoRA."""
    lora: LoraSettings | None = None
    """Train an adapter; all weights when None."""
    chat: bool = False
    """Ask and answer in the turns of the tokenizer's chat template, for instruct models."""
    exposures: float = 1.0
    """Multiplies how often each program is rendered: the curricula's counts suit nano, larger models need a tenth."""
    replay: str | None = None
    """General texts mixed in against forgetting: a .jsonl with a `text` a line, or a .txt of paragraphs."""
    replay_share: float = 0.1
    """Replayed texts for each document of programs."""
    generations: int = 8
    """Answers drawn to each prompt in a stage of reinforcement learning; batch_size counts answers there."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or min(self.batch_size, self.gradient_accumulation, self.checkpoint_every) < 1:
            raise PbbError(
                "learning_rate, batch_size, gradient_accumulation and checkpoint_every must be positive numbers."
            )
        if self.batch_size % self.gradient_accumulation:
            raise PbbError(
                f"batch_size ({self.batch_size}) must be a multiple of gradient_accumulation "
                f"({self.gradient_accumulation}), the parts it is read in."
            )
        if self.generations < 2 or self.replay_share < 0 or self.exposures <= 0:
            raise PbbError("generations must be at least 2, replay_share at least 0 and exposures positive.")
