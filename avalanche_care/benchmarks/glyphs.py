"""The embedded default benchmark: 1,000 Unicode characters, no download.

Training images are drawn in typefaces without serifs (DejaVu Sans and Sans Mono), test images in
typefaces with serifs (DejaVu Serif, STIX), so test accuracy measures whether a class is recognised
in a drawing style that it was never shown in. All typefaces come with matplotlib.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avalanche_care.benchmarks._glyph_cache import glyph_images
from avalanche_care.benchmarks._glyph_choice import shipped_characters
from avalanche_care.benchmarks._glyph_realms import realms
from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.benchmarks.scenario import CILBenchmark, class_incremental

__all__ = ["LONG_PROTOCOLS", "GlyphBenchmark", "GlyphDataset", "glyph_to_input"]

LONG_PROTOCOLS = ("B0-Inc10", "B100-Inc6", "B0-Inc5", "B100-Inc3")
"""The four protocols of OmniBenchmark-1K: 100, 151, 200 and 301 tasks on 1,000 classes."""


def glyph_to_input(image: Tensor) -> Tensor:
    """The default transform: uint8 (3, 32, 32) to float32 in [-1, 1] (mean and deviation 0.5)."""
    return image.to(torch.float32).div_(127.5).sub_(1.0)


class GlyphDataset(Dataset[tuple[Tensor, int]]):
    """Grey glyph images in memory.

    Args:
        images: (N, 32, 32) uint8.
        targets: N original class indices.

    An item is a (3, 32, 32) uint8 tensor with three equal channels, and its class index.
    """

    def __init__(self, images: npt.NDArray[np.uint8], targets: list[int]) -> None:
        self.images = torch.from_numpy(np.ascontiguousarray(images))
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index].expand(3, -1, -1), self.targets[index]


def GlyphBenchmark(
    protocol: str | Protocol = "B0-Inc10",
    *,
    n_classes: int = 1000,
    class_order_seed: int | None = 1993,
    cache_dir: str | os.PathLike[str] | None = None,
    train_transform: Callable[[Tensor], Any] | None = None,
    eval_transform: Callable[[Tensor], Any] | None = None,
) -> CILBenchmark:
    """1,000 drawn characters as a class-incremental benchmark.

    30 training and 8 test images per class; realms are Unicode blocks. The images are drawn on
    first use (some 20 seconds) and kept in the user's cache directory.

    Args:
        protocol: for example one of `LONG_PROTOCOLS`, or a `Protocol` (which then carries
            the number of classes and their order; its `total_classes` must be 1,000).
        n_classes: use the first `n_classes` positions of the order of all 1,000 classes, so that a
            short sequence is the beginning of the long one.
        class_order_seed: seed of the permutation of the 1,000 classes; None for code point order.
        cache_dir: directory of the drawn images. Default: the environment variable
            AVALANCHE_CARE_CACHE, else the user's cache directory.
        train_transform: replaces `glyph_to_input`; gets a (3, 32, 32) uint8 tensor. There
            is no random augmentation by default: the 30 images are variants already.
        eval_transform: the same for evaluation.

    Returns:
        The benchmark. With the default transforms images are (3, 32, 32) float32 in [-1, 1].

    Raises:
        ValueError: the protocol does not fit 1,000 classes.
        OSError: the cache cannot be written.

    Example:
        >>> benchmark = GlyphBenchmark("B0-Inc10", n_classes=100)  # doctest: +SKIP
        >>> len(benchmark.train_stream)  # doctest: +SKIP
        10
    """
    characters = shipped_characters()
    split = _protocol(protocol, n_classes, class_order_seed, len(characters))
    images = glyph_images(cache_dir)
    used = np.sort(np.asarray(split.class_order, dtype=np.int64))
    return class_incremental(
        _dataset(images.train, used),
        _dataset(images.test, used),
        split,
        train_transform=train_transform or glyph_to_input,
        eval_transform=eval_transform or glyph_to_input,
        name="glyphs",
        class_names=[unicodedata.name(chr(code)) for code in characters],
        realms=realms(characters),
        transforms=_in_words(train_transform, eval_transform),
    )


def _in_words(train: object, evaluation: object) -> str:
    default = "32 x 32 pixels, normalised with mean 0.5 and deviation 0.5, no augmentation"
    own = "a transform of the user's"
    if train is None and evaluation is None:
        return f"glyphs; {default}"
    phases = [default if transform is None else own for transform in (train, evaluation)]
    return f"glyphs; train: {phases[0]}; eval: {phases[1]}"


def _protocol(protocol: str | Protocol, n_classes: int, seed: int | None, total: int) -> Protocol:
    if isinstance(protocol, str):
        if n_classes > total:
            raise ValueError(f"the glyph benchmark has {total} classes, got n_classes={n_classes}")
        return Protocol.parse(
            protocol, n_classes=n_classes, class_order_seed=seed, total_classes=total
        )
    if protocol.total_classes != total:
        raise ValueError(
            f"the glyph benchmark has {total} classes, the protocol was made for "
            f"{protocol.total_classes}; pass total_classes={total} to Protocol"
        )
    return protocol


def _dataset(images: npt.NDArray[np.uint8], classes: npt.NDArray[np.int64]) -> GlyphDataset:
    per_class, height, width = images.shape[1:]
    chosen = images[classes].reshape(-1, height, width)  # (classes * per_class, 32, 32)
    return GlyphDataset(chosen, np.repeat(classes, per_class).tolist())
