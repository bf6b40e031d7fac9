"""How a stage is trained: the fields of a configuration file, each with what it means."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from pbb_probe.errors import PbbError
from pbb_probe.models.tokens import LossOn
from pbb_probe.schema import BatchSize, Name, Place, Rule, Share, check_fields, number, whole


@dataclass(frozen=True)
class LoraSettings:
    """A low-rank adapter (PEFT's LoRA) trained instead of the weights, and merged into them after each stage."""

    rank: Annotated[int, whole(1, 2**16)] = 16
    """Rank of each update."""
    alpha: Annotated[int, whole(1, 2**20)] = 32
    """The update is multiplied by alpha / rank."""
    dropout: Annotated[float, number(0.99, least=0)] = 0.0
    """Dropout on the adapter's input, below 1."""
    target_modules: Name | Annotated[list[Name], Rule("a list of names", Field(min_length=1))] = "all-linear"
    """Names of the modules that get an adapter, or all linear ones but the head."""

    def __post_init__(self) -> None:
        check_fields(self, "train.lora.")


@dataclass(frozen=True)
class TrainConfig:
    """How a stage is trained. The defaults are the packaged nano model's."""

    learning_rate: Annotated[float, number(10, above=0)] = 1e-3
    """Peak learning rate of AdamW."""
    batch_size: BatchSize = 64
    """Documents a step, over all processes."""
    gradient_accumulation: BatchSize = 1
    """Parts in which the documents of a step are read one after the other, to save memory; batch_size is a multiple."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass, to save memory."""
    loss_on: LossOn = "completion"
    """Tokens that count: the completion only (better on nano, which knows the language already) or all of them."""
    warmup: Share = 0.03
    """Share of the steps in which the learning rate rises."""
    decay: Share = 0.4
    """Share of the steps in which it falls to zero at the end; with warmup at most 1."""
    weight_decay: Annotated[float, number(10, least=0)] = 0.1
    """Decay of the weights a step, times the learning rate."""
    bf16: bool = False
    """Multiply in bfloat16."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights while they are trained; bfloat16 halves their memory and suits LoRA."""
    lora: LoraSettings | None = None
    """Train an adapter; all weights when None."""
    chat: bool = False
    """Ask and answer in the turns of the tokenizer's chat template, for instruct models."""
    exposures: Annotated[float, number(1000, above=0)] = 1.0
    """Multiplies how often each program is rendered: the curricula's counts suit nano, larger models need a tenth."""
    replay: Place | None = None
    """General texts mixed in against forgetting: a .jsonl with a `text` a line, or a .txt of paragraphs."""
    replay_share: Annotated[float, number(100, least=0)] = 0.1
    """Replayed texts for each document of programs."""
    generations: Annotated[int, whole(2, 1024)] = 8
    """Answers drawn to each prompt in a stage of reinforcement learning; batch_size counts answers there."""
    checkpoint_every: Annotated[int, whole(1, 10**9)] = 500
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        check_fields(self, "train.")
        if self.batch_size % self.gradient_accumulation:
            raise PbbError(
                f"batch_size ({self.batch_size}) must be a multiple of gradient_accumulation "
                f"({self.gradient_accumulation}), the parts it is read in."
            )
        if self.warmup + self.decay > 1:
            raise PbbError(
                f"warmup ({self.warmup:g}) and decay ({self.decay:g}) are shares of the same steps: together at most 1."
            )
