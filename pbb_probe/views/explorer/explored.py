"""The run that is looked at, with what is opened once and kept: tables, arrays, the model and its probes.

Everything is read from the run; nothing is written to it. What the model computes waits its turn, and so does, apart
from it, what takes long without a model. Tables and arrays follow a step that is done again; models do not.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.runs.opened import OpenedRun, open_run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from transformer_lens import TransformerBridge

KEPT_TABLES = 200
PATIENCE = 10.0
"""Seconds that a request waits for its turn."""


class Busy(Exception):  # noqa: N818
    """Others are being answered; the message is for who asked."""


class Explored:
    """One run, open for looking.

    Args:
        path: of the run.

    Raises:
        PbbError: there is none, or it cannot be read.
    """

    def __init__(self, path: str | Path):
        self.run: OpenedRun = open_run(Path(path).expanduser().resolve())
        self.title = "{base}, {curriculum}, seed {seed}".format(**self.run.config)
        self.lock = threading.RLock()
        self._tables: OrderedDict[str, pd.DataFrame] = OrderedDict()
        self._keeping = threading.Lock()  # of its own: a table does not wait for what a model computes
        # a cache an instance, so that a run that is no longer looked at is let go
        self._read_table = lru_cache(maxsize=64)(lambda name, _: self.run.table(name))
        self._read_array = lru_cache(maxsize=8)(lambda name, _: self.run.array(name))
        self._model = _once(self.lock, self.run.model, 2)
        self.prompts = _once(self.lock, lambda: self.run.prompts(self.model()), 1)
        self.probes = _once(self.lock, self.run.held_out_probes, 1)
        self.computed = _once(self.lock, lambda make, *arguments: make(self, *arguments), 32)
        # what takes no model but long, such as UMAP, does not keep the model from others
        self.crunched = _once(threading.RLock(), lambda make, *arguments: make(self, *arguments), 32)

    def model(self, name: str = "finetuned") -> "TransformerBridge":
        """One of the run's models.

        Raises:
            PbbError: there is none of that name, or it cannot be loaded.
            Busy: others are being answered.
        """
        return self._model(name)

    @property
    def beside(self) -> dict[str, Path]:
        """The other runs in the same folder, by name."""
        own = self.run.path.resolve()
        found = {path.parent.name: path.parent for path in sorted(own.parent.glob("*/manifest.json"))}
        return {name: path for name, path in found.items() if path.resolve() != own}

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
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            self.model()
            self.probes()
        except (PbbError, Busy):  # the view that needs it will say so
            return

    def table(self, name: str) -> "pd.DataFrame":
        """A table of a finished step, as it is now.

        Raises:
            PbbError: the step is not done, there is no such table, or it was changed since.
        """
        return self._read_table(name, self.run.content(name.split("/")[0]))

    def array(self, name: str) -> "xr.Dataset":
        """A labelled array of a finished step, as it is now.

        Raises:
            PbbError: the step is not done, there is no such array, or it was changed since.
        """
        return self._read_array(name, self.run.content(name.split("/")[0]))


def _once(lock: threading.RLock, make: Callable[..., Any], kept: int) -> Callable[..., Any]:
    """`make`, whose last results are kept, and which never runs twice at a time.

    Raises:
        Busy: its turn did not come in time.
    """
    cached = lru_cache(maxsize=kept)(make)

    def get(*arguments: Any) -> Any:
        if not lock.acquire(timeout=PATIENCE):
            raise Busy("The model is busy with what was asked before: wait a while and ask again.")
        try:
            return cached(*arguments)
        finally:
            lock.release()

    return get
