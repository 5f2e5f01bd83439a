"""Published numbers as cells of a table, beside ours."""

from __future__ import annotations

from collections.abc import Sequence

from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.experiments.published import (
    BACKBONES,
    PROVENANCE,
    SOURCES,
    PublishedNumber,
    PublishedQuantity,
    Source,
    published,
    published_quantities,
)
from avalanche_care.experiments.reporting.cells import Cell
from avalanche_care.experiments.reporting.run_entry import Setting
from avalanche_care.experiments.reporting.settings import class_order_name
from avalanche_care.experiments.reporting.tables import Column, Run, Table, TableCell

COLUMNS = (Column("published"), Column("difference", sign=True))


def published_for(setting: Setting, method: str | None = None) -> tuple[PublishedNumber, ...]:
    """What is published for a setting: nothing for parts of a data set or other weights."""
    key = _backbone_key(setting)
    return published(method, setting.benchmark, setting.protocol, key) if key else ()


def quantity_for(setting: Setting, method: str, quantity: str) -> PublishedQuantity | None:
    """A published figure of a setting that is no A_avg or A_last; None if there is none."""
    place = (setting.benchmark, setting.protocol, _backbone_key(setting))
    found = published_quantities(method, quantity)
    return next((q for q in found if (q.benchmark, q.protocol, q.backbone) == place), None)


def _backbone_key(setting: Setting) -> str:
    """What the list of published numbers calls the weights; empty where nothing is comparable."""
    card = CARDS.get(setting.benchmark)
    if card is not None and card.classes != len(setting.class_order):
        return ""
    return next((key for key, name in BACKBONES.items() if name == setting.backbone), "")


def beside(
    cell: Cell, quantity: str, ours: TableCell, *, comparable: bool, other: str = ""
) -> list[TableCell]:
    """The published number, with its source in a footnote, and how much ours is above it.

    Args:
        cell: our runs.
        quantity: ``"A_last"`` or ``"A_avg"``.
        ours: our number, in per cent.
        comparable: whether ours was evaluated after every task, where that matters.
        other: which settings are not those of the published method; then there is no difference.
    """
    numbers = [
        number
        for number in published_for(cell.setting, cell.method)
        if getattr(number, quantity) is not None
    ]
    if not numbers:
        return [TableCell("–"), TableCell("–")]
    first, *others = numbers
    value = getattr(first, quantity)
    note = source_note(first)
    if others:
        also = (f"{getattr(n, quantity):.2f} ({n.source}, {n.provenance})" for n in others)
        note += f"; also published: {', '.join(also)}"
    theirs = TableCell(
        value=value,
        std=getattr(first, f"{quantity}_std"),
        runs=_link(first),
        notes=(note,),
    )
    return [theirs, _difference(ours, value, comparable, other)]


def quantity_beside(
    cell: Cell, quantity: str, ours: TableCell, *, other: str = ""
) -> list[TableCell]:
    """As :func:`beside`, for a published figure that is no A_avg or A_last."""
    number = quantity_for(cell.setting, cell.method, quantity)
    if number is None:
        return [TableCell("–"), TableCell("–")]
    note = source_note(number)
    theirs = TableCell(value=number.value, runs=_link(number), notes=(note,))
    return [theirs, _difference(ours, number.value, True, other)]


def _difference(ours: TableCell, value: float, comparable: bool, other: str) -> TableCell:
    """How much ours is above a published value, or why that cannot be said."""
    if ours.value is None or not comparable:
        return TableCell("not comparable" if ours.value is not None else "–")
    if other:
        return TableCell("other settings", notes=(f"other settings: {other}",))
    return TableCell(value=ours.value - value)


def source_note(number: PublishedNumber | PublishedQuantity) -> str:
    """Where a number is from; the table of all that is published has more on its source."""
    arxiv = SOURCES[number.source].arxiv
    where = f"{number.source}, arXiv {arxiv}" if arxiv else number.source
    note = f"; {number.note}" if number.note else ""
    return f"published by {where} ({PROVENANCE[number.provenance]}){note}"


def comparability(setting: Setting) -> list[str]:
    """In what our setting differs from the published ones."""
    notes = []
    order = class_order_name(setting)
    if order != "class order 1993":
        notes.append(f"most published numbers are of class order 1993, ours: {order}")
    card, facts = CARDS.get(setting.benchmark), dict(setting.facts)
    for name in ("train_images", "test_images"):
        if card is not None and name in facts and int(facts[name]) != getattr(card, name):
            kind = name.split("_")[0]
            notes.append(
                f"{int(facts[name]):,} {kind} images, where {card.title} has "
                f"{getattr(card, name):,} ({card.counts})"
            )
    return notes


def published_table(setting: Setting, name: str, title: str) -> Table | None:
    """All that is published for a setting, with the sources; None if nothing is."""
    numbers = published_for(setting)
    if not numbers:
        return None
    rows = [
        (
            TableCell(number.method),
            TableCell("–", number.A_last, number.A_last_std),
            TableCell("–", number.A_avg, number.A_avg_std),
            TableCell("–", number.runs),
            TableCell(number.source, runs=_link(number)),
            TableCell(number.provenance),
            TableCell(number.note),
        )
        for number in sorted(numbers, key=lambda number: number.method)
    ]
    texts = ("source", "provenance", "remarks")
    columns = (
        Column("method", number=False),
        Column("A_last (%)"),
        Column("A_avg (%)"),
        Column("runs", digits=0),
        *(Column(text, number=False) for text in texts),
    )
    cited = dict.fromkeys(number.source for number in numbers)
    notes = (": ".join([key, *_told(SOURCES[key])]) for key in cited)
    caption = "As published; a spread as published too, whose definition is the source's."
    return Table(name, f"{title}: published", columns, tuple(rows), caption, tuple(notes))


def _told(source: Source) -> list[str]:
    arxiv = f", arXiv {source.arxiv}" if source.arxiv else ""
    return [f"{source.citation}{arxiv}", *([source.note] if source.note else [])]


def _link(number: PublishedNumber | PublishedQuantity) -> tuple[Run, ...]:
    arxiv = SOURCES[number.source].arxiv
    return (Run(number.source, f"https://arxiv.org/abs/{arxiv}"),) if arxiv else ()


def quantities_published(cells: Sequence[Cell]) -> list[str]:
    """Which of A_last and A_avg somebody has published for one of the cells."""
    numbers = [n for cell in cells for n in published_for(cell.setting, cell.method)]
    return [q for q in ("A_last", "A_avg") if any(getattr(n, q) is not None for n in numbers)]
