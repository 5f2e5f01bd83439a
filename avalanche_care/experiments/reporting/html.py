"""A page with tables and figures, in one file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from avalanche_care.experiments.reporting.tables import (
    Column,
    Run,
    Table,
    TableCell,
    footnotes,
    grouped,
    href,
)

__all__ = ["figure", "page", "runs", "section", "table"]

GENERATOR = "avalanche_care"
IMAGES = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --soft: #5f5f5f; --line: #d5d5d5;
  --back: #ffffff; --strip: #f4f5f7; --link: #0058a3; --bad: #a8321f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #a3a3a3; --line: #3d4045;
  --back: #17191c; --strip: #212429; --link: #7fb8ff; --bad: #ff9a85; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 76rem; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin: 2.6rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
a { color: var(--link); } nav ul { padding-left: 1.2rem; } p { max-width: 52rem; }
.soft, .notes, figcaption { color: var(--soft); font-size: .87rem; }
.notes { padding-left: 1.2rem; max-width: 60rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td.long { min-width: 16rem; max-width: 34rem; overflow-wrap: anywhere; }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
thead th.group { text-align: center; border-bottom: 1px solid var(--line); font-weight: 600; }
thead th.none { border-bottom: 0; }
tbody tr:hover { background: var(--strip); }
td:first-child { white-space: nowrap; }
.number { text-align: right; } td.number { white-space: nowrap; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid var(--link); }
th[aria-sort=ascending] button::after { content: " ▲"; font-size: .7em; }
th[aria-sort=descending] button::after { content: " ▼"; font-size: .7em; }
td a { text-decoration-color: var(--line); text-underline-offset: .2em; }
td details { display: inline-block; vertical-align: top; }
td details > summary { cursor: pointer; list-style: none; text-decoration: underline dotted;
  text-decoration-color: var(--soft); text-underline-offset: .2em; }
td summary::-webkit-details-marker { display: none; }
td details ul { margin: .2rem 0; padding: 0; list-style: none; font-size: .87rem; }
.missing { color: var(--soft); font-style: italic; } .problem { color: var(--bad); }
section > details > summary { cursor: pointer; margin-top: 1rem; font-weight: 600; }
figure { margin: 1rem 0; } figure img { max-width: 100%; background: #ffffff; border-radius: 4px; }
@media print { nav { display: none; } body { max-width: none; margin: 0; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll('table')) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => head.querySelector('button').addEventListener('click', () => {
    const number = head.classList.contains('number');
    const first = number ? 'descending' : 'ascending';
    const other = number ? 'ascending' : 'descending';
    const order = head.getAttribute('aria-sort') === first ? other : first;
    heads.forEach(h => h.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', order);
    const sign = order === 'ascending' ? 1 : -1;
    const key = row => row.cells[column].dataset.value;
    const body = table.tBodies[0];
    [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return sign * (number ? x - y : x.localeCompare(y, undefined, { numeric: true }));
    }).forEach(row => body.append(row));
  }));
}
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
LONG = 60  # characters, beyond which the text of a cell is broken into lines


def page(title: str, lead: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """A whole page.

    Args:
        title: its heading, plain text.
        lead: the paragraph below it, plain text.
        sections: (name for links, heading, content in HTML) each.
    """
    links = "".join(f'<li><a href="#{escape(n)}">{escape(h)}</a></li>' for n, h, _ in sections)
    content = "".join(
        f'<section id="{escape(name)}"><h2>{escape(heading)}</h2>{inner}</section>\n'
        for name, heading, inner in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="generator" content="{GENERATOR}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>"
        f'<p class="soft">{escape(lead)}</p><nav><ul>{links}</ul></nav>\n{content}'
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def section(main: str, folded: Sequence[tuple[str, str]] = ()) -> str:
    """Content that is shown, and (heading, content) that is folded up below it."""
    details = (f"<details><summary>{escape(h)}</summary>{inner}</details>" for h, inner in folded)
    return main + "".join(details)


def table(content: Table, start: Path) -> str:
    """A table whose columns can be sorted, with its caption and footnotes.

    A number of one run is a link to that run. One of several unfolds into theirs, each a link.

    Args:
        content: what to show.
        start: directory of the page, from which links to runs are relative.
    """
    marks = footnotes(content)
    rows = "".join(
        "<tr>"
        + "".join(
            _cell(cell, column, marks, start)
            for cell, column in zip(row, content.columns, strict=True)
        )
        + "</tr>\n"
        for row in content.rows
    )
    notes = "".join(f"<li><sup>{mark}</sup> {escape(note)}</li>" for note, mark in marks.items())
    notes += "".join(f"<li>{escape(note)}</li>" for note in content.notes)
    caption = f'<p class="soft">{escape(content.caption)}</p>' if content.caption else ""
    return (
        f'{caption}<div class="scroll"><table id="table-{escape(content.name)}">'
        f"<thead>{_head(content.columns)}</thead>\n<tbody>{rows}</tbody></table></div>"
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
    )


def _head(columns: Sequence[Column]) -> str:
    groups = ""
    if any(column.group for column in columns):
        groups = "".join(
            f'<th colspan="{width}" class="{"group" if group else "none"}">{escape(group)}</th>'
            for group, width in grouped(columns)
        )
    names = "".join(
        f'<th{_class(column)} scope="col"><button type="button">{escape(column.name)}</button></th>'
        for column in columns
    )
    return (f"<tr>{groups}</tr>" if groups else "") + f"<tr>{names}</tr>"


def _class(column: Column) -> str:
    return ' class="number"' if column.number else ""


def _cell(cell: TableCell, column: Column, marks: dict[str, str], start: Path) -> str:
    text = cell.shown(column)
    inner = _linked(
        cell, column, escape(text).replace("-", "−") if cell.value else escape(text), start
    )
    if cell.notes:
        inner += f"<sup>{', '.join(marks[note] for note in cell.notes)}</sup>"
    classes = ["number"] if column.number else (["long"] if len(text) > LONG else [])
    if cell.value is None and column.number:
        classes.append("problem" if "failed" in text or "unreadable" in text else "missing")
    value = cell.value if cell.value is not None else ("" if column.number else text)
    attributes = f' class="{" ".join(classes)}"' if classes else ""
    attributes += f' data-value="{escape(str(value))}"' if value != "" else ""
    attributes += f' title="{escape(cell.hint)}"' if cell.hint else ""
    return f"<td{attributes}>{inner}</td>"


def _linked(cell: TableCell, column: Column, text: str, start: Path) -> str:
    """The text with links to the runs behind it."""
    if cell.listed:
        return ", ".join(_link(run, escape(run.label), start) for run in cell.runs)
    if cell.best:
        text = f"<strong>{text}</strong>"
    if not any(run.path for run in cell.runs):
        return text
    if len(cell.runs) == 1:
        return _link(cell.runs[0], text, start)
    runs = "".join(f"<li>{_link(r, _run_text(r, column), start)}</li>" for r in cell.runs)
    return f"<details><summary>{text}</summary><ul>{runs}</ul></details>"


def _run_text(run: Run, column: Column) -> str:
    number = "" if run.value is None else f": {TableCell(value=run.value).shown(column)}"
    return escape(f"seed {run.label}{number}")


def _link(run: Run, text: str, start: Path) -> str:
    return f'<a href="{escape(href(run.path, start))}">{text}</a>' if run.path else text


def runs(
    tables: Sequence[tuple[str, str]], groups: Sequence[tuple[str, Sequence[Run]]], start: Path
) -> str:
    """Which runs are in a figure, as links.

    Args:
        tables: name of the section and title of the tables all of whose complete runs are in it.
        groups: a name, and runs of that name that are in it, called by their seeds, each.
        start: directory of the page, from which links to runs are relative.
    """
    told = [f'all complete runs of <a href="#{escape(n)}">{escape(t)}</a>' for n, t in tables]
    for name, group in groups:
        seeds = ", ".join(_link(run, escape(run.label), start) for run in group)
        told.append(f"{escape(name)}, seed{'' if len(group) == 1 else 's'} {seeds}")
    return f"Runs: {'; '.join(told)}." if told else ""


def figure(title: str, caption: str, path: Path, runs: str = "") -> str:
    """A figure, embedded.

    Args:
        title, caption: plain text.
        path: of the image.
        runs: which ones it shows, as of :func:`runs`.

    Raises:
        ValueError: if it is of a kind that pages cannot show.
    """
    kind = IMAGES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path} cannot be shown in a page; expected one of {sorted(IMAGES)}")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    image = f'<img src="data:{kind};base64,{data}" alt="{escape(title)}">'
    told = f"<figcaption>{escape(caption)}{f'<br>{runs}' if runs else ''}</figcaption>"
    return f"<h3>{escape(title)}</h3><figure>{image}{told}</figure>\n"
