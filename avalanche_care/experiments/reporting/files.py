"""The files of a report."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from avalanche_care._files import replace_text
from avalanche_care._version import __version__
from avalanche_care.experiments.figures import FigureFile, write_figures, write_routing_figures
from avalanche_care.experiments.reporting import html
from avalanche_care.experiments.reporting.collect import STATUSES, Cell, RunEntry
from avalanche_care.experiments.reporting.comparison import Comparison, row_name, runs_table
from avalanche_care.experiments.reporting.table_writers import to_csv, to_latex, to_markdown
from avalanche_care.experiments.reporting.tables import Table
from avalanche_care.experiments.routing import ROUTING, RoutingUsage

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
    drawn = _draw(comparison, out / "figures") if figures else []
    for table in tables:
        folder = out / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / f"{table.name}.csv", to_csv(table, folder))
        replace_text(folder / f"{table.name}.tex", to_latex(table, folder))
    images = [
        f"### {f.title}\n\n![{f.title}]({f.path.relative_to(out).as_posix()})\n\n{f.caption}\n"
        for f in drawn
    ]
    images = ["## Figures\n", *images] if images else []
    parts = [f"# {TITLE}\n", f"{lead}\n", *(to_markdown(t, out) for t in tables[:-1])]
    replace_text(out / TEXT, "\n".join([*parts, *images, to_markdown(runs, out)]))
    page = html.page(TITLE, lead, _sections(overview, settings, drawn, runs, out))
    replace_text(out / PAGE, page)
    return out / PAGE


def _sections(
    overview: Sequence[Table],
    settings: Sequence[tuple[Table, list[Table]]],
    drawn: Sequence[FigureFile],
    runs: Table,
    out: Path,
) -> list[tuple[str, str, str]]:
    sections = [(t.name, t.title, html.table(t, out)) for t in overview]
    for main, details in settings:
        folded = [(t.title.removeprefix(f"{main.title}: "), html.table(t, out)) for t in details]
        sections.append((main.name, main.title, html.section(html.table(main, out), folded)))
    if drawn:
        figures = "".join(html.figure(f.title, f.caption, f.path) for f in drawn)
        sections.append(("figures", "Figures", figures))
    return [*sections, (runs.name, runs.title, html.table(runs, out))]


def _draw(comparison: Comparison, folder: Path) -> list[FigureFile]:
    """Figures of the runs in the tables, under the names that the tables use."""
    results = [
        dataclasses.replace(result, method=row_name(cell), config={})
        for found in comparison.cells.values()
        for cell in found
        for result in cell.results
    ]
    files = write_figures(results, folder) if results else []
    for found in comparison.cells.values():
        for cell in found:
            files += _draw_routing(cell, comparison.titles[cell.setting], folder)
    return files


def _draw_routing(cell: Cell, title: str, folder: Path) -> list[FigureFile]:
    """Who is routed to whom in the first run of a cell that has recorded it."""
    recorded = [run.path / ROUTING for run in cell.runs if (run.path / ROUTING).is_file()]
    if not recorded:
        return []
    usage = RoutingUsage.load(recorded[0])
    # The recall is among the figures of the results, over all seeds.
    return write_routing_figures(usage, folder, title=f"{row_name(cell)} on {title}", recall=False)


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
