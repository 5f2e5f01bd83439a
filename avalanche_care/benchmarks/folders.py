"""A benchmark from two image directories, one folder per class in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import InterpolationMode

from avalanche_care.benchmarks.protocol import DEFAULT_SEED, Protocol
from avalanche_care.benchmarks.scenario import CILBenchmark, class_incremental

__all__ = [
    "benchmark_from_folders",
    "default_eval_transform",
    "default_train_transform",
    "load_image",
]

HALF = (0.5, 0.5, 0.5)  # mean and std that the AugReg ImageNet-21k weights were trained with


def default_train_transform(
    image_size: int = 224, mean: Sequence[float] = HALF, std: Sequence[float] = HALF
) -> Callable[[Image.Image], Any]:
    """The training transform of the PTM-based methods, with normalisation.

    Random crop of 5 to 100 % of the area at an aspect ratio of 3:4 to 4:3 (bilinear), resized to
    ``image_size``, and a horizontal flip every other time, as in PILOT and the released CaRE code.
    Those feed most data sets without normalisation; here it is on, because the weights expect it.

    Args:
        image_size: Side of the square that the network sees, in pixels.
        mean, std: Per channel (R, G, B), of pixels in [0, 1]. ``(0, 0, 0)`` and ``(1, 1, 1)``
            switch the normalisation off.

    Returns:
        A transform from a PIL image to a float tensor, shape (3, image_size, image_size).
    """
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(image_size, scale=(0.05, 1.0), ratio=(3 / 4, 4 / 3)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def default_eval_transform(
    image_size: int = 224, mean: Sequence[float] = HALF, std: Sequence[float] = HALF
) -> Callable[[Image.Image], Any]:
    """The evaluation transform: resize by 256/224 (bicubic), centre crop, normalise.

    Args:
        image_size: Side of the square that the network sees, in pixels.
        mean, std: As in :func:`default_train_transform`.

    Returns:
        A transform from a PIL image to a float tensor, shape (3, image_size, image_size).
    """
    return transforms.Compose(
        [
            transforms.Resize(
                round(image_size * 256 / 224), interpolation=InterpolationMode.BICUBIC
            ),
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def load_image(path: str) -> Image.Image:
    """Read an image file as RGB; grey-scale is repeated over the channels.

    Args:
        path: The file.

    Returns:
        The image, in mode RGB.

    Raises:
        ValueError: If the file cannot be decoded; the message names it.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (FileNotFoundError, PermissionError):
        raise  # these name the file themselves, and it need not be corrupt
    # Pillow's ways to say that a file is cut short, broken, or absurdly large.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"cannot read the image {path}: {error}; repair the file or remove it"
        ) from error


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
    name: str | None = None,
) -> CILBenchmark:
    """Make a class-incremental benchmark of your own images.

    The directories hold one folder of images per class, with the same folder names in both. Classes
    are numbered in the sorted order of these names.

    Args:
        train_dir, test_dir: The two directories.
        protocol: Name such as ``"B100-Inc3"``, or a protocol made for as many classes.
        class_order_seed: Seed of the class order; None for the sorted order. Not used where
            ``protocol`` is not a name.
        train_transform, eval_transform: From an RGB PIL image to a tensor. Left out, they are
            :func:`default_train_transform` and :func:`default_eval_transform` with the three
            settings that follow.
        image_size: Side of the square that the network sees, in pixels.
        mean, std: Normalisation per channel, of pixels in [0, 1].
        name: Name for tables and result files; the name of the directory above ``train_dir`` if
            left out.

    Returns:
        The benchmark, with ``class_names``.

    Raises:
        FileNotFoundError: If a directory does not exist.
        ValueError: If the directories hold no or different classes, a class has no image, or the
            protocol does not fit the number of classes. A file that is no image is reported when it
            is loaded.
    """
    train_dir, test_dir = Path(train_dir), Path(test_dir)
    classes = _common_classes(train_dir, test_dir)
    if isinstance(protocol, str):
        protocol = Protocol.parse(
            protocol, n_classes=len(classes), class_order_seed=class_order_seed
        )
    elif protocol.total_classes != len(classes):
        raise ValueError(
            f"the protocol is for {protocol.total_classes} classes, but {train_dir} has "
            f"{len(classes)}; build it with total_classes={len(classes)}"
        )
    # Our transforms go to Avalanche, which keeps one for training and one for evaluation.
    train, test = (
        ImageFolder(str(directory), loader=load_image, allow_empty=True)
        for directory in (train_dir, test_dir)
    )
    for directory, images in ((train_dir, train), (test_dir, test)):
        if not len(images):
            raise ValueError(
                f"{directory} has class folders but no image in them; images end in "
                + ", ".join(IMG_EXTENSIONS)
            )
    if train_transform is None:
        train_transform = default_train_transform(image_size, mean, std)
    if eval_transform is None:
        eval_transform = default_eval_transform(image_size, mean, std)
    return class_incremental(
        train,
        test,
        protocol,
        train_transform=train_transform,
        eval_transform=eval_transform,
        name=name or train_dir.resolve().parent.name,
        class_names=classes,
    )


def _common_classes(train_dir: Path, test_dir: Path) -> list[str]:
    missing = [str(directory) for directory in (train_dir, test_dir) if not directory.is_dir()]
    if missing:
        raise FileNotFoundError(f"no such directory: {', '.join(missing)}")
    train, test = (
        {entry.name for entry in directory.iterdir() if entry.is_dir()}
        for directory in (train_dir, test_dir)
    )
    problems = [
        f"{directory} has no class folders; expected {directory}/<class>/<image>"
        for directory, names in ((train_dir, train), (test_dir, test))
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
        raise ValueError("the image directories cannot be used:\n- " + "\n- ".join(problems))
    return sorted(train)
