"""Image files of the user: whether they can be used, and linking or copying them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from avalanche_care.benchmarks.importing._own_names import some
from avalanche_care.benchmarks.importing._own_plan import ImagePlan
from avalanche_care.benchmarks.importing.staging import require_space

__all__ = ["FileWriter", "file_problems"]


def file_problems(files: Iterable[str]) -> list[str]:
    """Which files are missing, no files, or empty. Nothing is opened."""
    missing, strange, empty = [], [], []
    for file in files:
        try:
            size = os.stat(file).st_size
        except OSError:  # not there, in a folder that may not be read, a link to itself
            missing.append(file)
            continue
        if not os.path.isfile(file):
            strange.append(file)
        elif not size:
            empty.append(file)
    return [
        f"{what}: {some(found)}"
        for found, what in (
            (missing, "files that are not there or cannot be reached"),
            (strange, "not files"),
            (empty, "empty files"),
        )
        if found
    ]


class FileWriter:
    """Hard links of the user's files, given by absolute paths; copies where links cannot be.

    Args:
        link: Make symbolic links instead.
    """

    def __init__(self, link: bool = False) -> None:
        self.how = "symbolic links" if link else "hard links"

    def fingerprint(self, plan: ImagePlan[str]) -> str:
        """SHA-256 of all names, and the sizes and times of their files."""
        digest = hashlib.sha256(self.how.encode())
        for split, name, file, source in plan:
            status = os.stat(source)
            line = f"{split}/{name}/{file}\0{source}\0{status.st_size}\0{status.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def begin(self, folder: Path, images: list[str]) -> None:
        """Find out whether hard links work here; if not, whether there is room for copies."""
        if self.how != "hard links" or not images:
            return
        trial = folder / ".trial"
        trial.unlink(missing_ok=True)
        try:
            _hard_link(images[0], trial)
        except OSError:  # another disk, or a system that has none
            self.how = "copies"
            require_space(folder, sum(os.stat(image).st_size for image in images))
        trial.unlink(missing_ok=True)

    def write(self, split: str, image: str, path: Path) -> None:
        """Link or copy one file."""
        if self.how == "symbolic links":
            os.symlink(image, path)
            return
        if self.how == "hard links":
            try:
                _hard_link(image, path)
                return
            except OSError:  # on another disk than the first, or it has too many links
                pass
        shutil.copyfile(image, path)

    def details(self) -> dict[str, Any]:
        """How the files are kept."""
        return {"files": self.how}


def _hard_link(image: str, path: Path) -> None:
    os.link(os.path.realpath(image), path)  # the file, where the image is a symbolic link
