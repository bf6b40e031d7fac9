"""How a stage is trained: the fields of a configuration file, each with what it means."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from pbb_probe.errors import PbbError
from pbb_probe.models.tokens import LossOn
from pbb_probe.schema import BatchSize, Name, Place, Rule, Share, check_fields, number, whole


@dataclass(frozen=True)
class LoraSettings:
    """A low-rank adapter (PEFT's LoRA) trained instead of the weights, and merged into them after each stage.

    Example:
        >>> import pbb_probe as pbb
        >>> pbb.TrainConfig(learning_rate=1e-4, lora=pbb.LoraSettings(rank=8, target_modules=["q_proj"])).lora.alpha
        32
    """

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
    """How a stage is trained. The defaults are the packaged nano model's.

    Example:
        >>> import pbb_probe as pbb
        >>> pbb.TrainConfig(learning_rate=1e-5, batch_size=32, gradient_accumulation=4, bf16=True).loss_on
        'completion'
    """

    learning_rate: Annotated[float, number(10, above=0)] = 1e-4
    """Peak learning rate of AdamW."""
    name_rate: Annotated[float, number(1000, least=0)] = 30.0
    """Multiplies the steps of the embeddings of programs' names, of those that are single tokens."""
    batch_size: BatchSize = 64
    """Documents a step, over all processes."""
    gradient_accumulation: BatchSize = 1
    """Parts in which the documents of a step are processed, to save memory; batch_size must be a multiple of it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, to save memory."""
    loss_on: LossOn = "completion"
    """Tokens in the loss: the completion only (better for nano, which knows the language already) or all of them."""
    warmup: Share = 0.03
    """Share of the steps in which the learning rate rises."""
    decay: Share = 0.4
    """Share of the steps in which it falls to zero at the end; with warmup at most 1."""
    weight_decay: Annotated[float, number(10, least=0)] = 0.1
    """Weight decay of AdamW."""
    bf16: bool = False
    """Train with bfloat16 mixed precision."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights during training; bfloat16 halves their memory and suits LoRA."""
    lora: LoraSettings | None = None
    """Train an adapter; all weights when None."""
    chat: bool = False
    """Put prompts and answers into the turns of the tokenizer's chat template, for instruct models."""
    exposures: Annotated[float, number(1000, above=0)] = 1.0
    """Multiplies how often each program is rendered: the curricula's counts suit nano; larger models need fewer."""
    replay: Place | None = None
    """General texts mixed in against forgetting: a .jsonl with a `text` on each line, or a .txt of paragraphs."""
    replay_share: Annotated[float, number(100, least=0)] = 0.1
    """Replayed texts for each document of programs."""
    generations: Annotated[int, whole(2, 1024)] = 8
    """Answers sampled for each prompt in a stage of reinforcement learning, where batch_size counts answers."""
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
