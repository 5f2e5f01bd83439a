"""The steps that the papers' image transforms are made of, each with its words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from avalanche_care.benchmarks.images import HALF

BILINEAR, BICUBIC = InterpolationMode.BILINEAR, InterpolationMode.BICUBIC


class Step(NamedTuple):
    """One step of a transform, and what it does in words."""

    apply: Callable[[Any], Any]
    words: str


class Normalisation(NamedTuple):
    """Mean and deviation per channel, and what to call them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    words: str


UNIT = Normalisation((0.0,) * 3, (1.0,) * 3, "pixels in [0, 1], not normalised")
HALVES = Normalisation(HALF, HALF, "normalised with mean 0.5 and deviation 0.5")
CIFAR = Normalisation(
    (0.5071, 0.4867, 0.4408),
    (0.2675, 0.2565, 0.2761),
    "normalised with CIFAR-100's mean 0.5071/0.4867/0.4408 and deviation 0.2675/0.2565/0.2761",
)
IMAGENET = Normalisation(
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
    "normalised with ImageNet's mean 0.485/0.456/0.406 and deviation 0.229/0.224/0.225",
)


class RandomInterpolationCrop:
    """Random resized crop with bilinear or bicubic interpolation, drawn anew for each image.

    timm's ``RandomResizedCropAndInterpolation``, but every draw is from torch's generator, so that
    one seed settles them all.

    Args:
        size: Side of the result, in pixels.
    """

    def __init__(self, size: int) -> None:
        self.crops = [
            transforms.RandomResizedCrop(size, interpolation=mode) for mode in (BILINEAR, BICUBIC)
        ]

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return a crop of a PIL image."""
        return self.crops[int(torch.randint(2, ()))](image)


def crop(size: int, least: float = 0.05, mode: InterpolationMode = BILINEAR) -> Step:
    """Random crop of at least this part of the area, enlarged to ``size`` pixels."""
    # The aspect ratio is torchvision's default, 3:4 to 4:3, which is that of all papers.
    return Step(
        transforms.RandomResizedCrop(size, scale=(least, 1.0), interpolation=mode),
        f"random crop of {least:g} to 1 of the area, to {size} pixels ({mode.value})",
    )


def any_crop(size: int) -> Step:
    """:class:`RandomInterpolationCrop`."""
    words = f"random crop of 0.08 to 1 of the area, to {size} pixels (bilinear or bicubic)"
    return Step(RandomInterpolationCrop(size), words)


def resize(size: int | tuple[int, int], mode: InterpolationMode) -> Step:
    """Resize the shorter side, or both."""
    target = f"shorter side to {size}" if isinstance(size, int) else f"both sides to {size[0]}"
    return Step(transforms.Resize(size, interpolation=mode), f"{target} pixels ({mode.value})")


def centre(size: int) -> Step:
    """Crop the middle."""
    return Step(transforms.CenterCrop(size), f"centre crop of {size}")


def anywhere(size: int) -> Step:
    """Crop a square of this size at a random place."""
    return Step(transforms.RandomCrop(size), f"random crop of {size}")


def brightness(amount: float) -> Step:
    """Multiply the pixels by a random factor within this of 1."""
    return Step(transforms.ColorJitter(brightness=amount), f"brightness +-{amount:.3g}")


FLIP = Step(transforms.RandomHorizontalFlip(), "flip")
"""A horizontal flip every other time."""
