"""The study: from a base model to a layer-by-layer comparison, as ordered steps that are done once and resumed.

corpus -> stage 1 -> stage 2 (and stage 2 alone) -> behaviour, effective programs
-> probing, patching, transfer, interchange -> comparison -> report
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.config import TrainConfig
from pbb_probe.finetuning.curricula import CURRICULA, Stage, get_curriculum
from pbb_probe.finetuning.train import train_stage
from pbb_probe.models.bases import base_digest
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.programs.templates import CALLING, Mode
from pbb_probe.runs.config import StudyConfig
from pbb_probe.runs.opened import OpenedRun
from pbb_probe.store.disk import digest, file_digest, write, write_array
from pbb_probe.store.records import MANIFEST, without_after
from pbb_probe.store.writable import WritableRun
from pbb_probe.study import steps as measuring
from pbb_probe.views.report import REPORTS

VERSIONS = {
    "corpus": 2,
    "stage": 1,
    "behaviour": 3,
    "effective": 1,
    "probing": 3,
    "patching": 3,
    "transfer": 3,
    "interchange": 3,
    "comparison": 3,
    "report": 1,
}
"""Of what each step means: raised when the same inputs come to give other results, and never for a release alone. Then
the step is done again, and after it those that are made of it where it gave something else."""


Train = Callable[[str, Corpus, Stage, Path, int, TrainConfig], Any]


@dataclass(frozen=True)
class Step:
    """One step: what makes its folder, of which earlier ones, and from which settings."""

    name: str
    make: Callable[[Path], None]
    after: Sequence[str]
    inputs: dict[str, Any]
    """Settings and hashes of files; the contents of the steps before it come to them when these are done."""
    also: Sequence[Path] = ()
    resumes: bool = False


class Study:
    """The steps of one run. `run()` does those that are not done for this configuration.

    Args:
        config: its settings.
        corpus: the programs that are taught; when None those that `config.corpus` describes.
        train: teaches one stage: called with the base, the corpus, the stage, the directory of the new model, the seed
            and `config.train`.
        report: writes the report of a run, given the run and a folder for pictures; when None `write_study_report`. A
            run does not record which functions made it: give another directory with others.

    Example:
        >>> import pbb_probe as pbb
        >>> finished = pbb.open_run("runs/nano")
        >>> run = pbb.Study(finished.config, finished.corpus).run()  # every step is done already: this only checks
        >>> list(run.steps)[:5]
        ['corpus', 'stage1', 'stage2', 'stage2_alone', 'behaviour']
    """

    def __init__(
        self,
        config: StudyConfig,
        corpus: Corpus | None = None,
        train: Train = train_stage,
        report: Callable[[OpenedRun, Path], None] | None = None,
    ):
        self.config = config
        self._given = corpus
        self._train_stage = train
        self._report = report or _default_report

    def run(self) -> OpenedRun:
        """Do what is left to do and return the run, with `report.html` and `report.md` in its directory.

        Raises:
            PbbError: bad configuration, something of the user's in the way, another process that writes into the run,
                or a model on which a step is impossible. What was done before stays.
        """
        run, writable = OpenedRun(self.config.out), WritableRun(self.config.out)
        steps = self._steps(run)
        self._refuse_what_is_in_the_way(run, steps)
        if not all(
            (record := run.current(step.name)) and without_after(record["inputs"]) == step.inputs for step in steps
        ):
            self._refuse_what_would_fail()
        with writable.writing():
            facts = {"config": asdict(self.config), "asked": {step.name: digest(step.inputs) for step in steps}}
            writable.write_manifest(**facts)
            write(run.path / "config.json", json.dumps(asdict(self.config), indent=1))
            contents: dict[str, str] = {}
            for step in steps:
                inputs = step.inputs | {"after": {earlier: contents[earlier] for earlier in step.after}}
                contents[step.name] = writable.step(step.name, inputs, step.make, step.also, step.resumes)
                writable.write_manifest(**facts)
        return run

    @cached_property
    def _corpus(self) -> Corpus:
        return self._given or make_corpus(**asdict(self.config.corpus), seed=self.config.seed)

    def _refuse_what_is_in_the_way(self, run: OpenedRun, steps: Sequence[Step]) -> None:
        """Before anything is made: files and folders that the study would replace, and that it has not written."""
        for step in steps:
            run.refuse_unknown(step.name)
        if run.manifest_read() or ((run.path / "config.json").exists() and run.done()):
            return
        names = ("config.json", MANIFEST, *REPORTS, *run.done())
        if there := [name for name in names if os.path.lexists(run.path / name)]:
            raise PbbError(
                f"{run.path / there[0]} is in the way, which no study wrote: give another directory or move it "
                "elsewhere."
            )

    def _refuse_what_would_fail(self) -> None:
        """Before anything is written: what cannot be taught or measured of these programs, or with this base."""
        from pbb_probe.finetuning.prepare import check_training
        from pbb_probe.study.feasible import check_feasible

        config, corpus = self.config, self._corpus
        probing, sites = config.probing, {*config.probing.sites, *config.patching.sites, *config.transfer.sites}
        measuring.check_targets((*probing.targets, *probing.interchange, *probing.lens), corpus.calls())
        check_feasible(config, corpus)
        stages = (*get_curriculum(config.curriculum), *CURRICULA["stage2_only"])
        check_training(config.base, corpus, stages, config.train)
        measuring.check_base(config.base, sites)

    def _steps(self, run: OpenedRun) -> list[Step]:
        """The steps in order."""
        config, steps = self.config, list[Step]()
        base, programs = base_digest(config.base), file_digest(config.corpus.programs, "programs")
        replay = file_digest(config.train.replay, "replay texts")

        def step(name: str, make: Callable[[Path], None], after: Sequence[str], kind: str = "", **inputs: Any) -> None:
            also = [run.path / report for report in REPORTS] if name == "report" else []
            inputs |= {"seed": config.seed, "version": VERSIONS[kind or name]}
            plain = json.loads(json.dumps(inputs))  # as a record has them
            steps.append(Step(name, make, after, plain, also, resumes=kind == "stage"))

        def train(stage: Stage, previous: str, after: Sequence[str]) -> None:
            """A stage, begun from the base or from the stage before it."""
            step(
                stage.name,
                lambda out: self._train(run, previous, stage, out),
                after,
                kind="stage",
                base=base,
                stage=asdict(stage),
                train=asdict(config.train) | {"replay": replay},
            )

        described = asdict(config.corpus) | {"programs": programs}
        given = {} if self._given is None else {"given": self._given.digest}
        step("corpus", lambda out: self._corpus.save(out), (), corpus=described | given)
        stages, final = get_curriculum(config.curriculum), config.base
        for stage in stages:
            train(stage, final, [earlier.name for earlier in steps])
            final = str(run.path / stage.name / "model")
        trained = ("corpus", stages[-1].name)
        if (alone := CURRICULA["stage2_only"][0]) not in stages:
            train(alone, config.base, ("corpus",))
        probing, patching, transfer = asdict(config.probing), asdict(config.patching), asdict(config.transfer)
        step(
            "behaviour",
            lambda out: self._behave(run, out),
            [earlier.name for earlier in steps],
            base=base,
            calls=config.calls,
            draws=config.draws,
        )
        step("effective", lambda out: self._compute(run, final, out), trained, draws=config.draws)
        step(
            "probing",
            lambda out: measuring.probe(config.probing, run.corpus, final, config.base, config.seed, out),
            trained,
            probing=probing,
            base=base,
        )
        step(
            "patching",
            lambda out: measuring.patch(config.patching, run.corpus, final, config.seed, out),
            trained,
            patching=patching,
        )
        step(
            "transfer",
            lambda out: measuring.transfer(config.transfer, run.corpus, final, config.seed, out),
            trained,
            transfer=transfer,
        )
        step(
            "interchange",
            lambda out: measuring.interchange(config.probing, config.transfer, run, final, config.seed, out),
            (*trained, "probing"),
            probing=probing,
            transfer=transfer,
        )
        step(
            "comparison",
            lambda out: self._compare(run, out),
            ("corpus", "behaviour", "probing", "patching", "transfer", "interchange"),
            draws=config.draws,
            threshold=config.threshold,
            margin=config.margin,
            equivalence=config.equivalence,
        )
        shown = {name: value for name, value in asdict(config).items() if name != "out"}
        step("report", lambda out: self._report(run, out), ("behaviour", "effective", "comparison"), config=shown)
        return steps

    # The steps that are no function of `study.steps` or `finetuning`. Each writes into the directory it is given.

    def _train(self, run: OpenedRun, base: str, stage: Stage, out: Path) -> None:
        self._train_stage(base, run.corpus, stage, out / "model", self.config.seed, self.config.train)

    def _behave(self, run: OpenedRun, out: Path) -> None:
        import pandas as pd

        from pbb_probe.evidence.behaviour import behaviour_table
        from pbb_probe.finetuning.behaviour import evaluate

        alone = {name.removesuffix(" alone"): path for name, path in run.models.items() if name != "stage2 alone"}
        models = run.models | {f"{name}, code in context": path for name, path in alone.items()}
        behaviours = {}
        for name, path in models.items():
            in_context = name.endswith("context")
            modes: Sequence[Mode] = CALLING[:1] if in_context and not name.startswith("base") else CALLING
            behaviours[name] = evaluate(path, run.corpus, modes, self.config.calls, in_context, self.config.seed)
        for name, behaviour in behaviours.items():
            write_array(behaviour, out / f"{name.replace(', ', '_').replace(' ', '_')}.nc")
        settings: dict[str, Any] = {"draws": self.config.draws, "seed": self.config.seed}
        accuracy = {name: behaviour_table(behaviour, **settings) for name, behaviour in behaviours.items()}
        pd.concat(accuracy, names=["model"]).reset_index("model").to_csv(out / "behaviour.csv", index=False)

    def _compute(self, run: OpenedRun, final: str, out: Path) -> None:
        from pbb_probe.evidence.effective import effective as table
        from pbb_probe.finetuning.behaviour import evaluate
        from pbb_probe.finetuning.effective import effective_programs

        settings: dict[str, Any] = {"draws": self.config.draws, "seed": self.config.seed}
        effective = effective_programs(final, run.corpus, seed=self.config.seed)
        recited = evaluate(final, run.corpus, ("recite",), seed=self.config.seed)
        write_array(effective, out / "effective.nc")
        write_array(recited, out / "recited.nc")
        table(effective, **settings).to_csv(out / "effective.csv", index=False)
        table(effective, recited, **settings).to_csv(out / "recited.csv", index=False)

    def _compare(self, run: OpenedRun, out: Path) -> None:
        from pbb_probe.evidence.comparison import comparison_tables

        config = self.config
        tables = comparison_tables(
            run, config.threshold, config.margin, config.equivalence, draws=config.draws, seed=config.seed
        )
        for name, table in tables.items():
            table.to_csv(out / f"{name}.csv", index=False)


def _default_report(run: OpenedRun, out: Path) -> None:
    from pbb_probe.views.study_report import write_study_report

    write_study_report(run, out)
