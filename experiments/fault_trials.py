"""What is tried to break a run: kills at random moments, damaged files, odd inputs. Prints what survived.

    python experiments/fault_trials.py

A tiny study is run once, undisturbed. Then it is run again and killed, in each of its steps, at moments that the seed
draws; it is run where no file can grow beyond a size, until there is room; its finished files are damaged, one kind at
a time, read, and run again; and commands are given odd values and files. Everything runs in processes forked from this
one, which has imported all that takes long.

A run has survived a kill or a full disk if the same command ends with the same results, byte for byte; damage, if
nothing wrong is read, and running again ends with the same results or is refused in a sentence; an odd input, if it is
done, or refused in one sentence with exit code 2 before anything is trained. Nowhere may there be a traceback.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from damage import DAMAGE
from forked import Child, sentences, start
from odd_inputs import odd_inputs
from tqdm import tqdm

import pbb_probe as pbb
from pbb_probe.commands import cli
from pbb_probe.runs.opened import OpenedRun
from pbb_probe.store.run import Run
from pbb_probe.views import study_report
from pbb_probe.views.markdown import markdown_table

TINY: dict[str, Any] = {
    "corpus": {"with_io": 20, "without_io": 10},
    "train": {"exposures": 0.1, "checkpoint_every": 3},
    "calls": 20,
    "probing": {"prompts": 60, "folds": 2, "roles": ["name", "answer"], "targets": ["input", "op_1", "output"]},
    "patching": {"pairs": 12, "sites": ["resid_pre"], "roles": ["name", "answer"]},
    "transfer": {"pairs": 20, "sites": ["resid_pre"], "roles": ["answer"], "controls": ["random"]},
    "draws": 50,
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KILLS_A_RUN = 6
LOG = 20_000  # bytes that a command may say, which a full disk has no part in


def contents(run: Path) -> dict[str, str | None]:
    """The content of each step but the report, which tells seconds."""
    opened = Run(run)
    names = sorted(path.parent.name for path in run.glob("[!.]*/step.json"))
    return {name: opened.content(name) for name in names if name != "report"}


def whole(run: Path, reference: Path) -> str:
    """What is wrong with a run that should be as the undisturbed one; nothing, if nothing is."""
    if faults := [fault for some in Run(run).verify().values() for fault in some]:
        return f"not whole: {faults[0]}"
    if contents(run) != contents(reference):
        return "other results"
    if left := [path.name for path in run.glob(".*")]:
        return f"left behind: {left[0]}"
    return "" if (run / "report.html").is_file() else "no report"


# Kills


def kills(reference: Path, out: Path, n: int, rng: random.Random, config: Path) -> pd.DataFrame:
    """A row a kill: the step, the signal, when, and whether the run ended as the undisturbed one."""
    seconds = {name: step["seconds"] for name, step in OpenedRun(reference).manifest["steps"].items()}
    order = list(OpenedRun(reference).steps)
    rows: list[dict[str, Any]] = []
    with tqdm(total=n, desc="kills", unit="kill") as progress:
        while len(rows) < n:
            run, ended = out / f"killed_{len(rows)}", []
            plan = sorted(rng.choices(range(len(order)), k=min(KILLS_A_RUN, n - len(rows))))
            for place in plan:
                name, number = order[place], rng.choice(SIGNALS)
                share = rng.random()
                child = start(["run", "--config", str(config), "--out", str(run)], out / "log")
                while f"{name}: started" not in child.said() and _runs(child):
                    time.sleep(0.01)
                time.sleep(share * 1.1 * seconds[name])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, number)
                code, said = child.ended(), child.said()
                if code == 0:  # it was faster: nothing was killed, and nothing is left to be
                    break
                told = code == -number if number == signal.SIGKILL else code == 128 + number
                fault = "" if told and "Traceback" not in said else f"exit code {code}"
                begun = re.findall(r"^(\w+): started", said, re.MULTILINE)
                step = begun[-1] if begun else "before the first"
                ended.append({"step": step, "signal": signal.Signals(number).name, "share": share, "fault": fault})
                progress.update()
            last = start(["run", "--config", str(config), "--out", str(run)], out / "log")
            code = last.ended()
            fault = whole(run, reference) if code == 0 else f"exit code {code} after the kills"
            rows += [{**row, "fault": row["fault"] or fault} for row in ended]
            if not fault:
                shutil.rmtree(run)
    return pd.DataFrame(rows)


def _runs(child: Child) -> bool:
    """Is it still at work? A child that has ended waits to be asked for."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# Disks


def disks(reference: Path, out: Path, n: int, rng: random.Random, config: Path) -> pd.DataFrame:
    """A row a disk on which no file can be written beyond some size, and then there is room again."""
    sizes = [size for path in reference.rglob("*") if path.is_file() and (size := path.stat().st_size) > LOG]
    rows = []
    for k in tqdm(range(n), desc="disks", unit="disk"):
        run, largest = out / f"full_{k}", rng.choice(sizes) - 1
        child = start(["run", "--config", str(config), "--out", str(run)], out / "log", largest=largest)
        code, said = child.ended(), child.said()
        fault = "" if code == 2 and "make room" in said and "Traceback" not in said else f"exit code {code}"
        code = start(["run", "--config", str(config), "--out", str(run)], out / "log").ended()
        fault = fault or (whole(run, reference) if code == 0 else f"exit code {code} with room again")
        rows.append({"bytes": largest, "fault": fault})
        if not fault:
            shutil.rmtree(run)
    return pd.DataFrame(rows)


# Damage


def damages(reference: Path, out: Path, kinds: list[str], config: Path) -> pd.DataFrame:
    """A row a kind of damage: what came of reading, and of running again."""
    right, rows = dict(readings(reference)), []
    for kind in tqdm(kinds, desc="damage", unit="kind"):
        where, damage = DAMAGE[kind]
        run = out / "damaged"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(reference, run)
        damage(run / where)
        read = ""
        refused = 0
        for name, value in readings(run):
            if isinstance(value, pbb.PbbError):
                refused += 1
            elif isinstance(value, Exception):
                read = read or f"{name}: {type(value).__name__}"
            elif name in right and not _equal(value, right[name]):
                read = read or f"{name} is read wrong"
        child = start(["run", "--config", str(config), "--out", str(run)], out / "log")
        code, said = child.ended(), child.said()
        if code == 0:
            again, fault = "the same results", whole(run, reference)
        elif code == 2 and len(sentences(said)) == 1 and "Traceback" not in said:
            again, fault = "refused", ""
        else:
            again, fault = f"exit code {code}", "no sentence"
        rows.append({"kind": kind, "read": read or f"{refused} refused", "again": again, "fault": read or fault})
    return pd.DataFrame(rows)


def readings(path: Path) -> Iterator[tuple[str, Any]]:
    """Everything that is read of a run, by name; an error in the place of what cannot be."""

    def tried(name: str, read: Callable[[], Any]) -> tuple[str, Any]:
        try:
            return name, read()
        except Exception as error:
            return name, error

    run = tried("run", lambda: pbb.open_run(path))[1]
    if isinstance(run, Exception):
        yield "run", run
        return
    yield tried("config", lambda: replace(run.config, out=""))
    yield tried("corpus", lambda: run.corpus.digest)
    for name in ("finetuned", "stage1 alone"):
        yield tried(name, partial(_said, run, name))
    for step in ("behaviour", "probing", "patching", "transfer", "interchange", "comparison"):
        for file in _files(run, step):
            name, _, suffix = file.rpartition(".")
            yield tried(file, partial(run.array if suffix == "nc" else run.table, name))
    yield tried("verdict", lambda: study_report.study_verdict(run))


def _files(run: OpenedRun, step: str) -> list[str]:
    with contextlib.suppress(pbb.PbbError):
        return [f"{name}{suffix}" for suffix in (".nc", ".csv") for name in run.files(step, suffix)]
    return []


def _said(run: OpenedRun, name: str) -> bytes:
    """What a model of the run computes."""
    model = run.model(name)
    return pbb.prompts.answer_logits(model, pbb.Prompts.from_texts(model, ["apply dolvik to 4 ."])).numpy().tobytes()


def _equal(one: Any, other: Any) -> bool:
    return bool(one.equals(other) if hasattr(one, "equals") else one == other)


# Odd inputs


def inputs(out: Path, n: int, rng: random.Random, config: Path) -> pd.DataFrame:
    """A row an odd input: what it was, and whether it was done or refused in a sentence."""
    rows = []
    kinds: dict[str, list[tuple[str, str, list[str]]]] = {}
    for one in odd_inputs(out / "given", config):
        kinds.setdefault(one[0], []).append(one)
    shuffled = [rng.sample(some, len(some)) for some in kinds.values()]
    chosen = [one for turn in zip_longest(*shuffled) for one in turn if one][:n]  # each kind in turn
    for kind, what, arguments in tqdm(chosen, desc="odd inputs", unit="input"):
        folder = out / "odd"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        child = start(arguments, out / "log", folder)
        code, said = child.ended(), child.said()
        trained = list(folder.glob("**/model.safetensors"))
        fault = ""
        if code not in (0, 2):
            fault = f"exit code {code}"
        elif "Traceback" in said:
            fault = "traceback"
        elif code == 2 and len(sentences(said)) != 1:
            fault = f"{len(sentences(said))} sentences"
        elif code == 2 and trained:
            fault = "refused after the training"
        elif (folder.parent / "x").exists() or list(folder.glob("**/hacked")):
            fault = "written elsewhere"
        rows.append(
            {"kind": kind, "input": what, "outcome": "refused" if code == 2 else f"exit code {code}", "fault": fault}
        )
        rows[-1]["said"] = sentences(said)[0].replace(str(out), "OUT")[:200] if sentences(said) else ""
    return pd.DataFrame(rows)


def summary(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row a kind of trial."""
    tried = {
        "kills at random moments": tables["kills"].groupby("step", sort=False),
        "disks that fill up": tables["disks"].groupby(lambda _: "at a file of some size"),
        "kinds of damage to files": tables["damage"].groupby("again", sort=False),
        "odd inputs": tables["inputs"].groupby("kind", sort=False),
    }
    rows = []
    for name, groups in tried.items():
        for part, some in groups:
            rows.append({"tried": name, "of": part, "n": len(some), "survived": int((some["fault"] == "").sum())})
    return pd.DataFrame(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/faults"), help="Folder for the runs.")
    parser.add_argument("--results", type=Path, default=Path("results/faults"), help="Folder for the tables.")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--disks", type=int, default=6)
    parser.add_argument("--damage", type=int, default=len(DAMAGE))
    parser.add_argument("--inputs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    out, results = options.out.resolve(), options.results.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    results.mkdir(parents=True, exist_ok=True)
    vars(study_report)["save_pngs"] = lambda *_: False  # a browser takes longer than all else
    _warm_up()
    config, reference = out / "tiny.yaml", out / "reference"
    config.write_text(yaml.safe_dump(TINY))
    began = time.monotonic()
    if start(["run", "--config", str(config), "--out", str(reference)], out / "log").ended(600) != 0:
        print((out / "log").read_text())
        return 1
    tables = {
        "kills": kills(reference, out, options.kills, random.Random(f"kills {options.seed}"), config),
        "disks": disks(reference, out, options.disks, random.Random(f"disks {options.seed}"), config),
        "damage": damages(
            reference, out, random.Random(f"damage {options.seed}").sample(list(DAMAGE), options.damage), config
        ),
        "inputs": inputs(out, options.inputs, random.Random(f"inputs {options.seed}"), config),
    }
    for name, table in tables.items():
        table.to_csv(results / f"{name}.csv", index=False, float_format="%.3f")
    told = summary(tables)
    told.to_csv(results / "summary.csv", index=False)
    totals = told.groupby("tried", sort=False)[["n", "survived"]].sum().reset_index()
    print(
        f"{markdown_table(told)}\n\n{markdown_table(totals)}\n\n{time.monotonic() - began:.0f} s, seed {options.seed}"
    )
    for name, table in tables.items():
        for row in table[table["fault"] != ""].to_dict(orient="records"):
            print(f"{name}: {row}")
    return int((totals["n"] != totals["survived"]).any())


def _warm_up() -> None:
    """Import what the commands import, so that it is there in every process that is forked."""
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    cli.commands()
    transformers.Trainer  # noqa: B018 (loaded when it is named)
    pbb.load_model("nano")


if __name__ == "__main__":
    sys.exit(main())
