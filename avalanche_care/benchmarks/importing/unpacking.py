"""Everything that is packed in what was given: unpacked, also when it is packed several times."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avalanche_care.benchmarks.importing._joined import open_joined
from avalanche_care.benchmarks.importing._members import reading
from avalanche_care.benchmarks.importing.archives import Archive, find_archives, stem_of
from avalanche_care.benchmarks.importing.arrangement import is_shard
from avalanche_care.benchmarks.importing.contents import (
    IMAGE_SUFFIXES,
    FoundFile,
    kind_of_file,
    visible_files,
)
from avalanche_care.benchmarks.importing.extract import extract
from avalanche_care.benchmarks.importing.parquet import export_parquet, need_pyarrow
from avalanche_care.benchmarks.importing.staging import require_space

__all__ = ["unpack"]

_UNPACKED = ".unpacked"  # the contents of x.zip are in the folder .x.zip.unpacked
_DEEPEST = 4  # archives inside each other

Listed = Sequence[tuple[tuple[str, ...], str]]  # folders and path of each file


def unpack(files: Listed, work: Path, *, progress: bool = False) -> list[FoundFile]:
    """Unpack archives and Parquet files, those inside archives too.

    What is finished is not unpacked again: the same call goes on where it was stopped. The given
    files stay; archives that were inside others are removed once they are unpacked.

    Args:
        files: Folders and path of each file, as from :func:`~.contents.visible_files`.
        work: A directory for what is unpacked.
        progress: Whether to show bars.

    Returns:
        All files. An archive counts as a folder with its name, except where the name says nothing:
        that of the only folder inside, or the number of a piece.

    Raises:
        ValueError: If an archive is refused or damaged, or archives are nested too deep.
        OSError: If there is too little space, or something cannot be read or written.
    """
    return _explore(files, work, progress, depth=0)


@dataclass(frozen=True)
class _Package:
    """An archive or a Parquet file, and the folder for its contents."""

    source: Archive | Path
    into: Path

    @property
    def parts(self) -> tuple[Path, ...]:
        return self.source.parts if isinstance(self.source, Archive) else (self.source,)

    def unpack(self, progress: bool) -> None:
        self.into.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(self.source, Archive):
            extract(self.source, self.into, progress=progress)
        else:
            export_parquet(self.source, self.into, progress=progress)

    def least_size(self) -> int:
        """Bytes that its contents take at least: images can hardly be compressed."""
        if isinstance(self.source, Archive) and self.source.kind == "zip":
            with reading(self.source), open_joined(self.parts) as file:
                return sum(info.file_size for info in zipfile.ZipFile(file).infolist())
        return sum(part.stat().st_size for part in self.parts)


def _explore(files: Listed, place: Path, progress: bool, depth: int) -> list[FoundFile]:
    """All files, with the contents of packed ones in the place of these."""
    loose, packages = _sort(files, place)
    pending = [package for package in packages if not package.into.is_dir()]
    if pending and depth > _DEEPEST:
        raise ValueError(
            f"{pending[0].parts[0]} is an archive inside {_DEEPEST} others, which looks like a "
            "trap; unpack it with another program and give the folder"
        )
    for package in pending:
        if isinstance(package.source, Path):
            need_pyarrow(package.source)  # before hours of unpacking
    if pending:
        require_space(place, sum(package.least_size() for package in pending))
    for package in packages:
        if not package.into.is_dir():
            package.unpack(progress)
        if depth:
            for part in reversed(package.parts):  # else, after a kill, the first would be missing
                part.unlink()
    contents = [
        (folders, stem, _explore(list(visible_files(into)), into, progress, depth + 1))
        for folders, stem, into in _unpacked(place)
    ]
    return loose + _merged(contents)


def _sort(files: Listed, place: Path) -> tuple[list[FoundFile], list[_Package]]:
    """Separate what is packed from all else."""
    found = {path: FoundFile(folders, path, kind_of_file(path)) for folders, path in files}
    # By name and not by kind: a part of a split archive may begin where an image begins.
    others = [path for path in found if not path.lower().endswith(IMAGE_SUFFIXES)]
    archives = find_archives(others)
    taken = {str(part) for archive in archives for part in archive.parts}
    tables = [path for path in others if found[path].kind == "parquet" and path not in taken]
    sources: list[Archive | Path] = [*archives, *map(Path, tables)]
    packages = []
    for source in sources:
        parts = source.parts if isinstance(source, Archive) else (source,)
        folders = found[str(parts[0])].folders
        for part in parts:
            del found[str(part)]
        into = place.joinpath(*folders, f".{source.name}{_UNPACKED}")
        packages.append(_Package(source, into))
    return list(found.values()), packages


def _unpacked(place: Path) -> Iterator[tuple[tuple[str, ...], str, Path]]:
    """What is unpacked, of earlier calls too: its folders, its stem, and where it is."""
    for directory, names, _ in os.walk(place):
        folders = Path(directory).relative_to(place).parts
        for name in sorted(names):
            if name.startswith(".") and name.endswith(_UNPACKED):
                stem = stem_of(name[1 : -len(_UNPACKED)])
                yield folders, stem, Path(directory, name)
        names[:] = sorted(name for name in names if not name.startswith("."))


def _merged(contents: Iterable[tuple[tuple[str, ...], str, list[FoundFile]]]) -> list[FoundFile]:
    """The files of several archives, each in the folder that its archive stands for.

    An archive's name counts for nothing if the archive holds one folder of the same name, or if it
    only numbers pieces that hold folders of different names.
    """
    contents = list(contents)
    tops: dict[tuple[str, ...], set[tuple[str, ...]]] = {}  # of the pieces in each folder
    for folders, stem, files in contents:
        if is_shard(stem):
            tops.setdefault(folders, set()).update(_tops(files))
    merged = []
    for folders, stem, files in contents:
        own = _tops(files)
        same = len(own) == 1 and [name.lower() for name in next(iter(own))] == [stem.lower()]
        pieces = is_shard(stem) and len(tops[folders]) > 1 and () not in tops[folders]
        above = folders if same or pieces else (*folders, stem)
        merged += [replace(file, folders=(*above, *file.folders)) for file in files]
    return merged


def _tops(files: Iterable[FoundFile]) -> set[tuple[str, ...]]:
    """The outermost folder of each image, () for an image in none."""
    return {file.folders[:1] for file in files if file.is_image}
