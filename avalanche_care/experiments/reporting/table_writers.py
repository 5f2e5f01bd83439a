"""Tables as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from avalanche_care.experiments.reporting.tables import (
    Column,
    Table,
    TableCell,
    footnotes,
    grouped,
    headings,
    href,
)

__all__ = ["to_csv", "to_latex"]


def to_csv(table: Table, start: Path) -> str:
    """The table as comma-separated values, unrounded, with the paths of the runs behind each row.

    Args:
        table: what to write.
        start: directory of the file, from which the paths are relative.
    """
    spread = [any(row[i].std is not None for row in table.rows) for i in range(len(table.columns))]
    header, out = [], io.StringIO()
    for name, has_spread in zip(headings(table), spread, strict=True):
        header += [name, f"{name}, standard deviation"] if has_spread else [name]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*header, "runs", "notes"])
    for row in table.rows:
        texts: list[str] = []
        for cell, column, has_spread in zip(row, table.columns, spread, strict=True):
            plain = cell.shown(column) if cell.value is None else f"{cell.value:.10g}"
            texts.append(plain)
            if has_spread:
                texts.append("" if cell.std is None else f"{cell.std:.10g}")
        paths = dict.fromkeys(
            os.path.relpath(run.path, start) if isinstance(run.path, Path) else run.path
            for cell in row
            for run in cell.runs
            if run.path
        )
        notes = dict.fromkeys(note for cell in row for note in cell.notes)
        writer.writerow([*texts, "; ".join(paths), "; ".join(notes)])
    return out.getvalue()


def to_latex(table: Table, start: Path) -> str:
    """The table in LaTeX, for the package booktabs; the runs behind each row are a comment.

    Args:
        table: what to write.
        start: directory of the file, from which the paths in comments are relative.
    """
    marks = footnotes(table)

    def shown(cell: TableCell, column: Column) -> str:
        text = _escape_latex(cell.shown(column))
        if cell.value is not None:
            text = text.replace("-", "$-$")
        if cell.best:
            text = rf"\textbf{{{text}}}"
        noted = ", ".join(marks[note] for note in cell.notes)
        return rf"{text}\textsuperscript{{{noted}}}" if noted else text

    lines = [r"% Needs \usepackage{booktabs}.", r"\begin{table}", r"\centering"]
    lines.append(rf"\caption{{{_escape_latex(table.title)}}}")
    lines.append(rf"\label{{tab:{table.name}}}")
    columns = "".join("r" if column.number else "l" for column in table.columns)
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *_latex_groups(table.columns)]
    lines.append(_latex_row([_escape_latex(column.name) for column in table.columns]))
    lines.append(r"\midrule")
    for row in table.rows:
        paths = dict.fromkeys(href(r.path, start) for cell in row for r in cell.runs if r.path)
        line = _latex_row([shown(c, k) for c, k in zip(row, table.columns, strict=True)])
        lines.append(line + "".join(f" % {path}" for path in paths))
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [_escape_latex(table.caption)] if table.caption else []
    notes += [rf"\textsuperscript{{{mark}}} {_escape_latex(n)}." for n, mark in marks.items()]
    notes += [_escape_latex(note) + "." for note in table.notes]
    lines += [r"\par\smallskip\footnotesize", *notes] if notes else []
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """The line of headings over groups of columns, and the rules below them."""
    if not any(column.group for column in columns):
        return []
    texts, rules, at = [], [], 1
    for group, width in grouped(columns):
        texts.append(rf"\multicolumn{{{width}}}{{c}}{{{_escape_latex(group)}}}")
        rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if group else []
        at += width
    return [_latex_row(texts), " ".join(rules)]


def _latex_row(texts: Sequence[str]) -> str:
    return " & ".join(texts) + r" \\"


_LATEX: dict[str, str] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "…": r"\dots{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
