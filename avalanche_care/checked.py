"""Configurations that say everything that is wrong with their values at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CheckedConfig", "ConfigError", "at_least", "positive"]


class ConfigError(ValueError):
    """Something that cannot be used as it was asked for, with everything that is wrong with it.

    Args:
        title: what is refused, such as ``"CaREConfig cannot be used"``.
        problems: what is wrong, a line each.
    """

    def __init__(self, title: str, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(title, self.problems)  # both, so that it can be sent between processes
        self.title = title

    def __str__(self) -> str:
        """The title and the problems as a list."""
        return f"{self.title}:\n- " + "\n- ".join(self.problems)


@dataclass(frozen=True)
class CheckedConfig:
    """Base of configurations.

    Raises:
        ConfigError: when one is made, listing all problems.
    """

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError(f"{type(self).__name__} cannot be used", problems)

    def _problems(self) -> Iterable[str]:
        """Say what is wrong: ``"lr must be ..."`` or ``"lr: ..."`` where one field is at fault."""
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


def at_least(config: Any, least: Mapping[str, int]) -> list[str]:
    """Say which fields of a configuration are less than they may be; None is not."""
    values = {name: getattr(config, name) for name in least}
    return [
        f"{name} must be at least {least[name]}, got {value}"
        for name, value in values.items()
        if value is not None and value < least[name]
    ]
