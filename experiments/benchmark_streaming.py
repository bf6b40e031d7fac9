"""Probes of activations larger than memory: how much memory does `fit_probes` take beside what it is given?

    python experiments/benchmark_streaming.py --capture_gib 20 --budgets 4

Random activations of 24 layers, 3 roles and width 2,048, of as many prompts as fill the size asked for, are written as
`capture` writes them. For each budget a process of its own opens them and fits two targets; the peak of its memory is
that of the whole process minus what it had before it opened the capture.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pbb_probe.hooking.shards import open_capture, write_labels, write_shards

PROMPTS_A_SHARD = 256


@dataclass(frozen=True)
class Drawn:
    """Prompts that are nothing but their labels."""

    labels: pd.DataFrame
    unit: str = "prompt"


def random_capture(folder: Path, gib: float, layers: int, roles: int, width: int) -> int:
    """Write it and return the number of prompts."""
    n = int(gib * 2**30 / (4 * layers * roles * width))
    asked = {
        "sites": {"resid_post": ["layer", "role", "prompt", "d_model"]},
        "layers": list(range(layers)),
        "roles": [f"role_{k}" for k in range(roles)],
        "prompts": n,
    }

    def make(start: int) -> dict[str, np.ndarray]:
        rows = min(PROMPTS_A_SHARD, n - start)
        rng = np.random.default_rng(start)
        return {"resid_post": rng.standard_normal((layers, roles, rows, width), dtype=np.float32)}

    write_shards(folder, asked, [], range(0, n, PROMPTS_A_SHARD), make, lambda start: {})
    rows = np.arange(n)
    labels = {"program": rows // 4, "output": rows * 7 % 10, "op_1": rows * 5 % 6}
    write_labels(folder, Drawn(pd.DataFrame(labels)))
    return n


def fit(folder: Path, budget: float) -> None:
    """Print what it took, as JSON."""
    import xarray as xr

    from pbb_probe.probing.linear import fit_probes

    few = xr.Dataset({"few": (("prompt", "feature"), np.eye(4))})
    fit_probes(few, pd.DataFrame({"bit": [0, 1, 0, 1]}), [0, 0, 1, 1], folds=2)  # all that is imported is there
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is in use
    before = peak()
    acts = open_capture(folder)
    started = time.perf_counter()
    fit_probes(acts, ["output", "op_1"], C=0.001, folds=2, memory_gib=budget)
    print(json.dumps({"peak": peak() - before, "seconds": time.perf_counter() - started}))


def peak() -> float:
    """The most memory this process had, in GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture_gib", type=float, default=2.0)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.4])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--roles", type=int, default=3)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--folder", type=Path, help="where the capture is written; a temporary one when left out")
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        return fit(options.fit, options.budgets[0])
    print("| capture, GiB | prompts | budget, GiB | peak, GiB | seconds |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        n = random_capture(Path(folder), options.capture_gib, options.layers, options.roles, options.width)
        for budget in options.budgets:
            command = [sys.executable, __file__, "--fit", folder, "--budgets", str(budget)]
            told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(
                f"| {options.capture_gib:g} | {n} | {budget:g} | {told['peak']:.2f} | {told['seconds']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
