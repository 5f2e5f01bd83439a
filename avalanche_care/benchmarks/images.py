"""Image folders, reading an image, and the default transforms. Avalanche is not imported."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import InterpolationMode

__all__ = [
    "HALF",
    "class_folders",
    "default_eval_transform",
    "default_train_transform",
    "eval_resize",
    "image_folder",
    "load_image",
    "no_class_folders",
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
            transforms.Resize(eval_resize(image_size), interpolation=InterpolationMode.BICUBIC),
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def eval_resize(image_size: int) -> int:
    """The shorter side, in pixels, before the centre crop of the evaluation transform."""
    return round(image_size * 256 / 224)


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


def image_folder(directory: str | os.PathLike[str]) -> ImageFolder:
    """Open a directory with one folder of images per class; nothing is decoded.

    Args:
        directory: The directory.

    Returns:
        The images, read by :func:`load_image`. A class folder may be empty.

    Raises:
        FileNotFoundError: If there is no such directory.
        PermissionError: If class folders must not be read; torchvision would take them for empty.
        ValueError: If it has no class folders, or no image in any of them.
    """
    name = os.fspath(directory)
    if not os.path.isdir(name):
        raise FileNotFoundError(f"no such directory: {name}")
    classes = class_folders(name)
    if not classes:
        raise ValueError(no_class_folders(name))
    needed = os.R_OK | os.X_OK
    closed = [c for c in sorted(classes) if not os.access(os.path.join(name, c), needed)]
    if closed:
        more = f" and {len(closed) - 5} more" if len(closed) > 5 else ""
        raise PermissionError(
            f"{name} has class folders that this user must not read: {', '.join(closed[:5])}"
            f"{more}; change their permissions (chmod u+rX)"
        )
    images = ImageFolder(name, loader=load_image, allow_empty=True)
    if not len(images):
        raise ValueError(
            f"{name} has class folders but no image in them; images end in "
            + ", ".join(IMG_EXTENSIONS)
        )
    return images


def class_folders(directory: str | os.PathLike[str]) -> set[str]:
    """Names of the folders in a directory."""
    return {entry.name for entry in os.scandir(directory) if entry.is_dir()}


def no_class_folders(directory: object) -> str:
    """What to say about a directory without class folders."""
    return f"{directory} has no class folders; expected {directory}/<class>/<image>"
