"""Reading OmniBenchmark V2 as its authors distribute it: lists of images, a folder per realm."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from avalanche_care.benchmarks.importing._own_names import refusal, some

__all__ = ["HELD_OUT", "V2Class", "V2Tree", "read_v2"]

logger = logging.getLogger(__name__)

NAMES_FILE = "trainid2name_v2.json"
HELD_OUT = ("test", "val")
"""Records of images that are not for training; the first is preferred."""
_WORDNET_ID = re.compile(r"n\d{8}")


@dataclass
class V2Class:
    """One class of a realm.

    Attributes:
        realm, number: Its id is unique within the realm.
        name: What it is called.
        images: Record ("train", "test", "val") -> listed path -> file. Only files that are there.
    """

    realm: str
    number: int
    name: str = ""
    images: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of its folder: realm, id and name, so that no two classes share one."""
        parts = (_slug(self.realm), f"{self.number:05d}", _slug(self.name.split(",")[0]))
        return "-".join(filter(None, parts))


@dataclass
class V2Tree:
    """All classes, and what was found beside them.

    Attributes:
        classes: Sorted by realm and id.
        held_out: Realm -> which of "test" and "val" it has a record of.
        missing: Listed files that are not there or empty.
        notes: What the record of the data set should say.
    """

    classes: list[V2Class]
    held_out: dict[str, list[str]]
    missing: list[str]
    notes: dict[str, Any]


def read_v2(source: Path, progress: bool = False) -> V2Tree:
    """Read the lists, and find out which of the images are there.

    Args:
        source: A directory with ``<realm>/<realm>.train/record.txt``, perhaps also ``.test`` and
            ``.val``, and ``trainid2name_v2.json``. A line of a list is "path id"; the path starts
            at the folder of the list, at ``images`` in it, at the folder of the realm, or at
            ``source``.
        progress: Whether to show a bar.

    Returns:
        What was found.

    Raises:
        FileNotFoundError: If there are no such lists, or no names.
        ValueError: If a list or the names cannot be read; every problem is listed.
    """
    records = _find_records(source)
    names_file = _find_names(source, records)
    names = _read_names(names_file)
    tree = V2Tree([], {}, [], {"class_names": names_file.name})
    problems: list[str] = []
    for realm, record in tqdm(records.items(), "realms", unit="realm", disable=not progress):
        tree.classes += _read_realm(realm, record, source, tree, problems)
    if problems:
        raise refusal(f"{source} cannot be read as OmniBenchmark V2", problems)
    nameless = 0
    for one in tree.classes:
        one.name = _name(names, one.realm, one.number)
        nameless += not one.name
    if nameless == len(tree.classes):
        raise ValueError(
            f"{names_file} names none of the {nameless} classes; expected "
            f'{{"realm": {{"id": "name"}}}}, found {some(list(names), 3)}'
        )
    if nameless:
        tree.notes["classes_without_name"] = nameless
    return tree


def _find_records(source: Path) -> dict[str, Path]:
    """Realm -> its list of training images."""
    records: dict[str, Path] = {}
    for pattern in ("*.train", "*/*.train", "*/*/*.train"):
        for folder in sorted(source.glob(pattern)):
            record, realm = folder / "record.txt", folder.name.removesuffix(".train")
            if record.is_file():
                if realm in records:
                    raise ValueError(
                        f"there are two lists of the realm {realm}: {records[realm]} and {record}; "
                        "remove one"
                    )
                records[realm] = record
    if not records:
        found = some(sorted(os.listdir(source))) if source.is_dir() else "no directory"
        raise FileNotFoundError(
            f"{source} has no <realm>/<realm>.train/record.txt, the lists of OmniBenchmark V2; "
            f"name the directory that holds the folders of the realms. Found: {found}"
        )
    return dict(sorted(records.items()))


def _find_names(source: Path, records: Mapping[str, Path]) -> Path:
    record = next(iter(records.values()))
    for folder in (source, *record.parents[:3]):
        for file in (folder / NAMES_FILE, *sorted(folder.glob("trainid2name*.json"))):
            if file.is_file():
                return file
    raise FileNotFoundError(f"{source} lacks {NAMES_FILE}, the names of the classes; add the file")


def _read_names(file: Path) -> Mapping[str, Any]:
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # broken JSON or broken UTF-8
        raise ValueError(f"{file} is not a JSON file: {error}") from error
    if not isinstance(names, dict):
        raise ValueError(f"{file} must have names by realm, got a {type(names).__name__}")
    return names


def _read_realm(
    realm: str, record: Path, source: Path, tree: V2Tree, problems: list[str]
) -> list[V2Class]:
    """The classes of a realm, with the images of all its lists."""
    classes: dict[int, V2Class] = {}
    tree.held_out[realm] = []
    for split in ("train", *HELD_OUT):
        file = record.parent.with_name(f"{realm}.{split}") / "record.txt"
        if not file.is_file():
            continue
        lines, wrong = _read_lines(file)
        if wrong and split == "train":
            problems += wrong
            continue
        if wrong:  # the training images do without it
            logger.warning("%s is not used: %s", file, wrong[0])
            tree.notes.setdefault("lists_not_used", []).append(f"{realm}.{split}: {wrong[0]}")
            continue
        if split != "train":
            tree.held_out[realm].append(split)
        locate = _Locator(file.parent, record.parent.parent, source)
        for path, number in lines:
            one = classes.setdefault(number, V2Class(realm, number))
            images = one.images.setdefault(split, {})
            if path in images:
                continue
            if found := locate(path):
                images[path] = found
            else:
                tree.missing.append(f"{realm}.{split}/{path}")
    ambiguous = _drop_ambiguous(classes.values())
    if ambiguous:
        tree.notes["images_of_several_classes"] = (
            tree.notes.get("images_of_several_classes", 0) + ambiguous
        )
    return [classes[number] for number in sorted(classes)]


def _drop_ambiguous(classes: Collection[V2Class]) -> int:
    """Leave out files that are listed in more than one class; return how many there are."""
    owner: dict[str, V2Class] = {}
    several: set[str] = set()
    for one in classes:
        for images in one.images.values():
            several |= {file for file in images.values() if owner.setdefault(file, one) is not one}
    if several:
        for one in classes:
            for split, images in one.images.items():
                one.images[split] = {p: file for p, file in images.items() if file not in several}
    return len(several)


def _read_lines(file: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """Path and class id of every line, and what is wrong with some."""
    lines, problems = [], []
    text = file.read_text(encoding="utf-8", errors="surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        path, last = ("", *line.strip().rsplit(maxsplit=1))[-2:]
        inside = bool(path) and not path.startswith("/") and ".." not in PurePosixPath(path).parts
        if inside and re.fullmatch(r"[0-9]{1,9}", last):
            lines.append((path, int(last)))
        else:
            problems.append(f"{file}, line {number}: expected 'path id', got {line.strip()[:80]!r}")
    if not lines and not problems:
        problems.append(f"{file} is empty")
    return lines, problems


class _Locator:
    """Finds a listed file below one of several folders, the one of the last find first."""

    def __init__(self, folder: Path, realm: Path, source: Path) -> None:
        self._bases = [os.fspath(base) for base in (folder, folder / "images", realm, source)]

    def __call__(self, path: str) -> str:
        for place, base in enumerate(self._bases):
            file = os.path.join(base, path)
            try:
                there = os.stat(file).st_size > 0
            except OSError:
                continue
            if there and not os.path.isdir(file):
                self._bases.insert(0, self._bases.pop(place))
                return file
        return ""


def _name(names: Mapping[str, Any], realm: str, number: int) -> str:
    """The name of a class; empty if there is none."""
    table = names.get(realm, names)
    if isinstance(table, dict):
        if table and all(isinstance(value, int) for value in table.values()):
            table = {str(value): key for key, value in table.items()}  # name -> id
        value = table.get(str(number))
    else:
        value = table[number] if isinstance(table, list) and number < len(table) else None
    return _text(value)


def _text(value: object) -> str:
    """The first text of a name, a list of synonyms, or a dictionary with a name."""
    if isinstance(value, str):
        return "" if _WORDNET_ID.fullmatch(value) else value
    parts: Sequence[object] = ()
    if isinstance(value, list):
        parts = value
    elif isinstance(value, dict):
        parts = [value.get("name"), *value.values()]
    return next(_nonempty(parts), "")


def _nonempty(parts: Sequence[object]) -> Iterator[str]:
    return (text for part in parts if (text := _text(part)))


def _slug(text: str) -> str:
    """A text as part of a folder name on any system."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:80]
