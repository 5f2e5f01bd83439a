"""Counting calls of functions, the measure of a framework's overhead that no clock disturbs."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any


class Calls:
    """While entered, count the calls of functions, those written in C included.

    Attributes:
        of: calls per function, by file and name.
    """

    def __init__(self) -> None:
        self.of: Counter[tuple[str, str]] = Counter()

    @property
    def total(self) -> int:
        return sum(self.of.values())

    def __enter__(self) -> Calls:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            self.of[frame.f_code.co_filename, frame.f_code.co_name] += 1
        elif event == "c_call":
            self.of["", getattr(arg, "__qualname__", repr(arg))] += 1

    def growth_from(self, other: Calls, most: int = 10) -> str:
        """Say which functions were called more often than in ``other``."""
        lines = [
            f"{n} more calls of {place}" for place, n in (self.of - other.of).most_common(most)
        ]
        return "\n".join([f"{other.total} calls became {self.total}", *lines])
