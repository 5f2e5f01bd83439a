"""Small image folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((40, 30), (30, 40), (33, 57), (64, 64), (20, 12))  # (width, height)


def make_pictures(
    root: Path, classes: Sequence[str] = ("ant", "bee", "cat"), count: int = 3, seed: int = 0
) -> Path:
    """Fill a directory with one folder of ``count`` noise images per class, PNG and JPEG in turns.

    Every image has a size of its own (they take turns, too), so that a mix-up cannot go unnoticed.
    """
    rng = np.random.default_rng(seed)
    number = 0
    for name in classes:
        (root / name).mkdir(parents=True)
        for _ in range(count):
            width, height = SIZES[number % len(SIZES)]
            noise = rng.integers(0, 256, (height, width, 3), np.uint8)
            suffix = "png" if number % 2 else "jpg"
            Image.fromarray(noise).save(root / name / f"{number}.{suffix}")
            number += 1
    return root
