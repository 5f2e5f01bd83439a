"""The table of routing recall: how often CaRE finds the router and the expert of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from avalanche_care.experiments.reporting import beside
from avalanche_care.experiments.reporting.cells import Cell
from avalanche_care.experiments.reporting.quantities import SPREAD, Quantity, over_seeds
from avalanche_care.experiments.reporting.tables import Column, Table, TableCell
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.routing_recall import EXPERTS, ROUTERS, Recall, routing_of

__all__ = ["recall_table"]

KINDS = (ROUTERS, EXPERTS)
CAPTION = (
    "After the last task, per cent of the test images of all tasks. Routers: those that a block "
    "selects contain the one of the image's own task. Own expert: it has one of the largest gates "
    "of the block. By chance: the number that is chosen over the number of tasks; choosing at "
    "random would favour experts of early tasks, since a router knows only the experts of its own "
    f"task and of earlier ones. {SPREAD}"
)


def recall_table(
    name: str,
    title: str,
    found: Sequence[Cell],
    head: Callable[[Cell], list[TableCell]],
    columns: Sequence[Column],
    other: Callable[[Cell], str],
) -> Table | None:
    """Routing recall of every block, over seeds, beside chance and what is published.

    Args:
        name, title: of the table.
        found: the cells of a setting; those without routers are left out.
        head: the first cells of a row.
        columns: of these.
        other: where settings are not those of the published method; empty if they are.

    Returns:
        A row for each block of each cell; None if no run has recorded any recall.
    """
    rows = [
        [*head(cell), TableCell(value=block + 1), *_numbers(cell, block, other(cell))]
        for cell in found
        for block in range(_blocks(cell))
    ]
    if not rows:
        return None
    titles = [*columns, Column("block", digits=0)]
    first = len(titles)
    for kind in KINDS:
        own = (Column("ours"), Column("by chance"), *beside.COLUMNS)
        titles += [replace(column, group=kind.name) for column in own]
    if all(cell.value is None for row in rows for cell in row[first + 2 :: 4]):  # published
        kept = [i for i in range(len(titles)) if i < first or (i - first) % 4 < 2]
        titles = [titles[i] for i in kept]
        rows = [[row[i] for i in kept] for row in rows]
    return Table(name, title, tuple(titles), tuple(map(tuple, rows)), CAPTION)


def _blocks(cell: Cell) -> int:
    """Number of blocks with routers in the runs of a cell."""
    summaries = [routing_of(result) for result in cell.results]
    return max((len(ROUTERS.percent(s)) for s in summaries if s is not None), default=0)


def _numbers(cell: Cell, block: int, other: str) -> list[TableCell]:
    """For each kind: ours, by chance, published, difference."""
    tasks = len(cell.setting.task_sizes)
    summary = next(s for s in map(routing_of, cell.results) if s is not None)
    numbers = []
    for kind in KINDS:
        ours = over_seeds(cell, Quantity(Column(kind.name), partial(_of_block, kind, block), False))
        chosen = kind.chosen(summary, tasks)
        chance = TableCell(
            value=kind.chance(summary, tasks), notes=(f"{chosen} of {tasks} at random",)
        )
        name = kind.published.format(chosen=chosen, block=block + 1)
        numbers += [ours, chance, *beside.quantity_beside(cell, name, ours, other=other)]
    return numbers


def _of_block(kind: Recall, block: int, result: RunResult) -> float | None:
    summary = routing_of(result)
    return None if summary is None else float(kind.percent(summary)[block])
