"""The files of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from avalanche_care._files import replace_text
from avalanche_care._version import __version__
from avalanche_care.experiments.reporting import html
from avalanche_care.experiments.reporting.comparison import Comparison
from avalanche_care.experiments.reporting.drawings import Drawing, draw
from avalanche_care.experiments.reporting.markdown import (
    Footnotes,
    Links,
    escape,
    figure,
    to_markdown,
)
from avalanche_care.experiments.reporting.run_entry import STATUSES, RunEntry
from avalanche_care.experiments.reporting.run_list import runs_table
from avalanche_care.experiments.reporting.table_writers import to_csv, to_latex
from avalanche_care.experiments.reporting.tables import Table

PAGE, TEXT = "index.html", "report.md"
TITLE = "Comparison"
MARK = f'<meta name="generator" content="{html.GENERATOR}">'


def write_files(
    comparison: Comparison, entries: Sequence[RunEntry], out: Path, *, figures: bool
) -> Path:
    """Write the page, the text, and every table and figure as a file of its own."""
    _clear(out)
    lead = _lead(entries)
    overview = comparison.overview()
    settings = [(comparison.main(s), comparison.details(s)) for s in comparison.cells]
    runs = runs_table(entries, comparison.titles)
    tables = [*overview, *(t for main, details in settings for t in (main, *details)), runs]
    drawn = draw(comparison, out / "figures") if figures else []
    for table in tables:
        folder = out / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / f"{table.name}.csv", to_csv(table, folder))
        replace_text(folder / f"{table.name}.tex", to_latex(table, folder))
    replace_text(out / TEXT, _text(lead, overview, settings, drawn, runs, out))
    page = html.page(TITLE, lead, _sections(overview, settings, drawn, runs, out))
    replace_text(out / PAGE, page)
    return out / PAGE


def _text(
    lead: str,
    overview: Sequence[Table],
    settings: Sequence[tuple[Table, list[Table]]],
    drawn: Sequence[Drawing],
    runs: Table,
    out: Path,
) -> str:
    links = Links(out, [run for row in runs.rows for cell in row for run in cell.runs])
    parts = [f"# {TITLE}\n", f"{escape(lead)}\n"]
    parts += [to_markdown(table, links) for table in overview]
    for main, details in settings:
        footnotes = Footnotes()
        parts += [to_markdown(table, links, footnotes) for table in (main, *details)]
    parts += ["## Figures\n"] if drawn else []
    for drawing in drawn:
        file = drawing.file
        place = file.path.relative_to(out).as_posix()
        parts.append(figure(file.title, file.caption, place, drawing.tables, drawing.groups, links))
    return "\n".join([*parts, to_markdown(runs, links), links.lines()])


def _sections(
    overview: Sequence[Table],
    settings: Sequence[tuple[Table, list[Table]]],
    drawn: Sequence[Drawing],
    runs: Table,
    out: Path,
) -> list[tuple[str, str, str]]:
    sections = [(t.name, t.title, html.table(t, out)) for t in overview]
    for main, details in settings:
        folded = [(t.title.removeprefix(f"{main.title}: "), html.table(t, out)) for t in details]
        sections.append((main.name, main.title, html.section(html.table(main, out), folded)))
    if drawn:
        figures = (
            html.figure(
                d.file.title, d.file.caption, d.file.path, html.runs(d.tables, d.groups, out)
            )
            for d in drawn
        )
        sections.append(("figures", "Figures", "".join(figures)))
    return [*sections, (runs.name, runs.title, html.table(runs, out))]


def _lead(entries: Sequence[RunEntry]) -> str:
    found = Counter(entry.status for entry in entries)
    counts = ", ".join(f"{found[status]} {status}" for status in STATUSES if found[status])
    newest = max((entry.result.created for entry in entries if entry.result), default="")
    ended = f" The newest ended at {newest}." if newest else ""
    runs = "1 run" if len(entries) == 1 else f"{len(entries)} runs"
    return f"{runs}: {counts}.{ended} Written by avalanche_care {__version__} from result files."


def _clear(out: Path) -> None:
    """Remove tables and figures of an earlier report, which may be of other runs.

    Raises:
        FileExistsError: if there are files, but not of a report.
    """
    page = out / PAGE
    if not out.exists() or not any(out.iterdir()):
        out.mkdir(parents=True, exist_ok=True)
        return
    if not page.is_file() or MARK not in page.read_text(encoding="utf-8", errors="replace"):
        raise FileExistsError(
            f"{out} has files in it that are no report of this package; choose another directory"
        )
    for folder, endings in (("tables", (".csv", ".tex")), ("figures", tuple(html.IMAGES))):
        for path in (out / folder).glob("*"):
            if path.suffix in (*endings, ".pdf"):
                path.unlink()
