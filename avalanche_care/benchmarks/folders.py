"""A benchmark from training and test images: two directories, packed files, or one of each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchvision.datasets import ImageFolder

from avalanche_care.benchmarks.images import (
    HALF,
    class_folders,
    default_eval_transform,
    default_train_transform,
    eval_resize,
    image_folder,
    load_image,
    no_class_folders,
)
from avalanche_care.benchmarks.packed import PackedImages
from avalanche_care.benchmarks.protocol import DEFAULT_SEED, Protocol
from avalanche_care.benchmarks.scenario import CILBenchmark, class_incremental

__all__ = [
    "benchmark_from_folders",
    "default_eval_transform",
    "default_train_transform",
    "load_image",
]

logger = logging.getLogger(__name__)


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
    train_dir, test_dir = Path(train_dir), Path(test_dir)
    train, test, classes = _open(train_dir, test_dir)
    protocol = _protocol(protocol, class_order_seed, len(classes), train_dir)
    if train_transform is None:
        train_transform = default_train_transform(image_size, mean, std)
    if eval_transform is None:
        eval_transform = default_eval_transform(image_size, mean, std)
        if isinstance(test, PackedImages):
            _warn_of_enlarging(test, image_size)
    if cache_eval:
        from avalanche_care.benchmarks._eval_cache import EvalTransform, cached_eval_images

        test = cached_eval_images(test, image_size, None if cache_eval is True else cache_eval)
        eval_transform = EvalTransform(image_size, mean, std)
    # Our transforms go to Avalanche, which keeps one for training and one for evaluation.
    return class_incremental(
        train,
        test,
        protocol,
        train_transform=train_transform,
        eval_transform=eval_transform,
        name=name or train_dir.resolve().parent.name,
        class_names=classes,
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


def _open(
    train_dir: Path, test_dir: Path
) -> tuple[ImageFolder | PackedImages, ImageFolder | PackedImages, list[str]]:
    """The training and test images, and the class names that they share."""
    paths = (train_dir, test_dir)
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
    return images[0], images[1], sorted(train)


def _warn_of_enlarging(test: PackedImages, image_size: int) -> None:
    """Packed too small, images are enlarged: the accuracy is then not that of the folder."""
    size, needed = test.settings.size, eval_resize(image_size)
    if 0 < size < needed:
        logger.warning(
            "%s was packed at %d pixels, and evaluation at %d enlarges its images to %d; better "
            "pack them with --size %d",
            *(test.path, size, image_size, needed, needed),
        )
