"""Answers as token ids: from where the possible ones part on, and behind their prompts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.hooking.prompts import Prompts, grown, refuse_tokens, tokenizer_of
from pbb_probe.models.tokens import common_start, following_ids, padded, refuse_unknown

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge


def answer_ids(model: "TransformerBridge", prompts: Prompts, answers: Sequence[Any]) -> "torch.Tensor":
    """The token ids [prompt, k] of each answer from where the possible answers diverge, padded with -1 at the end.

    They are those with which it follows the text, as in training (`models.tokens.following_ids`), without the start
    that all possible answers share and that the prompt ends with.

    Args:
        model: whose tokenizer is used.
        prompts: those that are answered.
        answers: one a prompt, such as `prompts.labels["output"]`; what is no text is answered as `str` writes it.

    Raises:
        PbbError: another number of answers than prompts, an answer without tokens or with one the tokenizer or the
            model lacks, or one that does not begin as the possible answers do.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> prompts = pbb.Prompts.from_texts(model, ["fuxguk(3) =", "fuxguk(5) ="], answers=range(10))
        >>> ids = pbb.prompts.answer_ids(model, prompts, [7, 9])
        >>> ids.shape, model.tokenizer.batch_decode(ids)
        (torch.Size([2, 1]), ['7', '9'])
    """
    rows = _whole_answers(model, prompts, answers)
    if prompts.answer_start is None:
        return padded(rows)
    starts = [[i for i in start if i >= 0] for start in prompts.answer_start.tolist()]
    for answer, ids, start in zip(answers, rows, starts, strict=True):
        if ids[: len(start)] != start or len(ids) == len(start):
            raise PbbError(
                f"The answer {str(answer)!r} does not begin as all possible answers to these prompts do: name it among "
                "them when the prompts are made (answers=)."
            )
    return padded([ids[len(start) :] for ids, start in zip(rows, starts, strict=True)])


def covering(model: "TransformerBridge", prompts: Prompts, answers: Sequence[Sequence[Any]]) -> Prompts:
    """The prompts up to where further possible answers part from the others too: the same ones, or shorter.

    Args:
        model: whose tokenizer is used.
        prompts: whose possible answers are known already.
        answers: some for all prompts, a list of one answer a prompt each.
    """
    import torch

    if prompts.answer_start is None or not prompts.answer_start.numel():
        return prompts
    starts = [[i for i in start if i >= 0] for start in prompts.answer_start.tolist()]
    for given in answers:
        rows = _whole_answers(model, prompts, given)
        starts = [common_start([start, ids], len(ids) - 1) for start, ids in zip(starts, rows, strict=True)]
    cut = (prompts.answer_start >= 0).sum(1) - torch.tensor([len(start) for start in starts])
    if not bool(cut.any()):
        return prompts
    last = prompts.roles["answer"] - cut
    mask = prompts.attention_mask * (torch.arange(prompts.tokens.shape[1]) <= last[:, None])
    spans = prompts.spans | {"answer": torch.stack([last, last], dim=1)}
    return replace(prompts, attention_mask=mask, spans=spans, answer_start=padded(starts))


def with_answers(model: "TransformerBridge", prompts: Prompts, answers: Sequence[Any]) -> Prompts:
    """The prompts with an answer behind each: the role `output` is the answer's tokens, `answer` stays before them.

    Args:
        model: whose tokenizer is used.
        prompts: left as they are.
        answers: one a prompt, as of `answer_ids`.

    Raises:
        PbbError: answers that `answer_ids` refuses.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> prompts = pbb.Prompts.from_texts(model, ["fuxguk(3) ="], answers=range(10))
        >>> answered = pbb.prompts.with_answers(model, prompts, [7])
        >>> pbb.prompts.token_texts(model, answered)
        ['<bos>', 'fuxguk', '(', '3', ')', '=', '7']
        >>> {role: position.tolist() for role, position in answered.roles.items()}
        {'answer': [5], 'output': [6]}
    """
    import torch

    prompts, last = grown(prompts, answer_ids(model, prompts, answers))
    return replace(prompts, spans=prompts.spans | {"output": torch.stack([prompts.roles["answer"] + 1, last], dim=1)})


def _whole_answers(model: "TransformerBridge", prompts: Prompts, answers: Sequence[Any]) -> list[list[int]]:
    """The token ids with which each answer follows the text of its prompt."""
    tokenizer = tokenizer_of(model)
    if len(answers) != len(prompts):
        raise PbbError(f"There are {len(prompts)} prompts and {len(answers)} answers: give an answer a prompt.")
    answers = list(map(str, answers))
    behind = [prompts.gap + answer for answer in answers]
    rows = following_ids(tokenizer, prompts.texts, behind, prompts.special_tokens)
    for answer, ids in zip(answers, rows, strict=True):
        if not ids:
            raise PbbError(f"The answer {answer!r} has no tokens: every answer needs at least one.")
        refuse_unknown(tokenizer, ids, answer)
        refuse_tokens(model, ids, answer)
    return rows
