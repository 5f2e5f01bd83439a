"""The unfinished packed file: how it grows, and what of it is kept after an interruption.

It has the target's name and ``.part``. Pixels are appended, and then the image's row of the table
is filled in. Who goes on believes a row only if its pixels have its checksum, so neither a killed
process nor a power failure can leave half an image behind. The target appears by a rename.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from avalanche_care.benchmarks._pack_format import (
    CHANNELS,
    MISSING,
    PACKED,
    ROW,
    UNREADABLE,
    VERSION,
    Head,
    Plan,
    read_head,
)
from avalanche_care.benchmarks._pack_source import PackedImage

__all__ = ["PartialPack"]

AFRESH = "--restart (restart=True) starts afresh"


class PartialPack:
    """The unfinished file beside its target. As a context manager it closes itself.

    Args:
        target: What it is going to be.
        plan: What it is to hold.
        restart: Do not look at what is there.
        progress: Whether to show a bar while what is there is checked.

    Attributes:
        done: Images that are packed, or could not be read.
        table: A row for each image of the plan.

    Raises:
        ValueError: If what is there was begun with another plan, in another version, or is no
            packed file.
    """

    def __init__(
        self, target: Path, plan: Plan, *, restart: bool = False, progress: bool = False
    ) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._plan = plan.to_bytes()
        self._head = Head.begun(self._plan, len(plan.paths))
        self.table = np.zeros(len(plan.paths), ROW)
        self.done = 0
        self._end = self._head.pixels_offset
        self._file: Any = None  # unbuffered, so that a full disk is noticed when it happens
        if self.path.exists() and not restart:
            with self.path.open("rb") as file:
                if self._is_mine(file, plan):
                    self._count_intact(file, progress)

    @property
    def overhead(self) -> int:
        """Bytes to write besides the pixels; none, if they are there already."""
        return 0 if self.done else self._head.pixels_offset

    @property
    def unreadable(self) -> list[int]:
        """Images that could not be read, in this run or before."""
        rows: list[int] = np.flatnonzero(self.table["status"] == UNREADABLE).tolist()
        return rows

    def begin(self) -> None:
        """Open the file for writing, and cut off what is not intact."""
        with self._explained():
            self._file = self.path.open("r+b" if self.done else "w+b", buffering=0)
            self._file.truncate(self._end)
            self._write(0, self._head.to_bytes() + self._plan)

    def add(self, image: PackedImage) -> None:
        """Append the next image."""
        if image.pixels is None:
            row = np.array((self._end, 0, 0, 0, UNREADABLE), ROW)
        else:
            height, width, _ = image.pixels.shape
            row = np.array((self._end, height, width, image.crc32, PACKED), ROW)
        with self._explained():
            if image.pixels is not None:
                self._write(self._end, image.pixels.data)
                self._end += image.pixels.nbytes
            self._write(self._head.table_offset + self.done * ROW.itemsize, row.tobytes())
        self.table[self.done] = row
        self.done += 1

    def finish(self) -> None:
        """Say in the head that all is there, and give the file its name."""
        head = self._head.finished(self.table.tobytes(), self._end)
        with self._explained():
            os.fsync(self._file.fileno())  # the pixels have to be on the disk before the head is
            self._write(0, head.to_bytes())
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self.path, self.target)

    def __enter__(self) -> PartialPack:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _is_mine(self, file: BinaryIO, plan: Plan) -> bool:
        """Whether the file begins with this plan; an error if it begins with something else."""
        head, length = read_head(file), os.fstat(file.fileno()).st_size
        if head is None:
            if length:
                raise ValueError(
                    f"{self.path} is in the way and is no unfinished packed file; move it away"
                )
            return False
        if head.version != VERSION:
            raise ValueError(
                f"{self.path} was begun in version {head.version} of the packed format, and this "
                f"is version {VERSION}; {AFRESH}"
            )
        old = file.read(head.plan_bytes) if head.pixels_offset <= length else b""
        if not head.fits(old):
            return False  # stopped before the plan was written: there is nothing to lose
        if old != self._plan:
            changes = plan.changes_since(Plan.from_bytes(old))
            raise ValueError(
                f"cannot go on with {self.path}; since it was begun,\n- "
                + "\n- ".join(changes)
                + f"\nundo this, or pack all again: {AFRESH}"
            )
        return True

    def _count_intact(self, file: BinaryIO, progress: bool) -> None:
        """Take over the rows, from the first on, whose pixels have their checksum."""
        length = os.fstat(file.fileno()).st_size
        file.seek(self._head.table_offset)
        rows = np.frombuffer(file.read(self.table.nbytes), ROW)
        file.seek(self._end)
        for row in tqdm(rows, "checking", unit="image", disable=not progress):
            size = int(row["height"]) * int(row["width"]) * CHANNELS
            if row["status"] == MISSING or row["offset"] != self._end or self._end + size > length:
                break
            if row["status"] == PACKED and zlib.crc32(file.read(size)) != row["crc32"]:
                break
            self.table[self.done] = row
            self.done += 1
            self._end += size

    def _write(self, offset: int, data: bytes | memoryview) -> None:
        self._file.seek(offset)
        left = memoryview(data).cast("B")
        while left:  # a raw write may take only a part
            left = left[self._file.write(left) :]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"cannot write {self.path}: {error.strerror or error}; {self.done:,} of "
                f"{len(self.table):,} images are packed and kept, so put this right and pack again "
                "to go on"
            ) from error
