"""The tables of a comparison, from the runs that were found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from avalanche_care.experiments.reporting import beside
from avalanche_care.experiments.reporting.cells import Cell, row_name
from avalanche_care.experiments.reporting.costs import (
    COST,
    COSTS,
    PHASES,
    machines_note,
    phase_quantities,
)
from avalanche_care.experiments.reporting.quantities import (
    A_AVG,
    A_LAST,
    DETAILS,
    MAIN,
    SPREAD,
    Quantity,
    realm_quantities,
)
from avalanche_care.experiments.reporting.recall import recall_table
from avalanche_care.experiments.reporting.rows import HEAD, METHOD, Defaults, Presets, Rows
from avalanche_care.experiments.reporting.run_entry import Setting
from avalanche_care.experiments.reporting.settings import describe, titles
from avalanche_care.experiments.reporting.significance import TEST, compare_with_best
from avalanche_care.experiments.reporting.tables import Column, Table, TableCell, mark_best

__all__ = ["Comparison"]

ACCURACY = (
    "A_last: accuracy on all test images after the last task. A_avg: mean over the tasks of the "
    "accuracy on all test images seen so far."
)
FORGETTING = "Forgetting: mean over the tasks of the best accuracy minus the last one."


class Comparison:
    """Cells, arranged by setting; only runs of one setting are compared.

    Args:
        cells: of :func:`avalanche_care.experiments.reporting.cells.cells`.
        defaults: default settings of the methods.
        presets: settings of the methods for some benchmarks; None: there are none.
    """

    def __init__(
        self, cells: Sequence[Cell], defaults: Defaults, presets: Presets | None = None
    ) -> None:
        by_setting: dict[Setting, list[Cell]] = {}
        for cell in cells:
            by_setting.setdefault(cell.setting, []).append(cell)
        self.cells = {setting: _sorted(found) for setting, found in by_setting.items()}
        self.titles = titles(list(by_setting))
        self.names = _file_names(list(by_setting))
        self.rows = Rows(self.cells, defaults, presets)

    def overview(self) -> list[Table]:
        """Methods by settings; what was not run says so. Nothing for a single setting."""
        if len(self.cells) < 2:
            return []
        rows = dict.fromkeys(row_name(c) for found in self.cells.values() for c in found)
        tables, number = [], self.rows.number
        for quantity in (A_LAST, A_AVG):
            name = quantity.column.name.split()[0]
            by_name = {
                setting: {row_name(cell): cell for cell in found}
                for setting, found in self.cells.items()
            }
            table = Table(
                f"overview-{name.lower().replace('_', '-')}",
                f"{quantity.column.name} in all settings",
                (METHOD, *(replace(quantity.column, name=t) for t in self.titles.values())),
                tuple(
                    (
                        TableCell(row),
                        *(number(by_name[s].get(row), s, quantity, n=True) for s in by_name),
                    )
                    for row in rows
                ),
                f"{ACCURACY} {SPREAD}",
            )
            tables.append(mark_best(table))
        return tables

    def main(self, setting: Setting) -> Table:
        """A_last, A_avg and forgetting of every method in a setting, beside published numbers."""
        found = self.cells[setting]
        known = beside.quantities_published(found)
        columns, rows = [*HEAD], [self.rows.head(cell) for cell in found]
        if any(cell.left_out for cell in found):
            columns.append(Column("evaluated tasks", number=False))
            for row, cell in zip(rows, found, strict=True):
                row.append(TableCell(f"{len(cell.evaluated)} of {len(setting.task_sizes)}"))
        for quantity in MAIN:
            name = quantity.column.name.split()[0]
            paired = name in known
            group = quantity.column.name if paired else ""
            own = replace(quantity.column, name="ours", group=group) if paired else quantity.column
            columns.append(own)
            columns += [replace(c, group=group) for c in beside.COLUMNS] if paired else []
            for row, cell in zip(rows, found, strict=True):
                number = self.rows.number(cell, setting, quantity)
                row.append(number)
                comparable = not (quantity.every_step and cell.left_out)
                if paired:
                    other = self.rows.other_settings(cell)
                    row += beside.beside(cell, name, number, comparable=comparable, other=other)
        table = Table(
            self.names[setting],
            self.titles[setting],
            tuple(columns),
            tuple(map(tuple, rows)),
            f"{ACCURACY} {FORGETTING} {SPREAD} {describe(setting)}",
            (*self._significance(setting), *(beside.comparability(setting) if known else ())),
        )
        return mark_best(table)

    def details(self, setting: Setting) -> list[Table]:
        """Accuracies in all definitions, per realm, cost, routing recall, what is published."""
        found = self.cells[setting]
        results = [result for cell in found for result in cell.results]
        name, title = self.names[setting], self.titles[setting]
        parts: list[tuple[str, str, str, Sequence[Quantity]]] = [
            ("definitions", "all definitions", DEFINITIONS, DETAILS),
            ("realms", "accuracy per realm (%)", REALMS, realm_quantities(results)),
            ("cost", "time, parameters and memory", f"{COSTS} {SPREAD}", COST),
            ("phases", "seconds by phase", f"{PHASES} {SPREAD}", phase_quantities(results)),
        ]
        tables = []
        for part, words, caption, quantities in parts:
            shown = [q for q in quantities if any(q.of(result) is not None for result in results)]
            if not shown:
                continue
            rows = [
                (*self.rows.head(cell), *(self.rows.number(cell, setting, q) for q in shown))
                for cell in found
            ]
            notes = machines_note(results) if any(q.timed for q in shown) else ()
            columns = (*HEAD, *(q.column for q in shown))
            table = Table(
                f"{name}-{part}", f"{title}: {words}", columns, tuple(rows), caption, notes
            )
            tables.append(mark_best(table))
        others = (
            recall_table(
                f"{name}-recall",
                f"{title}: routing recall by block",
                found,
                self.rows.head,
                HEAD,
                self.rows.other_settings,
            ),
            beside.published_table(setting, f"{name}-published", title),
        )
        return [*tables, *(table for table in others if table)]

    def _significance(self, setting: Setting) -> list[str]:
        notes = []
        for quantity in MAIN:
            values = {
                row_name(cell): [v for v in map(quantity.of, cell.results) if v is not None]
                for cell in self.cells[setting]
                if not quantity.every_step or self.rows.alike(cell, setting)
            }
            name = quantity.column.name.split()[0]
            note = compare_with_best(name, values, better=quantity.column.better)
            notes += [note] if note else []
        return [TEST, *notes] if notes else []


DEFINITIONS = (
    "A_last and A_avg weigh each test image of a step alike, or each class alike; or, over all "
    "steps together, each evaluated image alike, so that later steps weigh more. Forgetting "
    "counts from the best accuracy that a task had, or from the one right after it was learned; "
    f"BWT is the negative of the latter. {SPREAD}"
)
REALMS = f"Accuracy on the test images of each realm after the last task. {SPREAD}"


def _sorted(found: Sequence[Cell]) -> list[Cell]:
    """The highest A_last first; cells without a result last, in their order."""

    def height(cell: Cell) -> float:
        return float(np.mean([r.A_last for r in cell.results])) if cell.results else -1.0

    return sorted(found, key=height, reverse=True)


def _file_names(settings: Sequence[Setting]) -> dict[Setting, str]:
    names: dict[Setting, str] = {}
    for setting in settings:
        name = re.sub(r"[^a-z0-9]+", "-", f"{setting.benchmark}-{setting.protocol}".lower())
        name, base, number = name.strip("-"), name.strip("-"), 1
        while name in names.values():
            number += 1
            name = f"{base}-{number}"
        names[setting] = name
    return names
