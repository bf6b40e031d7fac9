"""Where does a language model evaluate a program it has only read? The public names, imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbb_probe.comparison.behaviour import accuracy_table
    from pbb_probe.comparison.locate import locate
    from pbb_probe.comparison.statistics import cluster_bootstrap, compare_groups
    from pbb_probe.errors import PbbError
    from pbb_probe.finetuning.behaviour import evaluate
    from pbb_probe.finetuning.train import TrainConfig, finetune
    from pbb_probe.hooking.capture import answer_logits, capture
    from pbb_probe.hooking.load import load_model
    from pbb_probe.hooking.prompts import Prompts, answer_tokens, make_prompts
    from pbb_probe.patching.pairs import make_pairs
    from pbb_probe.patching.sweep import logit_difference, patch_sweep, recovery
    from pbb_probe.probing.linear import fit_probes
    from pbb_probe.programs.corpus import Corpus, make_corpus
    from pbb_probe.study import Study, StudyConfig
    from pbb_probe.views import figures

_HOME = {
    "Corpus": "programs.corpus",
    "PbbError": "errors",
    "Prompts": "hooking.prompts",
    "Study": "study",
    "StudyConfig": "study",
    "TrainConfig": "finetuning.train",
    "accuracy_table": "comparison.behaviour",
    "answer_logits": "hooking.capture",
    "answer_tokens": "hooking.prompts",
    "capture": "hooking.capture",
    "cluster_bootstrap": "comparison.statistics",
    "compare_groups": "comparison.statistics",
    "evaluate": "finetuning.behaviour",
    "finetune": "finetuning.train",
    "fit_probes": "probing.linear",
    "load_model": "hooking.load",
    "locate": "comparison.locate",
    "logit_difference": "patching.sweep",
    "make_corpus": "programs.corpus",
    "make_pairs": "patching.pairs",
    "make_prompts": "hooking.prompts",
    "patch_sweep": "patching.sweep",
    "recovery": "patching.sweep",
}

__all__ = [
    "Corpus",
    "PbbError",
    "Prompts",
    "Study",
    "StudyConfig",
    "TrainConfig",
    "accuracy_table",
    "answer_logits",
    "answer_tokens",
    "capture",
    "cluster_bootstrap",
    "compare_groups",
    "evaluate",
    "figures",
    "finetune",
    "fit_probes",
    "load_model",
    "locate",
    "logit_difference",
    "make_corpus",
    "make_pairs",
    "make_prompts",
    "patch_sweep",
    "recovery",
]


def __getattr__(name: str):
    if name == "figures":
        return import_module("pbb_probe.views.figures")
    if name not in _HOME:
        raise AttributeError(f"module 'pbb_probe' has no attribute {name!r}")
    return getattr(import_module(f"pbb_probe.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
