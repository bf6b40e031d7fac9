"""Tokens as text: those of a prompt, and the likeliest next ones."""

from typing import TYPE_CHECKING

from pbb_probe.hooking.answering import answer_logits
from pbb_probe.schema import Count, checks_arguments

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.prompts import Prompts


def token_texts(model: "TransformerBridge", prompts: "Prompts", row: int = 0) -> list[str]:
    """The text of each token of one prompt, without padding.

    Args:
        model: whose tokenizer is used.
        prompts: those of which one is shown.
        row: which one.

    Example:
        >>> import pbb_probe as pbb
        >>> model = pbb.load_model("nano")
        >>> pbb.prompts.token_texts(model, pbb.Prompts.from_texts(model, ["fuxguk(3) ="]))
        ['<bos>', 'fuxguk', '(', '3', ')', '=']
    """
    tokens = prompts.tokens[row][prompts.attention_mask[row].bool()]
    return [model.tokenizer.decode([token]) for token in tokens.tolist()]


@checks_arguments
def likely_answers(model: "TransformerBridge", prompts: "Prompts", top: Count = 12) -> "pd.DataFrame":
    """The likeliest next tokens behind the role `answer` of each prompt.

    Args:
        model: an opened model.
        prompts: what it reads.
        top: how many tokens a prompt.

    Returns:
        One row per prompt and token, the likeliest first: prompt; answer, the token's text without surrounding spaces
        (in quotes where it is only spaces); token; probability over the whole vocabulary.

    Example:
        >>> import pbb_probe as pbb
        >>> corpus, model = pbb.make_corpus(with_io=4, without_io=0), pbb.load_model("nano")
        >>> prompts = pbb.prompts.code_prompts(corpus, model, n=2)
        >>> table = pbb.prompts.likely_answers(model, prompts, top=1)
        >>> table["answer"].tolist(), prompts.labels["output"].tolist()
        (['6', '1'], [6, 1])
    """
    import pandas as pd

    found = answer_logits(model, prompts).softmax(-1).topk(min(top, model.cfg.d_vocab))
    rows = []
    for i, (shares, tokens) in enumerate(zip(found.values.tolist(), found.indices.tolist(), strict=True)):
        for share, token in zip(shares, tokens, strict=True):
            text = model.tokenizer.decode([token])
            rows.append({"prompt": i, "answer": text.strip() or repr(text), "token": token, "probability": share})
    return pd.DataFrame(rows)
