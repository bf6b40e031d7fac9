"""The paper's claims (arXiv 2506.18777) at small scale: for each the effect, its interval, and whether it holds.

    python experiments/paper_claims.py

Finetunes nano and two smaller relatives, one of which reads descriptions too, by every curriculum and with several
seeds, and writes `results/paper_claims/`. What is done is not done again; a killed run goes on where it stopped. The
relatives are pretrained first where they are not there (half an hour on one core).

An effect is a mean over programs; its 95 % interval resamples models (seeds) and, within each, programs. A claim holds
when the interval lies above zero, does not hold when it lies below five points, and is not resolved otherwise.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from tqdm import tqdm

import pbb_probe as pbb
from pbb_probe.finetuning.curricula import get_curriculum
from pbb_probe.finetuning.train import train_stage

WITH_IO, WITHOUT_IO, COMPOSED = 340, 60, 40
CALLS = 600  # a group and mode
NEGLIGIBLE = 0.05  # an effect certainly below it is none
BASES = {"2x64": ["--layers", "2", "--width", "64"], "4x96": ["--layers", "4", "--width", "96", "--descriptions"]}
PARAMETERS = {"2x64": 0.25, "4x96": 0.69, "nano": 1.56}  # millions


@dataclass(frozen=True)
class Condition:
    """A base model taught by a curriculum. Those of one `chain` share stages and are trained one after the other."""

    name: str
    curriculum: str
    chain: str
    base: str = "nano"
    composed: bool = False
    """Read the code of composed programs as well in the last stage, from the chain's own first stage."""


CONDITIONS = {
    condition.name: condition
    for condition in (
        Condition("stage 1 alone", "stage1_only", "proactive"),
        Condition("proactive", "proactive", "proactive"),
        Condition("proactive, composed", "proactive", "proactive", composed=True),
        Condition("stage 2 alone", "stage2_only", "stage2"),
        Condition("retroactive SFT", "retroactive_sft", "retroactive"),
        Condition("retroactive RL", "retroactive_grpo", "retroactive"),
        Condition("io only", "io_only", "io"),
        Condition("io only, skewed", "io_only_skewed", "io"),
        Condition("proactive, skewed io", "mixed", "mixed"),
        Condition("proactive, 2 layers of 64", "proactive", "2x64", "2x64"),
        Condition("proactive, 4 layers of 96", "proactive", "4x96", "4x96"),
        Condition("descriptions, 4 layers of 96", "description", "described", "4x96"),
    )
}


# Work


def prepare_base(name: str, out: Path) -> str:
    """The directory of a base, pretrained where it is not there yet."""
    if name == "nano" or (out / "bases" / name / "README.md").exists():  # the card is written last
        return name if name == "nano" else str(out / "bases" / name)
    script = Path(__file__).with_name("pretrain_nano.py")
    subprocess.run([sys.executable, str(script), "--out", str(out / "bases" / name), *BASES[name]], check=True)
    return str(out / "bases" / name)


def run_chain(chain: str, seed: int, out: Path) -> str:
    """Train and call the conditions of one chain for one seed, in a process of its own that talks to a log."""
    folder = out / f"seed{seed}" / chain.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    for condition in CONDITIONS.values():
        behaviour = behaviour_path(condition, seed, out)
        if condition.chain != chain or behaviour.exists():
            continue
        composed = COMPOSED if condition.composed else 0
        corpus = pbb.make_corpus(
            with_io=WITH_IO, without_io=WITHOUT_IO, composed_without_io=composed, seed=seed, new_functions=None
        )
        if composed:
            first, last = get_curriculum(condition.curriculum)
            model = train_stage(folder / first.name, corpus, last, folder / f"{last.name}_composed", seed)
        else:
            model = pbb.finetune(base_path(condition.base, out), corpus, condition.curriculum, out=folder, seed=seed)
        partial = behaviour.with_suffix(".partial")
        pbb.evaluate(model, corpus, n=CALLS, seed=seed).to_netcdf(partial)
        partial.rename(behaviour)
    return f"{chain}, seed {seed}"


def pretrain(base: str, out: Path) -> str:
    """Pretrain a relative of nano unless it is there."""
    path = Path(base_path(base, out))
    if not (path / "README.md").exists():  # the card is written last
        script = Path(__file__).with_name("pretrain_nano.py")
        subprocess.run([sys.executable, str(script), "--out", str(path), *BASES[base]], check=True, capture_output=True)
    return f"pretraining {base}"


def base_path(base: str, out: Path) -> str:
    return base if base == "nano" else str(out / "bases" / base)


def behaviour_path(condition: Condition, seed: int, out: Path) -> Path:
    return out / f"seed{seed}" / f"{condition.name.replace(', ', '_').replace(' ', '_')}.nc"


def run_all(seeds: list[int], out: Path, workers: int) -> None:
    """Every chain for every seed, `workers` at a time with a core each; pretraining goes before what needs it."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    chains = dict.fromkeys((condition.chain, condition.base) for condition in CONDITIONS.values())
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        pretrained = {base: pool.submit(pretrain, base, out) for base in BASES if not ready(base, out)}
        waiting = [(chain, base, seed) for chain, base in chains for seed in seeds]
        jobs = list(pretrained.values())
        jobs += [pool.submit(run_chain, chain, seed, out) for chain, base, seed in waiting if base not in pretrained]
        for base, job in pretrained.items():
            job.result()
            jobs += [pool.submit(run_chain, chain, seed, out) for chain, b, seed in waiting if b == base]
        with tqdm(total=len(jobs), unit="job", smoothing=0) as progress:
            for job in as_completed(jobs):
                progress.set_postfix_str(job.result())
                progress.update()


def ready(base: str, out: Path) -> bool:
    return (Path(base_path(base, out)) / "README.md").exists()


# What it says

Values = dict[int, dict[str, float]]
"""A number for each program of each seed."""


@dataclass(frozen=True)
class Effect:
    """What a claim predicts to be above zero: the mean of `values`, less that of `others` if there are any."""

    claim: str
    what: str
    mode: str
    values: Values
    others: Values | None = None


def effects(calls: dict[str, dict[int, pd.DataFrame]]) -> Iterator[Effect]:
    """Every claim's effects, from the calls of each condition and seed."""

    def accuracy(condition: str, where: str) -> Values:
        return {
            seed: table.query(where).groupby("program")["correct"].mean().to_dict()
            for seed, table in calls[condition].items()
        }

    def code_only(condition: str, mode: str, family: str = "arithmetic") -> Values:
        return accuracy(condition, f"group == 'without_io' and family == '{family}' and mode == '{mode}'")

    def skew(condition: str, group: str) -> Values:
        """Direct accuracy on the first three inputs, 0 to 2, minus that on the last three, 7 to 9."""
        where = f"group == '{group}' and mode == 'direct'"
        return minus(accuracy(condition, f"{where} and place <= 2"), accuracy(condition, f"{where} and place >= 7"))

    def compare(claim: str, what: str, better: str, worse: str) -> Iterator[Effect]:
        for mode in ("direct", "trace"):
            yield Effect(claim, what, mode, minus(code_only(better, mode), code_only(worse, mode)))

    middle = "4 layers of 96"  # that base reads both code and descriptions
    yield from compare(
        "code beats description", "code minus description", f"proactive, {middle}", f"descriptions, {middle}"
    )
    worked, direct = code_only("proactive", "trace"), code_only("proactive", "direct")
    yield Effect("worked steps beat direct answers", "worked steps minus direct", "", minus(worked, direct))
    for alone in ("stage 1 alone", "stage 2 alone"):
        yield from compare("both stages are needed", f"both minus {alone}", "proactive", alone)
    inherited = minus(skew("io only, skewed", "with_io"), skew("io only", "with_io"))
    passed_on = minus(skew("proactive, skewed io", "without_io"), skew("proactive", "without_io"))
    claim = "code does not inherit the skew of examples"
    yield Effect(claim, "skew that programs of examples alone inherit", "direct", inherited)
    yield Effect(claim, "that, minus the skew that code-only programs inherit", "direct", inherited, passed_on)
    yield from compare("proactive beats retroactive", "proactive minus retroactive SFT", "proactive", "retroactive SFT")
    yield from compare("reinforcement beats SFT", "RL minus SFT, both retroactive", "retroactive RL", "retroactive SFT")
    for mode in ("direct", "trace"):
        composed = code_only("proactive, composed", mode, "composed")
        most_common = {
            seed: table.query("family == 'composed'")["output"].value_counts(normalize=True).iloc[0]
            for seed, table in calls["proactive, composed"].items()
        }
        above = {s: {name: value - most_common[s] for name, value in by.items()} for s, by in composed.items()}
        yield Effect("programs that call learned ones can be evaluated", "accuracy minus chance", mode, above)
    sizes = {"2x64": "proactive, 2 layers of 64", "4x96": "proactive, 4 layers of 96", "nano": "proactive"}
    for small, large in (("2x64", "4x96"), ("4x96", "nano"), ("2x64", "nano")):
        what = f"{PARAMETERS[large]} minus {PARAMETERS[small]} M parameters"
        yield from compare("larger models evaluate better", what, sizes[large], sizes[small])


def minus(left: Values, right: Values) -> Values:
    """The difference of each program that has both."""
    return {s: {p: left[s][p] - right[s][p] for p in left[s] if p in right[s]} for s in left if s in right}


def estimate(effect: Effect, draws: int = 10_000) -> dict[str, float | int | str]:
    """The effect with its interval: models (seeds) resampled, and for each of those drawn its programs."""
    rng = np.random.default_rng(0)
    seeds = sorted(effect.values)
    slots = rng.integers(len(seeds), size=(len(seeds), draws))  # which model is drawn first, second, ... in each draw
    resampled, by_seed = np.zeros(draws), dict.fromkeys(seeds, 0.0)
    for sign, values in ((1, effect.values), (-1, effect.others)):
        for k, seed in enumerate(seeds if values else ()):
            programs = np.array(list(values[seed].values()))  # type: ignore[index]
            by_seed[seed] += sign * float(programs.mean())
            for slot in slots:
                where = slot == k
                resampled[where] += sign * rng.choice(programs, (where.sum(), len(programs))).mean(1) / len(seeds)
    lower, upper = (float(bound) for bound in np.quantile(resampled, (0.025, 0.975)))
    return {
        "claim": effect.claim,
        "what": effect.what,
        "mode": effect.mode,
        "effect": float(np.mean(list(by_seed.values()))),
        "lower": lower,
        "upper": upper,
        **{f"seed{seed}": by_seed[seed] for seed in seeds},
        "models": len(seeds),
        "programs": sum(map(len, effect.values.values())),
        "verdict": "holds" if lower > 0 else "does not hold" if upper < NEGLIGIBLE else "not resolved",
    }


def report(seeds: list[int], out: Path, results: Path) -> None:
    """Write the tables, the figure and the summary."""
    behaviours = {
        name: {seed: xr.load_dataset(path) for seed in seeds if (path := behaviour_path(condition, seed, out)).exists()}
        for name, condition in CONDITIONS.items()
    }
    calls = {name: {s: b.to_dataframe() for s, b in by_seed.items()} for name, by_seed in behaviours.items()}
    claims = pd.DataFrame([estimate(effect) for effect in effects(calls)])
    accuracy = accuracy_by_condition(calls)
    results.mkdir(parents=True, exist_ok=True)
    claims.to_csv(results / "claims.csv", index=False, float_format="%.4f")
    accuracy.to_csv(results / "behaviour.csv", index=False, float_format="%.4f")
    figure(accuracy).write_image(results / "behaviour.png", scale=2)
    (results / "summary.md").write_text(summary(claims, accuracy, len(seeds)))
    print(claims[["claim", "what", "mode", "effect", "lower", "upper", "verdict"]].to_string(index=False))


def accuracy_by_condition(calls: dict[str, dict[int, pd.DataFrame]]) -> pd.DataFrame:
    """Accuracy by condition, mode, group, family, steps and seen over all seeds, with intervals as those of effects."""
    rows = []
    for name, by_seed in calls.items():
        table = pd.concat(by_seed, names=["seed"]).reset_index("seed")
        for cell, some in table.groupby(["mode", "group", "family", "steps", "seen"]):
            values = {seed: part.groupby("program")["correct"].mean().to_dict() for seed, part in some.groupby("seed")}
            found = estimate(Effect("", "", "", values))
            rows.append(
                {
                    "condition": name,
                    **dict(zip(["mode", "group", "family", "steps", "seen"], cell, strict=True)),
                    "accuracy": found["effect"],
                    "lower": found["lower"],
                    "upper": found["upper"],
                    "forced": some["forced"].mean(),
                    "chance": some["output"].value_counts(normalize=True).iloc[0],
                    "calls": len(some),
                    "programs": found["programs"],
                    "models": found["models"],
                }
            )
    return pd.DataFrame(rows)


def figure(accuracy: pd.DataFrame) -> go.Figure:
    """Accuracy on code-only programs by condition: direct and in worked steps, one and two steps."""
    unseen = accuracy[(accuracy["group"] == "without_io") & (accuracy["family"] == "arithmetic")]
    order = [name for name in CONDITIONS if name in set(unseen["condition"])][::-1]
    drawn = go.Figure(layout={"template": "plotly_white", "width": 900, "height": 140 + 44 * len(order)})
    for mode, steps, colour, symbol in (
        ("direct", 1, "#0072B2", "circle"),
        ("direct", 2, "#0072B2", "circle-open"),
        ("trace", 1, "#D55E00", "diamond"),
        ("trace", 2, "#D55E00", "diamond-open"),
    ):
        part = unseen[(unseen["mode"] == mode) & (unseen["steps"] == steps)].set_index("condition").reindex(order)
        drawn.add_scatter(
            x=part["accuracy"],
            y=order,
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 10},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": part["upper"] - part["accuracy"],
                "arrayminus": part["accuracy"] - part["lower"],
                "color": colour,
                "thickness": 1,
            },
            name=f"{'direct' if mode == 'direct' else 'worked steps'}, {steps} step{'s' * (steps > 1)}",
        )
    drawn.update_xaxes(title="accuracy on code-only programs", range=[-0.02, 1.02], tickformat=".0%")
    drawn.update_yaxes(categoryorder="array", categoryarray=order)
    return drawn.update_layout(legend={"orientation": "h", "y": 1.06}, margin={"l": 230, "t": 60})


def summary(claims: pd.DataFrame, accuracy: pd.DataFrame, n_seeds: int) -> str:
    def percent(value: float) -> str:
        return f"{100 * value:+.1f}"

    lines = [
        f"| {row.claim} | {row.what} | {row.mode} | {percent(row.effect)} | {percent(row.lower)} to "
        f"{percent(row.upper)} | {row.models} x {row.programs // row.models} | {row.verdict} |"
        for row in claims.itertuples()
    ]
    cells = accuracy[accuracy["group"] == "without_io"].pivot_table(
        index=["condition", "family"], columns=["mode", "steps"], values="accuracy", sort=False
    )
    table = [
        f"| {'its composed programs' if family == 'composed' else name} | "
        + " | ".join("" if np.isnan(v) else f"{v:.0%}" for v in (cells.loc[name, family].get(c, np.nan) for c in CELLS))
        + " |"
        for name, family in cells.index
    ]
    return f"""# The paper's claims at small scale

Made by `python experiments/paper_claims.py`: {WITH_IO} programs with examples and {WITHOUT_IO} without, one- and
two-step arithmetic, {n_seeds} seeds (programs, their order and the finetuning differ), bases of 0.25 to 1.56 M
parameters. Effects are percentage points on code-only programs; 95 % intervals resample models and, within each,
programs. With three models they are rough, and they are not adjusted for the number of effects. A claim holds where
the interval lies above zero, does not hold where it lies below five points, else it is not resolved. All of this is
about very small models and small programs and says nothing of large ones.

A direct answer is right, too, where a program with examples has the same function, or where half an evaluation of two
steps happens to give it: this is not yet accuracy of evaluation.

What the comparisons rest on: code and description are read by the base of 4 layers, which evaluates either in its
context; the bases of 2 and 6 layers were pretrained on code alone. The retroactive SFT reads 180 answered calls of each
program, the RL 21 and then 12 prompts with 8 rewarded tries each. Composed programs call two others, their code is read
in the last stage, and none is ever executed in training. Stage 2 alone answers calls with code; its forced choice among
the answers is in `behaviour.csv`. Examples are skewed to the first of a program's shown inputs (weights 1/k^2).

| claim | effect | mode | points | 95 % | models x programs | |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}

Accuracy on code-only programs (chance, the most common answer, is about 13 %):

| condition | direct, 1 step | direct, 2 steps | worked steps, 1 step | worked steps, 2 steps |
|---|---|---|---|---|
{chr(10).join(table)}

![accuracy by condition](behaviour.png)
"""


CELLS = (("direct", 1), ("direct", 2), ("trace", 1), ("trace", 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/paper_claims"))
    parser.add_argument("--results", type=Path, default=Path("results/paper_claims"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report-only", action="store_true", help="write the results of what is there")
    options = parser.parse_args()
    if not options.report_only:
        run_all(options.seeds, options.out, options.workers)
    report(options.seeds, options.out, options.results)


if __name__ == "__main__":
    main()
