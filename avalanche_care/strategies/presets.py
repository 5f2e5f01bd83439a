"""Choosing a method's settings for a data set by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any


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
