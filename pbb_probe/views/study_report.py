"""The report of a study's run: the verdict, then its figures and tables in the order a paper would give them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbb_probe.evidence.located import TABLES
from pbb_probe.evidence.verdict import describe
from pbb_probe.runs.opened import OpenedRun
from pbb_probe.views import study_tables
from pbb_probe.views.images import save_pngs
from pbb_probe.views.markdown import write_markdown
from pbb_probe.views.methods import methods
from pbb_probe.views.report import REPORTS, Report, Section, Table, write_report
from pbb_probe.views.study_figures import read_table, study_figures
from pbb_probe.views.study_sections import COMPARED, SECTIONS

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


def study_verdict(run: OpenedRun) -> list[str]:
    """The paragraphs of `describe` for a finished run."""
    onsets, evaluation, onset_differences = (read_table(run, name) for name in TABLES)
    return describe(
        read_table(run, "behaviour", "behaviour"),
        onsets,
        evaluation,
        onset_differences,
        {what: read_table(run, name) for what, name in COMPARED.items()},
    )


def write_study_report(run: OpenedRun, out: Path) -> None:
    """Write `report.html` and `report.md` into the run, and each figure as a PNG into `out`.

    The Markdown links them as `report/NAME.png`. Where there is no browser to draw them, both say so and the report is
    whole without.
    """
    made = study_figures(run)
    report = study_report(run, made)
    drawn = save_pngs(made, out)
    page, words = (run.path / name for name in REPORTS)
    write_report(page, report)
    write_markdown(words, report, page=page.name, pictures="report" if drawn else None)


def study_report(run: OpenedRun, made: "Mapping[str, Figure]") -> Report:
    """The report of a finished run with its figures by name."""
    config, manifest = run.config, run.manifest
    return Report(
        title=f"Where are programs evaluated? {config['base']}, {config['curriculum']}, seed {config['seed']}",
        subtitle="with_io: programs learned from source and input/output examples. without_io: from source only. "
        "Intervals in brackets are 95 %, from resampling whole programs. Blocks are counted from 0.",
        words=study_verdict(run),
        summary=study_tables.summary(run),
        sections=[
            *(make(run, made) for make in SECTIONS),
            Section(
                "Methods",
                terms=methods(config),
                tables=[
                    Table("Settings", study_tables.settings(config)),
                    Table(
                        "Versions", _pairs({"python": manifest["python"], **manifest["versions"]}, "package", "version")
                    ),
                    Table("Seconds a step took", study_tables.seconds(manifest)),
                ],
            ),
        ],
    )


def _pairs(values: Mapping[str, Any], *columns: str) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(values.items()), columns=list(columns))
