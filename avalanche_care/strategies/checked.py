"""Configurations that say everything that is wrong with their values at once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["CheckedConfig", "positive"]


@dataclass(frozen=True)
class CheckedConfig:
    """Base of methods' configurations.

    Raises:
        ValueError: when one is made, listing all problems.
    """

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ValueError(f"{type(self).__name__}: " + "; ".join(problems))

    def _problems(self) -> Iterable[str]:
        """Say what is wrong with the values."""
        return ()


def positive(config: Any, names: tuple[str, ...], integers: tuple[str, ...] = ()) -> list[str]:
    """Say which fields of a configuration are not positive, or not the integers they should be."""
    problems = []
    for name in names:
        value = getattr(config, name)
        if name in integers and not isinstance(value, int):
            problems.append(f"{name} must be an integer, got {value!r}")
        elif not 0 < value < math.inf:
            problems.append(f"{name} must be positive, got {value}")
    return problems
