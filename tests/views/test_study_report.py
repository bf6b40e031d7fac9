"""The report of a run: verdict first, a paper's order, captions and tables that say what the tables of the run hold."""

import json
import re
import shutil
from importlib.metadata import version

import pandas as pd
import pytest
from sealed import seal

from pbb_probe.runs.opened import open_run
from pbb_probe.views import study_report, study_tables
from pbb_probe.views.markdown import markdown_table, markdown_text
from pbb_probe.views.run_tables import read_table, rows
from pbb_probe.views.words import answers, captions
from pbb_probe.views.words.phrases import SUBSETS

HOSTILE = "<img src=x onerror=alert(1)>"
SENTENCE = "not evaluated (15 % [11, 20] on 212 decisive calls, chance 13 %)"


@pytest.fixture(scope="module")
def written(finished_run, tmp_path_factory):
    run = shutil.copytree(finished_run, tmp_path_factory.mktemp("written") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_report, "save_pngs", lambda *_: True)
        study_report.write_study_report(open_run(run), run / "report")
    return run


def test_the_verdict_comes_first_then_the_order_of_a_paper(written):
    page = (written / "report.html").read_text()
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert [head.split(":")[0] for head in heads] == [
        "Verdict",
        "1. Behaviour",
        "2. Where",
        "3. What is used",
        "4. What can be read",
        "5. Is it read because it is used? Patching the probes&#39; subspaces",
        "6. What the model itself could say",
        "7. Differences between the groups",
        "8. Methods",
    ]
    assert page.index("<h2>Verdict") < page.index("<nav") < page.index("<h2>1. Behaviour")
    assert set(re.findall(r'href="#(.*?)"', page)) <= set(re.findall(r'id="(.*?)"', page))


def test_the_markdown_says_the_same_with_pictures(written):
    words = (written / "report.md").read_text()
    page = (written / "report.html").read_text()
    drawn = set(study_report.study_report(open_run(written)).figures)
    assert set(re.findall(r"\]\(report/(\w+)\.png\)", words)) == drawn
    titles = dict(re.findall(r"<figcaption><b>Figure (\d+)\. (.*?)\.</b>", page))
    assert len(titles) == len(drawn)
    for n, title in re.findall(r"\*\*\[Figure (\d+)\]\(report\.html#figure-\d+\)\. (.*?)\.\*\*", words):
        assert titles.pop(n) == title.replace("\\_", "_").replace("\\", "")
    assert not titles
    assert f"{words.count('details>') // 2}" == str(page.count("<details>") - page.count("<summary>Table"))


def test_hostile_names_are_text_in_both(written):
    page, words = ((written / name).read_text() for name in ("report.html", "report.md"))
    for text in (page, words):
        assert "<img" not in text.replace("<img alt", "")
        assert "<script>alert" not in text
    assert "\\*\\[x\\](http:&#47;/example.com)" in words
    specs = "".join(re.findall(r'id="spec-\d+">(.*?)</script>', page))
    assert "\\u003cimg" not in specs  # plotly itself would take it for markup


def test_without_pictures_the_markdown_says_so(finished_run, tmp_path, monkeypatch):
    run = shutil.copytree(finished_run, tmp_path / "run")
    monkeypatch.setattr(study_report, "save_pngs", lambda *_: False)
    study_report.write_study_report(open_run(run), run / "report")
    words = (run / "report.md").read_text()
    assert "There are no pictures" in words
    assert ".png" not in words
    assert "[Figure 1](report.html#figure-1)" in words


def test_what_was_not_measured_is_left_out(finished_run, tmp_path, monkeypatch):
    run = shutil.copytree(finished_run, tmp_path / "run")
    for name in ("lens", "outcomes", "interchange", "onset_differences", "onsets", "evaluation"):
        (run / "comparison" / f"{name}.csv").write_text("\n")
    seal(run)
    monkeypatch.setattr(study_report, "save_pngs", lambda *_: True)
    study_report.write_study_report(open_run(run), run / "report")
    words = (run / "report.md").read_text()
    assert "lens_" not in words
    assert "onsets_" not in words
    assert "report/transfer_2_correct.png" in words


def test_nothing_is_said_of_kinds_whose_answers_are_not_above_chance(finished_run):
    behaviour = read_table(open_run(finished_run), "behaviour", "behaviour")
    assert "Not shown to be above chance: without_io, 2 steps." in answers.see_behaviour(behaviour)
    short = study_tables.summary(open_run(finished_run)).set_index(["group", "steps"])
    assert list(short.loc["without_io", 2])[3:] == ["not found"] * 3
    assert list(short.loc["with_io", 2])[3:] == ["2 [1, 2]", "2 [1, 2]", "undetermined"]
    onsets = rows(read_table(open_run(finished_run), "onsets"), subset="correct")
    kinds = "with_io and io_only, 1 and 2 steps; without_io, 1 step"
    assert captions.see_onsets(
        onsets, [(g, n) for g in ("with_io", "io_only") for n in (1, 2)] + [("without_io", 1)]
    ) == (
        f"The program leaves its name in block 2 ({kinds}). No one component writes state_1 ({kinds}). "
        f"Probes do not read state_1 ({kinds}). One component writes output in block 2 ({kinds}). "
        f"Probes read output after block 2 ({kinds}). "
        "Pairs: 40 of with_io, 1 step; 40 of with_io, 2 steps; 40 of without_io, 1 step; 40 of io_only, 1 step; 40 of "
        "io_only, 2 steps. "
        "Nothing is said of without_io, 2 steps, whose direct answers are not shown to be above chance."
    )
    assert captions.see_onsets(onsets.iloc[:0], []) == "Nothing was found."


@pytest.fixture(scope="module")
def gated(gated_run):
    """The run, and its report."""
    run = open_run(gated_run)
    return run, study_report.study_report(run)


def test_what_is_not_evaluated_has_its_sentence_in_place_of_map_and_onsets(gated):
    run, report = gated
    short = study_tables.summary(run).set_index(["group", "steps"])
    last = ["program leaves its name in block", "output is read after block", "evaluation"]
    assert list(short.loc["without_io", 2][last]) == ["", "", SENTENCE]
    assert list(short.loc["io_only", 2][last]) == ["2 [1, 2]", "2 [1, 2]", "undetermined"]
    where = report.sections[1]
    assert list(where.terms) == [("without_io, 2 steps", SENTENCE)]
    shown = {figure.name: figure for section in report.sections for figure in section.figures}
    for name in ("transfer_2_decisive", "transfer_2_all", "onsets_decisive", "interchange_output_2"):
        notes = [note.text.replace("<br>", " ") for note in shown[name].figure.layout.annotations]
        assert SENTENCE in notes, name
    assert "not evaluated" not in str(shown["transfer_1_decisive"].figure.layout.annotations)
    assert "without_io" not in shown["transfer_2_decisive"].caption.partition("Share of pairs")[2]
    assert "Nothing is said of without_io, 2 steps" in shown["onsets_decisive"].caption


def test_only_decisive_calls_of_new_functions_are_the_headline(gated):
    run, report = gated
    shown = [figure for section in report.sections for figure in section.figures]
    of_subset = {figure.name: figure for figure in shown if figure.name.rpartition("_")[2] in SUBSETS}
    assert {name for name, figure in of_subset.items() if not figure.folded} == {
        name for name in of_subset if name.endswith("_decisive")
    }
    assert all(
        "decisive calls of new functions" in figure.title
        for name, figure in of_subset.items()
        if name.endswith("_decisive")
    )
    behaviour = read_table(run, "behaviour", "behaviour")
    cell = {"model": "finetuned", "mode": "direct", "group": "without_io", "steps": 1, "seen": False}
    new, known, every = (
        rows(behaviour, **cell, calls=calls, programs=of)["mean"].item()
        for calls, of in (("decisive", "new functions"), ("decisive", "known functions"), ("all", "all"))
    )
    said = answers.see_behaviour(behaviour)
    headline, _, further = said.partition(" Of known functions: ")
    assert f"without_io {new:.0%} (1 step)" in headline
    assert further.startswith(f"without_io {known:.0%} (1 step)")
    assert f"without_io {every:.0%} (1 step)" in further.partition("Of all calls: ")[2]
    assert said.endswith(  # 40 calls a number of steps, 20 programs
        "Decisive are of the calls asked of: with_io 20 of 80; without_io 20 of 80; io_only 20 of 80. "
        "Of 40 without_io programs 20 have new functions."
    )
    short = study_tables.summary(run).set_index(["group", "steps"]).loc["without_io", 1]
    assert short["decisive calls answered right"].startswith(f"{new:.0%} [")
    assert (short["known functions"], short["all calls"]) == (f"{known:.0%}", f"{every:.0%}")
    assert report.sections[0].tables[0].title == (
        "What the code adds, on decisive calls whose answers were never shown: 1 step: +10% [5%, 95%] (with_io minus "
        "io_only), stage1, code in context 90%"
    )
    recited = next(figure for figure in shown if figure.name == "recited")
    assert "io_only, 2 steps, direct: recalled and computed 70% and not recalled 30%" in recited.caption
    effective = next(figure for figure in shown if figure.name == "effective")
    assert "with_io, 1 step, direct 70% (else most often the order: 30%)" in effective.caption


def test_runs_of_an_earlier_release_are_still_reported(earlier_run):
    report = study_report.study_report(open_run(earlier_run))
    shown = {figure.name: figure for section in report.sections for figure in section.figures}
    assert "io_only" not in " ".join(figure.caption for figure in shown.values())
    assert "with_io and without_io differ at" in shown["recovery_all"].caption
    assert shown["onset_differences"].title == (
        "How many blocks later onsets are in with_io than in without_io, only calls answered correctly"
    )
    assert not shown["onsets_correct"].folded
    assert shown["onsets_all"].folded
    assert len(shown["patching_program_all"].figure.data) == 3
    assert not report.sections[1].terms


def test_of_kinds_with_too_few_programs_only_that_is_said(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    path = run / "comparison" / "onsets.csv"
    onsets = pd.read_csv(path)
    onsets.loc[(onsets["group"] == "without_io") & (onsets["steps"] == 1), "used_clusters"] = 19
    onsets.to_csv(path, index=False)
    seal(run)
    short = study_tables.summary(open_run(run)).set_index(["group", "steps"])
    assert list(short.loc["without_io", 1])[3:] == ["", "", "too few programs (n = 19)"]
    assert list(short.loc["with_io", 1])[3:] == ["2 [1, 2]", "2 [1, 2]", "undetermined"]
    said = captions.see_onsets(rows(onsets, subset="correct"), [("with_io", 1), ("without_io", 1)])
    assert "Without_io, 1 step: too few programs (n = 19)." in said
    assert said.count("without_io, 1 step") == 0


def test_a_run_of_an_earlier_version_reads_undetermined(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    path = run / "comparison" / "evaluation.csv"
    path.write_text(path.read_text().replace("undetermined", "compiled"))
    seal(run)
    assert set(study_tables.summary(open_run(run))["evaluation"]) == {"undetermined", "not found"}


def test_captions_do_not_compare_too_few_programs(finished_run):
    probing, apart = (read_table(open_run(finished_run), name) for name in ("probing", "onset_differences"))
    few = probing.assign(clusters_without_io=19)
    assert captions.see_differences(few) == (
        "with_io and without_io were not compared: too few programs (n = 20 and 19). "
        f"with_io and io_only differ at 0 of {len(few) // 3} places (adjusted p < 0.05). "
        "without_io and io_only were not compared: too few programs (n = 19 and 20)."
    )
    apart, n = apart[apart["first"] == "with_io"].reset_index(drop=True), len(apart) // 3
    assert captions.see_onset_differences(apart) == (
        f"0 of {n} onsets that with_io and without_io both have are apart: their intervals leave zero out. "
        f"0 of {n} onsets that with_io and io_only both have are apart: their intervals leave zero out."
    )
    apart.loc[apart["second"] == "io_only", "lower"] = 1.0
    apart.loc[len(apart) - 1, "clusters_io_only"] = 19
    assert captions.see_onset_differences(apart).endswith(
        f"{n - 1} of {n - 1} onsets that with_io and io_only both have are apart: their intervals leave zero out. "
        "1 more have fewer than 20 programs in a group."
    )


def test_captions_name_passes_beside_states():
    shares = {"program": 0.75, "pass_1": 0.5, "passes_to_1": 0.9, "pass_2": 0.25}
    cells = [("with_io", "none", "mlp_out", "answer", 3, name, share) for name, share in shares.items()]
    columns = ["group", "control", "site", "role", "layer", "hypothesis", "proportion"]
    said = captions.see_transfer(pd.DataFrame(cells, columns=columns))
    place = "(mlp_out, answer, layer 3)"
    assert said.endswith(f"with_io: program 75% {place}, pass_1 50% {place}, pass_2 25% {place}.")


def test_captions_name_the_places_of_the_tables(finished_run):
    transfer = rows(read_table(open_run(finished_run), "transfer"), subset="correct", steps=2)
    top = rows(transfer, control="none", group="with_io", hypothesis="program")
    top = top.loc[top["proportion"].idxmax()]
    said = f"with_io: program {top['proportion']:.0%} (resid_post, {top['role']}, layer {top['layer']})"
    assert said in captions.see_transfer(transfer)
    probing = read_table(open_run(finished_run), "probing")
    n = len(probing) // 3
    first = probing.iloc[0]
    assert captions.see_differences(probing).startswith(
        f"with_io and without_io differ at 1 of {n} places (adjusted p < 0.05), most at resid_post, name, {HOSTILE}, "
        f"layer 0: with_io {first['mean_with_io']:.2f}, without_io {first['mean_without_io']:.2f}. "
        f"with_io and io_only differ at 0 of {n} places (adjusted p < 0.05). "
    )
    assert captions.see_differences(probing.iloc[:0]) == "The groups could not be compared."


def test_captions_of_readings_hold_the_best_block_and_what_comes_by_luck(finished_run):
    controls = rows(read_table(open_run(finished_run), "probing_controls"), subset="all", role="answer")
    output = rows(controls, target="output").groupby(["control", "group"])["score"].max()
    best, luck = output["none"], output["chance"].max()
    scores = f"{best['with_io']:.2f}, {best['without_io']:.2f} and {best['io_only']:.2f}"
    said = f"output {scores} (most common value at most {luck:.2f})."
    assert captions.see_probes(controls).endswith(said)
    assert "most common" not in captions.see_probes(controls[controls["control"] != "chance"])
    lens = rows(read_table(open_run(finished_run), "lens"), subset="all", decode="logit")
    top = lens.loc[lens["mean_with_io"].idxmax()]
    assert f"logit: {top['mean_with_io']:.0%} in with_io (block {top['layer']})" in captions.see_lens(lens)
    assert captions.see_lens(lens).endswith("by chance at most 10%.")


def test_places_that_differ_are_listed_the_largest_difference_first(finished_run):
    tables = {
        name: read_table(open_run(finished_run), name) for name in ("probing", "patching", "transfer_differences")
    }
    nothing = {name: table.assign(p_adjusted=1.0) for name, table in tables.items()}
    assert study_tables.differing_places(nothing).empty
    tables = {name: table.assign(p_adjusted=0.01) for name, table in tables.items()}
    found = study_tables.differing_places(tables)
    assert len(found) == sum((table["subset"] == "correct").sum() for table in tables.values())
    apart = found["difference"].str.partition(" ")[0].astype(float)
    assert apart.abs().is_monotonic_decreasing
    means = [found[side].str.extract(r"(\S+) (\S+)") for side in ("first", "second")]
    assert set(zip(means[0][0], means[1][0], strict=True)) == {
        ("with_io", "without_io"), ("with_io", "io_only"), ("without_io", "io_only"),
    }  # fmt: skip
    assert (means[0][1].astype(float) - means[1][1].astype(float) - apart).abs().max() < 0.011


def test_what_probes_know_of_functions_is_told_where_it_is_most():
    place = {"group": "with_io", "steps": 1, "target": "constant_1", "site": "resid_post", "role": "answer"}
    rows_of = [
        {**place, "layer": layer, "by_program": program, "by_function": 0.27, "difference": program - 0.27,
         "lower": 0.1, "upper": 0.8, "n": 90, "clusters": 12}
        for layer, program in ((3, 0.5), (4, 0.98), (5, 0.9))
    ]  # fmt: skip
    (row,) = study_tables.leak(pd.DataFrame(rows_of)).to_dict(orient="records")
    assert row["place"] == "resid_post, answer, layer 4"
    assert (row["read of held-out programs"], row["of held-out functions"]) == (0.98, 0.27)
    assert (row["difference"], row["functions"]) == ("0.71 [0.1, 0.8]", 12)


def test_settings_are_a_row_a_field():
    config = {"seed": 0, "probing": {"prompts": 5, "roles": ["name", "answer"], "lens": []}, "lora": None}
    assert study_tables.settings(config).to_numpy().tolist() == [
        ["seed", "0"],
        ["probing.prompts", "5"],
        ["probing.roles", "name, answer"],
        ["probing.lens", "none"],
        ["lora", "none"],
    ]


def test_methods_hold_the_numbers_of_the_run(written):
    words = (written / "report.md").read_text()
    config = json.loads((written / "config.json").read_text())
    for part in (
        f"up to {config['probing']['prompts']} prompts",
        f"{config['draws']} bootstrap",
        "seed 3",
        version("xarray"),
    ):
        assert part in words
    assert "| comparison | 12.5 |" in words


def test_markdown_is_plain_text():
    assert markdown_text("a_b *c* `d`\n<e> [f](g) | __h__ $x$") == (
        "a_b \\*c\\* \\`d\\` &lt;e&gt; \\[f\\](g) \\| \\_\\_h\\_\\_ \\$x\\$"
    )
    table = pd.DataFrame({"name": ["a|b"], "value": [-0.001], "none": [float("nan")], "n": [3]})
    assert markdown_table(table) == "| name | value | none | n |\n| --- | --- | --- | --- |\n| a\\|b | 0 |  | 3 |"
