"""What is fitted at every place: the targets, and the controls that are other values of them, a column each."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pbb_probe.errors import PbbError
from pbb_probe.labels import NONE
from pbb_probe.probing.controls import control_task, permuted_within, shuffled_values
from pbb_probe.probing.folds import Split
from pbb_probe.probing.readers import Kind

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LARGEST = 1e100
"""The largest number that ridge reads: squares of larger ones are infinite."""


@dataclass(frozen=True, eq=False)
class Task:
    """One column to be read."""

    control: str
    """`none` for the target itself."""
    name: str
    kind: Kind
    known: "np.ndarray"
    """Does the row have a value? [prompt]"""
    values: "np.ndarray"
    """What is fitted: class numbers, or for ridge numbers [prompt]; anything where unknown."""
    right: "np.ndarray"
    """What the probe is judged by, in the same way [prompt]."""
    classes: "np.ndarray"
    """The values that the class numbers stand for; none for ridge."""

    @property
    def fitted(self) -> tuple[object, ...]:
        """The same for tasks that are fitted to the same."""
        return self.kind, self.known.tobytes(), self.values.tobytes()

    @property
    def content(self) -> tuple[object, ...]:
        """The same for tasks that are judged by the same too."""
        return *self.fitted, self.right.tobytes()

    @property
    def n_values(self) -> int:
        """Scores that a prompt is given."""
        return 1 if self.kind == "ridge" else len(self.classes)

    @classmethod
    def of(cls, control: str, column: "pd.Series", kind: Kind, judge: "pd.Series | None" = None) -> "Task":
        """A column of values as a task, judged by another column of the same prompts, or by itself.

        Raises:
            PbbError: values of a ridge probe that are no numbers, or classes that cannot be told apart.
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
            return cls(control, str(column.name), kind, known, values, right, np.array([]))
        try:
            values, classes = pd.factorize(column, sort=True)
        except TypeError as error:
            raise PbbError(
                f"The target {column.name!r} has values that cannot be told apart ({error}): give texts or numbers."
            ) from error
        right = pd.Index(classes).get_indexer(pd.Index(judge))
        return cls(control, str(column.name), kind, known, values, right, np.asarray(classes))

    def where(self, there: "np.ndarray") -> "Task":
        """The task of those prompts alone that have something to be read [prompt]."""
        return self if there.all() else replace(self, known=self.known & there)

    def can_be_learned(self, split: Split) -> bool:
        """Are there two values to learn in every fold?"""
        fitted = [self.values[self.known & split.fitted(k)] for k in range(split.n)]
        return all(len(values) >= 2 if self.kind == "ridge" else len(set(values)) >= 2 for values in fitted)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done at every place."""

    tasks: list[Task]
    split: Split
    clusters: "np.ndarray"
    """[prompt]"""
    strengths: list[float]
    """Of C, to choose from."""
    balanced: bool
    seed: int
    memory_gib: float
    keep: bool
    """Are the fitted probes kept?"""


def check_roles_learned(tasks: list[Task], split: Split, roles: "Mapping[str, np.ndarray]") -> None:
    """Refuse targets of which nothing is left to learn among the prompts [prompt] that have a role.

    Raises:
        PbbError: there is one; it names both.
    """
    for role, there in roles.items():
        for task in tasks:
            if task.control == NONE and not task.where(there).can_be_learned(split):
                raise PbbError(
                    f"The target {task.name!r} has fewer than two classes to learn in the {there.sum()} prompts that "
                    f"have the role {role!r}: leave the target or the role out, or add prompts."
                )


def warn_of_unlearnable(tasks: list[Task], split: Split, clusters: "np.ndarray") -> None:
    """Warn of targets most of whose prompts have a class of one cluster alone, which no held-out cluster can show.

    Whole lists and texts are such: hardly a program gives another's. Their probes would be right nowhere.
    """
    import numpy as np
    import pandas as pd

    for task in tasks:
        rows = task.known & split.train
        if task.control != NONE or task.kind == "ridge" or not rows.any():
            continue
        table = pd.DataFrame({"value": task.values[rows], "cluster": clusters[rows]})
        alone = float(np.mean(table.groupby("value")["cluster"].transform("nunique") < 2))
        if alone > 0.5 and split.n > 1:
            warnings.warn(
                f"The target {task.name!r} has {len(task.classes)} classes, and in {alone:.0%} of the prompts one that "
                "no other cluster has, which no probe can read where the cluster is held out: take parts of it, such "
                "as output_1 and output_length.",
                stacklevel=4,
            )


def tasks_of(
    targets: "pd.DataFrame",
    kinds: Mapping[str, Kind],
    needs: Mapping[str, Any],
    clusters: "np.ndarray",
    split: Split,
    seed: int,
) -> list[Task]:
    """The tasks of the targets and of those controls that are read at the same places.

    Args:
        targets: a column a target.
        kinds: of each target's probe.
        needs: each control with what it needs, as `read_controls` gives them.
        clusters: what a row belongs to [prompt].
        split: of the rows.
        seed: of the controls.

    Raises:
        PbbError: a target of which some fold leaves nothing to learn. Such controls are left out.
    """
    import pandas as pd

    tables = {NONE: targets}
    if "selectivity" in needs:
        types = needs["selectivity"]
        tables["selectivity"] = control_task(targets, clusters.tolist() if types is None else types, seed)
    if "permutation" in needs:
        tables["permutation"] = permuted_within(targets, clusters.tolist(), seed)
    tables |= {name: need for name, need in needs.items() if isinstance(need, pd.DataFrame)}
    judged_by = shuffled_values(targets, seed) if "shuffled" in needs else {}
    tasks = [Task.of("shuffled", targets[name], kinds[name], judged_by[name]) for name in judged_by]
    for control, table in tables.items():
        for task in (Task.of(control, table[name], kinds[name]) for name in targets if name in table):
            if task.can_be_learned(split):
                tasks.append(task)
            elif control == NONE:
                raise PbbError(
                    f"The target {task.name!r} has fewer than two classes to learn: leave it out or add prompts."
                )
    return tasks
