"""The table of all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from avalanche_care.experiments.reporting.quantities import run_link
from avalanche_care.experiments.reporting.run_entry import RunEntry, Setting
from avalanche_care.experiments.reporting.tables import Column, Run, Table, TableCell

__all__ = ["runs_table"]

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
