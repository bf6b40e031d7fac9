"""An entry of a corpus: a program, its group, its traces, and the inputs whose answers a model may be shown."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from pbb_probe.errors import PbbError
from pbb_probe.programs.describe import describe
from pbb_probe.programs.documents import call_document
from pbb_probe.programs.elements import element_targets
from pbb_probe.programs.passes import pass_targets
from pbb_probe.programs.program import Group, Program, Trace, label
from pbb_probe.programs.targets import call_targets
from pbb_probe.programs.templates import Mode
from pbb_probe.programs.trace import trace_to_json


@dataclass(frozen=True)
class Entry:
    """A program of the corpus with its traces, in the natural order of the inputs."""

    program: Program
    group: Group
    traces: tuple[Trace, ...]
    shown: tuple[int, ...]
    """The places in `traces` of those whose answers documents may contain; none for without_io."""

    @property
    def shown_traces(self) -> list[Trace]:
        """The traces on the shown inputs."""
        return [self.traces[place] for place in self.shown]

    def call(self, trace: Trace, mode: Mode, template: str, place: int) -> dict[str, Any]:
        """A row of `Corpus.calls`. The place is -1 for an input that is not among the program's."""
        document = call_document(self.program, trace, mode, template)
        return {
            "prompt": document.prompt,
            "completion": document.completion,
            "template": template,
            "call": trace.call_text,
            "place": place,
            "program": self.program.name,
            "source": self.program.source,
            "family": self.program.family,
            "group": self.group,
            "seen": place in self.shown,
            **self.program.facts,
            **trace.variables(),
            **call_targets(self.program.source, trace),
            **pass_targets(self.program.source, trace),
            **element_targets(trace),
        }

    def recitation(self, template: str) -> dict[str, Any]:
        """A row of `Corpus.calls` in mode `recite`: no call, but the program's name, and its code to be written."""
        return {
            "prompt": template.format(name=self.program.name),
            "completion": "\n" + self.program.source,
            "template": template,
            "program": self.program.name,
            "source": self.program.source,
            "family": self.program.family,
            "group": self.group,
            "seen": self.group != "io_only",
            **self.program.facts,
        }

    def to_json(self) -> dict[str, Any]:
        """What `json` can write of it, as `rows.read_row` reads it."""
        return {
            "program": asdict(self.program),
            "group": self.group,
            "traces": list(map(trace_to_json, self.traces)),
            "shown": list(self.shown),
        }

    def dataset_row(self) -> dict[str, Any]:
        """A row of `Corpus.to_datasets`."""
        program = self.program
        try:
            description = describe(program.source)
        except PbbError:
            description = ""
        return {
            "name": program.name,
            "family": program.family,
            "source": program.source,
            "description": description,
            "facts": json.dumps(program.facts),
            "calls": list(program.calls),
            "inputs": [trace.call_text for trace in self.traces],
            "outputs": [str(label(trace.output)) for trace in self.traces],
            "shown": [place in self.shown for place in range(len(self.traces))],
        }
