"""What runs cost: seconds, images per second, parameters, memory, and seconds phase by phase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from avalanche_care.experiments.reporting.cells import Cell
from avalanche_care.experiments.reporting.machines import machines
from avalanche_care.experiments.reporting.quantities import Quantity, over_seeds
from avalanche_care.experiments.reporting.tables import Column, TableCell
from avalanche_care.experiments.results import RunResult

__all__ = ["COST", "COSTS", "PHASES", "machines_note", "measured", "phase_quantities"]

MEGABYTE = 2**20
NO_PHASE = ("total", "train", "eval", "saving")  # in the seconds of a result

COSTS = (
    "Wall-clock seconds of training and of evaluation, loading of images included, saving of "
    "states not. Images per second, training set: the images to learn from, each counted once "
    "however often it was looked at, over the seconds of training; evaluation: images evaluated, "
    "each as often as it was, over the seconds of evaluation. Parameters: the most that train in "
    "any task, and all that has to be stored at the end. Highest memory of the device and of the "
    "process during the run, data included. State: the file that the run can be resumed from "
    "after its last task, without the frozen backbone."
)
PHASES = (
    "Wall-clock seconds of all tasks together. A method trains in the phases that it declares; a "
    "dash: it has no such phase. Between phases: what is left of training, such as growing the "
    "model. Phases and what is between them add up to the seconds of training. Saving of states is "
    "no part of training, and there is none without a run directory. Evaluation is that of all "
    "images seen so far, after each task that was evaluated."
)


def _entry(field: str, name: str, scale: float = 1.0) -> Callable[[RunResult], float | None]:
    def of(result: RunResult) -> float | None:
        values = result.extra.get(field) if field == "peak_memory" else getattr(result, field)
        value = (values or {}).get(name)
        return None if value is None else value / scale

    return of


def _learned_per_second(result: RunResult) -> float | None:
    images, seconds = result.extra.get("train_images"), result.seconds.get("train")
    return images / seconds if images and seconds else None


def _evaluated_per_second(result: RunResult) -> float | None:
    value: float | None = result.extra.get("evaluated_images_per_second")
    return value


def _state(result: RunResult) -> float | None:
    value = result.extra.get("state_bytes")
    return None if value is None else value / MEGABYTE


def _cost(
    column: Column, of: Callable[[RunResult], float | None], *, timed: bool = True
) -> Quantity:
    return Quantity(column, of, every_step=False, timed=timed)


COST = (
    *(
        _cost(Column(name, "seconds", digits=1), _entry("seconds", name))
        for name in ("train", "eval", "total")
    ),
    _cost(Column("training set", "images per second", digits=1), _learned_per_second),
    _cost(Column("evaluation", "images per second", digits=1), _evaluated_per_second),
    *(
        _cost(Column(name, "parameters", digits=0), _entry("parameters", name), timed=False)
        for name in ("trainable", "total")
    ),
    *(
        _cost(Column(name, "peak memory (MiB)", digits=0), _entry("peak_memory", name, MEGABYTE))
        for name in ("device", "process")
    ),
    _cost(Column("state (MiB)"), _state, timed=False),
)


def phase_quantities(results: Sequence[RunResult]) -> list[Quantity]:
    """Seconds of each phase that some result has, and of what is no phase; none if none has."""
    names = dict.fromkeys(name for result in results for name in _phases(result))
    if not names:
        return []
    phases = [
        *((name, _entry("seconds", name)) for name in names),
        ("between phases", _between),
    ]
    others = [("saving", "saving"), ("eval", "evaluation")]
    return [
        *(_cost(Column(name, "training", digits=1), of) for name, of in phases),
        *(_cost(Column(title, digits=1), _entry("seconds", name)) for name, title in others),
    ]


def _phases(result: RunResult) -> list[str]:
    return [name for name in result.seconds if name not in NO_PHASE]


def _between(result: RunResult) -> float | None:
    phases = _phases(result)
    return result.seconds["train"] - sum(result.seconds[n] for n in phases) if phases else None


def measured(cell: Cell, quantity: Quantity, hint: str = "") -> TableCell:
    """A quantity of cost over the seeds of a cell.

    A note says so where the mean is over different machines; a dash stands for a phase that the
    method does not have.
    """
    shown = over_seeds(cell, quantity, hint)
    if shown.value is None:
        lacks = quantity.column.group == "training" and any(map(_phases, cell.results))
        return TableCell("–", hint=hint) if lacks else shown
    found = machines(cell.results) if quantity.timed else []
    if len(found) < 2:
        return shown
    return replace(shown, notes=(*shown.notes, f"over runs of different machines: {_list(found)}"))


def machines_note(results: Sequence[RunResult]) -> tuple[str, ...]:
    """A warning where seconds are of different machines."""
    found = machines(results)
    if len(found) < 2:
        return ()
    return (f"seconds and memory are of different machines: {_list(found)}",)


def _list(names: Sequence[str]) -> str:
    return "; ".join(names)
