"""What is in an archive, entry by entry; nothing is written."""

from __future__ import annotations

import contextlib
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from avalanche_care.benchmarks.importing.contents import DECOMPRESSORS

MOST_AT_ONCE = 64 << 20
"""Bytes that a tar may ask to be read in one go; its headers need a few hundred."""


class UnsafeArchiveError(ValueError):
    """An archive holds what could do harm outside the folder that it is extracted to."""


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of an archive.

    Attributes:
        name: Its path as it is written in the archive, which may be anything.
        kind: ``"file"``, ``"folder"``, ``"hard link"``, or another word for people.
        size: Bytes of a file's content, as the archive has it.
        position: Byte of the archive that it is at, for progress.
        link: Of a hard link, the name of the entry that it repeats.
        open: Gives the content of a file; only until the next entry is asked for.
    """

    name: str
    kind: str
    size: int
    position: int
    link: str
    open: Callable[[], IO[bytes]]


@contextlib.contextmanager
def reading(what: object) -> Iterator[None]:
    """Turn everything that a damaged archive raises into one error that says so."""
    try:
        yield
    except NotImplementedError as error:
        raise ValueError(
            f"{what} is compressed in a way that Python cannot read ({error}); unpack it with "
            "another program and give the folder"
        ) from error
    except (
        *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
        *(UnicodeError, OverflowError, RuntimeError, struct.error),  # of headers that lie
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's trouble; the decompressors' own has no number
        raise ValueError(
            f"{what} is damaged or cut short ({error or type(error).__name__}); get it again"
        ) from error


def members(file: IO[bytes], kind: str, what: object) -> Iterator[Member]:
    """Walk the entries of an archive.

    Args:
        file: The archive, open and seekable.
        kind: As in :class:`~avalanche_care.benchmarks.importing.archives.Archive`.
        what: How messages call it.

    Raises:
        ValueError: If it is damaged, cut short or encrypted.
    """
    with reading(what):
        yield from _zip_members(file, what) if kind == "zip" else _tar_members(file, kind)


def _zip_members(file: IO[bytes], what: object) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.flag_bits & 0x1:
                raise ValueError(
                    f"{what} is encrypted ({info.filename}); unpack it with its password and give "
                    "the folder"
                )
            mode = stat.S_IFMT(info.external_attr >> 16)
            kind = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder"}.get(mode, "")
            if info.is_dir():
                kind = "folder"
            elif not kind:
                kind = "symbolic link" if mode == stat.S_IFLNK else "device"

            def opened(info: zipfile.ZipInfo = info) -> IO[bytes]:
                return archive.open(info)

            # orig_filename: the other is cut at a zero byte
            name = info.orig_filename
            yield Member(name, kind, info.file_size, info.header_offset, "", opened)


def _tar_members(file: IO[bytes], kind: str) -> Iterator[Member]:
    stream = _Watched(DECOMPRESSORS[kind](file))
    with tarfile.TarFile(fileobj=stream) as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps all of them

            def opened(info: tarfile.TarInfo = info) -> IO[bytes]:
                content = archive.extractfile(info)
                if content is None:
                    raise tarfile.ReadError(f"{info.name} has no content")
                return content

            link = info.linkname if info.islnk() else ""
            yield Member(info.name, _tar_kind(info), info.size, file.tell(), link, opened)
        stream.check_end()


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.sparse is not None:
        return "sparse file"  # a few bytes that become a file of any size
    if info.isreg():
        return "file"
    if info.isdir():
        return "folder"
    if info.islnk():
        return "hard link"
    if info.issym():
        return "symbolic link"
    return "pipe" if info.isfifo() else "device" if info.isdev() else "special file"


class _Watched(io.RawIOBase):
    """A tar that is read forwards, and remembers how it ended.

    ``tarfile`` takes a broken header, or the end of the data at the start of one, for the end of
    the archive. So whether there was a proper end, a block of zeros, is checked here. Headers of
    any length would be read into memory; here they may not be longer than `MOST_AT_ONCE`.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_AT_ONCE:
            raise UnsafeArchiveError(
                f"an entry's header claims to be {size:,} bytes long; such an archive was made to "
                "do harm, or is damaged"
            )
        self._last = self._file.read(size)
        return self._last

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def check_end(self) -> None:
        if len(self._last) != tarfile.BLOCKSIZE or any(self._last):
            raise tarfile.ReadError("no proper end")
        while rest := self._file.read(1 << 20):
            if any(rest):
                raise tarfile.ReadError("something comes after its end")

    def seekable(self) -> bool:
        return True
