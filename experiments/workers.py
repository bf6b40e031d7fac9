"""Jobs side by side, a core each, every one in a process of its own that talks to a log; killed ones are done again."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm


def run_all(jobs: Sequence[tuple[str, Callable[..., Any], tuple[Any, ...]]], logs: Path, workers: int) -> None:
    """Call every job's function with its arguments, `workers` at a time.

    Args:
        jobs: a name, a function that can be pickled, and its arguments. The function resumes what it had begun.
        logs: folder for a file a job, to which its output goes.
        workers: processes, of one thread each.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    logs.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        waiting = {
            pool.submit(_logged, function, arguments, logs / f"{name}.log"): name for name, function, arguments in jobs
        }
        with tqdm(total=len(waiting), unit="job", smoothing=0) as progress:
            for job in as_completed(waiting):
                job.result()
                progress.set_postfix_str(waiting[job])
                progress.update()


def _logged(function: Callable[..., Any], arguments: tuple[Any, ...], log: Path) -> None:
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    function(*arguments)
