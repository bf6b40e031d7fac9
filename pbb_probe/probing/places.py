"""The probes of all targets at every site, layer and role: folds, the C of each, and what they say of each prompt.

Places are fitted some at a time, and those targets together that have the same rows, so that they share their work.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pbb_probe.errors import PbbError
from pbb_probe.probing.folds import deal_folds
from pbb_probe.probing.probe import Kind
from pbb_probe.probing.readers import fit_together

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

BYTES_A_FEATURE, BYTES_A_ROW, BYTES_A_PAIR = 40, 8192, 64
"""What an activation, a prompt beside them, and a pair of features (as in the Gram matrix) take while a place is
fitted, all copies together: `experiments/benchmark_streaming.py` measures."""
VALUES_AT_ONCE = 2_000_000
"""Predictions (tasks x classes x prompts) of the places that are fitted together: a CPU's caches hold no more."""

LARGEST = 1e100
"""Number that is read by ridge: squares of larger ones are infinite."""


@dataclass(frozen=True, eq=False)
class Task:
    """One column to be read."""

    control: str
    """`none` for the target itself."""
    name: str
    kind: Kind
    known: "np.ndarray"
    """[prompt]"""
    values: "np.ndarray"
    """What is fitted: class numbers, or for ridge numbers [prompt]; anything where unknown."""
    right: "np.ndarray"
    """What the probe is judged by, in the same way [prompt]."""

    @property
    def fitted(self) -> tuple:
        """The same for tasks that are fitted to the same."""
        return self.kind, self.known.tobytes(), self.values.tobytes()

    @property
    def content(self) -> tuple:
        """The same for tasks that are judged by the same too."""
        return *self.fitted, self.right.tobytes()

    @property
    def n_values(self) -> int:
        """Scores that a prompt is given."""
        return 1 if self.kind == "ridge" else int(self.values.max()) + 1

    @classmethod
    def of(cls, control: str, column: "pd.Series", kind: Kind, judge: "pd.Series | None" = None) -> "Task":
        """A column of values as a task, judged by another column of the same prompts, or by itself.

        Raises:
            PbbError: numbers that are none.
        """
        import numpy as np
        import pandas as pd

        column = column.reset_index(drop=True)
        judge = column if judge is None else judge
        known = column.notna().to_numpy()
        if kind == "ridge":
            values, right = (pd.to_numeric(each, errors="coerce").to_numpy(float) for each in (column, judge))
            if not (np.abs(values[known]) <= LARGEST).all():  # NaN is not either
                raise PbbError(
                    f"The target {column.name!r} is read by ridge, and not all its values are finite numbers of "
                    f"at most {LARGEST:g}."
                )
        else:
            try:
                values, classes = pd.factorize(column, sort=True)
            except TypeError as error:
                raise PbbError(
                    f"The target {column.name!r} has values that cannot be told apart ({error}): give texts or numbers."
                ) from error
            right = pd.Index(classes).get_indexer(pd.Index(judge))
        return cls(control, str(column.name), kind, known, values, right)

    def can_be_learned(self, fold: "np.ndarray") -> bool:
        """Are there two values to learn, whichever fold [prompt] is held out?"""
        fitted = [self.values[self.known & (fold >= 0) & (fold != k)] for k in range(fold.max() + 1)]
        return all(len(values) >= 2 if self.kind == "ridge" else len(set(values)) >= 2 for values in fitted)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done at every place."""

    tasks: list[Task]
    fold: "np.ndarray"
    """[prompt], -1 outside train."""
    clusters: "np.ndarray"
    """[prompt]"""
    strengths: list[float]
    """Of C, to choose from."""
    balanced: bool
    seed: int
    memory_gib: float

    @property
    def folds(self) -> int:
        """How many."""
        return int(self.fold.max()) + 1


class Read(NamedTuple):
    """What one task's probes gave, a row a place: sites, layers and roles in this order."""

    scores: "np.ndarray"
    """Accuracy, or of numbers R squared, on the held-out rows [place, fold]."""
    said: "np.ndarray"
    """Of each prompt: was the probe right, or the number it gave [place, prompt]; float32, NaN where unknown."""
    strengths: "np.ndarray"
    """The C that was used [place, fold]."""


Key: TypeAlias = tuple[str, str]
"""A control (`none` for the target itself) and a target."""


def places_at_once(acts: "xr.Dataset", n_values: int, memory_gib: float) -> int:
    """How many places are fitted together where each prompt is given so many scores at each.

    Raises:
        PbbError: not one fits into the memory.
    """
    import torch

    n, width = acts.sizes["prompt"], max(variable[0, 0, 0].size for variable in acts.data_vars.values())
    one = (n * (width * BYTES_A_FEATURE + BYTES_A_ROW) + width**2 * BYTES_A_PAIR) / 2**30
    if one > memory_gib:
        raise PbbError(
            f"One place of {n} prompts and {width} features takes {one:.3g} GiB while it is fitted, and memory_gib is "
            f"{memory_gib:g}: raise it, or give fewer prompts."
        )
    at_once = max(1, int(min(VALUES_AT_ONCE / n_values / n, memory_gib / one)))
    cores = torch.get_num_threads()  # each fits places of its own
    return at_once - at_once % cores if at_once > cores else at_once


def place_batches(acts: "xr.Dataset", at_once: int) -> "Iterator[np.ndarray]":
    """Activations in float64 [place, prompt, feature] of at most so many places of one site, in the order of `Read`.

    Raises:
        PbbError: activations that are NaN or infinite.
    """
    import numpy as np

    n = acts.sizes["prompt"]
    places = list(itertools.product(range(acts.sizes["layer"]), range(acts.sizes["role"])))
    for site in acts.data_vars:
        for start in range(0, len(places), at_once):
            some = places[start : start + at_once]
            values = np.stack([acts[site].isel(layer=i, role=j).values.reshape(n, -1) for i, j in some]).astype(float)
            if not (finite := np.isfinite(values).all(2)).all():
                place, prompt = np.argwhere(~finite)[0]
                raise PbbError(
                    f"The activation {site} at layer {acts['layer'].values[some[place][0]]} is NaN or infinite for "
                    f"prompt {prompt}: leave it out, or capture it in float32."
                )
            yield values


def read_everywhere(acts: "xr.Dataset", plan: Plan) -> dict[Key, Read]:
    """Fit every task at every place. Tasks that ask for the same are fitted once."""
    import numpy as np
    from tqdm import tqdm

    distinct: dict[tuple, Task] = {}
    for task in plan.tasks:
        distinct.setdefault(task.content, task)
    tasks = list(distinct.values())
    at_once = places_at_once(acts, sum(task.n_values for task in tasks) * len(plan.strengths), plan.memory_gib)
    n_places = len(acts.data_vars) * acts.sizes["layer"] * acts.sizes["role"]
    found = []
    with tqdm(total=n_places, desc="probes", unit="place", delay=2) as progress:
        for features in place_batches(acts, at_once):
            found.append(_read_places(features, tasks, plan))
            progress.update(len(features))
    together = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    of = {content: Read(*(part[:, i] for part in together)) for i, content in enumerate(distinct)}
    return {(task.control, task.name): of[task.content] for task in plan.tasks}


def guessed(plan: Plan) -> dict[str, Read]:
    """By target, what one gets by saying the most common class, or the mean, of the rows that are fitted on."""
    import numpy as np

    found = {}
    for task in plan.tasks:
        scores, said = np.full((1, plan.folds), np.nan), np.full((1, len(plan.fold)), np.nan, np.float32)
        others = task.known & (plan.fold < 0)
        said[:, others] = 0
        for k in range(plan.folds):
            fitted = task.values[task.known & (plan.fold >= 0) & (plan.fold != k)]
            guess = fitted.mean() if task.kind == "ridge" else np.bincount(fitted).argmax()
            held_out = task.known & (plan.fold == k)
            for where, share in ((held_out, 1), (others, plan.folds)):
                told = guess if task.kind == "ridge" else task.values[where] == guess
                said[0, where] = np.nan_to_num(said[0, where]) + np.asarray(told, np.float32) / share
            if held_out.any():
                scores[:, k] = _scored(task, said[:, held_out], held_out)
        found[task.name] = Read(scores, said, np.full_like(scores, np.nan))
    return found


def _read_places(features: "np.ndarray", tasks: list[Task], plan: Plan) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """Fit the tasks on features [place, prompt, feature], those with the same rows together, and read the other rows.

    Returns scores [place, task, fold], what is said of each prompt [place, task, prompt], and C [place, task, fold].
    """
    import numpy as np

    fold, folds = plan.fold, plan.folds
    train = fold >= 0
    scores = np.full((len(features), len(tasks), folds), np.nan)
    said = np.full((len(features), len(tasks), len(fold)), np.nan, np.float32)
    used = np.full_like(scores, plan.strengths[0])
    groups: dict[bytes, dict[tuple, list[int]]] = {}
    for i, task in enumerate(tasks):
        said[:, i, task.known & ~train] = 0.0
        groups.setdefault(task.known.tobytes(), {}).setdefault(task.fitted, []).append(i)
    for group in groups.values():
        mine = [tasks[some[0]] for some in group.values()]  # a task a fit; others are judged differently
        known, firsts = mine[0].known, [some[0] for some in group.values()]
        others = np.flatnonzero(known & ~train)
        for k in range(folds):
            rows, held_out = np.flatnonzero(known & train & (fold != k)), np.flatnonzero(known & (fold == k))
            if len(plan.strengths) > 1:
                used[:, firsts, k] = _chosen_strengths(features, mine, rows, plan)
            columns, kinds = [task.values[rows] for task in mine], [task.kind for task in mine]
            readers = fit_together(features[:, rows], columns, kinds, used[:, firsts, k], plan.balanced)
            for some, reader in zip(group.values(), readers, strict=True):
                used[:, some, k] = used[:, some[:1], k]
                for where in (held_out, others):
                    found = reader.read(features[:, where])
                    for i in some:
                        told = found if tasks[i].kind == "ridge" else found == tasks[i].right[where]
                        said[:, i, where] = told if where is held_out else said[:, i, where] + told / folds
                for i in some if len(held_out) else ():
                    scores[:, i, k] = _scored(tasks[i], said[:, i, held_out], held_out)
    return scores, said, used


def _chosen_strengths(features: "np.ndarray", tasks: list[Task], rows: "np.ndarray", plan: Plan) -> "np.ndarray":
    """The C [place, task] that does best on clusters held out of these rows; the smallest of equals."""
    import numpy as np

    inner = deal_folds(plan.clusters[rows], plan.folds, plan.seed)
    grid = sorted(plan.strengths)
    every = [(task, c) for task in tasks for c in grid]
    gained = np.zeros((len(features), len(every)))
    for k in range(plan.folds):
        fitted, new = rows[inner != k], rows[inner == k]
        able = [j for j, (task, _) in enumerate(every) if len(set(task.values[fitted].tolist())) > 1]
        if not able:
            continue  # nothing can be learned in this inner fold
        columns, kinds = [every[j][0].values[fitted] for j in able], [every[j][0].kind for j in able]
        strengths = np.tile([every[j][1] for j in able], (len(features), 1))
        readers = fit_together(features[:, fitted], columns, kinds, strengths, plan.balanced)
        held_out = features[:, new]
        for j, reader in zip(able, readers, strict=True):
            task = every[j][0]
            found, right = reader.read(held_out), task.values[new]
            gained[:, j] += -((found - right) ** 2).sum(1) if task.kind == "ridge" else (found == right).sum(1)
    return np.array(grid)[gained.reshape(len(features), len(tasks), -1).argmax(2)]


def _scored(task: Task, said: "np.ndarray", rows: "np.ndarray") -> "np.ndarray":
    """[place] of what is said of some rows [place, row]; R squared is NaN where all values are the same."""
    import numpy as np

    if task.kind != "ridge":
        return said.mean(1, dtype=float)
    values = task.right[rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - ((values - said) ** 2).sum(1) / ((values - values.mean()) ** 2).sum()
