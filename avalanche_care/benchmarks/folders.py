"""A benchmark from training and test images: two directories, packed files, or one of each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torchvision.datasets import ImageFolder

from avalanche_care.benchmarks.images import (
    HALF,
    class_folders,
    default_eval_transform,
    default_train_transform,
    image_folder,
    load_image,
    no_class_folders,
)
from avalanche_care.benchmarks.packed import PackedImages
from avalanche_care.benchmarks.protocol import DEFAULT_SEED, Protocol
from avalanche_care.benchmarks.scenario import CILBenchmark, class_incremental
from avalanche_care.benchmarks.transforms import TransformFamily, own_normalisation

__all__ = [
    "ImageData",
    "benchmark_from_folders",
    "default_eval_transform",
    "default_train_transform",
    "image_benchmark",
    "load_image",
    "open_images",
]

logger = logging.getLogger(__name__)


class ImageData(NamedTuple):
    """Training and test images of the same classes.

    ``train`` and ``test`` are data sets of (PIL image, label) with ``targets``; ``classes`` has
    the name of each label.
    """

    train: Any
    test: Any
    classes: list[str]


def benchmark_from_folders(
    train_dir: str | Path,
    test_dir: str | Path,
    *,
    protocol: str | Protocol = "B0-Inc10",
    class_order_seed: int | None = DEFAULT_SEED,
    train_transform: Any = None,
    eval_transform: Any = None,
    image_size: int = 224,
    mean: Sequence[float] = HALF,
    std: Sequence[float] = HALF,
    cache_eval: bool | str | Path = False,
    name: str | None = None,
) -> CILBenchmark:
    """Make a class-incremental benchmark of your own images.

    The directories hold one folder of images per class, with the same folder names in both. Classes
    are numbered in the sorted order of these names. In place of a directory there may be the file
    that ``avalanche-care data pack`` made of it: same classes, labels and order.

    Args:
        train_dir, test_dir: The two directories, or packed files.
        protocol: Name such as ``"B100-Inc3"``, or a protocol made for as many classes.
        class_order_seed: Seed of the class order; None for the sorted order. Not used where
            ``protocol`` is not a name.
        train_transform, eval_transform: From an RGB PIL image to a tensor. Left out, they are
            :func:`default_train_transform` and :func:`default_eval_transform` with the three
            settings that follow.
        image_size: Side of the square that the network sees, in pixels.
        mean, std: Normalisation per channel, of pixels in [0, 1].
        cache_eval: Decode, resize and crop the test images once, now, and keep the crops in a file
            in the user's cache (True) or in this directory. The network sees the same numbers. Only
            with the default evaluation transform: of another one nobody knows which part is random.
        name: Name for tables and result files; the name of the directory above ``train_dir`` if
            left out.

    Returns:
        The benchmark, with ``class_names``.

    Raises:
        FileNotFoundError: If a directory or file does not exist.
        ValueError: If the directories hold no or different classes, a class has no image, the
            protocol does not fit the number of classes, a packed file is damaged, or ``cache_eval``
            comes with an ``eval_transform``. A file that is no image is reported when it is loaded,
            which with ``cache_eval`` is now.
        OSError: If the cache cannot be written.
    """
    if cache_eval and eval_transform is not None:
        raise ValueError(
            "cache_eval keeps what the default evaluation transform crops, so it cannot be used "
            "with an eval_transform; leave one of the two out"
        )
    train_dir = Path(train_dir)
    images = open_images(train_dir, test_dir)
    return image_benchmark(
        images,
        _protocol(protocol, class_order_seed, len(images.classes), train_dir),
        own_normalisation(image_size, mean, std).with_own(train_transform, eval_transform),
        cache_eval=cache_eval,
        name=name or train_dir.resolve().parent.name,
    )


def image_benchmark(
    images: ImageData,
    protocol: Protocol,
    family: TransformFamily,
    *,
    cache_eval: bool | str | Path = False,
    name: str,
    realms: Mapping[str, Sequence[int]] | None = None,
) -> CILBenchmark:
    """Make a class-incremental benchmark of images, with a family of transforms.

    Args:
        images: From :func:`open_images`, or of that form.
        protocol: Which classes arrive when.
        family: What is done to the images.
        cache_eval: As in :func:`benchmark_from_folders`.
        name: Name for tables and result files.
        realms: Groups of classes: name -> original class indices.

    Returns:
        The benchmark, with ``class_names`` and the words of ``family``.

    Raises:
        ValueError: If the labels do not fit the protocol, or ``cache_eval`` comes with another
            evaluation than the one that the cache keeps, or with images that are no files.
        OSError: If the cache cannot be written.
    """
    train, test, classes = images
    evaluate = family.eval
    if isinstance(test, PackedImages):
        _warn_of_enlarging(test, family)
    if cache_eval:
        _check_cacheable(test, family)
        from avalanche_care.benchmarks._eval_cache import EvalTransform, cached_eval_images

        directory = None if cache_eval is True else cache_eval
        test = cached_eval_images(test, family.image_size, directory)
        evaluate = EvalTransform(family.image_size, family.mean, family.std)
    # Our transforms go to Avalanche, which keeps one for training and one for evaluation.
    benchmark = class_incremental(
        train,
        test,
        protocol,
        train_transform=family.train,
        eval_transform=evaluate,
        name=name,
        class_names=classes,
        realms=realms,
        transforms=family.description,
    )
    logger.info("%s", benchmark)
    return benchmark


def _check_cacheable(test: Any, family: TransformFamily) -> None:
    if not family.cacheable:
        raise ValueError(
            "cache_eval keeps the bicubic resize and centre crop of the default evaluation "
            f"transform, but this is {family.description}; leave cache_eval out"
        )
    if not isinstance(test, (ImageFolder, PackedImages)):
        raise ValueError(
            f"cache_eval is for image folders and packed files, not for {type(test).__name__}; "
            "leave it out"
        )


def _protocol(
    protocol: str | Protocol, class_order_seed: int | None, n_classes: int, train_dir: Path
) -> Protocol:
    if isinstance(protocol, str):
        return Protocol.parse(protocol, n_classes=n_classes, class_order_seed=class_order_seed)
    if protocol.total_classes != n_classes:
        raise ValueError(
            f"the protocol is for {protocol.total_classes} classes, but {train_dir} has "
            f"{n_classes}; build it with total_classes={n_classes}"
        )
    return protocol


def open_images(train_dir: str | Path, test_dir: str | Path) -> ImageData:
    """Open the training and test images of the same classes; nothing is decoded.

    Args:
        train_dir, test_dir: Directories with one folder of images per class, or packed files.

    Returns:
        The images. Classes are numbered in the sorted order of their names.

    Raises:
        FileNotFoundError: If a directory or file does not exist.
        ValueError: If they hold no or different classes, or a packed file is damaged.
    """
    train_dir, test_dir = paths = (Path(train_dir), Path(test_dir))
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise FileNotFoundError(f"no such directory or packed file: {', '.join(missing)}")
    packs = {path: PackedImages(path) for path in paths if not path.is_dir()}
    train, test = (
        set(packs[path].classes) if path in packs else class_folders(path) for path in paths
    )
    problems = [
        no_class_folders(path)
        for path, names in zip(paths, (train, test), strict=True)
        if not names
    ]
    if train and test:
        problems += [
            f"{len(only)} classes are in {here} but not in {there}: {', '.join(sorted(only)[:10])}"
            + (", ..." if len(only) > 10 else "")
            for only, here, there in (
                (train - test, train_dir, test_dir),
                (test - train, test_dir, train_dir),
            )
            if only
        ]
    if problems:
        raise ValueError("the images cannot be used:\n- " + "\n- ".join(problems))
    images = [packs[path] if path in packs else image_folder(path) for path in paths]
    return ImageData(images[0], images[1], sorted(train))


def _warn_of_enlarging(test: PackedImages, family: TransformFamily) -> None:
    """Packed too small, images are enlarged: the accuracy is then not that of the folder."""
    size, needed = test.settings.size, family.resize
    if 0 < size < needed:
        logger.warning(
            "%s was packed at %d pixels, and evaluation at %d enlarges its images to %d; better "
            "pack them with --size %d",
            *(test.path, size, family.image_size, needed, needed),
        )
