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
from pbb_probe.views.words import captions

HOSTILE = "<img src=x onerror=alert(1)>"


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
    assert "Not above chance: without_io, 2 steps." in captions.see_behaviour(behaviour)
    short = study_tables.summary(open_run(finished_run)).set_index(["group", "steps"])
    assert list(short.loc["without_io", 2])[3:] == ["not found"] * 3
    assert list(short.loc["with_io", 2])[3:] == ["2 [1, 2]", "2 [1, 2]", "undetermined"]
    onsets = rows(read_table(open_run(finished_run), "onsets"), subset="correct")
    assert captions.see_onsets(onsets, [("with_io", 1), ("with_io", 2), ("without_io", 1)]) == (
        "The program leaves its name in block 2 (with_io, 1 and 2 steps; without_io, 1 step). "
        "No one component writes state_1 (with_io, 1 and 2 steps; without_io, 1 step). "
        "Probes do not read state_1 (with_io, 1 and 2 steps; without_io, 1 step). "
        "One component writes output in block 2 (with_io, 1 and 2 steps; without_io, 1 step). "
        "Probes read output after block 2 (with_io, 1 and 2 steps; without_io, 1 step). "
        "Pairs: 40 of with_io, 1 step; 40 of with_io, 2 steps; 40 of without_io, 1 step. "
        "Nothing is said of without_io, 2 steps, whose direct answers are not above chance."
    )
    assert captions.see_onsets(onsets.iloc[:0], []) == "Nothing was found."


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
    assert captions.see_differences(few) == "The groups were not compared: too few programs (n = 20 and 19)."
    assert captions.see_onset_differences(apart) == (
        f"0 of {len(apart)} onsets that both groups have are apart: their intervals leave zero out."
    )
    apart.loc[0, "clusters_with_io"] = 19
    said = captions.see_onset_differences(apart.assign(lower=1.0))
    assert said.startswith(f"{len(apart) - 1} of {len(apart) - 1} onsets")
    assert said.endswith(" 1 more have fewer than 20 programs in a group.")


def test_captions_name_the_places_of_the_tables(finished_run):
    transfer = rows(read_table(open_run(finished_run), "transfer"), subset="correct", steps=2)
    top = rows(transfer, control="none", group="with_io", hypothesis="program")
    top = top.loc[top["proportion"].idxmax()]
    said = f"with_io: program {top['proportion']:.0%} (resid_post, {top['role']}, layer {top['layer']})"
    assert said in captions.see_transfer(transfer)
    probing = read_table(open_run(finished_run), "probing")
    assert captions.see_differences(probing).startswith(f"The groups differ at 1 of {len(probing)} places")
    assert captions.see_differences(probing.assign(p_adjusted=1.0)) == (
        f"The groups differ at 0 of {len(probing)} places (adjusted p < 0.05)."
    )
    assert captions.see_differences(probing.iloc[:0]) == "The groups could not be compared."


def test_captions_of_readings_hold_the_best_block_and_what_comes_by_luck(finished_run):
    controls = rows(read_table(open_run(finished_run), "probing_controls"), subset="all", role="answer")
    output = rows(controls, target="output").groupby(["control", "group"])["score"].max()
    best, luck = output["none"], output["chance"].max()
    said = f"output {best['with_io']:.2f} and {best['without_io']:.2f} (most common value at most {luck:.2f})."
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
    apart = (found["with_io"] - found["without_io"]).abs()
    assert apart.is_monotonic_decreasing


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
