"""Where does a language model evaluate a program it has only read? The public names, imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbb_probe.errors import PbbError
    from pbb_probe.evidence.behaviour import accuracy_table
    from pbb_probe.evidence.brewing import brewing_measures, brewing_table
    from pbb_probe.evidence.nodes import by_node
    from pbb_probe.evidence.probes import probe_table
    from pbb_probe.evidence.recovery import recovery_table
    from pbb_probe.evidence.transfer import carried_table
    from pbb_probe.finetuning.behaviour import evaluate
    from pbb_probe.finetuning.config import LoraSettings, TrainConfig
    from pbb_probe.finetuning.train import finetune
    from pbb_probe.hooking.answering import answer_log_probs, answer_logits, gives_answers
    from pbb_probe.hooking.answers import answer_ids
    from pbb_probe.hooking.attention import attention_patterns
    from pbb_probe.hooking.calls import make_prompts, prompts_of_calls
    from pbb_probe.hooking.capture import capture
    from pbb_probe.hooking.code import code_prompts, code_tokens
    from pbb_probe.hooking.files import read_prompts
    from pbb_probe.hooking.load import load_model, untrained_model
    from pbb_probe.hooking.positions import capture_tokens
    from pbb_probe.hooking.prompts import Prompts
    from pbb_probe.hooking.shards import open_capture
    from pbb_probe.hooking.texts import likely_answers, token_texts
    from pbb_probe.patching.attribution import attribution_scores, screen_patches
    from pbb_probe.patching.backward import back_patch
    from pbb_probe.patching.files import pair_from_texts, read_pairs
    from pbb_probe.patching.metrics import (
        answer_difference,
        greedy_match,
        log_prob,
        log_prob_difference,
        logit_difference,
        negative_kl,
        probability,
        recovery,
    )
    from pbb_probe.patching.pairs import aligned_pairs, make_pairs
    from pbb_probe.patching.sweep import patch_sweep
    from pbb_probe.patching.transfer import transfer_map
    from pbb_probe.patching.transfer_pairs import make_transfer_pairs
    from pbb_probe.probing.brewing import brewing
    from pbb_probe.probing.controls import embeddings, relabelled_targets, shuffled_values
    from pbb_probe.probing.groups import direction_cosines, probe_groups
    from pbb_probe.probing.held_out import fit_held_out
    from pbb_probe.probing.lens import lens
    from pbb_probe.probing.linear import fit_probes
    from pbb_probe.probing.probe import LinearProbe
    from pbb_probe.probing.projection import project
    from pbb_probe.probing.readers import fit_probe
    from pbb_probe.probing.subspaces import probe_subspaces
    from pbb_probe.programs.corpus import Corpus, make_corpus
    from pbb_probe.programs.targets import line_targets
    from pbb_probe.runs.config import StudyConfig
    from pbb_probe.runs.opened import open_run
    from pbb_probe.statistics.groups import cluster_bootstrap, compare_groups
    from pbb_probe.statistics.matching import matched_rows
    from pbb_probe.statistics.onset import locate, locate_difference
    from pbb_probe.study.run import Study
    from pbb_probe.views import figures

_HOME = {
    "Corpus": "programs.corpus",
    "LinearProbe": "probing.probe",
    "LoraSettings": "finetuning.config",
    "PbbError": "errors",
    "Prompts": "hooking.prompts",
    "Study": "study.run",
    "StudyConfig": "runs.config",
    "TrainConfig": "finetuning.config",
    "accuracy_table": "evidence.behaviour",
    "aligned_pairs": "patching.pairs",
    "answer_difference": "patching.metrics",
    "answer_ids": "hooking.answers",
    "answer_log_probs": "hooking.answering",
    "answer_logits": "hooking.answering",
    "attention_patterns": "hooking.attention",
    "attribution_scores": "patching.attribution",
    "back_patch": "patching.backward",
    "brewing": "probing.brewing",
    "brewing_measures": "evidence.brewing",
    "brewing_table": "evidence.brewing",
    "by_node": "evidence.nodes",
    "capture": "hooking.capture",
    "capture_tokens": "hooking.positions",
    "carried_table": "evidence.transfer",
    "cluster_bootstrap": "statistics.groups",
    "code_prompts": "hooking.code",
    "code_tokens": "hooking.code",
    "compare_groups": "statistics.groups",
    "compare_runs": "evidence.runs",
    "direction_cosines": "probing.groups",
    "embeddings": "probing.controls",
    "evaluate": "finetuning.behaviour",
    "finetune": "finetuning.train",
    "fit_held_out": "probing.held_out",
    "fit_probe": "probing.readers",
    "fit_probes": "probing.linear",
    "gather": "evidence.runs",
    "gives_answers": "hooking.answering",
    "greedy_match": "patching.metrics",
    "how_evaluated": "evidence.onsets",
    "lens": "probing.lens",
    "likely_answers": "hooking.texts",
    "line_targets": "programs.targets",
    "load_model": "hooking.load",
    "locate": "statistics.onset",
    "locate_difference": "statistics.onset",
    "located_lens": "evidence.onsets",
    "located_reading": "evidence.onsets",
    "located_use": "evidence.onsets",
    "log_prob": "patching.metrics",
    "log_prob_difference": "patching.metrics",
    "logit_difference": "patching.metrics",
    "make_corpus": "programs.corpus",
    "make_pairs": "patching.pairs",
    "make_prompts": "hooking.calls",
    "make_transfer_pairs": "patching.transfer_pairs",
    "matched_rows": "statistics.matching",
    "negative_kl": "patching.metrics",
    "open_capture": "hooking.shards",
    "open_run": "runs.opened",
    "pair_from_texts": "patching.files",
    "patch_sweep": "patching.sweep",
    "planted_model": "calibration.planted",
    "probability": "patching.metrics",
    "probe_groups": "probing.groups",
    "probe_subspaces": "probing.subspaces",
    "probe_table": "evidence.probes",
    "project": "probing.projection",
    "prompts_of_calls": "hooking.calls",
    "read_pairs": "patching.files",
    "read_prompts": "hooking.files",
    "recovery": "patching.metrics",
    "recovery_table": "evidence.recovery",
    "relabelled_targets": "probing.controls",
    "screen_patches": "patching.attribution",
    "shuffled_values": "probing.controls",
    "side_by_side": "evidence.onsets",
    "token_texts": "hooking.texts",
    "transfer_differences": "evidence.transfer",
    "transfer_map": "patching.transfer",
    "untrained_model": "hooking.load",
}

__all__ = [
    "Corpus",
    "LinearProbe",
    "LoraSettings",
    "PbbError",
    "Prompts",
    "Study",
    "StudyConfig",
    "TrainConfig",
    "accuracy_table",
    "aligned_pairs",
    "answer_difference",
    "answer_ids",
    "answer_log_probs",
    "answer_logits",
    "attention_patterns",
    "attribution_scores",
    "back_patch",
    "brewing",
    "brewing_measures",
    "brewing_table",
    "by_node",
    "capture",
    "capture_tokens",
    "carried_table",
    "cluster_bootstrap",
    "code_prompts",
    "code_tokens",
    "compare_groups",
    "compare_runs",
    "direction_cosines",
    "embeddings",
    "evaluate",
    "figures",
    "finetune",
    "fit_held_out",
    "fit_probe",
    "fit_probes",
    "gather",
    "gives_answers",
    "greedy_match",
    "how_evaluated",
    "lens",
    "likely_answers",
    "line_targets",
    "load_model",
    "locate",
    "locate_difference",
    "located_lens",
    "located_reading",
    "located_use",
    "log_prob",
    "log_prob_difference",
    "logit_difference",
    "make_corpus",
    "make_pairs",
    "make_prompts",
    "make_transfer_pairs",
    "matched_rows",
    "negative_kl",
    "open_capture",
    "open_run",
    "pair_from_texts",
    "patch_sweep",
    "planted_model",
    "probability",
    "probe_groups",
    "probe_subspaces",
    "probe_table",
    "project",
    "prompts_of_calls",
    "read_pairs",
    "read_prompts",
    "recovery",
    "recovery_table",
    "relabelled_targets",
    "screen_patches",
    "shuffled_values",
    "side_by_side",
    "token_texts",
    "transfer_differences",
    "transfer_map",
    "untrained_model",
]


def __getattr__(name: str):
    if name == "figures":
        return import_module("pbb_probe.views.figures")
    if name == "answer_tokens":
        raise AttributeError(
            "pbb_probe.answer_tokens took a space before every answer for granted and is gone: use "
            "answer_ids(model, prompts, answers), which gives the tokens with which answers follow these prompts."
        )
    if name not in _HOME:
        raise AttributeError(f"module 'pbb_probe' has no attribute {name!r}")
    return getattr(import_module(f"pbb_probe.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
