"""Names of data sets, classes and image files, and what is wrong with some."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from avalanche_care.benchmarks._cache import data_root
from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.benchmarks.importing.contents import IMAGE_SUFFIXES
from avalanche_care.benchmarks.importing.staging import is_there

__all__ = [
    "class_problems",
    "is_image",
    "new_target",
    "number_problems",
    "refusal",
    "same_but_for_case",
    "some",
    "unique_names",
]

MAX_PROBLEMS = 20  # lines of one error message
MAX_NAME_BYTES = 200  # file systems allow 255; staging and tools add some
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_PORTS = {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
_DEVICES = {"con", "prn", "aux", "nul"} | _PORTS


def new_target(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Where a data set of the user's goes.

    Args:
        name: Its name, and that of its folder.
        root: The directory of all data sets, as for ``data_root``.

    Returns:
        ``<root>/<name>``, which is not there yet.

    Raises:
        ValueError: If the name is no plain folder name, or that of a known benchmark.
        FileExistsError: If there is something of that name.
    """
    problem = _folder_problem(name) if isinstance(name, str) else "is not text"
    if not problem and name.lower().endswith((".part", ".lock", ".pack")):
        problem = "ends like a file of this package"
    if problem:
        raise ValueError(
            f"the name of a data set is a plain folder name such as 'my-set'; {name!r} {problem}"
        )
    taken = {"glyphs", "folders"}  # benchmarks that are no data sets
    for card in CARDS.values():
        folders = (card.folder, *card.other_folders)
        taken |= {card.name, *(folder.split("/")[0] for folder in folders)}
    if name.casefold() in taken:
        raise ValueError(
            f"{name!r} is the name of a known benchmark, with which yours would be confused; "
            f"choose another, such as {f'my-{name.lower()}'!r}"
        )
    target = data_root(root) / name
    if is_there(target):
        raise FileExistsError(
            f"{target} is there already; choose another name, or move it away to import it again"
        )
    return target


def class_problems(names: Iterable[str]) -> list[str]:
    """What keeps class names from being names of folders, on any system."""
    names = sorted(set(names))
    wrong = [f"{name!r} {problem}" for name in names if (problem := _folder_problem(name))]
    problems = []
    if wrong:
        problems.append(f"class names that no folder can have on every system: {some(wrong)}")
    for alike in same_but_for_case(names):
        problems.append(
            f"the class names {some(alike)} are one folder on many systems; rename them"
        )
    return problems


def number_problems(labels: Iterable[str]) -> list[str]:
    """Labels that are numbers of different lengths: sorted as texts, they are in another order."""
    labels = set(labels)
    widths = {len(label) for label in labels}
    if not labels or not all(map(_is_number, labels)):
        return []
    if len(widths) == 1 and all(map(str.isdigit, labels)):
        return []
    shown = some(sorted(labels))
    return [
        f"the labels are only numbers ({shown}), and classes are numbered in the sorted order of "
        "their names, which is not the order of these numbers; write names, or as many digits in "
        "each, such as 007"
    ]


def same_but_for_case(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ only in case, or in how an accent is encoded."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def unique_names(paths: Iterable[str]) -> dict[str, str]:
    """File names for paths that come together into one folder.

    Args:
        paths: Different paths, with slashes.

    Returns:
        Name -> path. A name that several paths have gets eight digits of the SHA-256 of its path.
    """
    base = {path: PurePosixPath(path).name for path in paths}
    twice = {name for names in same_but_for_case(base.values()) for name in names}
    names = {}
    for path, name in base.items():
        if name in twice:
            stem, suffix = os.path.splitext(name)
            text = path.encode("utf-8", "surrogateescape")
            name = f"{stem}-{hashlib.sha256(text).hexdigest()[:8]}{suffix}"
        names[name] = path
    return names


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def some(values: Sequence[object], shown: int = 5) -> str:
    """The first few values, and how many there are."""
    text = ", ".join(str(value) for value in values[:shown])
    return text if len(values) <= shown else f"{text}, ... ({len(values):,} in all)"


def refusal(what: str, problems: Sequence[str]) -> ValueError:
    """One error with all problems, or the first twenty."""
    lines = list(problems[:MAX_PROBLEMS])
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"and {len(problems) - MAX_PROBLEMS:,} problems more")
    return ValueError(f"{what}:\n- " + "\n- ".join(lines))


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _folder_problem(name: str) -> str:
    """What is wrong with the name of a folder; empty if nothing."""
    if not name:
        return "is empty"
    if name != name.strip() or name.endswith("."):
        return "begins or ends with a space, or ends with a dot"
    if name.startswith("."):
        return "begins with a dot, so that it is hidden"
    if found := _FORBIDDEN.findall(name):
        return f"has {some(sorted(set(map(repr, found))))} in it"
    if name.split(".")[0].lower() in _DEVICES:
        return "is a device on Windows"
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not text"
    return f"takes {length} bytes, at most {MAX_NAME_BYTES}" if length > MAX_NAME_BYTES else ""
