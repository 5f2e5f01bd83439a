"""Reading a table of images: one line per image, with its path and label."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avalanche_care.benchmarks.importing._own_files import file_problems
from avalanche_care.benchmarks.importing._own_names import (
    class_problems,
    is_image,
    number_problems,
    refusal,
    some,
    unique_names,
)
from avalanche_care.benchmarks.importing._own_plan import ImagePlan, Images
from avalanche_care.benchmarks.importing._own_split import HeldOut

__all__ = ["read_csv"]

COLUMNS = ("path", "label", "split", "realm")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
FORM = "the first line names the columns path,label and, if wanted, split and realm"


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    split: str = ""
    realm: str = ""


@dataclass
class _Table:
    """The rows, and what is wrong with some lines."""

    columns: Sequence[str]
    rows: list[_Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_csv(file: Path, held_out: HeldOut | None) -> ImagePlan[str]:
    """Images that a CSV file lists.

    Args:
        file: Columns ``path`` (relative to the file, or absolute) and ``label``, perhaps ``split``
            (train or test) and ``realm``. Separated by commas, semicolons or tabs; UTF-8.
        held_out: Which images are for testing; None where there is a column ``split``.

    Returns:
        The plan.

    Raises:
        ValueError: If the table or an image in it cannot be used; every problem is listed.
    """
    table = _read_table(file)
    if "split" in table.columns and held_out is not None:
        table.problems.append(
            "there is a column split, so test_fraction and test_per_class must be left out"
        )
    if "split" not in table.columns and held_out is None:
        table.problems.append(
            "there is no column split; say how many images are for testing: test_fraction=0.2 "
            "(--test-fraction 0.2), or test_per_class"
        )
    labels = {row.label for row in table.rows}
    problems = [*table.problems, *class_problems(labels), *number_problems(labels)]
    paths = {row.path: os.path.join(file.parent, row.path) for row in table.rows}
    problems += _repeated(table.rows, paths) + file_problems(paths.values())
    realms, wrong = _realms(table)
    if problems := problems + wrong:
        raise refusal(f"{file} cannot be imported", problems)
    if held_out is not None:
        train, test = held_out.divide(_named(table.rows, paths))
        split = held_out.record()
    else:
        train, test = (
            _named([row for row in table.rows if row.split == split], paths)
            for split in ("train", "test")
        )
        split = {}
    return ImagePlan(train, test, realms, {"layout": "CSV"} | split)


def _read_table(file: Path) -> _Table:
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not a text file in UTF-8 ({error}); save it as CSV UTF-8"
        ) from error
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    lines = csv.reader(text.splitlines(), delimiter=separator, skipinitialspace=True)
    header = [name.strip().lower() for name in next(lines, [])]
    missing = [name for name in COLUMNS[:2] if name not in header]
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if missing or twice:
        what = (
            f"no column {' and no column '.join(missing)}" if missing else f"two columns {twice[0]}"
        )
        raise ValueError(f"{file} has {what}; {FORM}. Found: {some(header) or 'nothing'}")
    table = _Table([name for name in COLUMNS if name in header])
    for line, cells in _cells(lines):
        if len(cells) != len(header):
            table.problems.append(
                f"line {line}: {len(header)} columns expected, {len(cells)} found"
            )
            continue
        values = {name: cells[header.index(name)] for name in table.columns}
        problems = [f"no {name}" for name, value in values.items() if not value]
        if values["path"] and not is_image(values["path"]):
            problems.append(f"{values['path']} is no image by its name")
        if split := values.get("split"):
            values["split"] = SPLITS.get(split.lower(), "")
            if not values["split"]:
                problems.append(f"the split is train or test, not {split}")
        table.problems += [f"line {line}: {problem}" for problem in problems]
        if not problems:
            table.rows.append(_Row(line, **values))
    if not table.rows and not table.problems:
        table.problems.append(f"it lists no images; {FORM}")
    return table


def _cells(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of every line that is not blank."""
    for row in lines:
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield lines.line_num, cells  # type: ignore[attr-defined]


def _repeated(rows: Sequence[_Row], paths: dict[str, str]) -> list[str]:
    """Files that are listed more than once, also under different paths."""
    lines: dict[str, list[_Row]] = {}
    for row in rows:
        lines.setdefault(os.path.normcase(os.path.realpath(paths[row.path])), []).append(row)
    return [
        f"{same[0].path} is listed {len(same)} times, in the lines "
        + some([row.line for row in same])
        for same in lines.values()
        if len(same) > 1
    ]


def _realms(table: _Table) -> tuple[dict[str, list[str]] | None, list[str]]:
    """Realm -> its classes, and classes that are in more than one."""
    if "realm" not in table.columns:
        return None, []
    of_class: dict[str, set[str]] = {}
    for row in table.rows:
        of_class.setdefault(row.label, set()).add(row.realm)
    realms: dict[str, list[str]] = {}
    for name in sorted(of_class):
        for realm in of_class[name]:
            realms.setdefault(realm, []).append(name)
    return {realm: realms[realm] for realm in sorted(realms)}, [
        f"the class {name} is in {len(found)} realms: {some(sorted(found))}"
        for name, found in sorted(of_class.items())
        if len(found) > 1
    ]


def _named(rows: Sequence[_Row], paths: dict[str, str]) -> Images[str]:
    """Class -> file name -> path."""
    listed: dict[str, list[str]] = {}
    for row in rows:
        listed.setdefault(row.label, []).append(row.path)
    return {
        label: {
            name: paths[path]
            for name, path in unique_names(
                path.replace(os.sep, "/") for path in sorted(given)
            ).items()
        }
        for label, given in listed.items()
    }
