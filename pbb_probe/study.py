"""The study: from a base model to a layer-by-layer comparison, as ordered steps that are done once and resumed.

corpus -> stage 1 -> stage 2 (and stage 2 alone) -> behaviour
-> probing, patching, transfer, interchange -> comparison -> report
"""

import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from pbb_probe import measures
from pbb_probe.errors import PbbError
from pbb_probe.finetuning.bases import base_digest
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import CURRICULA, get_curriculum
from pbb_probe.finetuning.train import train_stage
from pbb_probe.opened import OpenedRun
from pbb_probe.patching.transfer import CONTROLS, Control
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.store import Run, file_digest, write
from pbb_probe.views.report import REPORTS

ProbingControl = Literal[
    "selectivity", "permutation", "chance", "shuffled", "relabelled", "untrained", "base", "embedding"
]
PROBING_CONTROLS: tuple[ProbingControl, ...] = get_args(ProbingControl)


@dataclass(frozen=True)
class CorpusConfig:
    """Which programs are taught."""

    family: str = "arithmetic"
    """Family of programs."""
    with_io: int = 850
    """Programs with source and input/output examples."""
    without_io: int = 150
    """Programs with source only."""
    shown_inputs: int = 7
    """Inputs of each with_io program whose answers are shown; the rest are held out."""
    shapes: tuple[str, ...] = ("one_step", "two_steps", "two_steps")
    """Of arithmetic programs, in turn."""
    composed_with_io: int = 0
    """Further programs with examples that call one or two of the others."""
    composed_without_io: int = 0
    """The same without examples."""
    programs: str | None = None
    """A .jsonl or .py file with programs of your own, instead of a family."""


@dataclass(frozen=True)
class ProbingConfig:
    """What is read off the activations."""

    prompts: int = 1000
    """Prompts a group. Above the number of its programs, so that some have several, which can be permuted."""
    unseen_inputs: bool = True
    """Only inputs whose answers were never shown, in either group."""
    sites: tuple[str, ...] = ("resid_post",)
    """TransformerLens sites."""
    roles: tuple[str, ...] = ("name", "input", "answer")
    """Places in the prompt."""
    targets: tuple[str, ...] = ("input", "op_1", "state_1", "op_2", "output")
    """Facts and trace variables the probes are fitted to."""
    folds: int = 3
    """Folds of programs; each is held out once."""
    C: float = 0.1
    """Inverse regularisation strength."""
    controls: tuple[ProbingControl, ...] = PROBING_CONTROLS
    """What probes are compared with: selectivity (a control task), permutation (within programs), chance, shuffled
    (judged by other prompts' values), relabelled (states under another meaning of the operators), the untrained and the
    base model, embedding (before any layer)."""
    interchange: tuple[str, ...] = ("state_1", "output")
    """Variables whose probes' subspaces are put from one run into another: does what is read carry them?"""
    lens: tuple[str, ...] = ("state_1", "output")
    """Variables, of one token each, that are looked for at the answer position with the model's own unembedding."""


@dataclass(frozen=True)
class PatchingConfig:
    """What is put from one run into another."""

    pairs: int = 500
    """Pairs a group and swap."""
    unseen_inputs: bool = True
    """Only inputs whose answers were never shown, in either group."""
    sites: tuple[str, ...] = ("resid_pre", "attn_out", "mlp_out")
    """TransformerLens sites."""
    roles: tuple[str, ...] = ("name", "input", "answer")
    """Places in the prompt."""


@dataclass(frozen=True)
class TransferConfig:
    """What the transfer map is drawn from: one program's run put into another's."""

    pairs: int = 500
    """Pairs a group."""
    unseen_inputs: bool = True
    """Only inputs whose answers were never shown, in either group."""
    sites: tuple[str, ...] = ("resid_pre", "attn_out", "mlp_out")
    """TransformerLens sites."""
    roles: tuple[str, ...] = ("name", "input", "answer")
    """Places in the prompt."""
    controls: tuple[Control, ...] = CONTROLS
    """Further maps, which should show nothing: the run's own activation, random vectors of the same norm, the mean
    difference of the runs, the untrained model."""


@dataclass(frozen=True)
class StudyConfig:
    """One run of the study."""

    base: str = "nano"
    """Base model: nano, a Hugging Face model directory, or a hub id."""
    seed: int = 0
    """Of everything random: programs, documents, their order, and what is sampled."""
    out: str = "runs/nano"
    """Run directory."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    """Which programs are taught."""
    curriculum: str = "proactive"
    """Which documents are read in which order."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How each stage is trained."""
    calls: int = 1000
    """Calls a group and mode in the behaviour table."""
    probing: ProbingConfig = field(default_factory=ProbingConfig)
    """What is read."""
    patching: PatchingConfig = field(default_factory=PatchingConfig)
    """What is patched."""
    transfer: TransferConfig = field(default_factory=TransferConfig)
    """What the transfer map is drawn from."""
    draws: int = 10_000
    """Bootstrap resamples and permutations."""
    threshold: float = 0.5
    """Recovery, or share of pairs above that with random vectors, from which on a place carries a variable."""
    margin: float = 0.2
    """Share of what the strongest control gets wrong and a probe or lens gets right, from which on it reads a variable.
    """
    equivalence: float = 0.1
    """Differences of recovery, accuracy and shares within it count as none, if that can be told."""

    def __post_init__(self) -> None:
        get_curriculum(self.curriculum)
        if not self.corpus.with_io or not self.corpus.without_io:
            raise PbbError("The study compares with_io and without_io programs: both counts must be above 0.")
        if min(self.calls, self.probing.prompts, self.patching.pairs, self.transfer.pairs, self.draws) < 1:
            raise PbbError("calls, prompts, pairs and draws must be at least 1.")
        if min(self.threshold, self.margin, self.equivalence) <= 0 or max(self.threshold, self.margin) > 1:
            raise PbbError("threshold and margin are shares above 0 and at most 1, and equivalence is above 0.")
        if self.seed < 0:
            raise PbbError(f"The seed must be 0 or more, not {self.seed}.")


class Study:
    """The steps of one run. `run()` does those that are not done for this configuration."""

    def __init__(self, config: StudyConfig):
        self.config = config

    def run(self) -> OpenedRun:
        """Do what is left to do and return the run, with `report.html` and `report.md` in its directory.

        Raises:
            PbbError: bad configuration, or a model on which a step is impossible. What was done before stays.
        """
        config, run = self.config, OpenedRun(self.config.out)
        write(run.path / "config.json", json.dumps(asdict(config), indent=1))
        seed = {"seed": config.seed}
        train = asdict(config.train) | {"replay": file_digest(config.train.replay, "replay texts")}
        base = base_digest(config.base)

        reports = [run.path / name for name in REPORTS]

        def step(name: str, make, *after: str, **inputs: Any) -> str:
            inputs |= {"after": after, "version": version("pbb-probe")}
            key = run.step(name, inputs, make, also=reports * (name == "report"))
            run.write_manifest(config=asdict(config))
            return key

        own = file_digest(config.corpus.programs, "programs")
        programs = step("corpus", self._make_corpus, corpus=asdict(config.corpus) | {"programs": own}, **seed)
        previous = config.base
        models: list[str] = []
        for stage in get_curriculum(config.curriculum):
            models.append(
                step(
                    stage.name,
                    lambda out, base=previous, stage=stage: self._train(base, stage, out),
                    programs,
                    *models,
                    base=base,
                    stage=asdict(stage),
                    train=train,
                    **seed,
                )
            )
            previous = str(run.path / stage.name / "model")
        final = previous
        (alone,) = CURRICULA["stage2_only"]
        baseline = step(
            alone.name,
            lambda out: self._train(config.base, alone, out),
            programs,
            base=base,
            stage=asdict(alone),
            train=train,
            **seed,
        )
        behaviour = step(
            "behaviour",
            lambda out: self._behave(final, out),
            *models,
            baseline,
            calls=config.calls,
            draws=config.draws,
            **seed,
        )
        probing = step(
            "probing",
            lambda out: measures.probe(config.probing, self._corpus, final, config.base, config.seed, out),
            *models,
            probing=asdict(config.probing),
            base=base,
            **seed,
        )
        patching = step(
            "patching",
            lambda out: measures.patch(config.patching, self._corpus, final, config.seed, out),
            *models,
            patching=asdict(config.patching),
            **seed,
        )
        transfer = step(
            "transfer",
            lambda out: measures.transfer(config.transfer, self._corpus, final, config.seed, out),
            *models,
            transfer=asdict(config.transfer),
            **seed,
        )
        interchange = step(
            "interchange",
            lambda out: measures.interchange(
                config.probing, config.transfer, self._corpus, final, run.path / "probing", config.seed, out
            ),
            probing,
            transfer,
            **seed,
        )
        compared = step(
            "comparison",
            self._compare,
            probing,
            patching,
            transfer,
            interchange,
            draws=config.draws,
            threshold=config.threshold,
            margin=config.margin,
            equivalence=config.equivalence,
            **seed,
        )
        step("report", self._report, behaviour, compared, config=asdict(config))
        return run

    # The steps, in order. Each writes into the directory it is given.

    def _make_corpus(self, out: Path) -> None:
        corpus = make_corpus(**asdict(self.config.corpus), seed=self.config.seed)
        probing = self.config.probing
        measures.check_targets(
            (*probing.targets, *probing.interchange, *probing.lens), corpus.calls()
        )  # before anything is trained
        corpus.save(out)

    def _train(self, base: str, stage, out: Path) -> None:
        train_stage(base, self._corpus, stage, out / "model", self.config.seed, self.config.train)

    def _behave(self, final: str, out: Path) -> None:
        from pbb_probe.comparison.behaviour import accuracy_table
        from pbb_probe.finetuning.behaviour import evaluate

        stages = [stage.name for stage in get_curriculum(self.config.curriculum)]
        models: dict[str, str | Path] = {
            "finetuned": final,
            **{f"{name} alone": self._path / name / "model" for name in stages[:-1]},
            "stage2 alone": self._path / "stage2_alone" / "model",
            "base": self.config.base,
            "base, code in context": self.config.base,
        }
        behaviours = {
            name: evaluate(
                path, self._corpus, n=self.config.calls, in_context=name.endswith("context"), seed=self.config.seed
            )
            for name, path in models.items()
        }
        for name, behaviour in behaviours.items():
            behaviour.to_netcdf(out / f"{name.replace(', ', '_').replace(' ', '_')}.nc")
        table = accuracy_table(behaviours, self.config.draws, self.config.seed)
        table.to_csv(out / "behaviour.csv", index=False)

    def _compare(self, out: Path) -> None:
        from pbb_probe.comparison.brewing import lens_table, outcome_table
        from pbb_probe.comparison.layers import patching_table, probing_table
        from pbb_probe.comparison.located import located_tables
        from pbb_probe.comparison.probes import across_table, control_table, cosine_table
        from pbb_probe.comparison.transfer import interchange_table, transfer_difference_table, transfer_table

        path = self._path
        settings: dict[str, Any] = {"draws": self.config.draws, "seed": self.config.seed}
        within = {"margin": self.config.equivalence} | settings
        probing_table(path / "probing", **within).to_csv(out / "probing.csv", index=False)
        control_table(path / "probing", **settings).to_csv(out / "probing_controls.csv", index=False)
        across_table(path / "probing", **settings).to_csv(out / "probing_across.csv", index=False)
        lens_table(path / "probing", **settings).to_csv(out / "lens.csv", index=False)
        outcome_table(path / "probing", **settings).to_csv(out / "outcomes.csv", index=False)
        cosine_table(path / "probing").to_csv(out / "cosines.csv", index=False)
        patching_table(path / "patching", **within).to_csv(out / "patching.csv", index=False)
        transfer_table(path / "transfer", **settings).to_csv(out / "transfer.csv", index=False)
        interchange_table(path / "interchange", **settings).to_csv(out / "interchange.csv", index=False)
        transfer_difference_table(path / "transfer", **within).to_csv(out / "transfer_differences.csv", index=False)
        located = located_tables({"": Run(path)}, self.config.threshold, self.config.margin, **settings)
        for name, table in located.items():
            table.to_csv(out / f"{name}.csv", index=False)

    def _report(self, out: Path) -> None:
        from pbb_probe.views.study_report import write_study_report

        write_study_report(self._path, out)

    @property
    def _path(self) -> Path:
        return Run(self.config.out).path

    @property
    def _corpus(self) -> Corpus:
        return Corpus.load(self._path / "corpus")
