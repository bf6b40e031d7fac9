"""Prompts and pairs from calls, code, files and texts; their tokens, and how a model answers them."""

from pbb_probe.finetuning.effective_corpus import effective_corpus
from pbb_probe.hooking.answering import answer_log_probs, answer_logits, gives_answers, with_answered
from pbb_probe.hooking.answers import answer_ids, with_answers
from pbb_probe.hooking.calls import prompts_of_calls
from pbb_probe.hooking.code import code_prompts, code_tokens
from pbb_probe.hooking.files import read_prompts
from pbb_probe.hooking.items import with_items
from pbb_probe.hooking.positions import capture_tokens
from pbb_probe.hooking.texts import likely_answers, token_texts
from pbb_probe.labels import labels_of, with_labels
from pbb_probe.patching.effective import with_effective
from pbb_probe.patching.files import pair_from_texts, read_pairs
from pbb_probe.patching.pairs import aligned_pairs
from pbb_probe.programs.targets import line_targets

__all__ = [
    "aligned_pairs",
    "answer_ids",
    "answer_log_probs",
    "answer_logits",
    "capture_tokens",
    "code_prompts",
    "code_tokens",
    "effective_corpus",
    "gives_answers",
    "labels_of",
    "likely_answers",
    "line_targets",
    "pair_from_texts",
    "prompts_of_calls",
    "read_pairs",
    "read_prompts",
    "token_texts",
    "with_answered",
    "with_answers",
    "with_effective",
    "with_items",
    "with_labels",
]
