"""The study: from a base model to a layer-by-layer comparison, as ordered steps that are done once and resumed.

corpus -> stage 1 -> stage 2 (and stage 2 alone) -> behaviour
-> probing, patching, transfer, interchange -> comparison -> report
"""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pbb_probe import measures
from pbb_probe.config import StudyConfig
from pbb_probe.finetuning.bases import base_digest
from pbb_probe.finetuning.curricula import CURRICULA, get_curriculum
from pbb_probe.finetuning.train import train_stage
from pbb_probe.opened import OpenedRun
from pbb_probe.programs.corpus import Corpus, make_corpus
from pbb_probe.store import Run, file_digest, write
from pbb_probe.views.report import REPORTS


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
