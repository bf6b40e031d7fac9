"""The notebook runs as it stands there, on the packaged model and on a run, and shows what is known of them."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from sealed import seal

import pbb_probe as pbb
from pbb_probe.hooking.answering import with_answered

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "experiments" / "notebooks" / "explore_activations.ipynb"
FACTS = """
import json
last = int(acts["layer"].values[-1])
score = read.set_index(["target", "group", "layer"])["score"]
drawn = pbb.figures.activations(space, labels, "output", selected=late)
print(json.dumps({
    "package": pbb.__file__,
    "groups": sorted(set(labels["group"])),
    "state_1": [score["state_1", "with_io", layer] for layer in (0, 4)],
    "output": [score["output", "with_io", layer] for layer in (0, last)],
    "frames": [frame.name for frame in drawn.frames],
    "shares": [float(shares.loc[layer, name]) for layer, name in ((0, "input"), (4, "state_1"), (last, "output"))],
    "late": int(late.sum()),
}))
"""


def execute(folder: Path) -> tuple[dict, list]:
    """What a cell put at the end finds, and the outputs of the others."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(FACTS))
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    *outputs, (facts,) = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return json.loads(facts["text"]), [output for some in outputs for output in some]


@pytest.fixture(autouse=True)
def own_package(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PBB_RUN", raising=False)


def test_it_explores_the_packaged_model(tmp_path):
    facts, outputs = execute(tmp_path)
    assert Path(facts["package"]).parent.parent == ROOT
    # the state is read after block 4 and not yet after the first, the output after the last
    assert facts["state_1"][0] < 0.4
    assert facts["state_1"][1] > 0.8
    assert facts["output"][0] < 0.3
    assert facts["output"][1] > 0.95
    assert facts["frames"] == ["0", "1", "2", "3", "4", "5"]
    # what the plane of the greatest variance is of: the input at first, the state in between, the output at the end
    assert [share > least for share, least in zip(facts["shares"], (0.9, 0.4, 0.25), strict=True)] == [True] * 3
    assert sum("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs) == 7
    lines = (tmp_path / "late_outputs.csv").read_text().splitlines()
    assert lines[0].startswith("prompt,program,call,op_1")
    assert len(lines) - 1 == facts["late"] > 50


def test_it_opens_a_run(tmp_path, monkeypatch, bridge):
    corpus = pbb.make_corpus(with_io=80, without_io=40, seed=5)  # of one and of two steps: states are missing
    prompts = with_answered(bridge("nano"), pbb.prompts.code_prompts(corpus, bridge("nano"), n=160))
    (tmp_path / "run" / "probing").mkdir(parents=True)
    pbb.capture(bridge("nano"), prompts).to_netcdf(tmp_path / "run" / "probing" / "activations.nc")
    seal(tmp_path / "run")
    monkeypatch.setenv("PBB_RUN", str(tmp_path / "run"))
    facts, _ = execute(tmp_path)
    assert facts["groups"] == ["with_io", "without_io"]
    assert facts["output"][1] > 0.9


def test_it_is_kept_without_what_it_shows():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells if cell.cell_type == "code")
    assert NOTEBOOK.stat().st_size < 20_000
