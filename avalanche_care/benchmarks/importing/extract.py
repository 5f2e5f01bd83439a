"""Extracting an archive so that nothing can get out of its folder."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import IO

from tqdm import tqdm

from avalanche_care.benchmarks.importing._joined import open_joined
from avalanche_care.benchmarks.importing._members import (
    Member,
    UnsafeArchiveError,
    members,
    reading,
)
from avalanche_care.benchmarks.importing.archives import Archive
from avalanche_care.benchmarks.importing.contents import READABLE, is_ignored
from avalanche_care.benchmarks.importing.staging import SPARE, empty, require_space, staged

_DEEPEST = 50  # folders inside each other
_CHUNK = 1 << 20


def extract(archive: Archive, into: str | os.PathLike[str], *, progress: bool = False) -> Path:
    """Extract an archive into a folder, which appears complete or not at all.

    Only plain files are written, with the permissions of new files, and only inside the folder.
    Absolute names, ``..``, symbolic links, devices, pipes, sparse files and names that occur twice
    are refused; a hard link to an earlier file of the archive becomes that file. Hidden files are
    left out. The disk is asked before each file whether it has room for what the archive announces,
    and no more than that is written, so a bomb stops before the disk is full.

    Args:
        archive: The archive, from :func:`~.archives.find_archives`.
        into: The folder to make.
        progress: Whether to show a bar.

    Returns:
        The folder.

    Raises:
        UnsafeArchiveError: If the archive holds what is refused; a ValueError.
        ValueError: If it is damaged, cut short, encrypted, or of a kind that cannot be read.
        FileExistsError: If the folder is there already.
        OSError: If there is too little space or the folder cannot be written.
    """
    into = Path(into)
    if archive.kind not in READABLE:
        raise ValueError(
            f"{archive} is a {archive.kind} archive, which cannot be read here; unpack it with "
            "another program and give the folder"
        )
    with staged(into) as part:
        empty(part)  # of a run that was stopped; a file could be broken
        writer = _Writer(part, str(archive))
        bar = tqdm(
            desc=f"extracting {archive.name}",
            total=archive.size,
            unit="B",
            unit_scale=True,
            disable=not progress,
        )
        with open_joined(archive.parts) as file, bar:
            for member in members(file, archive.kind, archive):
                writer.add(member)
                bar.update(max(member.position - bar.n, 0))
    return into


class _Writer:
    """Writes the members of one archive, after looking at them closely.

    Args:
        folder: An empty folder that nobody else writes to.
        what: How messages call the archive.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self.folder = folder
        self.what = what
        self._ignores_case = ignores_case(folder)
        self._made: dict[str, str] = {"": ""}  # folders, by their names without case

    def add(self, member: Member) -> None:
        """Write one member.

        Raises:
            UnsafeArchiveError: If it is not a plain file or folder with a harmless name.
        """
        parts = self._safe(member.name)
        if member.kind not in ("file", "folder", "hard link"):
            raise self._refused(member.name, f"is a {member.kind}")
        earlier = self._safe(member.link) if member.kind == "hard link" else []
        if not parts or any(is_ignored(part) for part in parts):
            return
        if member.kind == "folder":
            self._make(parts, member.name)
            return
        self._make(parts[:-1], member.name)
        path = self.folder.joinpath(*parts)
        try:
            if member.kind == "hard link":
                self._repeat(earlier, path, member)
            else:
                require_space(self.folder, member.size + SPARE)
                with open(path, "xb") as out:
                    self._copy(member, out)
        except (FileExistsError, IsADirectoryError):
            raise self._refused(
                member.name, "is there twice, or differs from another name only in case"
            ) from None

    def _copy(self, member: Member, out: IO[bytes]) -> None:
        left = member.size
        with reading(self.what):
            content = member.open()
        with content:
            while True:
                with reading(self.what):
                    chunk = content.read(min(_CHUNK, left + 1))
                if not chunk:
                    break
                left -= len(chunk)
                if left < 0:
                    raise self._refused(member.name, f"is longer than its {member.size:,} bytes")
                out.write(chunk)
        if left:
            raise ValueError(
                f"{self.what} is damaged or cut short ({member.name} lacks {left:,} bytes); get it "
                "again"
            )

    def _repeat(self, earlier: list[str], path: Path, member: Member) -> None:
        original = self.folder.joinpath(*earlier)
        if not earlier or not original.is_file():
            raise self._refused(
                member.name, f"is a link to {member.link}, which is no earlier file of the archive"
            )
        try:
            os.link(original, path)
        except FileExistsError:
            raise
        except OSError:  # a disk without hard links
            require_space(self.folder, original.stat().st_size + SPARE)
            shutil.copyfile(original, path)

    def _make(self, parts: list[str], name: str) -> None:
        """Make a folder and those above it."""
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            key = folder.casefold() if self._ignores_case else folder
            if key in self._made:
                if self._made[key] != folder:
                    raise self._refused(name, f"differs from {self._made[key]} only in case")
                continue
            try:
                self.folder.joinpath(*parts[:depth]).mkdir(exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise self._refused(name, f"needs the folder {folder}, which is a file") from None
            self._made[key] = folder

    def _safe(self, name: str) -> list[str]:
        """The parts of a harmless name."""
        name = name.replace("\\", "/")  # what Windows writes, and what it would take for a folder
        if not name or "\0" in name or name.startswith("/") or re.match("[A-Za-z]:", name):
            raise self._refused(name, "has an absolute or broken name")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._refused(name, "leads out of the folder")
        if len(parts) > _DEEPEST:
            raise self._refused(f"{name[:60]}...", f"is more than {_DEEPEST} folders deep")
        return parts

    def _refused(self, name: str, problem: str) -> UnsafeArchiveError:
        return UnsafeArchiveError(
            f"{self.what} is not extracted: {name!r} {problem}; if you trust the archive, unpack "
            "it with another program and give the folder"
        )


def ignores_case(folder: Path) -> bool:
    """Whether the disk takes ``a`` and ``A`` for the same name."""
    probe = folder / ".Case"
    probe.touch()
    try:
        return (folder / ".cASE").exists()
    finally:
        probe.unlink()
