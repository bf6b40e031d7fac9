"""A run of three groups in the explorer: what can be chosen, what is compared, and what its calls show."""

import json
import shutil

import numpy as np
import pandas as pd
import plotly.io
import pytest
from dash_parts import control_values, figures_of, parts_of
from sealed import seal

from pbb_probe.programs.program import GROUPS
from pbb_probe.views.explorer.app import PAGES
from pbb_probe.views.explorer.cards import Asked
from pbb_probe.views.explorer.explored import Explored
from pbb_probe.views.explorer.recorded import value_of
from pbb_probe.views.explorer.selected import matching

PAIRS = (("with_io", "without_io"), ("with_io", "io_only"), ("without_io", "io_only"))
SENTENCE = "not evaluated (15 % [11, 20] on 212 decisive calls, chance 13 %)"


def with_third(table: pd.DataFrame) -> pd.DataFrame:
    """The table with io_only, which is a quarter below with_io and of which all numbers are known."""
    if "group" in table:
        third = table[table["group"] == "with_io"].assign(group="io_only")
        return pd.concat([table, third], ignore_index=True)
    if "mean_with_io" not in table:
        return table
    own = {name: table[name] for name in table if name.endswith("_with_io")}
    third = {name.replace("with_io", "io_only"): values for name, values in own.items()}
    table = table.assign(**third | {"mean_io_only": table["mean_with_io"] - 0.25})
    pairs = []
    for first, second in PAIRS:
        apart = table[f"mean_{first}"] - table[f"mean_{second}"]
        pairs.append(table.assign(first=first, second=second, difference=apart, lower=apart - 0.1, upper=apart + 0.1))
    return pd.concat(pairs, ignore_index=True)


@pytest.fixture(scope="module")
def explored(planted_run, tmp_path_factory):
    """A planted run, some with_io programs of which are io_only now, and another beside it."""
    folder = tmp_path_factory.mktemp("three")
    run = shutil.copytree(planted_run, folder / "run")
    lines = [json.loads(line) for line in (run / "corpus" / "corpus.jsonl").read_text().splitlines()]
    for line in [line for line in lines if line["group"] == "with_io"][:5]:
        line["group"] = "io_only"
    (run / "corpus" / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in (run / "comparison").glob("*.csv"):
        if path.stat().st_size > 1:
            with_third(pd.read_csv(path)).to_csv(path, index=False)
    gate = pd.DataFrame({"group": GROUPS, "steps": 2, "evaluated": [True, False, True], "sentence": ["", SENTENCE, ""]})
    gate.to_csv(run / "comparison" / "evaluation_gate.csv", index=False)
    seal(run)
    shutil.copytree(run, folder / "other")
    return Explored(run)


def asked(explored, path: str, **query) -> Asked:
    values = control_values(PAGES[path].controls(explored, query))
    return Asked(explored, values | query)


def drawn(explored, path: str, **query) -> dict:
    """The figures of a page by name, whose Python makes them."""
    found = figures_of(PAGES[path].content(asked(explored, path, **query)))
    for name, (figure, code) in found.items():
        scope: dict = {}
        exec(code, scope)
        shown, made = (json.loads(plotly.io.to_json(one))["data"] for one in (figure, scope["figure"]))
        assert made == shown, name
    return {name.removeprefix("figure-"): figure for name, (figure, _) in found.items()}


def options(explored, path: str, name: str) -> list[str]:
    fields = [
        part for part in parts_of(PAGES[path].controls(explored, {})) if getattr(part, "id", None) == {"control": name}
    ]
    return [option["value"] for field in fields for option in field.options]


def test_groups_and_pairs_are_those_of_the_run(explored, runs):
    assert options(explored, "/program", "group") == options(explored, "/compare", "group") == list(GROUPS)
    assert options(explored, "/layers", "pair") == ["", *map("/".join, PAIRS)]
    assert options(explored, "/compare", "pair") == list(map("/".join, PAIRS))
    two = Explored(runs / "whole")
    assert options(two, "/program", "group") == ["with_io", "without_io"]
    assert options(two, "/layers", "pair") == []


def test_layer_by_layer_all_groups_or_two_of_them(explored):
    table = explored.run.table("comparison/probing").query(
        "subset == 'all' and target == 'output' and role == 'answer'"
    )
    figure = drawn(explored, "/layers", subset="all")["layers"]
    names = [trace.name for trace in figure.data if trace.name and trace.showlegend]
    assert names == [*GROUPS, *(" minus ".join(pair) for pair in PAIRS), "adjusted p < 0.05"]
    (first, *_) = [trace for trace in figure.data if trace.name == "with_io minus io_only"]
    np.testing.assert_allclose(first.y, [0.25] * table["layer"].nunique())
    two = drawn(explored, "/layers", subset="all", pair="without_io/io_only")["layers"]
    lines = {trace.name: list(trace.y) for trace in two.data if trace.name and trace.showlegend and len(trace.y) > 1}
    assert list(lines) == ["without_io", "io_only", "without_io minus io_only"]
    cells = table[(table["first"] == "without_io") & (table["second"] == "io_only")].sort_values("layer")
    assert lines["io_only"] == cells["mean_io_only"].tolist()
    assert lines["without_io minus io_only"] == cells["difference"].tolist()


def test_two_groups_are_compared_in_both_of_two_runs(explored):
    found = drawn(explored, "/compare", run="other", subset="all", pair="with_io/io_only", group="with_io")
    names = [trace.name for trace in found["groups"].data if trace.name == "with_io minus io_only"]
    assert len(names) == 2
    assert {"run", "other"} <= {note.text for note in found["groups"].layout.annotations}
    without = drawn(explored, "/compare", run="other", subset="all", group="without_io")
    for name in ("onsets", "transfer_map"):
        notes = [note.text.replace("<br>", " ") for note in without[name].layout.annotations]
        assert notes.count(SENTENCE) >= 2, name


def test_what_is_not_evaluated_says_so_on_the_overview(explored):
    for name in ("onsets", "transfer"):
        figure = drawn(explored, "/", subset="all")[name]
        assert SENTENCE in [note.text.replace("<br>", " ") for note in figure.layout.annotations]
    told = str(PAGES["/"].content(asked(explored, "/", subset="all")))
    assert SENTENCE in told


def test_every_call_of_a_program_says_whether_it_is_decisive(explored):
    entry = next(entry for entry in explored.run.corpus.of("io_only"))
    meaning = explored.run.corpus.meaning[entry.program.name]
    place = next(i for i, words in enumerate(meaning.explained_by) if words)
    query = {"program": entry.program.name, "call": entry.traces[place].call_text}
    told = str(PAGES["/program"].content(asked(explored, "/program", **query)))
    assert "the model saw examples of it, and never this code" in told
    assert f"no, explained by: {meaning.explained_by[place]}" in told
    n = meaning.explained_by.count("")
    assert f"Calls of {entry.program.name}: {n} of {len(entry.traces)} are decisive" in told


def test_points_are_coloured_told_and_selected_by_what_their_answers_show(explored):
    labels = explored.run.array("probing/probes")
    colours = options(explored, "/activations", "colour")
    assert {"function", "novelty", "decisive", "explained_by"} <= set(colours)
    figure = drawn(explored, "/activations", colour="decisive")["activations"]
    n = {trace.name: len(trace.x) for trace in figure.data}
    decisive = labels["decisive"].values.astype(bool)
    assert n == {"False": (~decisive).sum(), "True": decisive.sum()}
    assert "explained_by" in figure.data[0].hovertemplate
    known = asked(explored, "/activations").explored.labels()
    np.testing.assert_array_equal(matching(value_of(known), "decisive = True"), decisive)
