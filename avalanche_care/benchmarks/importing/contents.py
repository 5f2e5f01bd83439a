"""What lies in a directory: the files that count, and what each one is, told by its first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

__all__ = ["IMAGE_SUFFIXES", "FoundFile", "kind_of_file", "listing", "visible_files"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What image folders read, as in torchvision, which is not imported for it."""

DECOMPRESSORS: dict[str, Callable[[Any], Any]] = {
    "tar": lambda file: file,
    "tar.gz": lambda file: gzip.GzipFile(fileobj=file),
    "tar.bz2": bz2.BZ2File,
    "tar.xz": lzma.LZMAFile,
}
"""Kind of a tar archive -> what turns its file into the plain tar."""

READABLE = ("zip", *DECOMPRESSORS)

_BEGINNINGS = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # an empty one
    (b"\x1f\x8b\x08", "tar.gz"),  # these three only if a tar is inside
    *((b"BZh%d1AY&SY" % level, "tar.bz2") for level in range(1, 10)),
    (b"\xfd7zXZ\x00", "tar.xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"PAR1", "parquet"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
)
_IGNORED = {"__macosx", "thumbs.db", "desktop.ini", "@eadir"}
_BLOCK = 512  # a tar header


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, and where it belongs.

    Attributes:
        folders: Names of the folders that it is in, from the top of what was given. An archive
            counts as a folder.
        path: Where it is on disk.
        kind: An image's suffix (``".jpg"``), the kind of an archive (``"tar.gz"``), ``"parquet"``,
            or nothing for all else.
    """

    folders: tuple[str, ...]
    path: str
    kind: str

    @property
    def is_image(self) -> bool:
        """Whether it is an image that image folders can read."""
        return self.kind.startswith(".")

    @property
    def image_name(self) -> str:
        """The file's name, with the suffix that image folders want."""
        name = os.path.basename(self.path)
        return name if name.lower().endswith(IMAGE_SUFFIXES) else name + self.kind


def visible_files(directory: str | os.PathLike[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Walk a directory in sorted order.

    Links to files and folders are followed, because the hub's cache is made of them; hidden files
    and what operating systems leave behind are not.

    Yields:
        The names of the folders from the directory down to the file, and the file's path.

    Raises:
        OSError: If a folder cannot be read.
    """
    yield from _walk(os.fspath(directory), (), ())


def _walk(
    directory: str, folders: tuple[str, ...], above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    status = os.stat(directory)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return  # a link that leads back up
    with os.scandir(directory) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if is_ignored(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, (*folders, entry.name), (*above, here))
        elif entry.is_file():
            yield folders, entry.path
        elif entry.is_symlink():
            raise FileNotFoundError(
                f"{entry.path} is a link that leads nowhere; get its file again"
            )


def is_ignored(name: str) -> bool:
    """Whether a file or folder is none of the data: hidden, or left by an operating system."""
    return name.startswith(".") or name.lower() in _IGNORED


def kind_of_file(path: str | os.PathLike[str]) -> str:
    """What a file is, in the terms of :class:`FoundFile`.

    Names are believed only where they say that a file is an image: of several 100,000 images not
    each is opened.
    """
    name = os.fspath(path)
    suffix = os.path.splitext(name)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return suffix
    with open(name, "rb") as file:
        return kind_of(file)


def kind_of(file: IO[bytes]) -> str:
    """As :func:`kind_of_file`, by the beginning of an open file alone."""
    head = file.read(_BLOCK)
    kind = kind_of_bytes(head)
    if kind in DECOMPRESSORS:
        file.seek(0)
        try:
            head = DECOMPRESSORS[kind](file).read(_BLOCK)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's trouble; the decompressors' own has no number
            return kind  # damaged, which is said when it is to be extracted
        return kind if _is_tar_header(head) else ""
    return kind or ("tar" if _is_tar_header(head) else "")


def kind_of_bytes(head: bytes) -> str:
    """As :func:`kind_of_file`, by the first bytes; ``"tar.gz"`` for anything that is gzipped."""
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    if head[:2] == b"BM" and head[14:18] in (b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0"):
        return ".bmp"
    return ""


def _is_tar_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")  # it has a checksum
    except tarfile.TarError:
        return False
    return True


def listing(files: Iterable[FoundFile], *, most: int = 12) -> str:
    """Say what was found: files by suffix, and the folders with the most of them."""
    suffixes: Counter[str] = Counter()
    folders: Counter[str] = Counter()
    for file in files:
        suffixes[os.path.splitext(file.path)[1].lower() or "no suffix"] += 1
        folders["/".join(file.folders[:3]) or "(top)"] += 1
    if not suffixes:
        return "- no files"
    text = io.StringIO()
    text.write("- files: " + ", ".join(f"{n:,} {s}" for s, n in suffixes.most_common(most)))
    for name, count in sorted(folders.most_common(most)):
        text.write(f"\n- {name}: {count:,} files")
    if len(folders) > most:
        text.write(f"\n- and {len(folders) - most:,} more folders")
    return text.getvalue()
