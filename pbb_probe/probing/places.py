"""The tasks at every site, layer and role: fitted in each fold, with the C of each, and what they say of each prompt.

Places are fitted several at a time, and those tasks together that have the same rows, so that they share their work.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pbb_probe.errors import PbbError
from pbb_probe.probing.folds import Split, deal_folds
from pbb_probe.probing.readers import Readers, fit_together
from pbb_probe.probing.tasks import Plan, Task

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

BYTES_A_FEATURE, BYTES_A_ROW, BYTES_A_PAIR = 40, 8192, 64
"""What an activation, a prompt beside them, and a pair of features (as in the Gram matrix) take while a place is
fitted, all copies together: `experiments/benchmark_streaming.py` measures."""
VALUES_AT_ONCE = 2_000_000
"""Predictions (tasks x classes x prompts) of the places that are fitted together: a CPU's caches hold no more."""


class Read(NamedTuple):
    """What one task's probes gave, a row a place: sites, layers and roles in this order."""

    scores: "np.ndarray"
    """Accuracy, or of numbers R squared, on the held-out rows [place, fold]."""
    said: "np.ndarray"
    """Of each prompt: was the probe right, or the number it gave [place, prompt]; float32, NaN where unknown."""
    strengths: "np.ndarray"
    """The C that was used [place, fold]."""
    readers: "Sequence[Sequence[Readers]]" = ()
    """The probes themselves where they are kept: of each batch of places, those of each fold."""


Key: TypeAlias = tuple[str, str]
"""A control (`none` for the target itself) and a target."""


def places_at_once(acts: "xr.Dataset", n_values: int, memory_gib: float) -> int:
    """How many places are fitted together where each prompt is given so many scores at each.

    Raises:
        PbbError: not one fits into the memory.
    """
    import torch

    n, width = acts.sizes["prompt"], max(variable[0, 0, 0].size for variable in acts.data_vars.values())
    place_gib = (n * (width * BYTES_A_FEATURE + BYTES_A_ROW) + width**2 * BYTES_A_PAIR) / 2**30
    if place_gib > memory_gib:
        raise PbbError(
            f"One place of {n} prompts and {width} features takes {place_gib:.3g} GiB while it is fitted, and "
            f"memory_gib is {memory_gib:g}: raise it, or give fewer prompts."
        )
    at_once = max(1, int(min(VALUES_AT_ONCE / n_values / n, memory_gib / place_gib)))
    cores = torch.get_num_threads()  # each fits places of its own
    return at_once - at_once % cores if at_once > cores else at_once


def has_role(acts: "xr.Dataset") -> "np.ndarray":
    """Does the prompt have the role? [role, prompt] Where it has not, `capture` left NaN at every site and layer."""
    import numpy as np

    first = next(iter(acts.data_vars.values()))[0].values
    return np.asarray(~np.isnan(first.reshape(*first.shape[:2], -1)).all(2))


def place_batches(acts: "xr.Dataset", at_once: int) -> "Iterator[tuple[np.ndarray, np.ndarray]]":
    """Activations in float64 [place, prompt, feature] of at most so many places of one site, in the order of `Read`.

    With each, the prompts that have the roles of these places [prompt], which are the same for all; others are zeros.

    Raises:
        PbbError: activations that are NaN or infinite.
    """
    import numpy as np
    from einops import rearrange

    places = list(itertools.product(range(acts.sizes["layer"]), range(acts.sizes["role"])))
    there = has_role(acts)
    runs = [list(run) for _, run in itertools.groupby(places, key=lambda place: there[place[1]].tobytes())]
    for site in acts.data_vars:
        for batch in (run[start : start + at_once] for run in runs for start in range(0, len(run), at_once)):
            arrays = [acts[site].isel(layer=i, role=j).values for i, j in batch]  # each [prompt, (head,) feature]
            features = np.stack([rearrange(array, "prompt ... -> prompt (...)") for array in arrays]).astype(float)
            known = there[batch[0][1]]
            features[:, ~known] = np.where(np.isnan(features[:, ~known]).all(2, keepdims=True), 0, features[:, ~known])
            if not (finite := np.isfinite(features).all(2)).all():
                place, prompt = np.argwhere(~finite)[0]
                raise PbbError(
                    f"The activation {site} at layer {acts['layer'].values[batch[place][0]]} is NaN or infinite for "
                    f"prompt {prompt}: leave it out, or capture it in float32."
                )
            yield features, known


def read_everywhere(acts: "xr.Dataset", plan: Plan) -> dict[Key, Read]:
    """Fit every task at every place. Tasks that ask for the same are fitted once."""
    import numpy as np
    from tqdm import tqdm

    distinct: dict[tuple[object, ...], Task] = {}
    for task in plan.tasks:
        distinct.setdefault(task.content, task)
    tasks = list(distinct.values())
    at_once = places_at_once(acts, sum(task.n_values for task in tasks) * len(plan.strengths), plan.memory_gib)
    n_places = len(acts.data_vars) * acts.sizes["layer"] * acts.sizes["role"]
    batches = []
    with tqdm(total=n_places, desc="probes", unit="place", delay=2) as progress:
        for features, known in place_batches(acts, at_once):
            batches.append(_read_places(features, [task.where(known) for task in tasks], plan))
            progress.update(len(features))
    scores, said, strengths = (np.concatenate([batch[part] for batch in batches]) for part in range(3))
    reads = {
        content: Read(scores[:, i], said[:, i], strengths[:, i], [batch.readers[i] for batch in batches])
        for i, content in enumerate(distinct)
    }
    return {(task.control, task.name): reads[task.content] for task in plan.tasks}


def guessed(plan: Plan) -> dict[str, Read]:
    """By target, what one gets by saying the most common class, or the mean, of the rows that are fitted on."""
    import numpy as np

    split, reads = plan.split, {}
    for task in plan.tasks:
        scores, said = np.full((1, split.n), np.nan), np.full((1, len(split.fold)), np.nan, np.float32)
        others = task.known & split.others
        said[:, others] = 0
        for k in range(split.n):
            fitted = task.values[task.known & split.fitted(k)]
            guess = fitted.mean() if task.kind == "ridge" else np.bincount(fitted).argmax()
            held_out = task.known & split.held_out(k)
            for rows, share in ((held_out, 1), (others, split.n)):
                answer = guess if task.kind == "ridge" else task.values[rows] == guess
                said[0, rows] = np.nan_to_num(said[0, rows]) + np.asarray(answer, np.float32) / share
            if (scored := held_out & split.train).any():
                scores[:, k] = _scored(task, said[:, scored], scored)
        reads[task.name] = Read(scores, said, np.full_like(scores, np.nan))
    return reads


class _Batch(NamedTuple):
    """What all tasks' probes gave at several places."""

    scores: "np.ndarray"
    """[place, task, fold]"""
    said: "np.ndarray"
    """[place, task, prompt]"""
    strengths: "np.ndarray"
    """[place, task, fold]"""
    readers: list[list[Readers]]
    """Of each task, those of each fold; none where they are not kept."""


def _read_places(features: "np.ndarray", tasks: list[Task], plan: Plan) -> _Batch:
    """Fit the tasks on features [place, prompt, feature], those with the same rows together; read the other rows."""
    import numpy as np

    split = plan.split
    scores = np.full((len(features), len(tasks), split.n), np.nan)
    said = np.full((len(features), len(tasks), len(split.fold)), np.nan, np.float32)
    used = np.full_like(scores, plan.strengths[0])
    kept: list[list[Readers]] = [[] for _ in tasks]
    for fits in _fits(tasks, split):
        fitted = [tasks[same[0]] for same in fits]  # one task of each fit; the others are judged differently
        firsts, known = [same[0] for same in fits], fitted[0].known
        others = np.flatnonzero(known & split.others)
        for i in itertools.chain.from_iterable(fits):
            said[:, i, others] = 0.0
        for k in range(split.n):
            rows, held_out = np.flatnonzero(known & split.fitted(k)), np.flatnonzero(known & split.held_out(k))
            if len(plan.strengths) > 1:
                used[:, firsts, k] = _chosen_strengths(features, fitted, rows, plan)
            columns, kinds = [task.values[rows] for task in fitted], [task.kind for task in fitted]
            readers = fit_together(features[:, rows], columns, kinds, used[:, firsts, k], plan.balanced)
            for same, reader in zip(fits, readers, strict=True):
                used[:, same, k] = used[:, same[:1], k]
                for where in (held_out, others):
                    values = reader.read(features[:, where])  # [place, row]
                    for i in same:
                        answers = values if tasks[i].kind == "ridge" else values == tasks[i].right[where]
                        said[:, i, where] = answers if where is held_out else said[:, i, where] + answers / split.n
                scored = held_out[split.train[held_out]]
                for i in same if len(scored) else ():
                    scores[:, i, k] = _scored(tasks[i], said[:, i, scored], scored)
                for i in same if plan.keep else ():
                    kept[i].append(reader)
    return _Batch(scores, said, used, kept)


def _fits(tasks: list[Task], split: Split) -> list[list[list[int]]]:
    """The numbers of the tasks that can be learned: of each set of rows, and in it of each fit, those that share it."""
    by_rows: dict[bytes, dict[tuple[object, ...], list[int]]] = {}
    for i, task in enumerate(tasks):
        if task.can_be_learned(split):
            by_rows.setdefault(task.known.tobytes(), {}).setdefault(task.fitted, []).append(i)
    return [list(fits.values()) for fits in by_rows.values()]


def _chosen_strengths(features: "np.ndarray", tasks: list[Task], rows: "np.ndarray", plan: Plan) -> "np.ndarray":
    """The C [place, task] that does best on clusters held out of these rows; the smallest of equals."""
    import numpy as np
    from einops import rearrange

    inner = deal_folds(plan.clusters[rows], plan.split.n, plan.seed)
    grid = sorted(plan.strengths)
    trials = [(task, strength) for task in tasks for strength in grid]
    gained = np.zeros((len(features), len(trials)))
    for k in range(plan.split.n):
        fitted, new = rows[inner != k], rows[inner == k]
        able = [j for j, (task, _) in enumerate(trials) if len(set(task.values[fitted].tolist())) > 1]
        if not able:
            continue  # nothing can be learned in this inner fold
        columns, kinds = [trials[j][0].values[fitted] for j in able], [trials[j][0].kind for j in able]
        strengths = np.tile([trials[j][1] for j in able], (len(features), 1))
        readers = fit_together(features[:, fitted], columns, kinds, strengths, plan.balanced)
        held_out = features[:, new]
        for j, reader in zip(able, readers, strict=True):
            task = trials[j][0]
            values, right = reader.read(held_out), task.values[new]
            gained[:, j] += -((values - right) ** 2).sum(1) if task.kind == "ridge" else (values == right).sum(1)
    best = rearrange(gained, "place (task strength) -> place task strength", task=len(tasks)).argmax(2)
    return np.asarray(np.array(grid)[best])


def _scored(task: Task, said: "np.ndarray", rows: "np.ndarray") -> "np.ndarray":
    """[place] of what is said of some rows [place, row]; R squared is NaN where all values are the same."""
    import numpy as np

    if task.kind != "ridge":
        return np.asarray(said.mean(1, dtype=float))
    values = task.right[rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - ((values - said) ** 2).sum(1) / ((values - values.mean()) ** 2).sum())
