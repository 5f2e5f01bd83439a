"""Realms: named groups of classes, by which accuracy is broken down.

A realm is a broad kind of thing (bird, food, aircraft) or, for characters, an alphabet. It plays no
part in learning.
"""

from __future__ import annotations

import csv
import difflib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

__all__ = ["OMNIBENCHMARK_REALMS", "read_realms", "realm_classes"]

logger = logging.getLogger(__name__)

OMNIBENCHMARK_REALMS = (
    "activity",
    "aircraft",
    "amphibian",
    "aquatic_vertebrate",
    "bird",
    "car",
    "consumer_goods",
    "creation",
    "decoration",
    "device",
    "food",
    "geological_formation",
    "instrumentality",
    "locomotive",
    "mammal",
    "material",
    "military_vehicle",
    "plant",
    "process",
    "region",
    "structure",
)
"""The 21 realms of OmniBenchmark V2, of which OmniBenchmark-1K is a sample."""


def read_realms(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Read which classes belong to which realm from a file that the user has written.

    Args:
        path: A JSON file ``{"bird": ["jay", "wren"], ...}``, or a CSV file with the columns
            ``class`` and ``realm``: one line per class, with or without a header line. What does
            not end in ``.json`` is read as CSV.

    Returns:
        Realm -> names of its classes, in the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file does not have that form, or puts a class into two realms.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of realms: {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}") from error
    pairs = _json_pairs(text, path) if path.suffix.lower() == ".json" else _csv_pairs(text, path)
    realm_of: dict[str, str] = {}
    realms: dict[str, list[str]] = {}
    for name, realm, where in pairs:
        if name in realm_of:
            raise ValueError(
                f"{where}: the class {name!r} is already in the realm {realm_of[name]!r}; name "
                "each class once"
            )
        realm_of[name] = realm
        realms.setdefault(realm, []).append(name)
    if not realms:
        raise ValueError(f"{path} names no class; it should be JSON or CSV, see read_realms")
    return realms


def _json_pairs(text: str, path: Path) -> Iterable[tuple[str, str, str]]:
    """Class, realm, and where that is written."""
    try:
        # Pairs, because a dictionary would silently keep only the last of two equal names.
        realms = json.loads(text, object_pairs_hook=tuple)
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    wanted = 'expected {"realm": ["class", ...], ...}'
    if not isinstance(realms, tuple):
        raise ValueError(f"{path}: {wanted}, got a {type(realms).__name__}")
    for realm, names in realms:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{path}: {wanted}, but {realm!r} has no list of texts")
        yield from ((name, realm, f"{path}, realm {realm!r}") for name in names)


def _csv_pairs(text: str, path: Path) -> Iterable[tuple[str, str, str]]:
    """Class, realm, and where that is written."""
    columns = (0, 1)
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    for number, row in enumerate(rows):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if number == 0 and {"class", "realm"} <= {cell.lower() for cell in cells}:
            header = [cell.lower() for cell in cells]
            columns = (header.index("class"), header.index("realm"))
            continue
        where = f"{path}, line {rows.line_num}"
        if len(cells) <= max(columns) or not all(cells[column] for column in columns):
            raise ValueError(f"{where}: expected a class and a realm, got {','.join(row)!r}")
        yield cells[columns[0]], cells[columns[1]], where


def realm_classes(
    realms: Mapping[str, Sequence[str]], class_names: Sequence[str]
) -> dict[str, list[int]]:
    """Turn the classes of realms from names into indices.

    Args:
        realms: Realm -> names of its classes. Classes in no realm are named in a warning; they
            count for the accuracy, but for that of no realm.
        class_names: Name of each original class.

    Returns:
        Realm -> original class indices, ascending: the ``realms`` of
        :func:`avalanche_care.benchmarks.class_incremental`.

    Raises:
        ValueError: If a realm has a class that there is not; those are listed.
    """
    index = {name: number for number, name in enumerate(class_names)}
    unknown = [name for names in realms.values() for name in names if name not in index]
    if unknown:
        near = difflib.get_close_matches(unknown[0], class_names, n=1)
        hint = f"; for the first, did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"the realms have {len(unknown)} classes that the data do not have: "
            f"{_some(unknown)}; classes are called like their folders{hint}"
        )
    without = sorted(index.keys() - {name for names in realms.values() for name in names})
    if without:
        logger.warning("%d classes are in no realm: %s", len(without), _some(without))
    return {realm: sorted(index[name] for name in names) for realm, names in realms.items()}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
