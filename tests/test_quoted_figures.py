"""Figures that are quoted beside the tables: counted by hand, and the published ones are those of the command."""

import sys
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

import quoted_figures
import read_and_use
from published import read_published

from pbb_probe.finetuning import behaviour
from pbb_probe.programs.arithmetic import arithmetic_program
from pbb_probe.programs.corpus import Corpus, Entry, make_corpus
from pbb_probe.programs.program import trace_programs

ROOT = Path(__file__).parent.parent


def corpus(**programs) -> Corpus:
    """Of steps by name; those whose name begins with w are with_io."""
    made = [arithmetic_program(name, steps) for name, steps in programs.items()]
    traced = trace_programs(made, [range(10)] * len(made))
    return Corpus(
        tuple(
            Entry(program, "with_io" if program.name[0] == "w" else "without_io", tuple(traces), ())
            for program, traces in zip(made, traced, strict=True)
        )
    )


DOUBLE_THEN_THREE = [("multiply", 2), ("add", 3)]


def test_a_function_is_known_whatever_its_steps():
    """8 - x is known by another source, (2x + 3) % 10 as it stands, x + 1 not at all."""
    taught = {"wa": [("subtract_from", 8)], "wb": DOUBLE_THEN_THREE}
    asked = {"a": [("multiply", 9), ("add", 8)], "b": DOUBLE_THEN_THREE, "c": [("add", 1)], "d": [("subtract_from", 8)]}
    found = quoted_figures.known_functions([corpus(**taught, **asked)]).set_index("steps")
    assert found.loc[1].tolist() == [2, 1]
    assert found.loc[2].tolist() == [2, 2]


def test_what_answers_by_luck_is_counted_by_hand():
    """(2x + 3) % 10 at 7 is 7: the input; at 0 it is 3: step 2 alone. The wrong order gives 2x + 6, step 1 alone 2x."""
    share = quoted_figures.by_luck([corpus(a=DOUBLE_THEN_THREE)]).set_index("right answer given by")["share of calls"]
    assert share.to_dict() == {
        "step 1 alone": "0.0%",
        "step 2 alone": "10.0%",  # 2x + 3 = x + 3 at 0
        "step 1 or step 2 alone": "10.0%",
        "the steps in the wrong order": "0.0%",
        "the input": "10.0%",  # 2x + 3 = x at 7
        "none of these": "80.0%",
    }


def test_answers_of_a_model_are_divided_by_what_answers_by_luck(tmp_path, monkeypatch):
    """A model that takes step 2 alone, x + 3, answers (2x + 3) % 10 at 0 and nowhere else."""
    programs = corpus(a=DOUBLE_THEN_THREE)
    programs.save(tmp_path / "corpus")
    (tmp_path / "stage2").mkdir()

    def answers(model, asked, modes):
        assert (model, modes) == (tmp_path / "stage2", ("direct",))
        calls = asked.calls("direct")
        calls = calls.assign(correct=(calls["input"] + 3) % 10 == calls["output"])
        return xr.Dataset.from_dataframe(calls[["program", "group", "steps", "place", "output", "correct"]])

    monkeypatch.setattr(behaviour, "evaluate", answers)
    found = quoted_figures.by_kind_of_call(tmp_path).set_index("right answer given by")
    assert found["right"].str.split(" ").str[0].to_dict() == {
        "all calls": "10%",
        "step 2 alone": "100%",
        "the input": "0%",
        "none of these": "0%",
    }
    assert found["calls"].tolist() == [10, 1, 1, 8]


def test_folds_keep_apart_what_they_say(tmp_path, monkeypatch):
    """The untrained names of nano: as many programs and functions as the one-step programs with examples have."""
    programs = make_corpus(with_io=120, without_io=1, shapes=("one_step",), seed=3)
    programs.save(tmp_path / "corpus")
    monkeypatch.setattr(quoted_figures, "model_of", lambda run: "nano")
    monkeypatch.setattr(quoted_figures, "TARGETS", ("op_1",))
    monkeypatch.setattr(quoted_figures, "READ", (("op_1", "name"),))
    found = quoted_figures.by_folds(tmp_path)
    outputs = {tuple(trace.output for trace in entry.traces) for entry in programs.entries if entry.group == "with_io"}
    assert found["folds keep apart"].tolist() == ["120 programs", f"{len(outputs)} functions"]
    assert 1 < len(outputs) < 120
    assert found["after block 3"].str.fullmatch(r"\d+% \[\d+, \d+\]").all()


def test_depth_is_the_sum_over_blocks_and_its_difference_is_turned_round():
    row = {"site": "resid_pre", "role": "name", "subset": "correct", "steps": 1, "mean_with_io": 0.9}
    row |= {"mean_without_io": 0.7, "difference": 0.2, "lower": 0.1, "upper": 0.4}
    row |= {"clusters_with_io": 30, "clusters_without_io": 20}
    other = [row | {"site": "mlp_out"}, row | {"role": "answer"}, row | {"subset": "all"}]
    found = quoted_figures.depths(pd.DataFrame([row, row, *other])).iloc[0]
    assert found.to_dict() == pytest.approx(
        {
            "steps": 1, "blocks with_io": 1.8, "blocks without_io": 1.4, "difference": -0.4, "lower": -0.8,
            "upper": -0.2, "programs with_io": 30, "programs without_io": 20,
        }
    )  # fmt: skip


def test_what_is_published_is_what_the_commands_say(tmp_path, monkeypatch):
    published, control = ROOT / "results" / "reference", ROOT / "results" / "in_context" / "carried.csv"
    for name in ("transfer", "difference_recovery_program", "difference_transfer"):
        (tmp_path / f"{name}.csv").write_bytes((published / f"{name}.csv").read_bytes())
    monkeypatch.setattr(sys, "argv", ["quoted_figures.py", "--results", str(tmp_path), "--control", str(control)])
    quoted_figures.main()
    assert (tmp_path / "quoted.md").read_text() == (published / "quoted.md").read_text()
    moved = ROOT / "results" / "in_context"
    assert read_and_use.by_strength(read_published(moved / "interchange.csv")) == (moved / "interchange.md").read_text()
