"""Tables and figures in Markdown (GitHub's) that can be read as text too.

Links stand for themselves as short labels, such as ``[95.31][r12]``, and lead somewhere in one list
at the end. A mean over several runs leads to a line there that names them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from avalanche_care.experiments.reporting.tables import (
    Column,
    Run,
    Table,
    TableCell,
    headings,
    href,
    letters,
)

__all__ = ["Footnotes", "Links", "escape", "figure", "to_markdown"]


class Links:
    """Labels of links, and what they stand for.

    Args:
        start: directory of the file, from which links to runs are relative.
        runs: those that are to be r1, r2, ... in this order; others get the numbers after them.
    """

    def __init__(self, start: Path, runs: Sequence[Run] = ()) -> None:
        self._start = start
        self._labels: dict[str, str] = {}  # where a link leads -> its label
        self._names: dict[str, str] = {}  # the same -> the name of the run
        self._sets: dict[tuple[str, ...], str] = {}  # where the runs of a number are -> label
        for run in runs:
            self.to(run)

    def to(self, run: Run) -> str:
        """Label of a run or a web address; empty if there is nothing to link to."""
        if not run.path:
            return ""
        target = href(run.path, self._start)
        if target not in self._labels:
            web = isinstance(run.path, str)
            letter = "w" if web else "r"
            number = 1 + sum(label[0] == letter for label in self._labels.values())
            self._labels[target] = f"{letter}{number}"
            self._names[target] = run.label if web else Path(run.path).name
        return self._labels[target]

    def to_all(self, runs: Sequence[Run]) -> str:
        """Label of the runs behind a number: of the run itself, or of a line that names them."""
        linked = {self.to(run): href(run.path, self._start) for run in runs if run.path}
        if len(linked) < 2:
            return next(iter(linked), "")
        return self._sets.setdefault(tuple(linked.values()), f"s{len(self._sets) + 1}")

    def lines(self) -> str:
        """The end of the file: which runs are behind the means, and where all links lead."""
        sets = [
            f'- <a id="{label}"></a>{label}: '
            + ", ".join(f"[{escape(self._names[t])}][{self._labels[t]}]" for t in targets)
            for targets, label in self._sets.items()
        ]
        text = ["## Runs behind the means", "", *sets, ""] if sets else []
        text += [f"[{label}]: #{label}" for label in self._sets.values()]
        text += [f"[{label}]: {target}" for target, label in self._labels.items()]
        return "\n".join(text) + "\n"


class Footnotes:
    """Footnotes of tables that belong together: each has one mark in all of them, and is said once.

    Where it comes again, there is a link to the table below which it stands.
    """

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}
        self._places: dict[str, Table] = {}  # mark -> the table below which it stands

    def of(self, table: Table) -> Mapping[str, str]:
        """Footnotes of a table -> their marks."""
        notes = dict.fromkeys(note for row in table.rows for cell in row for note in cell.notes)
        for note in notes:
            mark = self._marks.setdefault(note, letters(len(self._marks)))
            self._places.setdefault(mark, table)
        return {note: self._marks[note] for note in notes}

    def lines(self, table: Table) -> list[str]:
        """What stands below a table: its footnotes, or where they are."""
        elsewhere: dict[str, list[str]] = {}
        lines = []
        for note, mark in self.of(table).items():
            place = self._places[mark]
            if place is table:
                lines.append(f"- <sup>{mark}</sup> {escape(note)}")
            else:
                link = f"[{escape(place.title)}](#{place.name})"
                elsewhere.setdefault(link, []).append(mark)
        return lines + [
            f"- <sup>{', '.join(marks)}</sup> see {link}" for link, marks in elsewhere.items()
        ]


def to_markdown(table: Table, links: Links, footnotes: Footnotes | None = None) -> str:
    """The table with its heading, links and footnotes.

    Args:
        table: what to write.
        links: of the file, which gets those of the table.
        footnotes: of the tables that it belongs to; left out, it has its own.
    """
    footnotes = footnotes or Footnotes()
    marks = footnotes.of(table)
    lines = [f'<a id="{table.name}"></a>', "", f"## {escape(table.title)}", ""]
    lines += [escape(table.caption), ""] if table.caption else []
    lines.append("| " + " | ".join(map(escape, headings(table))) + " |")
    lines.append("|" + "|".join(" ---: " if c.number else " --- " for c in table.columns) + "|")
    for row in table.rows:
        texts = [_cell(cell, k, links, marks) for cell, k in zip(row, table.columns, strict=True)]
        lines.append("| " + " | ".join(texts) + " |")
    lines += ["", *footnotes.lines(table)]
    lines += [f"- {escape(note)}" for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def _cell(cell: TableCell, column: Column, links: Links, marks: Mapping[str, str]) -> str:
    if cell.listed:
        text = ", ".join(link(run.label, links.to(run)) for run in cell.runs)
    else:
        text = link(cell.shown(column), links.to_all(cell.runs), bold=cell.best)
    noted = ", ".join(marks[note] for note in cell.notes)
    return f"{text} <sup>{noted}</sup>" if noted else text


def figure(
    title: str,
    caption: str,
    place: str,
    tables: Sequence[tuple[str, str]],
    groups: Sequence[tuple[str, Sequence[Run]]],
    links: Links,
) -> str:
    """A figure with its heading, its caption, and the runs that are in it.

    Args:
        title, caption: plain text.
        place: of the image, as a link.
        tables: name and title of the tables all of whose complete runs are in it.
        groups: a name, and runs of that name that are in it, each.
        links: of the file, which gets those of the runs.
    """
    told = [f"all complete runs of [{escape(t)}](#{name})" for name, t in tables]
    for name, runs in groups:
        seeds = ", ".join(link(run.label, links.to(run)) for run in runs)
        told.append(f"{escape(name)}, seed{'' if len(runs) == 1 else 's'} {seeds}")
    lines = [f"### {escape(title)}", f"![{escape(title)}]({place})", escape(caption)]
    return "\n\n".join([*lines, *([f"Runs: {'; '.join(told)}."] if told else [])]) + "\n"


def link(text: str, label: str, *, bold: bool = False) -> str:
    """A text that leads where a label stands for; the text alone, if there is no label."""
    text = f"**{escape(text)}**" if bold else escape(text)
    return f"[{text}][{label}]" if label and text else text


def escape(text: str) -> str:
    """A text without any meaning in Markdown, in one line."""
    return re.sub(r"([\\`*_\[\]<>|~$&])", r"\\\1", " ".join(text.split()))
