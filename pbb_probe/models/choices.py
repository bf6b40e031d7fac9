"""Choices: how likely each possible answer is, from one forward a prompt where each is one token, else one each."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.models.scoring import answer_log_probs, batches, step_logits
from pbb_probe.models.tokens import ENDING, common_start, completion_ids, end_ids, prompt_ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


def choice_scores(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    asked: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    batch_size: int = 512,
) -> "Sequence[torch.Tensor]":
    """The log-probability of each choice after its prompt, summed over its tokens, [choice] for each prompt.

    Where choices have several tokens, the end of text is scored too: otherwise `1` would always be likelier than `12`.

    Args:
        model: a Hugging Face model.
        tokenizer: its own.
        asked: token ids of each prompt.
        choices: token ids of each choice of each prompt.
        batch_size: prompts run together.

    Raises:
        PbbError: the model's logits are NaN or infinite.
    """
    import torch

    pad = tokenizer.pad_token_id or 0
    sizes = [len(possible) for possible in choices]
    if all(len(ids) == 1 for possible in choices for ids in possible):
        scores = torch.cat(list(_of_single_tokens(model, asked, choices, pad, batch_size)))
    else:
        end = end_ids(tokenizer)
        owners = [prompt for prompt, size in zip(asked, sizes, strict=True) for _ in range(size)]
        ended = [[*ids, *end] for possible in choices for ids in possible]
        scores = answer_log_probs(model, batches(owners, ended, pad, batch_size))
    if scores.isnan().any():  # which any row of logits with NaN or infinity in it gives
        raise no_numbers()
    return torch.split(scores, sizes)


def with_choices(
    tokenizer: Any, prompts: Sequence[str], begun: Sequence[str], choices: Sequence[Sequence[str]]
) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Prompts and choices as `choice_scores` takes them: what all choices begin with stands behind the prompt.

    Args:
        tokenizer: of the model.
        prompts: as asked.
        begun: what stands behind each prompt, of what the model writes.
        choices: texts that may follow it, with their leading space.
    """
    cut: dict[tuple[str, str, tuple[str, ...]], tuple[list[int], list[list[int]]]] = {}
    asked, ids = [], []
    for prompt, before, prompt_tokens, possible in zip(
        prompts, begun, prompt_ids(tokenizer, prompts), choices, strict=True
    ):
        # how answers are cut into tokens depends on the end of what stands before them
        key = (prompt[-ENDING:], before, tuple(possible))
        if key not in cut:
            rows = completion_ids(tokenizer, [prompt] * len(possible), [before + choice for choice in possible])
            start = common_start(rows, max(0, min(map(len, rows)) - 1))
            cut[key] = start, [row[len(start) :] for row in rows]
        start, rows = cut[key]
        asked.append([*prompt_tokens, *start])
        ids.append(rows)
    return asked, ids


def no_numbers() -> PbbError:
    """The error about a model whose logits are no numbers."""
    return PbbError(
        "The model gives logits that are NaN or infinite: its training diverged or its weights are damaged; train it "
        "with a lower train.learning_rate, or give another."
    )


def _of_single_tokens(
    model: Any, asked: Sequence[Sequence[int]], choices: Sequence[Sequence[Sequence[int]]], pad: int, batch_size: int
) -> "Iterator[torch.Tensor]":
    """The log-probabilities [choice] of each prompt, a batch after the other: all logits at once may be too many."""
    for k, batch in enumerate(batches(asked, None, pad, batch_size)):
        log_probs = step_logits(model, batch)[:, 0].float().log_softmax(-1).cpu()
        for row, possible in zip(log_probs, choices[k * batch_size :], strict=False):
            yield row[[token for (token,) in possible]]
