"""Do two models compute the same? Their logits on a few prompts of unequal lengths are compared, alone and in a batch.

With causal attention, prompts that are padded on the right need no mask: no later token can change the logits of an
earlier one. The padding here is made of real tokens, so that a model that does read them gives itself away.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError

if TYPE_CHECKING:
    import torch

PARITY = 1e-4
"""Largest difference of logits, relative to their spread, that is still the same model in float32."""
ROUNDED = 0.05
"""The same for the root of the mean square in half precision."""
LENGTHS = (16, 11, 5)
"""Tokens of the prompts that models are compared on."""


def some_prompts(hf_model: Any) -> "list[torch.Tensor]":
    """Token ids [position] of a few prompts of unequal lengths, the same ones each time."""
    import torch

    config = hf_model.config.get_text_config()
    most = getattr(config, "max_position_embeddings", None) or LENGTHS[0]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (len(LENGTHS), LENGTHS[0]), generator=generator).to(hf_model.device)
    return [row[: min(n, most)] for row, n in zip(ids, LENGTHS, strict=True)]


def side_by_side(prompts: "Sequence[torch.Tensor]") -> "torch.Tensor":
    """Prompts [position] as rows [prompt, position]: shorter ones are padded with tokens of the longest one."""
    import torch

    longest = max(prompts, key=len)
    return torch.stack([torch.cat([row, longest[len(row) :]]) for row in prompts])


def logits_alone(forward: "Callable[[torch.Tensor], torch.Tensor]", prompts: "Sequence[torch.Tensor]") -> Any:
    """The logits [token, d_vocab] of all prompts' tokens, each prompt run by itself.

    `forward` takes token ids [prompt, position] to logits [prompt, position, d_vocab].
    """
    import torch

    with torch.inference_mode():
        return torch.cat([forward(row[None])[0] for row in prompts])


def logits_together(forward: "Callable[[torch.Tensor], torch.Tensor]", prompts: "Sequence[torch.Tensor]") -> Any:
    """The same, with all prompts in one batch."""
    import torch

    with torch.inference_mode():
        logits = forward(side_by_side(prompts))
        return torch.cat([row[: len(ids)] for row, ids in zip(logits, prompts, strict=True)])


def forward_of(hf_model: Any) -> "Callable[[torch.Tensor], torch.Tensor]":
    """A Hugging Face model as a function of token ids."""
    return lambda tokens: hf_model(input_ids=tokens, return_dict=True).logits


def spread_of(logits: Any) -> float:
    """The unit in which differences of logits are measured: their standard deviation.

    Where the logits are nearly equal, their standard deviation is below the rounding error of the largest one; a
    twentieth of the largest is used instead.
    """
    return max(float(logits.float().std()), float(logits.abs().max()) / 20)


def spread_between(logits: Any, reference: Any, dtype: Any = None, spread: float | None = None) -> float:
    """How far logits are from a reference, relative to the spread of the reference (or the `spread` given).

    In float32 the largest difference counts; in half precision, where every logit is rounded, the root mean square
    does. `dtype` is the model's; that of the reference when None.
    """
    difference = (logits.float() - reference.float()).abs()
    far = difference.max() if is_whole(dtype or reference.dtype) else difference.square().mean().sqrt()
    return float(far) / (spread_of(reference) if spread is None else spread)


def tolerance(dtype: Any) -> float:
    """How far the logits of a model of this dtype may be from its own."""
    return PARITY if is_whole(dtype) else ROUNDED


def is_whole(dtype: Any) -> bool:
    """Is it float32 or better?"""
    import torch

    return dtype in (torch.float32, torch.float64)


def refuse_noncausal(hf_model: Any, prompts: "Sequence[torch.Tensor]", reference: Any) -> None:
    """Refuse a model in which a later token alters the logits of an earlier one.

    Raises:
        PbbError: it does.
    """
    difference = spread_between(logits_together(forward_of(hf_model), prompts), reference)
    if difference > tolerance(reference.dtype):  # NaN is reported elsewhere
        raise PbbError(
            f"{type(hf_model).__name__} is not causal: a later token changes the logits of earlier ones by "
            f"{difference:.2g} of their spread. Probes and patching need a model that reads from left to right "
            "(is_decoder=True?)."
        )


def assert_parity(logits: Any, reference: Any, at_most: float | None = None) -> None:
    """Refuse a hooked model that is not the model it was made from.

    Raises:
        PbbError: with the difference found, relative to the spread of the reference.
    """
    at_most = tolerance(reference.dtype) if at_most is None else at_most
    difference = spread_between(logits, reference)
    if not difference <= at_most:  # also when it is NaN
        raise PbbError(
            f"The hooked model's logits differ from the model's own by {difference:.2g} of their spread (at most "
            f"{at_most} is the same model): its weights hold NaN, or TransformerLens computes it unfaithfully."
        )
