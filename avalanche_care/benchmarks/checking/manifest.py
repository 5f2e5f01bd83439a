"""The manifest of a data set: size, time and SHA-256 of every image, in one text file.

With it a later look is quick (sizes and times are compared), and a thorough one finds every bit
that has changed. Two copies of a data set are the same if their fingerprints are.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from avalanche_care._files import replace_text

__all__ = ["MANIFEST_FILE", "Manifest", "ManifestEntry", "sha256_of"]

MANIFEST_FILE = "manifest.txt"
_TITLE = "avalanche-care manifest 1"  # raise the number when a column changes its meaning
_ESCAPED = re.compile(r"\\(\\|n|r|u[0-9a-f]{4})")
READ_AT_ONCE = 2**20


class ManifestEntry(NamedTuple):
    """One file.

    Attributes:
        size: Bytes.
        mtime_ns: Time of the last change, in nanoseconds.
        sha256: Of the content, in hexadecimal.
    """

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All images of a data set.

    The file has a title with the number of lines, and one line per image: SHA-256, size, time and
    path, separated by blanks. Line breaks and backslashes in a path are escaped.

    Attributes:
        entries: Path below the folder of the data set, with ``/``, -> entry.
    """

    entries: Mapping[str, ManifestEntry]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all paths and contents, in hexadecimal; times do not matter."""
        digest = hashlib.sha256()
        for path, entry in sorted(self.entries.items()):
            digest.update(f"{entry.sha256} {_escaped(path)}\n".encode())
        return digest.hexdigest()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the manifest into the folder of the data set; readers never see half of it."""
        lines = [f"{_TITLE}: {len(self.entries)} files"]
        for path, entry in sorted(self.entries.items()):
            lines.append(f"{entry.sha256} {entry.size} {entry.mtime_ns} {_escaped(path)}")
        file = Path(folder) / MANIFEST_FILE
        replace_text(file, "\n".join([*lines, ""]))
        return file

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Manifest | None:
        """Read the manifest of a folder.

        Args:
            folder: The folder of the data set.

        Returns:
            The manifest; None if the folder has none.

        Raises:
            ValueError: If it is damaged.
        """
        file = Path(folder) / MANIFEST_FILE
        if not file.is_file():
            return None
        try:
            title, *lines, end = file.read_bytes().decode("utf-8").split("\n")
            entries = dict(_entry(line) for line in lines)
            if end or title != f"{_TITLE}: {len(lines)} files" or len(entries) != len(lines):
                raise ValueError("the number of lines is not that of its title")
        except ValueError as error:
            raise ValueError(
                f"{file} is no manifest that can be read ({error}); remove it, and the next look "
                "makes another"
            ) from error
        return cls(entries)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(READ_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def _entry(line: str) -> tuple[str, ManifestEntry]:
    sha256, size, mtime_ns, path = line.split(" ", 3)
    return _plain(path), ManifestEntry(int(size), int(mtime_ns), sha256)


def _escaped(path: str) -> str:
    """A path on one line of valid UTF-8."""
    path = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    # Names that are no UTF-8 come from the system with surrogates, which become \udcXX.
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(path: str) -> str:
    plain = {"\\": "\\", "n": "\n", "r": "\r"}
    return _ESCAPED.sub(lambda found: plain.get(found[1]) or chr(int(found[1][1:], 16)), path)
