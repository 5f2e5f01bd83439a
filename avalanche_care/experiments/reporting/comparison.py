"""The tables of a comparison, from the runs that were found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from avalanche_care._version import __version__
from avalanche_care.experiments.reporting import beside
from avalanche_care.experiments.reporting.collect import Cell, RunEntry, Setting
from avalanche_care.experiments.reporting.quantities import (
    A_AVG,
    A_LAST,
    COST,
    DETAILS,
    MAIN,
    Quantity,
    over_seeds,
    realm_quantities,
    run_link,
    seed_label,
)
from avalanche_care.experiments.reporting.settings import describe, titles
from avalanche_care.experiments.reporting.significance import TEST, compare_with_best
from avalanche_care.experiments.reporting.tables import Column, Run, Table, TableCell, mark_best
from avalanche_care.experiments.reporting.variants import deviations

__all__ = ["Comparison", "Defaults", "Presets", "row_name", "runs_table"]

Defaults = Callable[[str], "Mapping[str, Any] | None"]
"""Method -> its default settings; None where they are not known."""

Presets = Callable[[str], "Mapping[str, Mapping[str, Any]]"]
"""Method -> the settings of its presets, by the names of benchmark and protocol."""

SPREAD = "Mean ± sample standard deviation (n - 1 in the denominator) over n seeds."
ACCURACY = (
    "A_last: accuracy on all test images after the last task. A_avg: mean over the tasks of the "
    "accuracy on all test images seen so far."
)
FORGETTING = "Forgetting: mean over the tasks of the best accuracy minus the last one."
METHOD = Column("method", number=False)
SEEDS = (Column("seeds", number=False), Column("n", digits=0))


class Comparison:
    """Cells, arranged by setting; only runs of one setting are compared.

    Args:
        cells: of :func:`avalanche_care.experiments.reporting.collect.cells`.
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
        methods = dict.fromkeys(cell.method for cell in cells)
        self._defaults = {method: defaults(method) for method in methods}
        self._presets = {method: presets(method) if presets else {} for method in methods}

    def changed(self, cell: Cell) -> str:
        """The deviations in force: settings that differ from the method's defaults."""
        defaults = self._defaults[cell.method]
        found = [] if defaults is None else deviations(cell.config, defaults)
        return ", ".join(found)

    def other_settings(self, cell: Cell) -> str:
        """Where settings are not those that stand for the published method in this setting.

        Those are the method's preset for the benchmark and protocol, or else its defaults.
        """
        name = f"{cell.setting.benchmark}/{cell.setting.protocol}"
        usual = self._presets[cell.method].get(name)
        if usual is None:
            return self.changed(cell)
        return ", ".join(deviations(cell.config, usual))

    def overview(self) -> list[Table]:
        """Methods by settings; what was not run says so. Nothing for a single setting."""
        if len(self.cells) < 2:
            return []
        rows = dict.fromkeys(row_name(c) for found in self.cells.values() for c in found)
        tables = []
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
                        *(self._number(by_name[s].get(row), s, quantity, n=True) for s in by_name),
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
        columns, rows = [METHOD, *SEEDS], [self._head(cell) for cell in found]
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
                number = self._number(cell, setting, quantity)
                row.append(number)
                comparable = not (quantity.every_step and cell.left_out)
                if paired:
                    row += beside.beside(
                        cell, name, number, comparable=comparable, other=self.other_settings(cell)
                    )
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
        """Accuracies in all definitions, accuracy per realm, cost, what is published."""
        found = self.cells[setting]
        results = [result for cell in found for result in cell.results]
        name, title = self.names[setting], self.titles[setting]
        parts: list[tuple[str, str, str, Sequence[Quantity]]] = [
            ("definitions", "all definitions", DEFINITIONS, DETAILS),
            ("realms", "accuracy per realm (%)", REALMS, realm_quantities(results)),
            ("cost", "time, parameters and memory", COSTS, COST),
        ]
        tables = []
        for part, words, caption, quantities in parts:
            shown = [q for q in quantities if any(q.of(result) is not None for result in results)]
            if not shown:
                continue
            rows = [
                (*self._head(cell), *(self._number(cell, setting, q) for q in shown))
                for cell in found
            ]
            notes = _machines(results) if part == "cost" else ()
            columns = (METHOD, *SEEDS, *(q.column for q in shown))
            table = Table(
                f"{name}-{part}", f"{title}: {words}", columns, tuple(rows), caption, notes
            )
            tables.append(mark_best(table))
        published = beside.published_table(setting, f"{name}-published", title)
        return tables + ([published] if published else [])

    def _head(self, cell: Cell) -> list[TableCell]:
        """Cells of the method, its seeds and their number."""
        changed = self.changed(cell)
        notes = []
        if changed:
            notes.append(f"deviates from the defaults of version {__version__}: {changed}")
        uses = dict.fromkeys(r.extra["exemplars"] for r in cell.results if "exemplars" in r.extra)
        notes += [f"uses {what}" for what in uses]
        notes += cell.notes
        problems = [
            f"seed {run.identity.get('seed')}: {run.state}"
            + (f": {run.error}" if run.error else "")
            for run in cell.runs
            if run.status != "complete"
        ]
        return [
            TableCell(cell.variant, notes=tuple(notes), hint=changed),
            TableCell(
                runs=tuple(Run(seed_label(run), run_link(run)) for run in cell.runs),
                notes=tuple(problems),
                listed=True,
            ),
            TableCell(value=len(cell.results)),
        ]

    def _number(
        self, cell: Cell | None, setting: Setting, quantity: Quantity, *, n: bool = False
    ) -> TableCell:
        """A number of a cell, ranked among those of the setting that were evaluated alike."""
        if cell is None:
            return TableCell("not run")
        shown = over_seeds(cell, quantity, hint=self.changed(cell))
        count = len(cell.results)
        if n and count != len(cell.runs) and cell.results:
            note = f"{count} of {len(cell.runs)} seeds; not all seeds are complete"
            shown = replace(shown, notes=(*shown.notes, note))
        most = max(len(other.results) for other in self.cells[setting])
        if shown.value is not None and count < most:
            note = f"{_seeds(count)}, where other rows have {most}; not ranked with them"
            shown = replace(shown, ranked=False, notes=(*shown.notes, note))
        if shown.value is None or not quantity.every_step or self._alike(cell, setting):
            return shown
        left = f"{len(cell.evaluated)} of {len(setting.task_sizes)} tasks"
        note = f"over the {left} that were evaluated; not ranked with rows over more of them"
        return replace(shown, ranked=False, notes=(*shown.notes, note))

    def _alike(self, cell: Cell, setting: Setting) -> bool:
        """Whether a cell was evaluated after the same tasks as the fullest one of its setting."""
        complete = [c.evaluated for c in self.cells[setting] if c.results]
        return not complete or cell.evaluated == max(complete, key=len)

    def _significance(self, setting: Setting) -> list[str]:
        notes = []
        for quantity in MAIN:
            values = {
                row_name(cell): [v for v in map(quantity.of, cell.results) if v is not None]
                for cell in self.cells[setting]
                if not quantity.every_step or self._alike(cell, setting)
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
COSTS = (
    "Wall-clock seconds of training and of evaluation, without saving states; the most parameters "
    "that train in any task, and all that has to be stored at the end; highest memory of the "
    f"device and of the process during the run, data included. {SPREAD}"
)


RUNS = (
    "Every run that was found, and those that a suite is still to have. A suite's run has a "
    "setting once a run of the same benchmark and backbone has begun."
)


def runs_table(entries: Sequence[RunEntry], setting_titles: Mapping[Setting, str]) -> Table:
    """Every run that was found, complete or not."""
    rows = []
    for entry in entries:
        result, asked = entry.result, entry.identity
        hardware = result.hardware if result else {}
        rows.append(
            (
                TableCell(entry.path.name, runs=(Run("run", run_link(entry)),)),
                TableCell(str(asked.get("method", "–"))),
                TableCell(setting_titles[entry.setting] if entry.setting else "–"),
                TableCell(str(asked.get("seed", "–"))),
                TableCell(entry.state + (f": {entry.error}" if entry.error else "")),
                TableCell(str(hardware.get("device", "–"))),
                TableCell(str(result.versions.get("avalanche_care", "–")) if result else "–"),
                TableCell(result.created if result else "–"),
            )
        )
    names = ("run", "method", "setting", "seed", "state", "device", "version", "created")
    columns = tuple(Column(name, number=False) for name in names)
    return Table("runs", "All runs", columns, tuple(rows), RUNS)


def _sorted(found: Sequence[Cell]) -> list[Cell]:
    """The highest A_last first; cells without a result last, in their order."""

    def height(cell: Cell) -> float:
        return float(np.mean([r.A_last for r in cell.results])) if cell.results else -1.0

    return sorted(found, key=height, reverse=True)


def row_name(cell: Cell) -> str:
    """The name of a row in a table over settings; runs that skip evaluations have their own."""
    if not cell.left_out:
        return cell.variant
    every = next((run.identity.get("eval_every") for run in cell.runs), None)
    return f"{cell.variant}, evaluated every {every or '?'} tasks"


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


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _machines(results: Sequence[Any]) -> tuple[str, ...]:
    """A warning where seconds are of different machines."""
    machines = {f"{r.hardware.get('device')}, {r.hardware.get('cpu')}" for r in results}
    if len(machines) < 2:
        return ()
    return (f"seconds and memory are of different machines: {'; '.join(sorted(machines))}",)
