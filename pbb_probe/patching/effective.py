"""Effective programs as labels of prompts and pairs."""

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.effective_corpus import effective_labels
from pbb_probe.hooking.prompts import Prompts
from pbb_probe.patching.pairs import Pairs
from pbb_probe.schema import shown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Calls = TypeVar("Calls", "pd.DataFrame", Prompts, Pairs)


def with_effective(calls: Calls, effective: "xr.Dataset") -> Calls:
    """Calls, prompts or pairs with the labels `difference`, `effective` and `effective_output`.

    Args:
        calls: rows of `Corpus.calls`, or `Prompts` or `Pairs` of them; of pairs both sides get the labels.
        effective: from `effective_programs`: the labels say its difference, the source of the effective program, and
            what this one answers to the call, as text. The last two are missing where the program is unclear.

    Raises:
        PbbError: something else than calls.

    Example:
        >>> import pbb_probe as pbb
        >>> model, tokenizer, corpus, _ = pbb.planted_model(n_programs=20)
        >>> effective = pbb.effective_programs((model, tokenizer), corpus)
        >>> calls = pbb.prompts.with_effective(corpus.calls(), effective)
        >>> (calls["effective_output"] == calls["output"].astype(str)).all().item()
        True
    """
    import pandas as pd

    if isinstance(calls, pd.DataFrame):
        labelled: Calls = effective_labels(calls, effective)
        return labelled
    if isinstance(calls, Pairs):
        return replace(
            calls,
            clean=with_effective(calls.clean, effective),
            corrupted=with_effective(calls.corrupted, effective),
        )
    if isinstance(calls, Prompts):
        return replace(calls, labels=effective_labels(calls.labels, effective))
    raise PbbError(f"Effective programs are labels of calls, prompts or pairs, not of {shown(calls)}.")
