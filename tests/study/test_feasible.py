"""A study is refused before training where probes or pairs could not be made of its corpus, and only there."""

import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import pbb_probe as pbb
from pbb_probe.errors import PbbError
from pbb_probe.labels import AUTO, cluster_label
from pbb_probe.patching.pairs import SWAPS
from pbb_probe.probing.groups import probe_groups
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.runs.config import CorpusConfig, PatchingConfig, ProbingConfig, StudyConfig
from pbb_probe.study.feasible import check_feasible
from pbb_probe.study.steps import groups_there

NOTHING = {"lens": (), "interchange": ()}


def study(corpus=None, **probing) -> StudyConfig:
    given = {"targets": ("input",), "folds": 2, "prompts": 60, **NOTHING, **probing}
    return StudyConfig(
        corpus=CorpusConfig(**{"with_io": 12, "without_io": 8, "io_only": 0, **(corpus or {})}),
        probing=ProbingConfig(**given),
        patching=PatchingConfig(pairs=20),
    )


def corpus_of(config: StudyConfig) -> Corpus:
    return make_corpus(**asdict(config.corpus), seed=config.seed)


def own(path: Path, sources: dict[str, list[str]], inputs: list) -> str:
    """A file of programs, by group."""
    rows = [
        {"source": f"def f{k}_{group}(n):\n    {body}\n    return n", "inputs": inputs, "group": group}
        for group, bodies in sources.items()
        for k, body in enumerate(bodies)
    ]
    file = path / "programs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


ADD = [f"n = (n + {k}) % 10" for k in range(1, 7)]
INPUTS = [[k] for k in range(6)]


def works(config: StudyConfig, corpus: Corpus, model) -> bool:
    """Can the later steps do what they do? Probes of random activations, and pairs, of the calls that they draw."""
    probing, patching = config.probing, config.patching
    labels = corpus.calls("direct", n=probing.prompts, seed=config.seed, unseen=probing.unseen_inputs)
    values = np.random.default_rng(0).normal(size=(1, 1, len(labels), 4))
    acts = xr.Dataset(
        {"resid_post": (("layer", "role", "prompt", "d_model"), values)}, coords={"layer": [0], "role": ["answer"]}
    )
    given = {
        "acts": acts,
        "targets": labels[list(probing.targets)],
        "clusters": labels[cluster_label(labels, AUTO)].tolist(),
    }
    try:
        pbb.fit_probes(**given, train=(labels["group"] == "with_io").to_numpy(), folds=probing.folds, seed=config.seed)
        probe_groups(**given, group=labels["group"], folds=probing.folds, seed=config.seed)
        pbb.direction_cosines(**given, group=labels["group"].tolist(), seed=config.seed)
        for swap, group in itertools.product(SWAPS, groups_there(corpus)):
            pbb.make_pairs(corpus, model, swap, group, patching.pairs, config.seed, patching.unseen_inputs)
    except PbbError:
        return False
    return True


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("with_io", "without_io"), [(2, 2), (3, 2), (5, 4), (12, 8)])
@pytest.mark.parametrize(("prompts", "target"), [(2, "input"), (4, "op_1"), (6, "op_2"), (60, "op_2"), (60, "steps")])
def test_it_is_refused_where_the_steps_would_fail_and_only_there(with_io, without_io, prompts, target, seed, bridge):
    config = study({"with_io": with_io, "without_io": without_io}, prompts=prompts, targets=(target,))
    corpus = corpus_of(config) if not seed else make_corpus(with_io=with_io, without_io=without_io, seed=seed)
    try:
        check_feasible(config, corpus)
    except PbbError:
        assert not works(config, corpus, bridge("nano"))
    else:
        assert works(config, corpus, bridge("nano"))


def test_the_default_study_and_those_of_other_families_are_let_through(small_model):
    configs = [
        StudyConfig(),
        StudyConfig(corpus=CorpusConfig(with_io=30, without_io=30, composed_with_io=5)),
        study({"family": "ciphers"}, targets=("cipher",)),
        study({"family": "algorithms", "with_io": 40, "without_io": 40}, targets=("output",)),
    ]
    for config in configs:
        base = "nano" if config.corpus.family == "arithmetic" else small_model("qwen3")
        check_feasible(replace(config, base=base), corpus_of(config))


@pytest.mark.parametrize("target", ["group", "family"])
def test_a_target_that_is_the_same_everywhere_is_named(target):
    config = study(targets=("input", target))
    with pytest.raises(
        PbbError, match=rf"probing\.targets names '{target}', which has fewer than two values"
    ) as caught:
        check_feasible(config, corpus_of(config))
    assert "\n" not in str(caught.value)


GOOD = {"with_io": ADD[:3], "without_io": ADD[3:]}


@pytest.mark.parametrize(
    ("sources", "inputs", "corpus", "probing", "words"),
    [
        ({"with_io": ADD}, INPUTS, {}, {}, "there are no without_io ones"),
        ({"without_io": ADD}, INPUTS, {}, {}, "there are no with_io ones"),
        ({"with_io": ADD[:1], "without_io": ADD[1:2]}, INPUTS, {}, {}, "probing.folds is 2, and 1 with_io programs"),
        (GOOD, INPUTS, {}, {"folds": 4}, "probing.folds is 4, and 3 with_io programs"),
        (GOOD, INPUTS, {"shown_inputs": 6}, {}, "lower corpus.shown_inputs"),
        (GOOD, [[1]], {"shown_inputs": 1}, {"unseen_inputs": False}, "patching.unseen_inputs asks for others"),
        (
            {"with_io": ["n = 3", "n = 5"] * 2, "without_io": ["n = 4", "n = 6"] * 2},
            INPUTS,
            {},
            {},
            "Patching swaps the input",
        ),
        ({"with_io": ADD[:1] * 3, "without_io": ADD[3:]}, INPUTS, {}, {}, "and 1 with_io functions are probed"),
        (GOOD | {"without_io": ["n = n * 9"] * 3}, INPUTS, {}, {}, "The tokenizer lacks"),
        (GOOD, INPUTS, {}, {"targets": ("family",)}, "probing.targets names 'family'"),
        (GOOD, INPUTS, {}, {"lens": ("state_7",)}, "probing.lens names 'state_7'"),
        (GOOD, INPUTS, {}, {"interchange": ("op_1",)}, "probing.interchange names 'op_1'"),
    ],
)
def test_what_own_programs_lack_is_said(sources, inputs, corpus, probing, words, tmp_path):
    config = study({"programs": own(tmp_path, sources, inputs), "shown_inputs": 3, **corpus}, **probing)
    with pytest.raises(PbbError) as caught:
        check_feasible(config, corpus_of(config))
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_own_programs_that_have_everything_are_let_through(tmp_path):
    config = study({"programs": own(tmp_path, GOOD, INPUTS), "shown_inputs": 3})
    check_feasible(config, corpus_of(config))


def test_a_program_without_words_is_refused_by_a_curriculum_of_descriptions(small_model, tmp_path):
    file = own(tmp_path, GOOD | {"with_io": [*ADD[:2], "n = ~n"]}, INPUTS)
    config = replace(study({"programs": file, "shown_inputs": 3}), base=small_model("qwen3"))
    check_feasible(config, corpus_of(config))
    with pytest.raises(PbbError, match="The curriculum description reads programs in words") as caught:
        check_feasible(replace(config, curriculum="description"), corpus_of(config))
    assert "\n" not in str(caught.value)
