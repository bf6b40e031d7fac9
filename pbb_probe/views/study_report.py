"""The report of a study's run: the verdict, then its figures and tables in the order a paper would give them."""

from dataclasses import asdict
from pathlib import Path

from pbb_probe.evidence.located import TABLES
from pbb_probe.evidence.verdict import describe
from pbb_probe.runs.opened import OpenedRun
from pbb_probe.views import study_tables
from pbb_probe.views.evaluated import read_gate
from pbb_probe.views.images import save_pngs
from pbb_probe.views.markdown import write_markdown
from pbb_probe.views.report import REPORTS, Report, Section, Table, write_report
from pbb_probe.views.run_tables import read_table
from pbb_probe.views.study_sections import COMPARED, sections
from pbb_probe.views.words import report as words
from pbb_probe.views.words.methods import methods


def study_verdict(run: OpenedRun) -> list[str]:
    """The paragraphs of `describe` for a finished run."""
    onsets, evaluation, onset_differences = (read_table(run, name) for name in TABLES)
    return describe(
        read_table(run, "behaviour", "behaviour"),
        onsets,
        evaluation,
        onset_differences,
        {what: read_table(run, name) for what, name in COMPARED.items()},
        read_gate(run),
    )


def write_study_report(run: OpenedRun, out: Path) -> None:
    """Write `report.html` and `report.md` into the run, and each figure as a PNG into `out`.

    The Markdown links them as `report/NAME.png`. Where there is no browser to draw them, both say so and the report is
    whole without.
    """
    report = study_report(run)
    drawn = save_pngs(report.figures, out)
    html, markdown = (run.path / name for name in REPORTS)
    write_report(html, report)
    write_markdown(markdown, report, page=html.name, pictures="report" if drawn else None)


def study_report(run: OpenedRun) -> Report:
    """The report of a finished run."""
    import pandas as pd

    config, manifest = run.config, run.manifest
    versions = {"python": manifest["python"], **manifest["versions"]}
    appendix = [
        Table("Settings", study_tables.settings(asdict(config))),
        Table("Versions", pd.DataFrame(list(versions.items()), columns=["package", "version"])),
        Table("Seconds a step took", study_tables.seconds(manifest)),
    ]
    return Report(
        title=words.TITLE.format(config),
        subtitle=words.SUBTITLE,
        words=study_verdict(run),
        summary=study_tables.summary(run),
        sections=[*sections(run), Section("Methods", terms=methods(config), tables=appendix)],
    )
