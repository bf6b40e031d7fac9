"""Teacher-forced scoring: how likely answers are, and whether greedy decoding would give them, from one forward each.

The right tokens stand behind the prompt, and each is predicted from those before it. Nothing here asks whether the
model is a bare Hugging Face model or one opened with hooks; both are called on token ids and give logits.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.models.tokens import padded, side_by_side

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Batch:
    """Prompts that are run together, padded at the end, with their answers behind them."""

    tokens: "torch.Tensor"
    """Token ids [row, position]; of an answer at least all tokens but the last."""
    steps: "torch.Tensor"
    """The positions [row, k] from which the answer's tokens are predicted."""
    ids: "torch.Tensor"
    """Token ids [row, k] of the answers, padded with -1 at the end."""
    mask: "torch.Tensor | None" = None
    """1 at tokens, 0 at padding [row, position]; None where the model is called without one."""


def batches(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]] | None, pad: int, batch_size: int = 512
) -> Iterator[Batch]:
    """Lists of token ids as batches with a mask, each as wide as its longest row.

    Args:
        prompts: token ids of each prompt.
        answers: token ids of each answer; None where only the next token is asked for (`next_logits`).
        pad: the token id at padding.
        batch_size: prompts run together.
    """
    import torch

    for start in range(0, len(prompts), batch_size):
        asked = prompts[start : start + batch_size]
        forced = [()] * len(asked) if answers is None else answers[start : start + batch_size]
        tokens, mask = side_by_side([[*p, *a] for p, a in zip(asked, forced, strict=True)], pad, "right")
        ids = padded([[-1]] * len(asked) if answers is None else forced)
        last = torch.tensor([len(prompt) - 1 for prompt in asked])
        yield Batch(tokens, answer_steps(last, ids.shape[1], tokens.shape[1]), ids, mask)


def answer_steps(last: "torch.Tensor", k: int, width: int) -> "torch.Tensor":
    """The positions [row, k] from which the tokens of an answer are predicted, within rows of a width.

    The first is the `last` position [row] of the prompt. Only those of padding could be behind the end: they are cut.
    """
    import torch

    return (last[:, None] + torch.arange(k)).clamp(max=width - 1)


def step_logits(model: Any, batch: Batch) -> "torch.Tensor":
    """The logits [row, k, d_vocab] that predict the tokens of the answers, from one forward."""
    import torch

    device = model.device
    tokens = batch.tokens.to(device)
    with torch.inference_mode():
        given = {} if batch.mask is None else {"attention_mask": batch.mask.to(device)}
        output = model(tokens, **given)
    logits: torch.Tensor = getattr(output, "logits", output)
    return logits[torch.arange(len(tokens))[:, None], batch.steps]


def next_logits(model: Any, batched: Iterable[Batch]) -> "torch.Tensor":
    """The logits [prompt, d_vocab] of the token that follows each prompt, in float32 on the CPU."""
    import torch

    return torch.cat([step_logits(model, batch)[:, 0].float().cpu() for batch in batched])


def answer_log_probs(model: Any, batched: Iterable[Batch]) -> "torch.Tensor":
    """The log-probability [prompt] of each answer after its prompt, summed over its tokens, on the CPU.

    It is NaN where the logits are NaN or infinite.

    Args:
        model: a Hugging Face model, or an opened one.
        batched: what is run, in order: `batches` of lists of token ids.

    Example:
        >>> from pbb_probe.models.bases import load_base
        >>> from pbb_probe.models.tokens import completion_ids, prompt_ids
        >>> model, tokenizer = load_base("nano")
        >>> asked, answers = prompt_ids(tokenizer, ["dolvik(3) ="]), completion_ids(tokenizer, ["dolvik(3) ="], [" 7"])
        >>> answer_log_probs(model, batches(asked, answers, tokenizer.pad_token_id)).shape
        torch.Size([1])
    """
    import torch

    return torch.cat([token_log_probs(step_logits(model, batch), batch.ids).sum(1).cpu() for batch in batched])


def gives_answers(model: Any, batched: Iterable[Batch]) -> "torch.Tensor":
    """Is every token of an answer the likeliest one, given those before it? [prompt], on the CPU."""
    import torch

    return torch.cat(
        [((step_logits(model, batch).argmax(-1).cpu() == batch.ids) | (batch.ids < 0)).all(1) for batch in batched]
    )


def token_log_probs(logits: "torch.Tensor", ids: "torch.Tensor") -> "torch.Tensor":
    """The log-probability [row, k] of each id, predicted by logits [row, k, d_vocab]; 0 at ids of -1."""
    ids = ids.to(logits.device)
    chosen = logits.float().log_softmax(-1).gather(-1, ids.clamp(min=0)[..., None])[..., 0]
    return chosen.where(ids >= 0, 0.0)


def check_ids(ids: "torch.Tensor", n: int) -> None:
    """Refuse what is not the token ids of `n` answers [answer, k], padded with -1 at the end.

    Raises:
        PbbError: another shape or type, an answer without a token, or padding before a token.
    """
    import torch

    there = ids >= 0
    fits = ids.dtype == torch.long and ids.ndim == 2 and len(ids) == n and ids.shape[1] > 0
    if not fits or not bool(there[:, 0].all()) or bool((there[:, 1:] > there[:, :-1]).any()):
        raise PbbError(
            f"Answers must be token ids [{n}, k], padded with -1 at the end only: make them with answer_ids "
            f"(these are {tuple(ids.shape)} of {ids.dtype})."
        )
