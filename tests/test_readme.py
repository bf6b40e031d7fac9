"""The README's library example runs as it stands there, and the commands it names exist."""

import re
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PLANTED, PROBES, TRANSFER, KNOCKOUT, MEANING, OPENED = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_ten_lines_run(capsys):
    scope: dict = {}
    exec(PROBES, scope)
    shown = capsys.readouterr().out
    assert "resid_post" in shown
    # the code is in the context: carrying the constant into the other run carries the answer with it
    recovered = scope["pbb"].metrics.recovery(scope["effects"])["resid_pre"].mean("pair")
    assert float(recovered.sel(layer=0, role="constant")) > 0.9


def test_the_planted_example_finds_what_was_planted(capsys):
    scope: dict = {}
    exec(PLANTED, scope)
    used = scope["pbb"].tables.located_use(scope["carried"]).set_index("variable")["layer"]
    truth = scope["truth"].query("group == 'with_io'").set_index("variable")["layer"]
    assert used.to_dict() == truth.to_dict() == {"program": 1, "input": 0, "state_1": 3, "output": 4}
    assert "state_1" in capsys.readouterr().out


def test_the_transfer_map_finds_the_steps_that_stand_in_the_prompt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    scope: dict = {}
    exec(TRANSFER, scope)
    assert (tmp_path / "transfer.html").stat().st_size > 1e6
    table = scope["table"].set_index(["control", "layer", "role", "hypothesis"])["proportion"]
    # replacing the tokens of a line is replacing the line: this much is known without any model of the model
    assert table["none", 0, "step_1", "steps_to_1"] > 0.95
    assert table["none", 0, "step_2", "steps_after_1"] > 0.95
    # and the state stands between the two steps, far more often than random vectors make it appear
    assert table["none", 4, "answer", "state_1"] > 0.4
    assert table["random", :, :, "state_1"].max() < 0.15


def test_the_answer_reads_the_steps_one_after_the_other(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    scope: dict = {}
    exec(KNOCKOUT, scope)
    lost = (scope["found"]["cut"] - scope["found"]["intact"]).mean("prompt")
    assert "step_2 -> answer" in capsys.readouterr().out
    assert lost.idxmin("layer").values.tolist() == [0, 3, 4]
    assert lost.sel(edge="input -> answer", layer=0) < -0.9
    assert (lost.sel(edge="input -> answer", layer=slice(1, None)) > -0.02).all()


def test_what_a_right_answer_means_is_shown(capsys):
    scope: dict = {}
    exec(MEANING, scope)
    calls, gate = scope["calls"], scope["pbb"].tables.gate(scope["behaviour"])
    assert (calls["decisive"] == (calls["explained_by"] == "")).all()
    # with the code in the prompt there is nothing to remember, and by name alone nothing to answer from
    assert gate.loc[gate["programs"] >= 20, "evaluated"].all()
    assert (gate["programs"] >= 20).sum() == 3
    assert (scope["effective"]["difference"] == "unclear").mean() > 0.9
    assert "decisive calls, chance" in capsys.readouterr().out


def test_a_run_is_opened_as_it_says(planted_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "nano").symlink_to(planted_run)
    scope: dict = {}
    exec(OPENED, scope)
    assert len(scope["prompts"]) == scope["probes"].sizes["prompt"]
    assert scope["call"].labels["input"].item() == 7
    assert {"program", "output"} <= set(scope["table"]["variable"])
    assert (tmp_path / "readings.html").stat().st_size > 1e6


def test_every_path_the_readme_names_exists():
    for path in re.findall(r"\]\(((?!http|#)[^)]+)\)", README) + re.findall(
        r"`((?:experiments|results)/[\w/.]*)`", README
    ):
        assert (ROOT / path).exists(), path


def test_every_section_the_readme_points_to_exists():
    titles = re.findall(r"^#+ (.+)$", README, flags=re.MULTILINE)
    sections = {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}
    pointed = re.findall(r"\]\(#([^)]+)\)", README)
    assert pointed
    assert set(pointed) <= sections


def test_the_table_of_what_was_tried_is_that_of_the_results():
    """Nothing in it has failed, and each number is a sum of `results/faults/summary.csv`."""
    summary = pd.read_csv(ROOT / "results" / "faults" / "summary.csv")
    assert (summary["n"] == summary["survived"]).all()
    table = README.partition("## What was tried to break it")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([a-z ]+) \| .* \| (\d+) \| (\d+) \|$", table, re.MULTILINE)
    stated = pd.DataFrame(rows, columns=["tried", "n", "survived"]).astype({"n": int, "survived": int})
    for column in ("n", "survived"):
        assert stated.groupby("tried")[column].sum().to_dict() == summary.groupby("tried")[column].sum().to_dict()
