"""The run that is looked at, with what is opened once and kept: tables, arrays, the model and its probes.

Everything is read from the run; nothing is written to it. What the model computes waits its turn, and so does, apart
from it, what takes long without a model. Tables and arrays follow a step that is done again; models do not.
"""

import contextlib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pbb_probe.errors import PbbError
from pbb_probe.programs.program import GROUPS
from pbb_probe.runs.opened import OpenedRun
from pbb_probe.views.evaluated import GATE
from pbb_probe.views.explorer.recorded import Recorded, labels_of, named, pbb, value_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from transformer_lens import TransformerBridge

    from pbb_probe.hooking.prompts import Prompts
    from pbb_probe.probing.held_out import HeldOutProbes

SINGLE = ("decisive", "all", "correct")
"""Subsets of single calls."""
KEPT_TABLES = 200
PATIENCE = 10.0
"""Seconds that a request waits for its turn."""


Given = ParamSpec("Given")
Made = TypeVar("Made")


class Busy(Exception):  # noqa: N818
    """Others are being answered; the message is for who asked."""


class KeptRun(OpenedRun):
    """A run whose tables, arrays, models and probes are kept once they were asked for.

    Raises:
        Busy: by what takes a model, when others are being answered.
    """

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.lock = threading.RLock()
        # a cache an instance, so that a run that is no longer looked at is let go
        self._read_table = lru_cache(maxsize=64)(lambda name, _: OpenedRun.table(self, name))
        self._read_array = lru_cache(maxsize=8)(lambda name, _: OpenedRun.array(self, name))
        self._open_model = _once(self.lock, super().model, 2)
        self._tokenize = _once(self.lock, super().prompts, 1)
        self._fit_probes = _once(self.lock, super().held_out_probes, 1)

    def table(self, name: str) -> "pd.DataFrame":
        """A table of a finished step, as it is now."""
        return self._read_table(name, self.content(name.split("/")[0]))

    def array(self, name: str) -> "xr.Dataset":
        """A labelled array of a finished step, as it is now."""
        return self._read_array(name, self.content(name.split("/")[0]))

    def model(self, name: str = "finetuned") -> "TransformerBridge":
        """One of `models`, opened."""
        return self._open_model(name)

    def prompts(self, model: "TransformerBridge") -> "Prompts":
        """The prompts of the step `probing`."""
        return self._tokenize(model)

    def held_out_probes(self) -> "HeldOutProbes":
        """Probes of the variables that the study reads."""
        return self._fit_probes()


class Explored:
    """One run, open for looking.

    Args:
        path: of the run.

    Raises:
        PbbError: there is none, or it cannot be read.
    """

    def __init__(self, path: str | Path):
        self.run = KeptRun.existing(Path(path).expanduser().resolve())
        self.title = f"{self.run.config.base}, {self.run.config.curriculum}, seed {self.run.config.seed}"
        self._tables: OrderedDict[str, pd.DataFrame] = OrderedDict()
        self._keeping = threading.Lock()  # of its own: a table does not wait for what a model computes

        def make(function: Callable[..., Any], *arguments: Any) -> Any:
            made = function(self, *arguments)
            value_of(made)  # now, while others wait
            return made

        self.computed = _once(self.run.lock, make, 32)
        # what takes no model but long, such as UMAP, does not keep the model from others
        self.crunched = _once(threading.RLock(), make, 32)

    def recorded(self, name: str = "run") -> Recorded:
        """The run under a name, in the Python of a figure."""
        return named(pbb.open_run(str(self.run.path)), name, self.run)

    @property
    def groups(self) -> list[str]:
        """The groups of which the run's corpus has programs."""
        return [group for group in GROUPS if self.run.corpus.of(group)]

    def gate(self, name: str = "run") -> Recorded | None:
        """Which groups and numbers of steps are evaluated; None of a run that was not asked."""
        return self.recorded(name).table(GATE) if self.run.holds(f"{GATE}.csv") else None

    def subsets(self) -> list[str]:
        """The subsets of single calls that the run compares, that which counts first; those of every run before it."""
        there = {"all", "correct"}
        if self.run.key("comparison"):
            there = set(self.run.table("comparison/probing").get("subset", ()))
        return [name for name in SINGLE if name in there]

    def model(self, name: str = "finetuned") -> Recorded:
        """One of the run's models."""
        return named(self.recorded().model(*([] if name == "finetuned" else [name])), "model")

    def labels(self) -> Recorded:
        """What is known of each prompt of the step `probing`, a row a prompt."""
        return named(labels_of(self.recorded().array("probing/probes"), "prompt"), "labels")

    @property
    def beside(self) -> dict[str, Path]:
        """The other runs in the same folder, by name."""
        here = self.run.path.resolve()
        runs = {path.parent.name: path.parent for path in sorted(here.parent.glob("*/manifest.json"))}
        return {name: path for name, path in runs.items() if path.resolve() != here}

    def keep(self, made_by: str, table: "pd.DataFrame") -> str:
        """Keep the table of a figure, made by its Python, for download, and return its name."""
        name = hashlib.sha256(made_by.encode()).hexdigest()[:16]
        with self._keeping:
            self._tables[name] = table
            self._tables.move_to_end(name)
            while len(self._tables) > KEPT_TABLES:
                self._tables.popitem(last=False)
        return name

    def kept(self, name: str) -> "pd.DataFrame | None":
        """A table that was kept."""
        return self._tables.get(name)

    def warm_up(self) -> None:
        """Open what live numbers need, so that the first of them does not wait for it."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        with contextlib.suppress(PbbError, Busy):  # the view that needs it will say so
            self.run.model()
            self.run.held_out_probes()


def _once(lock: threading.RLock, make: Callable[Given, Made], kept: int) -> Callable[Given, Made]:
    """`make`, whose last results are kept, and which never runs twice at a time.

    Raises:
        Busy: its turn did not come in time.
    """
    cached = lru_cache(maxsize=kept)(make)

    def get(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        if not lock.acquire(timeout=PATIENCE):
            raise Busy("The model is busy with what was asked before: wait a while and ask again.")
        try:
            return cached(*args, **kwargs)  # type: ignore[arg-type]  # whose hash is not in its type
        finally:
            lock.release()

    return get
