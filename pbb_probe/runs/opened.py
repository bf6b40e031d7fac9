"""A study's run, opened: its corpus, models and prompts, beside the arrays and tables of its steps."""

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.finetuning.curricula import get_curriculum
from pbb_probe.labels import label, labels_of
from pbb_probe.models.bases import available_device
from pbb_probe.programs.corpus import Corpus
from pbb_probe.programs.program import call_arguments, trace_programs
from pbb_probe.programs.templates import templates
from pbb_probe.runs.config import StudyConfig, read_config
from pbb_probe.store.records import MANIFEST
from pbb_probe.store.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.prompts import Prompts
    from pbb_probe.probing.probes import Probes

MEASURED = ("behaviour", "effective", "probing", "patching", "transfer", "interchange", "comparison", "report")
"""The steps of a study after its models are trained, in order."""


MEANING = ("function", "novelty", "decisive", "explained_by")
"""What `Corpus.calls` says of a call beside its program and trace."""


class OpenedRun(Run):
    """A run to read from. `array` and `table` give what its steps measured; nothing is ever written."""

    def __init__(self, path: str | Path):
        super().__init__(path)
        self._corpus: tuple[str | None, Corpus] | None = None

    @property
    def config(self) -> StudyConfig:
        """The study's settings.

        Raises:
            PbbError: they cannot be read, or were changed since.
        """
        path = self.path / "config.json"
        try:
            settings = json.loads(path.read_bytes() if path.is_file() else "")
        except (OSError, ValueError, RecursionError) as error:
            raise PbbError(f"{path} cannot be read ({error}): run the study again, it keeps what is done.") from error
        if settings != self.manifest.get("config"):
            raise PbbError(
                f"{path} was changed since the study wrote it: undo that, or run the study again with these settings."
            )
        return read_config(settings)

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions, and for each step that is done its key, inputs and seconds.

        Raises:
            PbbError: it cannot be read.
        """
        if not (found := self.manifest_read()):
            raise PbbError(
                f"{self.path / MANIFEST} is missing, damaged or was changed: run the study again, which keeps what is "
                "done."
            )
        return found

    @property
    def steps(self) -> dict[str, bool]:
        """Is it done? For every step of the study in order."""
        trained = [stage.name for stage in get_curriculum(self.config.curriculum)]
        return {name: self.key(name) is not None for name in ("corpus", *trained, "stage2_alone", *MEASURED)}

    def need(self, step: str) -> None:
        """Refuse to go on without a step.

        Raises:
            PbbError: it is not done yet; the message says how to do it.
        """
        if self.key(step) is None:
            raise self._lacks(step)

    def array(self, name: str) -> "xr.Dataset":
        """A labelled array of a finished step by its path in the run without `.nc`, such as `probing/probes`.

        Raises:
            PbbError: there is none, it was changed since, or it is of a release whose arrays had no labels.
        """
        array = super().array(name)
        if {"prompt", "pair"} & set(array.dims) and name.split("/")[0] in MEASURED and "answered" not in array.coords:
            raise PbbError(
                f"{self.path / name}.nc was written by a release before 0.9, whose arrays had no labels: run the study "
                "again, which measures anew and keeps the trained models."
            )
        return array

    @property
    def corpus(self) -> Corpus:
        """The programs, as they are now.

        Raises:
            PbbError: they are not there yet, or were changed since.
        """
        content = self.content("corpus")
        if self._corpus is None or self._corpus[0] != content:
            self._corpus = (content, Corpus.load(self.folder("corpus")))
        return self._corpus[1]

    @property
    def models(self) -> dict[str, str]:
        """What `load_model` takes, by name: finetuned, each stage alone, and the base; those that are there."""
        stages = [stage.name for stage in get_curriculum(self.config.curriculum)]
        named = {
            "finetuned": stages[-1],
            **{f"{name} alone": name for name in stages[:-1]},
            "stage2 alone": "stage2_alone",
        }
        trained = {name: str(self.path / step / "model") for name, step in named.items() if self.key(step)}
        return {**trained, "base": self.config.base}

    def model(self, name: str = "finetuned") -> "TransformerBridge":
        """One of `models`, opened.

        Raises:
            PbbError: there is none of that name, or it cannot be loaded.
        """
        from pbb_probe.hooking.load import load_model

        if name not in self.models:
            raise PbbError(f"The run {self.path} has no model {name!r}: it has {', '.join(self.models)}.")
        path = Path(self.models[name])
        if path.parent.parent == self.path:
            self.folder(path.parent.name)
        return load_model(self.models[name], device=available_device())

    def prompts(self, model: "TransformerBridge") -> "Prompts":
        """The prompts of the step `probing`, in the order of its arrays' dimension `prompt`.

        Their labels are those of `Corpus.calls`, and `answered`: are they answered correctly?

        Raises:
            PbbError: the step is not done, or its arrays name a call that the corpus does not have.
        """
        import pandas as pd

        from pbb_probe.hooking.calls import prompts_of_calls

        table = labels_of(self.array("probing/probes"), "prompt")
        entries, rows = self.corpus.by_name, []
        try:
            for row in table.to_dict(orient="records"):
                entry = entries[row["program"]]
                rows.append(entry.call(entry.traces[row["place"]], "direct", row["template"], row["place"]))
        except (KeyError, IndexError) as error:
            raise PbbError(
                f"The prompts of {self.path} are not of its corpus (no {error}): delete the folder "
                f"{self.path / 'probing'} and run the study again."
            ) from error
        answered = "output" in self.config.probing.roles
        meaning = {name: table[name] for name in MEANING if name in table}  # arrays of earlier releases have none
        calls = pd.DataFrame(rows).assign(**meaning, answered=table["answered"])
        return prompts_of_calls(model, calls, answered, answers=self.corpus.outputs)

    def call(self, program: str, call: str, template: str | None = None) -> "pd.DataFrame":
        """A program run on any input: a row of `Corpus.calls`, whose `place` is -1 where the corpus has not the input.

        Args:
            program: its name.
            call: the arguments as they stand in a call, such as `3` or `[1, 2], 5`.
            template: with {name} and {input}; the family's first one when None.

        Raises:
            PbbError: an unknown program, arguments that are no Python values, or ones on which it cannot be run.
        """
        import pandas as pd

        entries = self.corpus.by_name
        if program not in entries:
            raise PbbError(f"There is no program {program!r}: the run has {', '.join(list(entries)[:3])} and others.")
        entry = entries[program]
        arguments = call_arguments(program, call)
        template = template or templates(entry.program.family, "direct")[0]
        place = next((i for i, trace in enumerate(entry.traces) if trace.arguments == arguments), -1)
        if place >= 0:
            trace = entry.traces[place]
        else:
            library = [other.program for other in entries.values()]
            ((trace,),) = trace_programs([entry.program], [[arguments]], library=library)
        meaning = self.corpus.meaning[program]
        known = meaning.labels(place) if place >= 0 else {"function": meaning.function, "novelty": meaning.novelty}
        return pd.DataFrame([entry.call(trace, "direct", template, place) | known])

    def held_out_probes(self) -> "Probes":
        """Probes of the variables that the study reads, fitted anew on the activations it kept of with_io programs.

        Raises:
            PbbError: the step `probing` is not done.
        """
        from pbb_probe.probing.linear import fit_probes

        acts, settings = self.array("probing/activations"), self.config.probing
        with_io = (label(acts, "group") == "with_io").to_numpy()
        return fit_probes(acts, list(settings.targets), train=with_io, C=settings.C, folds=2, keep=True)

    def readings(
        self, model: "TransformerBridge", prompts: "Prompts", probes: "Probes | None" = None
    ) -> "pd.DataFrame":
        """What is read of every variable of calls at each layer: by probes that have not seen them, and by the lens.

        Args:
            model: the finetuned one.
            prompts: calls, such as `prompts_of_calls(model, run.call(...), answers=run.corpus.outputs)`.
            probes: of `held_out_probes`, which are fitted when None.

        Returns:
            A row for each way (probe, logit lens), prompt, role, variable and layer: value and truth as text, the
            `probability` of the value among those that the variable takes in the run, and right. What a call does not
            have, such as the second operator of a program of one step, is left out.

        Raises:
            PbbError: the step `probing` is not done.
        """
        import pandas as pd

        from pbb_probe.hooking.answers import with_answers
        from pbb_probe.hooking.capture import capture

        settings, labels = self.config.probing, prompts.labels
        if "output" in settings.roles and "output" not in prompts.roles:
            prompts = with_answers(model, prompts, labels["output"].tolist())
        roles = [role for role in settings.roles if role in prompts.roles]
        acts = capture(model, prompts, settings.sites, roles=roles)
        read = (probes or self.held_out_probes()).read(acts, labels["program"].tolist())
        read = read.assign(way="probe, " + read["site"]).rename(columns={"target": "variable"})
        table = pd.concat([read.drop(columns="site"), self._looked(model, prompts)], ignore_index=True)
        table["value"] = table["value"].map(value_text)
        known = {
            (i, name): value for name in set(table["variable"]) & set(labels) for i, value in enumerate(labels[name])
        }
        table["truth"] = [
            value_text(known.get(place)) for place in zip(table["prompt"], table["variable"], strict=True)
        ]
        table = table[table["truth"] != ""].reset_index(drop=True)
        return table.assign(right=table["value"] == table["truth"])

    def _looked(self, model: "TransformerBridge", prompts: "Prompts") -> "pd.DataFrame":
        """The likeliest value by the logit lens at the answer, of those that its variables take in the run."""
        import pandas as pd

        from pbb_probe.probing.lens import lens

        columns = ["way", "role", "variable", "layer", "prompt", "value", "probability"]
        names = [name for name in self.config.probing.lens if name in prompts.labels]
        known = labels_of(self.array("probing/probes"), "prompt")
        values = sorted({value_text(value) for name in names for value in known[name].dropna()})
        empty = pd.DataFrame(columns=columns)
        if not values:
            return empty
        any_value = pd.DataFrame({"value": [values[0]] * len(prompts)})  # what is asked for does not matter
        try:
            looked = lens(model, prompts, any_value, values)
        except PbbError:  # values that all begin alike
            return empty
        if "first_token" in looked.attrs:  # which says no whole value
            return empty
        shares = looked["candidates"].sel(role="answer")
        most = shares.max("value").to_series().rename("probability").reset_index()
        said = shares["value"].values[shares.values.argmax(0)].ravel()  # [layer, prompt], as the series
        tables = [most.assign(way="logit lens", role="answer", variable=name, value=said)[columns] for name in names]
        return pd.concat(tables, ignore_index=True)

    def _lacks(self, name: str, suffix: str = "") -> PbbError:
        step = name.split("/")[0]
        if step in self.steps and not self.record(step):
            return self._not_done(step)  # which says how to get it
        return super()._lacks(name, suffix)

    def _not_done(self, step: str) -> PbbError:
        begun = "not finished" if any(self.path.glob(f".{step}.*")) else "not done"
        config, out = quote(str(self.path / "config.json")), quote(str(self.path))
        return PbbError(
            f"The run {self.path} has {begun} its step {step} yet: "
            f"pbb-probe run --config {config} --out {out} goes on where it stopped."
        )


def value_text(value: Any) -> str:
    """A value of a label as text: whole numbers that stand as floats beside missing ones are such again."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def open_run(path: str | Path) -> OpenedRun:
    """A run that is there, to read from; `Study` goes on with one.

    Args:
        path: the run's directory, as `pbb-probe run` or `Study` wrote it. Its steps need not all be done.

    Returns:
        The run. `array` and `table` give what its steps measured, by the file's path in the run without its ending;
        `config`, `corpus`, `model` and `prompts` are the study's own, and `steps` says which steps are done.

    Raises:
        PbbError: there is no run at the path.

    Example:
        >>> import pbb_probe as pbb
        >>> run = pbb.open_run("runs/nano")
        >>> run.table("comparison/evaluation").columns.tolist()
        ['group', 'steps', 'evaluation', 'evaluated', 'subset']
        >>> run.array("probing/probes")["correct"].dims
        ('control', 'target', 'site', 'layer', 'role', 'prompt')
    """
    return OpenedRun.existing(path)
