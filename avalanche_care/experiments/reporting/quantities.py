"""The figures of a result that tables show, and their mean over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avalanche_care import metrics
from avalanche_care.experiments.reporting.cells import Cell
from avalanche_care.experiments.reporting.run_entry import NOT_RUN, RunEntry
from avalanche_care.experiments.reporting.tables import Column, Run, TableCell
from avalanche_care.experiments.results import RunResult

SPREAD = "Mean ± sample standard deviation (n - 1 in the denominator) over n seeds."


@dataclass(frozen=True)
class Quantity:
    """A figure of a result.

    Attributes:
        column: where it stands.
        of: its value for a result, in the unit of the table; None if it is not known.
        every_step: whether it depends on which steps were evaluated.
        timed: whether it depends on the machine.
    """

    column: Column
    of: Callable[[RunResult], float | None]
    every_step: bool = True
    timed: bool = False


def _percent(of: Callable[[RunResult], float | None]) -> Callable[[RunResult], float | None]:
    def percent(result: RunResult) -> float | None:
        value = of(result)
        return None if value is None or np.isnan(value) else 100 * value

    return percent


def _noted(name: str) -> Callable[[RunResult], float | None]:
    return _percent(lambda result: result.extra.get(name))


A_LAST = Quantity(Column("A_last (%)", better="high"), _percent(lambda r: r.A_last), False)
A_AVG = Quantity(Column("A_avg (%)", better="high"), _percent(lambda r: r.A_avg))
FORGETTING = Quantity(Column("forgetting (%)", better="low"), _percent(lambda r: r.forgetting))
MAIN = (A_LAST, A_AVG, FORGETTING)

DETAILS = (
    Quantity(Column("images alike", "A_last (%)", better="high"), A_LAST.of, False),
    Quantity(
        Column("classes alike", "A_last (%)", better="high"), _noted("A_last_class_mean"), False
    ),
    Quantity(Column("top-5", "A_last (%)", better="high"), _noted("A_last_top5"), False),
    Quantity(Column("images alike", "A_avg (%)", better="high"), A_AVG.of),
    Quantity(Column("classes alike", "A_avg (%)", better="high"), _noted("A_avg_class_mean")),
    Quantity(
        Column("all steps' images alike", "A_avg (%)", better="high"), _noted("A_avg_over_samples")
    ),
    Quantity(Column("max minus last", "forgetting (%)", better="low"), FORGETTING.of),
    Quantity(
        Column("first minus last", "forgetting (%)", better="low"),
        _percent(lambda r: metrics.forgetting_from_first(r.matrix)),
    ),
    Quantity(
        Column("BWT (%)", better="high"), _percent(lambda r: metrics.backward_transfer(r.matrix))
    ),
)
"""Accuracies and forgetting in all definitions."""


def realm_quantities(results: Sequence[RunResult]) -> list[Quantity]:
    """Accuracy per realm after the last task, for the realms that some result has."""

    def of(realm: str) -> Callable[[RunResult], float | None]:
        return _percent(lambda r: (r.extra.get("realm_accuracy") or {}).get(realm))

    names = dict.fromkeys(n for r in results for n in r.extra.get("realm_accuracy") or {})
    return [Quantity(Column(name, better="high"), of(name), False) for name in names]


def over_seeds(cell: Cell, quantity: Quantity, hint: str = "") -> TableCell:
    """The mean over the seeds of a cell and its sample standard deviation, or why there is none."""
    complete = [run for run in cell.runs if run.result is not None]
    known = [(run, quantity.of(run.result)) for run in complete if run.result is not None]
    values = [value for _, value in known if value is not None]
    runs = tuple(Run(seed_label(run), run_link(run), value) for run, value in known)
    if not complete:
        text = " and ".join(dict.fromkeys(run.status for run in cell.runs))
        runs = tuple(Run(seed_label(run), run_link(run)) for run in cell.runs)
        return TableCell(text, runs=runs, hint=hint)
    if not values:
        return TableCell("not recorded", runs=runs, hint=hint)
    notes: tuple[str, ...] = ()
    if len(values) < len(complete):
        notes = (f"over {len(values)} of {len(complete)} runs; the others do not record it",)
    counted = quantity.column.digits == 0 and len(set(values)) == 1  # the same for every seed
    return TableCell(
        value=float(np.mean(values)),
        std=float(np.std(values, ddof=1)) if len(values) > 1 and not counted else None,
        runs=runs,
        notes=notes,
        hint=hint,
    )


def run_link(run: RunEntry) -> Path | str:
    """Where a run is; nowhere if it was never begun."""
    return "" if run.status == NOT_RUN else run.path


def seed_label(run: RunEntry) -> str:
    """The seed of a run, and its status unless it is complete."""
    seed = str(run.identity.get("seed", "?"))
    return seed if run.status == "complete" else f"{seed} {run.status}"
