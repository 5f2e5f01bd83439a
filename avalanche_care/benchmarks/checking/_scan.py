"""What lies in the folder of a data set; no file is opened."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from avalanche_care.benchmarks.importing.contents import IMAGE_SUFFIXES

__all__ = ["Scan", "ScannedImage", "scan"]


class ScannedImage(NamedTuple):
    """An image file.

    Attributes:
        path: Below the folder of the data set, with ``/``.
        size: Bytes.
        mtime_ns: Time of the last change, in nanoseconds.
    """

    path: str
    size: int
    mtime_ns: int


@dataclass
class Scan:
    """The images of a data set.

    Attributes:
        images: Part (``train``, ``test``) -> class -> its images, in the order of their paths.
        missing_parts: Parts without a folder.
        problems: Files and folders that the system does not let us look at: path and reason.
        ignored: Number of files that are no images by their names.
    """

    images: dict[str, dict[str, list[ScannedImage]]] = field(default_factory=dict)
    missing_parts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ignored: int = 0

    def groups(self) -> list[list[ScannedImage]]:
        """The images of each class of each part."""
        return [images for classes in self.images.values() for images in classes.values()]

    def count(self, part: str) -> int:
        """Images of a part."""
        return sum(len(images) for images in self.images.get(part, {}).values())


def scan(folder: Path, parts: tuple[str, ...], pool: Executor) -> Scan:
    """Find the images ``<part>/<class>/**`` of a data set, as an image folder finds them.

    Args:
        folder: The folder of the data set.
        parts: Names of its parts.
        pool: Runs one look into a class folder each; their number is what takes time.
    """
    found = Scan()
    for part in parts:
        if not (folder / part).is_dir():
            found.missing_parts.append(part)
            continue
        looked = _Looked()
        looked.read(folder, part)
        found.ignored += looked.ignored + len(looked.images)  # an image beside the class folders
        found.problems += looked.problems
        names = sorted(looked.folders)
        classes = found.images[part] = {}
        for name, inside in zip(names, pool.map(partial(_look, folder), names), strict=True):
            classes[name.split("/", 1)[1]] = sorted(inside.images)
            found.ignored += inside.ignored
            found.problems += inside.problems
    return found


@dataclass
class _Looked:
    """What a folder holds."""

    images: list[ScannedImage] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ignored: int = 0

    def read(self, top: Path, path: str) -> None:
        """Add what is directly in a folder."""
        try:
            with os.scandir(top / path) as entries:
                for entry in entries:
                    self._add(entry, f"{path}/{entry.name}")
        except OSError as error:
            self.problems.append(f"{path}: {error.strerror or error}")

    def _add(self, entry: os.DirEntry[str], path: str) -> None:
        try:
            if entry.is_dir():
                self.folders.append(path)
            elif not path.lower().endswith(IMAGE_SUFFIXES):
                self.ignored += 1
            else:
                stat = entry.stat()
                self.images.append(ScannedImage(path, stat.st_size, stat.st_mtime_ns))
        except OSError as error:  # a link that leads nowhere
            self.problems.append(f"{path}: {error.strerror or error}")


def _look(top: Path, path: str) -> _Looked:
    """Everything in and below a folder."""
    looked = _Looked()
    pending = [path]
    while pending:
        looked.read(top, pending.pop())
        pending += looked.folders
        looked.folders.clear()
    return looked
