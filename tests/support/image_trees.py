"""Data sets in the folders that the reference repositories use, in miniature."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def make_tree(
    folder: Path, classes: Sequence[str], *, train: int = 2, test: int = 1, side: int = 16
) -> Path:
    """Fill ``folder/train`` and ``folder/test``: JPEG files whose red channel says the class."""
    for part, count in (("train", train), ("test", test)):
        for number, name in enumerate(classes):
            directory = folder / part / name
            directory.mkdir(parents=True)
            picture = Image.new("RGB", (side, side), (40 * number % 256, 128, 128))
            picture.save(directory / "0.jpg", quality=95, subsampling=0)
            for copy in range(1, count):
                os.link(directory / "0.jpg", directory / f"{copy}.jpg")
    return folder


def class_names(count: int) -> list[str]:
    """Names like WordNet's, which sort in their order."""
    return [f"n{number:08d}" for number in range(count)]


def make_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch, per_class: int = 2) -> None:
    """The files of torchvision's CIFAR100, with ``per_class`` training images and 1 test image.

    Their checksums are not the real ones, so that check is switched off.
    """
    from torchvision.datasets import CIFAR100

    folder = root / CIFAR100.base_folder
    folder.mkdir(parents=True)
    names = [f"thing_{number:02d}" for number in range(100)]
    files: dict[str, Any] = {"meta": {"fine_label_names": names}}
    for part, count in (("train", per_class), ("test", 1)):
        labels = np.repeat(np.arange(100), count)
        pixels = np.repeat(labels.astype(np.uint8), 3 * 32 * 32).reshape(-1, 3 * 32 * 32)
        files[part] = {"data": pixels, "fine_labels": labels.tolist()}
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content))
    monkeypatch.setattr(CIFAR100, "train_list", [["train", None]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", None]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": None})
