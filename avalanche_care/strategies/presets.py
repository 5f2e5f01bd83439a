"""Choosing a method's settings for a data set by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

_Config = TypeVar("_Config", bound="HasPresets")


def choose_preset(
    presets: Mapping[str, Mapping[str, Any]], name: str, *, method: str
) -> dict[str, Any]:
    """Return a copy of a preset.

    Args:
        presets: all of them, such as ``{"cifar100/B0-Inc10": {...}}``.
        name: which.
        method: whose presets they are, for the message.

    Raises:
        ValueError: if there is none of that name, with the nearest one.
    """
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {sorted(presets)}"
        raise ValueError(f"there is no {method} preset {name!r}; {hint}")
    return dict(presets[name])


class HasPresets:
    """Base of configurations that have settings for data sets, by name.

    Attributes:
        title: of the method, for messages.
    """

    title: ClassVar[str]

    @staticmethod
    def presets() -> dict[str, dict[str, Any]]:
        """Return the settings that differ from the defaults, by preset."""
        raise NotImplementedError

    @classmethod
    def preset(cls: type[_Config], name: str, **changes: Any) -> _Config:
        """Return the settings for a data set and protocol.

        Args:
            name: such as ``"cifar100/B0-Inc10"``; :meth:`presets` has all of them.
            changes: fields to set differently.

        Raises:
            ValueError: if there is no such preset.
        """
        return cls(**{**choose_preset(cls.presets(), name, method=cls.title), **changes})
