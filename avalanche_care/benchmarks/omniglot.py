"""Omniglot as a long class-incremental benchmark: handwritten characters, alphabets as realms.

Omniglot has 1,623 characters of 50 alphabets, each drawn once by each of 20 people (Lake et al.,
2015). 1,000 of them make the four long protocols possible on real images that anyone can have in a
minute. The test drawings are by people of whom no drawing of that character was learned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image
from torch.utils.data import Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from avalanche_care.benchmarks import _omniglot_files as files
from avalanche_care.benchmarks._options import Settings
from avalanche_care.benchmarks.images import HALF, load_image
from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.benchmarks.scenario import CILBenchmark, class_incremental
from avalanche_care.benchmarks.transforms import TransformFamily

__all__ = ["OmniglotDrawings", "SplitOmniglot", "omniglot_transform"]

TRAIN_DRAWINGS = 15  # by the first people; the other five are for testing
_REFUSED = {"transforms", "packed", "cache_eval", "realms"}


class OmniglotDrawings(Dataset[tuple[Image.Image, int]]):
    """Drawings as files.

    Args:
        paths: The PNG files.
        targets: The original class index of each.

    An item is an RGB image of 105 x 105 pixels, black on white, and its class index.
    """

    def __init__(self, paths: Sequence[str], targets: Sequence[int]) -> None:
        self.paths = list(paths)
        self.targets = list(targets)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return load_image(self.paths[index]), self.targets[index]


def omniglot_transform(image_size: int = 224) -> Callable[[Image.Image], Any]:
    """The default transform, for training and evaluation: resize and normalise.

    The whole drawing is kept. There is no random crop and no flip, on purpose: a stroke more or
    less makes another character, and so does its mirror image; and a class is drawn by 15 people,
    which is variation of the right kind.

    Args:
        image_size: Side of the square that the network sees, in pixels.

    Returns:
        A transform from an RGB PIL image to a float tensor in about [-1, 1] (mean and deviation
        0.5), shape (3, image_size, image_size).

    Raises:
        ValueError: If the size is not a positive integer.
    """
    if not isinstance(image_size, int) or image_size < 1:
        raise ValueError(f"image_size must be a positive number of pixels, got {image_size!r}")
    return transforms.Compose(
        [
            transforms.Resize((image_size, image_size), interpolation=InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(HALF, HALF),
        ]
    )


def SplitOmniglot(
    protocol: str | int | Protocol | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    image_size: int = 224,
    train_transform: Callable[[Image.Image], Any] | None = None,
    eval_transform: Callable[[Image.Image], Any] | None = None,
    **options: Any,
) -> CILBenchmark:
    """1,000 handwritten characters as a class-incremental benchmark.

    Classes are numbered with sorted names: the characters of torchvision's 30 background alphabets,
    then those of the 20 evaluation alphabets. The class order is a permutation of all 1,623, of
    which the first ``n_classes`` (1,000, if left out) are used, so that a shorter sequence is the
    beginning of the longer one. Of each character the drawings by the first 15 people are for
    training and those by the last 5 for testing. The alphabets are the realms.

    Args:
        protocol: Name such as ``"B100-Inc3"``, a number of equal tasks, or a ``Protocol`` with
            ``total_classes=1623``. ``"B0-Inc10"`` if left out.
        root: Directory of the data sets, with torchvision's folder ``omniglot-py`` in it. Left
            out: ``AVALANCHE_CARE_DATA``, or ``~/.avalanche_care/data``.
        download: Download what is missing, some 16 MB.
        image_size: Side of the square that the network sees, in pixels.
        train_transform, eval_transform: From an RGB PIL image to a tensor, in place of
            :func:`omniglot_transform`.
        options: Those of ``BenchmarkOptions`` that say what the split is: ``n_classes``,
            ``class_order_seed``, ``fixed_class_order``, and Avalanche's names. There is one family
            of transforms and nothing to pack.

    Returns:
        The benchmark, with ``class_names`` such as ``"Greek/character05"`` and ``realms``.

    Raises:
        FileNotFoundError: If the images are not there and ``download`` is off.
        ValueError: If there are more or fewer characters or drawings than Omniglot has, or the
            options do not fit.
        OSError: If the download fails.
    """
    strange = sorted(options.keys() & _REFUSED)
    if strange:
        raise ValueError(f"Omniglot has one way to be read and does not take {', '.join(strange)}")
    settings = Settings(root=root, **options)
    split = settings.split(
        protocol,
        title="Omniglot",
        default="B0-Inc10",
        classes=1000,
        total_classes=sum(files.PARTS.values()),
    )
    if download:
        files.download_omniglot(settings.data_root)
    characters = files.find_characters(settings.data_root / files.FOLDER)
    names = list(characters)
    drawings = files.find_drawings(characters, [names[label] for label in split.class_order])
    of_class = list(zip(split.class_order, drawings.values(), strict=True))
    train = _some([(c, paths[:TRAIN_DRAWINGS]) for c, paths in of_class])
    test = _some([(c, paths[TRAIN_DRAWINGS:]) for c, paths in of_class])
    family = _family(image_size).with_own(train_transform, eval_transform)
    return class_incremental(
        train,
        test,
        split,
        train_transform=family.train,
        eval_transform=family.eval,
        name="omniglot",
        class_names=names,
        realms=_alphabets(names),
        transforms=family.description,
    )


def _some(of_class: Sequence[tuple[int, Sequence[str]]]) -> OmniglotDrawings:
    return OmniglotDrawings(
        [path for _, paths in of_class for path in paths],
        [original for original, paths in of_class for _ in paths],
    )


def _family(image_size: int) -> TransformFamily:
    transform = omniglot_transform(image_size)
    words = (
        f"the whole drawing, both sides to {image_size} pixels (bicubic), normalised with mean 0.5 "
        "and deviation 0.5"
    )
    return TransformFamily(
        name="drawings",
        train=transform,
        eval=transform,
        train_words=f"{words}, no augmentation",
        eval_words=words,
        mean=HALF,
        std=HALF,
        image_size=image_size,
    )


def _alphabets(names: Sequence[str]) -> dict[str, list[int]]:
    """The classes of every alphabet."""
    alphabets: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        alphabets.setdefault(name.split("/")[0], []).append(number)
    return alphabets
