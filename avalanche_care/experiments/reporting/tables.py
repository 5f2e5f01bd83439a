"""Tables as data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_lowercase
from urllib.parse import quote

__all__ = ["Column", "Run", "Table", "TableCell", "footnotes", "href", "mark_best", "to_rst"]


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: its heading.
        group: heading over several adjoining columns; empty for none.
        digits: decimals of its numbers.
        better: ``"high"`` or ``"low"`` if its best number is to be marked, else empty.
        sign: write a plus sign too, for differences.
        number: whether it holds numbers, which are set to the right.
    """

    name: str
    group: str = ""
    digits: int = 2
    better: str = ""
    sign: bool = False
    number: bool = True


@dataclass(frozen=True)
class Run:
    """A run behind a number.

    Attributes:
        label: what to call it, such as its seed.
        path: its directory or file, or a web address; empty: there is nothing to link to.
        value: its own number, where there is one.
    """

    label: str
    path: Path | str
    value: float | None = None


@dataclass(frozen=True)
class TableCell:
    """A cell.

    Attributes:
        text: what it says if it has no number.
        value: its number; a mean, if several runs are behind it.
        std: sample standard deviation over the runs (n - 1 in the denominator); None for one run.
        runs: the runs behind it.
        notes: footnotes.
        hint: shown on a web page when pointed at.
        ranked: whether its number may be compared with others of the column.
        best: whether it is the best of its column.
        listed: show the labels of the runs, each a link, and nothing else.
    """

    text: str = ""
    value: float | None = None
    std: float | None = None
    runs: tuple[Run, ...] = ()
    notes: tuple[str, ...] = ()
    hint: str = ""
    ranked: bool = True
    best: bool = False
    listed: bool = False

    def shown(self, column: Column) -> str:
        """What it says, without links and footnotes."""
        if self.listed:
            return ", ".join(run.label for run in self.runs)
        if self.value is None:
            return self.text
        number = f"{self.value:{'+' if column.sign else ''},.{column.digits}f}"
        return number if self.std is None else f"{number} ± {self.std:,.{column.digits}f}"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: for files and links: letters, digits and hyphens.
        title: a few words.
        columns: its columns.
        rows: one cell per column each.
        caption: what its numbers are.
        notes: what to know about it as a whole.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    caption: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [i for i, row in enumerate(self.rows) if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(
                f"table {self.name!r} has {len(self.columns)} columns; rows {wrong[:5]} have "
                "another number of cells"
            )


def mark_best(table: Table) -> Table:
    """Mark the best numbers of each column that has a direction; as shown, so ties are all marked.

    A column with fewer than two numbers that may be compared has no best.
    """
    rows = [list(row) for row in table.rows]
    for place, column in enumerate(table.columns):
        if not column.better:
            continue
        numbers = {
            i: round(row[place].value, column.digits)  # type: ignore[arg-type]
            for i, row in enumerate(rows)
            if row[place].value is not None and row[place].ranked
        }
        if len(numbers) < 2:
            continue
        best = (max if column.better == "high" else min)(numbers.values())
        for i, number in numbers.items():
            rows[i][place] = replace(rows[i][place], best=number == best)
    return replace(table, rows=tuple(map(tuple, rows)))


def footnotes(table: Table) -> dict[str, str]:
    """Footnote -> its mark, in the order of appearance."""
    notes = dict.fromkeys(note for row in table.rows for cell in row for note in cell.notes)
    return {note: letters(i) for i, note in enumerate(notes)}


def letters(i: int) -> str:
    """A footnote's mark by its place: a to z, aa, ab, ..."""
    return (letters(i // 26 - 1) if i >= 26 else "") + ascii_lowercase[i % 26]


def href(path: Path | str, start: Path) -> str:
    """A link from a file in ``start``: relative where possible, and fit for a web page."""
    if isinstance(path, str):
        return path
    try:
        relative = os.path.relpath(path.resolve(), start.resolve())
    except ValueError:  # another drive
        return path.resolve().as_uri()
    return quote(Path(relative).as_posix())


def headings(table: Table) -> list[str]:
    """One heading per column, with that of its group."""
    return [f"{c.group}: {c.name}" if c.group else c.name for c in table.columns]


def grouped(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Groups of adjoining columns: their heading and how many columns it is over."""
    groups: list[tuple[str, int]] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1] + 1)
        else:
            groups.append((column.group, 1))
    return groups


def to_rst(table: Table) -> str:
    """The table as an aligned text, which is also a reStructuredText simple table; no links."""
    header = headings(table)
    rows = [[c.shown(k) for c, k in zip(row, table.columns, strict=True)] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(
            text.rjust(width) if column.number else text.ljust(width)
            for text, width, column in zip(row, widths, table.columns, strict=True)
        ).rstrip()
        for row in (header, *rows)
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])
