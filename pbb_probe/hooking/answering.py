"""How an opened model answers prompts: the logits of the next token, how likely given answers are, and the greedy ones.

Answers are scored as everywhere (`models.scoring`); here prompts that know where they are answered become its batches.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pbb_probe.errors import PbbError
from pbb_probe.hooking.answers import answer_ids
from pbb_probe.hooking.prompts import Prompts, put_behind
from pbb_probe.hooking.readable import as_read
from pbb_probe.models import scoring
from pbb_probe.schema import BatchSize, checks_arguments

if TYPE_CHECKING:
    import torch
    from transformer_lens import TransformerBridge


@checks_arguments
def answer_logits(model: "TransformerBridge", prompts: Prompts, batch_size: BatchSize = 256) -> "torch.Tensor":
    """The logits [prompt, d_vocab] of the token that follows each prompt's `answer` position, on the CPU.

    Args:
        model: an opened model.
        prompts: whatever stands behind the role `answer` is not read.
        batch_size: prompts run together.

    Raises:
        PbbError: no prompts, or some that the model cannot read (together).

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> prompts = pbb.Prompts.from_texts(model, ["fuxguk(3) =", "fuxguk(5) ="], answers=range(10))
        >>> pbb.prompts.answer_logits(model, prompts).shape
        torch.Size([2, 2176])
    """
    return scoring.next_logits(model, _batches(model, prompts, None, batch_size))


@checks_arguments
def answer_log_probs(
    model: "TransformerBridge", prompts: Prompts, ids: "torch.Tensor", batch_size: BatchSize = 256
) -> "torch.Tensor":
    """The log-probability [prompt] of each answer after its prompt, summed over its tokens, on the CPU.

    Args:
        model: an opened model.
        prompts: the answer follows the role `answer`; whatever stands behind it is not read.
        ids: token ids [prompt, k] of the answers, padded with -1 at the end: from `answer_ids`.
        batch_size: prompts run together.

    Raises:
        PbbError: ids of another shape, without a token or with padding before one.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=4, without_io=0), pbb.load_model("nano")
        >>> prompts = pbb.prompts.code_prompts(corpus, model, n=6)
        >>> ids = pbb.prompts.answer_ids(model, prompts, prompts.labels["output"])
        >>> (pbb.prompts.answer_log_probs(model, prompts, ids).exp() > 0.9).tolist()
        [True, True, True, True, True, True]
    """
    return scoring.answer_log_probs(model, _batches(model, prompts, ids, batch_size))


@checks_arguments
def gives_answers(
    model: "TransformerBridge", prompts: Prompts, ids: "torch.Tensor", batch_size: BatchSize = 256
) -> "torch.Tensor":
    """Does the model, decoding greedily, give each prompt's answer? [prompt], on the CPU.

    It does when every token of the answer is the likeliest one given the prompt and the answer's tokens before it. What
    it would write behind the answer is not looked at. The arguments are those of `answer_log_probs`.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=4, without_io=0), pbb.load_model("nano")
        >>> prompts = pbb.prompts.code_prompts(corpus, model, n=6)
        >>> ids = pbb.prompts.answer_ids(model, prompts, prompts.labels["output"])
        >>> pbb.prompts.gives_answers(model, prompts, ids).tolist()
        [True, True, True, True, True, True]
    """
    return scoring.gives_answers(model, _batches(model, prompts, ids, batch_size))


@checks_arguments
def with_answered(model: "TransformerBridge", prompts: Prompts, batch_size: BatchSize = 256) -> Prompts:
    """The prompts with the label `answered`: does the model, decoding greedily, give the output of each?

    Args:
        model: an opened model.
        prompts: with the label `output`, the right answer of each.
        batch_size: prompts run together.

    Raises:
        PbbError: no label `output`, or outputs that `answer_ids` refuses.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=6, without_io=2), pbb.load_model("nano")
        >>> prompts = with_answered(model, pbb.make_prompts(corpus, model, n=3))
        >>> "answered" in pbb.capture(model, prompts).coords
        True
    """
    if "output" not in prompts.labels:
        raise PbbError("These prompts have no label `output` to say which answer is right: give them one.")
    ids = answer_ids(model, prompts, list(prompts.labels["output"]))
    answered = gives_answers(model, prompts, ids, batch_size).numpy()
    return replace(prompts, labels=prompts.labels.assign(answered=answered))


def _batches(
    model: "TransformerBridge", prompts: Prompts, ids: "torch.Tensor | None", batch_size: int
) -> Iterator[scoring.Batch]:
    """The prompts as they are run, with their answers behind them; the first token after each where ids are None."""
    import torch

    if ids is None:
        forced, ids = as_read(model, prompts), torch.full((len(prompts), 1), -1)
    else:
        scoring.check_ids(ids, len(prompts))
        tokens, mask = put_behind(prompts.tokens, prompts.attention_mask, prompts.roles["answer"], ids[:, :-1])
        forced = as_read(model, replace(prompts, tokens=tokens, attention_mask=mask))
    steps = scoring.answer_steps(forced.roles["answer"], ids.shape[1], forced.tokens.shape[1])
    for start in range(0, len(prompts), batch_size):
        rows = slice(start, start + batch_size)
        yield scoring.Batch(forced.tokens[rows], steps[rows], ids[rows])
