"""Where the images of a packed file come from: a directory, or another packed file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode

from avalanche_care.benchmarks._pack_format import CHANNELS, PackSettings, Plan
from avalanche_care.benchmarks.images import load_image
from avalanche_care.benchmarks.packed import PackedImages

__all__ = ["ImageSource", "PackedImage", "folder_source", "packed_source"]

SAMPLED = 1000  # images whose headers are read to estimate the length of the file


@dataclass(frozen=True)
class PackedImage:
    """What is stored of one image.

    Args:
        pixels: (height, width, 3), contiguous; None if the image could not be read.
        crc32: Of the pixels.
        problem: Why it could not be read.
    """

    pixels: npt.NDArray[np.uint8] | None
    crc32: int = 0
    problem: str = ""


@dataclass(frozen=True)
class ImageSource:
    """Images by their place in a plan.

    Args:
        plan: What there is, and what is done to it.
        load: Index -> RGB image.
        shape: Index -> (width, height) of that image, without decoding it.
    """

    plan: Plan
    load: Callable[[int], Image.Image]
    shape: Callable[[int], tuple[int, int]]

    def prepare(self, index: int) -> PackedImage:
        """Load, resize and crop an image; a problem is returned, not raised."""
        try:
            image = self.load(index)
        except (ValueError, OSError) as error:
            return PackedImage(None, problem=str(error))
        settings = self.plan.settings
        if settings.size:
            image = transforms.Resize(settings.size, InterpolationMode.BICUBIC)(image)
        if settings.crop:
            image = transforms.CenterCrop(settings.crop)(image)
        pixels: npt.NDArray[np.uint8] = np.ascontiguousarray(image)  # (height, width, 3)
        return PackedImage(pixels, zlib.crc32(pixels.data))

    def estimate_bytes(self, indices: Sequence[int]) -> int:
        """Bytes that the pixels of some images take; from a sample, if there are very many."""
        sample = indices[:: max(1, len(indices) // SAMPLED)]
        sizes = []
        for index in sample:
            try:
                width, height = stored_shape(self.shape(index), self.plan.settings)
            except (ValueError, OSError):
                continue  # reported when its turn comes
            sizes.append(width * height * CHANNELS)
        return round(sum(sizes) / len(sizes) * len(indices)) if sizes else 0


def stored_shape(shape: tuple[int, int], settings: PackSettings) -> tuple[int, int]:
    """(width, height) of an image once it is resized and cropped."""
    width, height = shape
    if settings.crop:
        return settings.crop, settings.crop
    if settings.size and width <= height:
        return settings.size, int(settings.size * height / width)
    if settings.size:
        return int(settings.size * width / height), settings.size
    return shape


def folder_source(folder: ImageFolder, settings: PackSettings) -> ImageSource:
    """The images of a directory with one folder per class."""
    files = [path for path, _ in folder.samples]
    stats = [os.stat(path) for path in files]
    plan = Plan(
        settings=settings,
        classes=folder.classes,
        paths=[PurePath(os.path.relpath(path, folder.root)).as_posix() for path in files],
        labels=folder.targets,
        source_bytes=[stat.st_size for stat in stats],
        source_mtime_ns=[stat.st_mtime_ns for stat in stats],
    )

    def shape(index: int) -> tuple[int, int]:
        with Image.open(files[index]) as image:
            return image.size

    return ImageSource(plan, lambda index: load_image(files[index]), shape)


def packed_source(images: PackedImages, settings: PackSettings) -> ImageSource:
    """The images of a packed file."""
    stats = [images.source_stat(index) for index in range(len(images))]
    plan = Plan(
        settings=settings,
        classes=images.classes,
        paths=[path for path, _ in images.samples],
        labels=images.targets,
        source_bytes=[size for size, _ in stats],
        source_mtime_ns=[mtime for _, mtime in stats],
    )

    def shape(index: int) -> tuple[int, int]:
        height, width, _ = images.pixels(index).shape
        return width, height

    return ImageSource(plan, images.image, shape)
