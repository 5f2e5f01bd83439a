"""Images of one packed file as a data set; ``avalanche-care data pack`` makes such a file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from avalanche_care.benchmarks._pack_format import (
    CHANNELS,
    PACKED,
    UNREADABLE,
    PackSettings,
    read_head,
    read_index,
)

__all__ = ["PackedImages"]

OUTPUTS = ("pil", "tensor")


class PackedImages(Dataset[tuple[Any, int]]):
    """Decoded images, mapped into memory from one file.

    What torchvision's ``ImageFolder`` is for a directory: the same labels in the same order.
    Nothing is decoded, and processes share the pages of the file that the system holds in memory.
    It can be pickled; the copy opens the file again, and refuses if that has been replaced.

    Args:
        path: The file.
        transform: Applied to the image.
        output: What ``transform`` gets: ``"pil"``, an RGB PIL image, or ``"tensor"``, a uint8
            tensor of shape (3, height, width).

    Attributes:
        classes: Class names; ``class_to_idx`` has their indices.
        samples: (path below the packed folder, label) of every image.
        targets: Label of every image.
        skipped: Paths of the images that could not be read and were left out.
        settings: What was done to the images.
        sha256: Of the index, with the checksums of all images in it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no packed file, of another version, unfinished, cut short, or its index
            fails the checksum. The pixels are not read here; see :meth:`verify`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        transform: Callable[[Any], Any] | None = None,
        output: Literal["pil", "tensor"] = "pil",
    ) -> None:
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {output!r}")
        self.path = os.path.abspath(path)
        self.transform = transform
        self.output = output
        self._head, plan, table = read_index(self.path)
        kept = np.flatnonzero(table["status"] == PACKED)
        self._table = table[kept]
        self._source = [(plan.source_bytes[i], plan.source_mtime_ns[i]) for i in kept.tolist()]
        self.classes = list(plan.classes)
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        self.samples = [(plan.paths[i], plan.labels[i]) for i in kept.tolist()]
        self.targets = [label for _, label in self.samples]
        left_out = np.flatnonzero(table["status"] == UNREADABLE).tolist()
        self.skipped = [plan.paths[i] for i in left_out]
        self.settings: PackSettings = plan.settings
        self._bytes: npt.NDArray[np.uint8] | None = None

    @property
    def sha256(self) -> str:
        """Checksum of the index, in hexadecimal."""
        return self._head.sha256.hex()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image: Any = self.image(index) if self.output == "pil" else self.tensor(index)
        if self.transform is not None:
            image = self.transform(image)
        return image, self.targets[index]

    def pixels(self, index: int) -> npt.NDArray[np.uint8]:
        """The pixels of an image, (height, width, 3), as a read-only view of the file."""
        row = self._table[index]
        shape = int(row["height"]), int(row["width"]), CHANNELS
        start = int(row["offset"])
        return self._mapped()[start : start + shape[0] * shape[1] * CHANNELS].reshape(shape)

    def image(self, index: int) -> Image.Image:
        """An image as an RGB PIL image."""
        return Image.fromarray(self.pixels(index))

    def tensor(self, index: int) -> Tensor:
        """An image as uint8, (3, height, width), its memory in the order of the file (HWC)."""
        return torch.from_numpy(self.pixels(index).copy()).permute(2, 0, 1)

    def verify(self, *, progress: bool = False) -> list[str]:
        """Read all pixels and compare their checksums.

        Args:
            progress: Whether to show a bar.

        Returns:
            Paths of the images whose pixels are damaged; empty if the file is intact.
        """
        bar = tqdm(range(len(self)), desc="verifying", unit="image", disable=not progress)
        return [
            self.samples[index][0]
            for index in bar
            if zlib.crc32(self.pixels(index).data) != self._table[index]["crc32"]
        ]

    def source_stat(self, index: int) -> tuple[int, int]:
        """Size in bytes and time of change in nanoseconds of the file that an image came from."""
        return self._source[index]

    def _mapped(self) -> npt.NDArray[np.uint8]:
        """The whole file. It is mapped on first use: in a worker that is after unpickling."""
        if self._bytes is None:
            with open(self.path, "rb") as file:
                if read_head(file) != self._head:
                    raise ValueError(f"{self.path} was replaced after it was opened; open it again")
                # A plain array over the map, because indexing a np.memmap costs microseconds more.
                self._bytes = np.asarray(np.memmap(file, dtype=np.uint8, mode="r"))
        return self._bytes

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bytes": None}
