"""The packed image file: a head, a plan, a table, and then nothing but pixels.

======  ============================================================================================
head    magic, version, lengths of the parts, SHA-256 of plan and table, length of the file
plan    JSON: settings, class names, and for each image its path, label, and source size and time
table   one row per image: where its pixels are, height, width, CRC-32, status
pixels  per image height x width x 3 bytes, RGB, in the order of the plan
======  ============================================================================================

All numbers are little-endian. The plan is known before the first image is decoded, so the file is
written from front to back, and an unfinished one says itself what it is going to be and how far it
has come. Its head says that it is unfinished, so no reader takes it for the whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import PIL

__all__ = ["PackSettings", "Plan", "read_index"]

VERSION = 1  # raise it when the bytes of a file get another meaning
MAGIC = b"\x93CAREPAK"
CHANNELS = 3

MISSING, PACKED, UNREADABLE = 0, 1, 2  # status of an image in the table

ROW = np.dtype(
    [("offset", "<u8"), ("height", "<u4"), ("width", "<u4"), ("crc32", "<u4"), ("status", "<u4")]
)
Table = npt.NDArray[np.void]

_HEAD = struct.Struct("<8sIQQ32sQ32s")


@dataclass(frozen=True)
class PackSettings:
    """What is done to an image before its pixels are stored.

    Args:
        size: Pixels of the shorter side (bicubic, aspect ratio kept); 0: as the image is.
        crop: Side of the square cut out of the middle afterwards; 0: none.
        pillow: Version of Pillow, which decodes and resizes.
    """

    size: int = 256
    crop: int = 0
    pillow: str = field(default=PIL.__version__)

    def __post_init__(self) -> None:
        """Refuse sizes that are none."""
        if self.size < 0 or self.crop < 0:
            raise ValueError(
                f"sizes are in pixels, got size={self.size} and crop={self.crop}; 0 leaves the "
                "image as it is"
            )
        if self.crop > self.size:
            raise ValueError(f"a crop of {self.crop} does not fit in a size of {self.size}")


@dataclass(frozen=True)
class Plan:
    """Everything about a packed file that is known before an image is decoded.

    Args:
        settings: What is done to each image.
        classes: Names, in the order of the labels.
        paths: N paths of the images below the folder, with ``/``.
        labels: N class indices.
        source_bytes: N sizes of the image files.
        source_mtime_ns: N times of last change, in nanoseconds since 1970.
    """

    settings: PackSettings
    classes: Sequence[str]
    paths: Sequence[str]
    labels: Sequence[int]
    source_bytes: Sequence[int]
    source_mtime_ns: Sequence[int]

    def to_bytes(self) -> bytes:
        """The plan as JSON; equal plans give equal bytes."""
        plan = {**vars(self), "settings": vars(self.settings)}
        return json.dumps(plan, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """The plan that :meth:`to_bytes` wrote."""
        plan = json.loads(data)
        return cls(**{**plan, "settings": PackSettings(**plan["settings"])})

    def changes_since(self, old: Plan) -> list[str]:
        """What is different from an earlier plan, in words; empty if nothing is."""
        before, now = vars(old.settings), vars(self.settings)
        changes = [
            f"{key} was {before[key]}, is {now[key]}" for key in now if before[key] != now[key]
        ]
        earlier, present = old._files(), self._files()
        for what, paths in (
            ("new", present.keys() - earlier.keys()),
            ("gone", earlier.keys() - present.keys()),
            ("changed", {p for p in present.keys() & earlier.keys() if present[p] != earlier[p]}),
        ):
            if paths:
                first = ", ".join(sorted(paths)[:5]) + (", ..." if len(paths) > 5 else "")
                changes.append(f"{len(paths)} image files are {what}: {first}")
        if not changes and list(self.classes) != list(old.classes):
            changes.append("the class folders are others")
        return changes

    def _files(self) -> dict[str, tuple[int, int]]:
        facts = zip(self.source_bytes, self.source_mtime_ns, strict=True)
        return dict(zip(self.paths, facts, strict=True))


@dataclass(frozen=True)
class Head:
    """The first bytes of a packed file.

    The first four fields are there from the beginning and stay as they are; the last two are empty
    (0) until the file is complete.

    Args:
        version: Of the format.
        plan_bytes: Length of the plan.
        images: Rows of the table.
        plan_sha256: Checksum of the fields before and the plan.
        file_bytes: Length of the whole file.
        sha256: Checksum of the fields before and the table.
    """

    version: int
    plan_bytes: int
    images: int
    plan_sha256: bytes = bytes(32)
    file_bytes: int = 0
    sha256: bytes = bytes(32)

    @classmethod
    def begun(cls, plan: bytes, images: int) -> Head:
        """The head of a file with this plan that has no pixels yet."""
        blank = cls(VERSION, len(plan), images)
        return replace(blank, plan_sha256=hashlib.sha256(blank.to_bytes() + plan).digest())

    def finished(self, table: bytes, file_bytes: int) -> Head:
        """The head of the same file once it is complete."""
        blank = replace(self, file_bytes=file_bytes, sha256=bytes(32))
        return replace(blank, sha256=hashlib.sha256(blank.to_bytes() + table).digest())

    def to_bytes(self) -> bytes:
        """The head as it is in the file."""
        return _HEAD.pack(MAGIC, *astuple(self))

    def fits(self, plan: bytes) -> bool:
        """Whether this is the head of that plan."""
        return self.begun(plan, self.images).plan_sha256 == self.plan_sha256

    @property
    def table_offset(self) -> int:
        """Where the table starts."""
        return _HEAD.size + self.plan_bytes

    @property
    def pixels_offset(self) -> int:
        """Where the pixels start."""
        return self.table_offset + self.images * ROW.itemsize


def read_head(file: BinaryIO) -> Head | None:
    """Read the head from the start of a file; None if that is not one of a packed file."""
    file.seek(0)
    data = file.read(_HEAD.size)
    if len(data) < _HEAD.size or not data.startswith(MAGIC):
        return None
    return Head(*_HEAD.unpack(data)[1:])


def check_version(head: Head, name: str) -> None:
    """Refuse a file of another format version."""
    if head.version != VERSION:
        raise ValueError(
            f"{name} has version {head.version} of the packed format, and this avalanche_care "
            f"reads version {VERSION}; pack the images again, or use the avalanche_care that "
            "wrote it"
        )


def read_index(path: str | os.PathLike[str]) -> tuple[Head, Plan, Table]:
    """Read everything but the pixels of a finished file.

    Args:
        path: The file.

    Returns:
        Its head, its plan, and its table with a row per image.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no packed file, of another version, unfinished, cut short, or its index
            fails the checksum.
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        head = read_head(file)
        if head is None:
            raise ValueError(
                f"{name} is not a packed image file; make one with avalanche-care data pack"
            )
        check_version(head, name)
        if not head.file_bytes:
            raise ValueError(
                f"{name} is not finished; run the same avalanche-care data pack again to go on"
            )
        if length != head.file_bytes:
            raise ValueError(
                f"{name} should have {head.file_bytes:,} bytes and has {length:,}; it was cut "
                "short or damaged, copy it or pack the images again"
            )
        intact = head.pixels_offset <= length  # or it would be read as gigabytes
        plan = file.read(head.plan_bytes if intact else 0)
        table = file.read(head.images * ROW.itemsize if intact else 0)
    if not head.fits(plan) or head.finished(table, length) != head:
        raise ValueError(
            f"the index of {name} has a wrong checksum; copy it or pack the images again"
        )
    return head, Plan.from_bytes(plan), np.frombuffer(table, ROW)
