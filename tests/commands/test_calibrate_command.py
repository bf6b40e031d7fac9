"""`pbb-probe calibrate`: what it writes, that a kill costs one model at most, and what it refuses."""

import json

import pandas as pd
import pytest

from pbb_probe.calibration.summary import calibration_table
from pbb_probe.calibration.trials import Instrument, draw_designs, null_comparisons, try_design
from pbb_probe.commands import calibrate as calibrate_command
from pbb_probe.commands import cli

FILES = ("designs.csv", "nulls.csv", "calibration.csv")
SEED = 45  # whose designs have 5 and 4 blocks, so that they are soon tried
STEPS = ("design_0", "design_1", "null_programs_45000", "null_untrained_45000", "null_labels_45000")
GIVEN = ["calibrate", "--designs=2", "--null_models=1", "--splits=2", f"--seed={SEED}"]
SMALL = {"pairs": 10, "prompts": 60, "draws": 40, "folds": 2}
SETTINGS = [f"--instrument.{name}={value}" for name, value in SMALL.items()]


class Watched:
    """A function that remembers its first arguments, is killed at one of its calls, and need not work twice."""

    def __init__(self, function, killed_at: int | None = None, known: dict | None = None):
        self.function, self.killed_at, self.calls = function, killed_at, []
        self.known = {} if known is None else known

    def __call__(self, first, *others):
        self.calls.append(first)
        if len(self.calls) - 1 == self.killed_at:
            raise KeyboardInterrupt
        if first not in self.known:
            self.known[first] = self.function(first, *others)
        return self.known[first]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a calibration, what it printed, and what it tried and found."""
    out = tmp_path_factory.mktemp("calibration") / "whole"
    tried, compared, printed = Watched(try_design), Watched(null_comparisons), []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(calibrate_command, "try_design", tried)
        patched.setattr(calibrate_command, "null_comparisons", compared)
        patched.setattr("builtins.print", lambda *args, **kwargs: printed.append((args, kwargs.get("file"))))
        assert cli.main([*GIVEN, *SETTINGS, f"--out={out}"]) == 0
    (table,) = [args[0] for args, file in printed if file is None]
    return out, table, tried, compared


def test_every_model_is_a_step_and_the_tables_are_written(finished):
    out, _, tried, _ = finished
    assert {path.name for path in out.iterdir()} == {*STEPS, *FILES}
    designs = pd.read_csv(out / "designs.csv")
    assert tried.calls == draw_designs(2, SEED)
    for number, design in enumerate(tried.calls):
        mine = designs[designs["design"] == number]
        assert set(mine["n_layers"]) == {design.n_layers}
        assert set(mine["decoys"].fillna("")) == {", ".join(design.decoys)}
        assert mine["layer"].max() == mine.query("variable == 'output'")["layer"].max()  # its block, not the argument
        record = json.loads((out / f"design_{number}" / "step.json").read_text())["inputs"]
        assert record["design"]["seed"] == design.seed
        assert record["instrument"] == vars(Instrument(**SMALL))
    nulls = pd.read_csv(out / "nulls.csv")
    assert nulls[nulls["split"] >= 0].groupby("data").size().to_dict() == {"programs": 6, "untrained": 6, "labels": 4}


def test_the_summary_is_that_of_the_tables_and_is_printed(finished):
    out, printed, _, _ = finished
    summary = pd.read_csv(out / "calibration.csv")
    expected = calibration_table(pd.read_csv(out / "designs.csv"), pd.read_csv(out / "nulls.csv"))
    pd.testing.assert_frame_equal(summary, expected, rtol=1e-3)
    lines = printed.splitlines()
    assert len(lines) == 1 + len(summary)
    for line, row in zip(lines[1:], summary.to_dict(orient="records"), strict=True):
        assert line.split()[0] == row["part"]
        assert row["question"] in line
        assert line.split()[-6:-4] == [str(row["count"]), str(row["n"])]


def test_a_killed_calibration_goes_on_where_it_was(finished, tmp_path, monkeypatch, capsys):
    whole, _, tried, compared = finished
    killed, again = Watched(try_design, killed_at=1, known=dict(tried.known)), Watched(try_design)
    monkeypatch.setattr(calibrate_command, "null_comparisons", compared)
    given = [*GIVEN, *SETTINGS, f"--out={tmp_path / 'out'}"]  # the second design is tried anew, in earnest
    monkeypatch.setattr(calibrate_command, "try_design", killed)
    assert cli.main(given) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert not [name for name in FILES if (tmp_path / "out" / name).exists()]
    monkeypatch.setattr(calibrate_command, "try_design", again)
    assert cli.main(given) == 0
    assert killed.calls == tried.calls
    assert again.calls == tried.calls[1:]
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes()


def test_what_is_done_is_not_done_again_and_other_settings_are(finished, monkeypatch, capsys):
    out, printed, _, _ = finished
    before = {name: (out / name).read_bytes() for name in FILES}
    tried = Watched(try_design)
    compared = Watched(lambda *args: pytest.fail("a null comparison was made again"))
    monkeypatch.setattr(calibrate_command, "try_design", tried)
    monkeypatch.setattr(calibrate_command, "null_comparisons", compared)
    assert cli.main([*GIVEN, *SETTINGS, f"--out={out}"]) == 0
    assert tried.calls == []
    assert capsys.readouterr().out.rstrip("\n") == printed
    assert {name: (out / name).read_bytes() for name in FILES} == before
    monkeypatch.setattr(calibrate_command, "try_design", Watched(try_design, killed_at=0))
    assert cli.main([*GIVEN, *SETTINGS, "--instrument.margin=0.3", f"--out={out}"]) == 130


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--designs=0"], "designs must be at least 1, not 0."),
        (["--null_models=0"], "must be at least 1"),
        (["--splits=-1"], "must be at least 1"),
        (["--instrument.folds=1"], "instrument.folds must be at least 2, not 1."),
        (["--instrument.margin=0"], "must be above 0"),
        (["--instrument.threshold=1.5"], "at most 1"),
        (["--seed=-1"], "seed must be at least 0, not -1."),
        (["--designs=some"], "designs"),
        (["--colour=red"], "colour"),
    ],
)
def test_bad_settings_are_one_sentence(options, said, tmp_path, capsys):
    try:
        code = cli.main([*GIVEN, *SETTINGS, f"--out={tmp_path / 'out'}", *options])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_settings_that_no_model_can_be_measured_at_are_one_sentence(tmp_path, capsys):
    """There are fewer programs than folds; and a directory that cannot be made."""
    assert (
        cli.main([*GIVEN, *SETTINGS, "--instrument.folds=50", "--instrument.pairs=2", f"--out={tmp_path / 'out'}"]) == 2
    )
    error = capsys.readouterr().err
    assert "50 folds need" in error.splitlines()[-1]
    assert "Traceback" not in error
    (tmp_path / "taken").write_text("")
    assert cli.main([*GIVEN, f"--out={tmp_path / 'taken'}"]) == 2
    assert "cannot be made" in capsys.readouterr().err
