"""What the rows of all tables of a comparison have: method, seeds, numbers with their notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from avalanche_care._version import __version__
from avalanche_care.experiments.reporting.cells import Cell
from avalanche_care.experiments.reporting.costs import measured
from avalanche_care.experiments.reporting.quantities import Quantity, run_link, seed_label
from avalanche_care.experiments.reporting.run_entry import Setting
from avalanche_care.experiments.reporting.tables import Column, Run, TableCell
from avalanche_care.experiments.reporting.variants import deviations

__all__ = ["HEAD", "METHOD", "Defaults", "Presets", "Rows"]

Defaults = Callable[[str], "Mapping[str, Any] | None"]
"""Method -> its default settings; None where they are not known."""

Presets = Callable[[str], "Mapping[str, Mapping[str, Any]]"]
"""Method -> the settings of its presets, by the names of benchmark and protocol."""

METHOD = Column("method", number=False)
HEAD = (METHOD, Column("seeds", number=False), Column("n", digits=0))


class Rows:
    """Makes the cells of tables.

    Args:
        cells: of each setting.
        defaults: default settings of the methods.
        presets: settings of the methods for some benchmarks; None: there are none.
    """

    def __init__(
        self,
        cells: Mapping[Setting, Sequence[Cell]],
        defaults: Defaults,
        presets: Presets | None,
    ) -> None:
        self._cells = cells
        methods = dict.fromkeys(cell.method for found in cells.values() for cell in found)
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

    def head(self, cell: Cell) -> list[TableCell]:
        """Cells of :data:`HEAD`: the method, its seeds and their number."""
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

    def number(
        self, cell: Cell | None, setting: Setting, quantity: Quantity, *, n: bool = False
    ) -> TableCell:
        """A number of a cell, ranked among those of the setting that were evaluated alike."""
        if cell is None:
            return TableCell("not run")
        shown = measured(cell, quantity, hint=self.changed(cell))
        count = len(cell.results)
        if n and count != len(cell.runs) and cell.results:
            note = f"{count} of {len(cell.runs)} seeds; not all seeds are complete"
            shown = replace(shown, notes=(*shown.notes, note))
        most = max(len(other.results) for other in self._cells[setting])
        if shown.value is not None and count < most:
            note = f"{_seeds(count)}, where other rows have {most}; not ranked with them"
            shown = replace(shown, ranked=False, notes=(*shown.notes, note))
        if shown.value is None or not quantity.every_step or self.alike(cell, setting):
            return shown
        left = f"{len(cell.evaluated)} of {len(setting.task_sizes)} tasks"
        note = f"over the {left} that were evaluated; not ranked with rows over more of them"
        return replace(shown, ranked=False, notes=(*shown.notes, note))

    def alike(self, cell: Cell, setting: Setting) -> bool:
        """Whether a cell was evaluated after the same tasks as the fullest one of its setting."""
        complete = [c.evaluated for c in self._cells[setting] if c.results]
        return not complete or cell.evaluated == max(complete, key=len)


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"
