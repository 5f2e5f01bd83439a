"""Which images of a class are for testing: a choice that only names and a seed decide."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from avalanche_care.benchmarks.importing._own_names import refusal, some

__all__ = ["HeldOut", "ranked"]

T = TypeVar("T")
Split = dict[str, dict[str, T]]
"""Class -> file name -> image."""


def ranked(seed: int, group: str, names: Iterable[str]) -> list[str]:
    """Names in a random order that a seed decides.

    Sorted by the SHA-256 of seed, group and name. So the order is the same on every system, does
    not depend on the order in which the names come, and stays when others are added or taken away.
    """

    def key(name: str) -> tuple[bytes, str]:
        # macOS hands out decomposed accents, others what was written
        text = unicodedata.normalize("NFC", f"{seed}\0{group}\0{name}")
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest(), name

    return sorted(names, key=key)


@dataclass(frozen=True)
class HeldOut:
    """How many images of each class are for testing, and the seed that says which.

    Args:
        fraction: Share of a class, rounded; at least one image stays on each side.
        per_class: Number of images, in place of the share.
        seed: Any integer.

    Raises:
        ValueError: If both or neither are given, or are out of range.
    """

    fraction: float | None
    per_class: int | None
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if (self.fraction is None) == (self.per_class is None):
            problems.append("give either test_fraction or test_per_class")
        if self.fraction is not None and not (_is_number(self.fraction) and 0 < self.fraction < 1):
            problems.append(f"test_fraction must be between 0 and 1, got {self.fraction!r}")
        if self.per_class is not None and not (_is_integer(self.per_class) and self.per_class > 0):
            problems.append(f"test_per_class must be a positive integer, got {self.per_class!r}")
        if not _is_integer(self.seed):
            problems.append(f"split_seed must be an integer, got {self.seed!r}")
        if problems:
            raise refusal("the images cannot be split", problems)

    def divide(self, images: Mapping[str, Mapping[str, T]]) -> tuple[Split[T], Split[T]]:
        """Split every class.

        Args:
            images: Class -> file name -> image.

        Returns:
            Training and test images, in the sorted order of classes and names.

        Raises:
            ValueError: If a class has too few images; all such classes are named.
        """
        least = 2 if self.per_class is None else self.per_class + 1
        small = [
            f"{name} ({len(files)})" for name, files in sorted(images.items()) if len(files) < least
        ]
        if small:
            raise refusal(
                "the images cannot be split",
                [
                    f"every class needs at least {least} images, so that one is left for training; "
                    f"too small: {some(small, 20)}. Add images, leave these classes out, or test "
                    "on fewer"
                ],
            )
        train: Split[T] = {}
        test: Split[T] = {}
        for name in sorted(images):
            files = images[name]
            chosen = set(ranked(self.seed, name, files)[: self._count(len(files))])
            train[name] = {file: files[file] for file in sorted(files) if file not in chosen}
            test[name] = {file: files[file] for file in sorted(chosen)}
        return train, test

    def _count(self, images: int) -> int:
        if self.per_class is not None:
            return self.per_class
        share = self.fraction or 0.0  # one of the two is given
        return min(max(round(share * images), 1), images - 1)

    def record(self) -> dict[str, Any]:
        """What a record says about the split."""
        size = {"test_fraction": self.fraction, "test_per_class": self.per_class}
        return {key: value for key, value in size.items() if value is not None} | {
            "split_seed": self.seed,
            "split": "per class, by the SHA-256 of seed, class and file name",
        }


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or _is_integer(value)
