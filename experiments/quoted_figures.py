"""What a right answer can mean, and other figures that README and `results/reference/reading.md` quote.

    python experiments/quoted_figures.py

From the programs of the reference study, which are drawn again: how many code-only programs compute a function that a
program with examples computes, and how many of their two-step calls less than an evaluation answers by luck. From its
published tables: where most pairs follow a state, there and where programs are known to be evaluated step by step, and
for how many blocks a name carries its program by continuous recovery. Writes `results/reference/quoted.md`.

    pbb-probe finetune --out runs/finetuned
    python experiments/quoted_figures.py --run runs/finetuned

Of one model: how often it answers the two-step calls that luck answers, and the others; and what probes read of
one-step programs if their folds keep programs apart, and if they keep functions apart. Writes
`results/reference/quoted_run.md`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from published import read_published

import pbb_probe as pbb
from pbb_probe.evidence.verdict import with_pairs
from pbb_probe.programs.arithmetic import OPERATIONS
from pbb_probe.programs.corpus import Corpus, Entry, make_corpus
from pbb_probe.runs.config import CorpusConfig
from pbb_probe.statistics.groups import cluster_bootstrap, interval_table
from pbb_probe.views.markdown import markdown_table

SEEDS = (0, 1, 2, 3, 4)
AS_PUBLISHED = CorpusConfig(io_only=0, new_functions=None)
SHORTCUTS = ("step 1 alone", "step 2 alone", "the steps in the wrong order", "the input")
"""What is less than an evaluation of two steps."""
TARGETS, BLOCKS = ("op_1", "constant_1", "output"), (3, 4, 5)
READ = (("op_1", "name"), ("op_1", "answer"), ("constant_1", "name"), ("constant_1", "answer"), ("output", "answer"))
PROMPTS = 3000


def function_of(entry: Entry) -> tuple[Any, ...]:
    """The outputs of a program on the ten inputs."""
    return tuple(trace.output for trace in entry.traces)


def known_functions(corpora: list[Corpus]) -> pd.DataFrame:
    """Code-only programs, and those whose function a program with examples of the same corpus computes."""
    rows = []
    for corpus in corpora:
        taught = {function_of(entry) for entry in corpus.entries if entry.group == "with_io"}
        rows += [
            {"steps": entry.program.facts["steps"], "known": function_of(entry) in taught}
            for entry in corpus.entries
            if entry.group == "without_io"
        ]
    found = pd.DataFrame(rows).groupby("steps")["known"].agg(["size", "sum"]).reset_index()
    return found.rename(columns={"size": "code-only programs", "sum": "function of a program with examples"})


def shortcuts(entry: Entry) -> Iterator[tuple[str, int, bool]]:
    """Of a two-step program: each shortcut, the place of each input, and whether it gives the right answer there."""
    facts = entry.program.facts

    def step(k: int, value: Any) -> Any:
        return OPERATIONS[str(facts[f"op_{k}"])].apply(value, int(facts[f"constant_{k}"]))

    for place, trace in enumerate(entry.traces):
        (value,) = trace.arguments
        answers = (step(1, value), step(2, value), step(1, step(2, value)), value)
        for name, answer in zip(SHORTCUTS, answers, strict=True):
            yield name, place, answer == trace.output


def by_luck(corpora: list[Corpus]) -> pd.DataFrame:
    """Of all calls of code-only two-step programs, the share that each shortcut answers, and that none does."""
    rows = [
        (seed, entry.program.name, *found)
        for seed, corpus in enumerate(corpora)
        for entry in corpus.entries
        if entry.group == "without_io" and entry.program.facts["steps"] == 2
        for found in shortcuts(entry)
    ]
    table = pd.DataFrame(rows, columns=["seed", "program", "by", "place", "right"])
    calls = table.pivot(index=["seed", "program", "place"], columns="by", values="right")
    calls["step 1 or step 2 alone"] = calls[list(SHORTCUTS[:2])].any(axis=1)
    calls["none of these"] = ~calls[list(SHORTCUTS)].any(axis=1)
    shown = [*SHORTCUTS[:2], "step 1 or step 2 alone", *SHORTCUTS[2:], "none of these"]
    return pd.DataFrame(
        {"right answer given by": shown, "share of calls": [f"{calls[name].mean():.1%}" for name in shown]}
    )


def most_state(transfer: pd.DataFrame) -> pd.DataFrame:
    """Of each group's pairs answered right, the two places where most follow state 1, and the one of random vectors."""
    state = transfer[
        (transfer["of"] == "finetuned") & (transfer["subset"] == "correct") & (transfer["hypothesis"] == "state_1")
    ]
    top = state.sort_values("proportion", ascending=False, kind="stable").groupby(["group", "control"], sort=True)
    rows = pd.concat([cells.head(2 if control == "none" else 1) for (_, control), cells in top])
    rows = rows.assign(**{name: rows[name].map("{:.1%}".format) for name in ("proportion", "lower", "upper")})
    rows = rows.assign(run=rows["control"].replace({"none": "patched"}))  # as the published page has it
    return rows[["group", "run", "site", "layer", "role", "proportion", "lower", "upper", "n", "programs"]]


def control_state(carried: pd.DataFrame) -> pd.DataFrame:
    """The same with programs in the prompt: the place where most follow state 1, and the component."""
    state = carried[(carried["hypothesis"] == "state_1") & (carried["control"] == "none")]
    tops = [cells.loc[cells["proportion"].idxmax()] for cells in (state, state[state["site"] != "resid_pre"])]
    rows = pd.DataFrame(tops)[["site", "layer", "role", "proportion", "lower", "upper", "n", "programs"]]
    return rows.assign(**{name: rows[name].map("{:.1%}".format) for name in ("proportion", "lower", "upper")})


def depths(recovery: pd.DataFrame) -> pd.DataFrame:
    """For how many blocks a name carries its program: recovery at the input of each block, added up over the blocks.

    Pairs answered right. The bounds of the difference are sums of the blocks' own: rather too wide than too narrow.
    """
    recovery = with_pairs(recovery)
    recovery = recovery[(recovery["first"] == "with_io") & (recovery["second"] == "without_io")]
    at_name = recovery[
        (recovery["site"] == "resid_pre") & (recovery["role"] == "name") & (recovery["subset"] == "correct")
    ]
    summed = at_name.groupby("steps")[["mean_with_io", "mean_without_io", "difference", "lower", "upper"]].sum()
    summed = summed.rename(columns={"lower": "upper", "upper": "lower"})  # turned round: without_io minus with_io
    minus = -summed[["difference", "lower", "upper"]]
    means = summed.filter(like="mean").rename(columns=lambda name: name.replace("mean_", "blocks "))
    programs = at_name.groupby("steps")[["clusters_with_io", "clusters_without_io"]].max()
    named = programs.rename(columns=lambda name: name.replace("clusters_", "programs "))
    return means.join(minus).join(named).reset_index()


def equivalent_places(carried: pd.DataFrame) -> pd.DataFrame:
    """Of the places whose shares are the same within the margin in both groups, those where that is trivial."""
    carried = with_pairs(carried)
    carried = carried[(carried["first"] == "with_io") & (carried["second"] == "without_io")]
    equivalent = carried[(carried["subset"] == "matched") & carried["equivalent"]]
    shares = equivalent[["mean_with_io", "mean_without_io"]]
    counts = {
        "the same within the margin": len(shares),
        "of these both below 5 %": (shares < 0.05).all(axis=1).sum(),
        "both above 95 %": (shares > 0.95).all(axis=1).sum(),
    }
    return pd.DataFrame({"places and hypotheses of the transfer map": list(counts), "number": list(counts.values())})


def by_kind_of_call(run: Path) -> pd.DataFrame:
    """Direct answers of a finetuned model to code-only two-step calls, by what else gives the right answer."""
    from pbb_probe.finetuning.behaviour import evaluate

    corpus = Corpus.load(run / "corpus")
    answered = evaluate(model_of(run), corpus, modes=("direct",)).to_dataframe()
    calls = answered[(answered["group"] == "without_io") & (answered["steps"] == 2)]
    lucky = {
        (entry.program.name, place, name): right
        for entry in corpus.entries
        if entry.program.facts["steps"] == 2
        for name, place, right in shortcuts(entry)
    }
    given = {
        name: pd.Series([lucky[call.program, call.place, name] for call in calls.itertuples()], calls.index)
        for name in SHORTCUTS
    }
    kinds = {
        "all calls": given["the input"] | True,
        **given,
        "none of these": ~pd.concat(given.values(), axis=1).any(axis=1),
    }
    rows = []
    for kind, chosen in kinds.items():
        if not chosen.any():
            continue
        some = calls[chosen]
        share = cluster_bootstrap(some["correct"].to_numpy(float), some["program"])
        chance = some["output"].value_counts(normalize=True).max()
        rows.append(
            {
                "right answer given by": kind,
                "right": in_percent(share),
                "chance": f"{chance:.1%}",
                "calls": len(some),
                "programs": some["program"].nunique(),
            }
        )
    return pd.DataFrame(rows)


def by_folds(run: Path) -> pd.DataFrame:
    """Accuracy of probes on held-out one-step with_io programs, by folds of programs and by folds of functions.

    Intervals resample what the folds keep apart.
    """
    corpus, model = Corpus.load(run / "corpus"), pbb.load_model(str(model_of(run)))
    prompts = pbb.make_prompts(corpus, model, "with_io", n=PROMPTS, unseen=True)
    prompts = prompts.select(np.flatnonzero(prompts.labels["steps"] == 1).tolist())
    acts = pbb.capture(model, prompts, roles=["name", "answer"])
    functions = {entry.program.name: str(function_of(entry)) for entry in corpus.entries}
    acts = acts.assign_coords(function=("prompt", prompts.labels["program"].map(functions).tolist()))
    rows = []
    for kept_apart in ("program", "function"):
        probes = pbb.fit_probes(acts, TARGETS, kept_apart, C=0.1, folds=3)
        correct = probes["correct"].isel(site=0).sel(layer=list(BLOCKS))
        n = len(set(acts[kept_apart].values))
        for target, role in READ:
            read = interval_table(correct.sel(target=target, role=role), clusters=kept_apart)
            shares = {f"after block {block.layer}": in_percent(block) for block in read.itertuples()}
            where = {"target": target, "at": role, "folds keep apart": f"{n} {kept_apart}s"}
            rows.append({**where, **shares, "prompts": len(prompts)})
    return pd.DataFrame(sorted(rows, key=lambda row: READ.index((row["target"], row["at"]))))


def model_of(run: Path) -> Path:
    """The model of the last stage, where `pbb-probe run` leaves it, or `pbb-probe finetune`."""
    return next(path for path in (run / "stage2" / "model", run / "stage2") if path.is_dir())


def in_percent(share: Any) -> str:
    """A mean with its bounds."""
    return f"{float(share.mean):.0%} [{100 * float(share.lower):.0f}, {100 * float(share.upper):.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/reference"))
    parser.add_argument("--control", type=Path, default=Path("results/in_context/carried.csv"))
    parser.add_argument("--run", type=Path, help="a proactive run whose model is asked")
    options = parser.parse_args()
    if options.run:
        of_run = map(markdown_table, (by_kind_of_call(options.run), by_folds(options.run)))
        (options.results / "quoted_run.md").write_text(QUOTED_RUN.format(*of_run))
        return
    corpora = [make_corpus(**asdict(AS_PUBLISHED), seed=seed) for seed in SEEDS]
    transfer, recovery, compared = (
        read_published(options.results / f"{name}.csv")
        for name in ("transfer", "difference_recovery_program", "difference_transfer")
    )
    control = read_published(options.control)
    tables = (
        known_functions(corpora),
        by_luck(corpora),
        most_state(transfer),
        control_state(control),
        depths(recovery),
        equivalent_places(compared),
    )
    text = QUOTED.format(*map(markdown_table, tables), programs=CorpusConfig().without_io, seeds=len(SEEDS))
    (options.results / "quoted.md").write_text(text)


QUOTED = """# Figures quoted beside the tables

Made by `python experiments/quoted_figures.py` from the programs of the reference study ({seeds} times {programs}
code-only ones) and from its tables.

Code-only programs, and how many of them compute a function that a program with examples computes as well:

{}

Calls of code-only two-step programs, all ten inputs, and how many of them less than an evaluation answers by luck:

{}

Of pairs answered right, the places where most follow state 1, beside the most that random vectors reach at any place:

{}

The same where programs are known to be evaluated step by step, in the base model with their code in its prompt: the
place where most follow state 1, and the component. The verdict's rule asks for half of the pairs in one component, and
so does not find this state.

{}

For how many blocks a name carries its program: recovery of the logit difference at the input of each block, added up
over the blocks, on pairs answered right. The difference is without_io minus with_io; its bounds are sums of the blocks'
own, rather too wide than too narrow.

{}

Where the groups are the same within 0.1 in what places carry, pairs of which all four calls are answered right:

{}
"""

QUOTED_RUN = """# Figures of one model

Made by `python experiments/quoted_figures.py --run runs/finetuned`, of a model of `pbb-probe finetune --out
runs/finetuned` (nano, proactive, seed 0).

Direct answers to code-only two-step programs on all ten inputs, by what else gives the right answer:

{}

Probes of one-step programs with examples, on inputs never shown: accuracy on held-out programs where the folds keep
only programs apart, and where they keep functions apart. Intervals resample what is kept apart.

{}
"""


if __name__ == "__main__":
    main()
