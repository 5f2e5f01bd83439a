"""Archives among files: told by their content, split ones put together."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from avalanche_care.benchmarks.importing._joined import open_joined
from avalanche_care.benchmarks.importing._members import UnsafeArchiveError
from avalanche_care.benchmarks.importing.contents import READABLE, kind_of, kind_of_file

__all__ = ["Archive", "UnsafeArchiveError", "find_archives", "parts_beside", "stem_of"]

KNOWN = (*READABLE, "rar", "7z", "zstd")
_PACKED = r"\.(?:tar|tgz|tbz2?|txz|zip|gz|bz2|xz|parquet)"
_SUFFIXES = re.compile(rf"(?:{_PACKED})+$", re.IGNORECASE)
_PART = re.compile(
    rf"(?P<base>.+?)(?P<mark>(?i:[-_.]?(?:part|vol)?[-_.]?))"
    rf"(?P<index>[0-9]{{1,6}}|[a-z]{{2}}|(?<=[-_.])[a-z]{{3}})(?P<end>(?i:{_PACKED})*)"
)


@dataclass(frozen=True)
class Archive:
    """One archive, in one file or split into several.

    Attributes:
        parts: The files, in order.
        kind: ``"zip"``, ``"tar"``, ``"tar.gz"``, ``"tar.bz2"`` or ``"tar.xz"``; or ``"rar"``,
            ``"7z"`` or ``"zstd"``, which are known and cannot be extracted.
        name: File name without what numbers the parts.
    """

    parts: tuple[Path, ...]
    kind: str
    name: str

    @property
    def stem(self) -> str:
        """The name without ``.tar.gz`` and the like."""
        return stem_of(self.name)

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.stat().st_size for part in self.parts)

    def __str__(self) -> str:
        count = len(self.parts)
        return f"{self.parts[0]}" + (f" (with {count - 1} more parts)" if count > 1 else "")


def find_archives(files: Iterable[str | os.PathLike[str]]) -> list[Archive]:
    """Find the archives among files; names matter only for the parts of split ones.

    ``x.tar.part00``, ``x.tar.aa``, ``x.tar.gz.001``, ``x-00.zip`` and so on are one archive if they
    are numbered without a gap and the first begins one. Files that are complete archives each, such
    as ``shard-00.tar`` and ``shard-01.tar``, stay apart.

    Args:
        files: The files, of any kind and in any directories.

    Returns:
        The archives, sorted by path.

    Raises:
        ValueError: If a part is missing.
        OSError: If a file cannot be read.
    """
    paths = sorted(Path(file) for file in files)
    groups: dict[tuple[object, ...], dict[int, Path]] = defaultdict(dict)
    for path in paths:
        match = _PART.fullmatch(path.name)
        if match:
            base, mark, index, end = match.group("base", "mark", "index", "end")
            key = (path.parent, base, mark, end, 0 if index.isdigit() else len(index))
            groups[key][_number(index)] = path
    found: list[Archive] = []
    taken: set[Path] = set()
    for (_, base, _, end, letters), numbered in groups.items():
        archive = _joined(str(base) + str(end), str(base), bool(letters), numbered)
        if archive is not None:
            found.append(archive)
            taken.update(archive.parts)
    for path in paths:
        if path not in taken:
            kind = kind_of_file(path)
            if kind in KNOWN:
                found.append(Archive((path,), kind, path.name))
    return sorted(found, key=lambda archive: archive.parts[0])


def parts_beside(file: Path) -> list[Path]:
    """The files that are numbered like this one and lie beside it, itself included."""
    match = _PART.fullmatch(file.name)
    if not match:
        return [file]
    wanted = match.group("base", "mark", "end")
    named = ((path, _PART.fullmatch(path.name)) for path in file.parent.iterdir())
    return sorted(path for path, m in named if m and m.group("base", "mark", "end") == wanted)


def stem_of(name: str) -> str:
    """A file name without ``.tar.gz`` and the like."""
    return _SUFFIXES.sub("", name) or name


def _number(index: str) -> int:
    if index.isdigit():
        return int(index)
    number = 0
    for letter in index:
        number = number * 26 + ord(letter) - ord("a")
    return number


def _joined(name: str, base: str, letters: bool, numbered: Mapping[int, Path]) -> Archive | None:
    """One archive of numbered files, or None if they are not the parts of one.

    Args:
        name: Name of the whole.
        base: What is before the number.
        letters: Whether it is a number in letters, as ``aa``; those begin at 0, others also at 1.
        numbered: The files by number.
    """
    numbers = sorted(numbered)
    parts = tuple(numbered[number] for number in numbers)
    missing = sorted({*range(numbers[0], numbers[-1])} - {*numbers})
    if numbers[0] > (0 if letters else 1):
        missing.insert(0, 0)
    if _SUFFIXES.search(base) is None:
        if len(parts) < 2 or all(kind_of_file(part) in KNOWN for part in parts):
            return None  # each one is an archive by itself
    elif missing and (len(parts) > 1 or not letters):  # behind ".tar", only parts are numbered
        raise ValueError(
            f"{parts[0]} is a part of {name}, and others are missing (such as number "
            f"{missing[0]}, counted from {0 if letters else '0 or 1'}); get them again"
        )
    if missing or kind_of_file(parts[0]) not in READABLE:
        return None
    with open_joined(parts) as whole:
        return Archive(parts, kind_of(whole), name)
