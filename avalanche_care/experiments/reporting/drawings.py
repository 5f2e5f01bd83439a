"""The figures of a report, and the runs that are in each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avalanche_care.experiments.figures import FigureFile, write_figures, write_routing_figures
from avalanche_care.experiments.reporting.cells import Cell, row_name
from avalanche_care.experiments.reporting.comparison import Comparison
from avalanche_care.experiments.reporting.quantities import run_link, seed_label
from avalanche_care.experiments.reporting.run_entry import RunEntry
from avalanche_care.experiments.reporting.tables import Run
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.routing import ROUTING, RoutingUsage

__all__ = ["Drawing", "draw"]


@dataclass(frozen=True)
class Drawing:
    """A figure of a report.

    Attributes:
        file: the figure.
        tables: name and title of the tables all of whose complete runs are in it.
        groups: what else is in it: the name of a row, and its runs, called by their seeds.
    """

    file: FigureFile
    tables: tuple[tuple[str, str], ...]
    groups: tuple[tuple[str, tuple[Run, ...]], ...]


def draw(comparison: Comparison, folder: Path) -> list[Drawing]:
    """Draw the runs of the tables, under the names that the tables use.

    Args:
        comparison: its tables' runs.
        folder: directory for the figures.

    Returns:
        One entry per figure.
    """
    found = [cell for cells in comparison.cells.values() for cell in cells]
    runs = [(cell, run, run.result) for cell in found for run in cell.runs if run.result]
    results = [_named(result, cell) for cell, _, result in runs]
    sources = [run.path.name for _, run, _ in runs]
    files = write_figures(results, folder, sources=sources) if results else []
    drawings = [
        _traced(file, comparison, [runs[place][1] for place in file.results]) for file in files
    ]
    for cell in found:
        drawings += _draw_routing(cell, comparison, folder)
    return drawings


def _named(result: RunResult, cell: Cell) -> RunResult:
    return dataclasses.replace(result, method=row_name(cell), config={})


def _draw_routing(cell: Cell, comparison: Comparison, folder: Path) -> list[Drawing]:
    """Who is routed to whom in the first run of a cell that has recorded it."""
    run = next((run for run in cell.runs if (run.path / ROUTING).is_file()), None)
    if run is None:
        return []
    files = write_routing_figures(
        RoutingUsage.load(run.path / ROUTING),
        folder,
        title=f"{row_name(cell)} on {comparison.titles[cell.setting]}",
        recall=False,  # it is among the figures of the results, over all seeds
        source=run.path.name,
    )
    return [_traced(file, comparison, [run]) for file in files]


def _traced(file: FigureFile, comparison: Comparison, shown: Sequence[RunEntry]) -> Drawing:
    """Say which runs a figure shows: those of whole tables, or one by one."""
    left = {id(run) for run in shown}
    tables, groups = [], []
    for setting, found in comparison.cells.items():
        complete = {id(run) for cell in found for run in cell.runs if run.result}
        if complete and complete <= left:
            tables.append((comparison.names[setting], comparison.titles[setting]))
            left -= complete
            continue
        for cell in found:
            runs = tuple(
                Run(seed_label(run), run_link(run)) for run in cell.runs if id(run) in left
            )
            groups += [(row_name(cell), runs)] if runs else []
    return Drawing(file, tuple(tables), tuple(groups))
