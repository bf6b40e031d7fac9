"""The command `run`: the whole study."""

from pbb_probe.runs.config import StudyConfig
from pbb_probe.study.run import Study


def run(config: StudyConfig) -> None:
    """Finetune, open, probe, patch, compare and report. Finished steps are not repeated."""
    finished = Study(config).run()
    print(f"report: {finished.path / 'report.html'}")
    print(f"to look around: pbb-probe explore {finished.path}")
