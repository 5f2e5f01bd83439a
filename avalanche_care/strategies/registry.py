"""Which methods there are, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

MODULES = (
    "care",
    "simplecil",
    "aper",
    "ease",
    "ranpac",
    "l2p",
    "dualprompt",
    "coda_prompt",
    "fsa",
    "fetril",
    "joint",
    "replay",
    "lwf",
    "ewc",
    "slda",
    "finetune",
)
"""Modules of this package that register a method; imported when somebody asks."""

_Strategy = TypeVar("_Strategy", bound=type)
_REGISTRY: dict[str, Method] = {}


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: what the command line calls it.
        strategy: its Avalanche strategy class.
        config: its configuration dataclass.
        paper: where it was published.
        trains: what it trains, in a few words.
        exemplars: what it uses of earlier images, such as ``"exemplars"``; empty: nothing.
    """

    name: str
    strategy: type[Any]
    config: type[Any]
    paper: str
    trains: str
    exemplars: str = ""


def register(
    name: str, *, config: type[Any], paper: str, trains: str, exemplars: str = ""
) -> Callable[[_Strategy], _Strategy]:
    """Register the decorated strategy class as method ``name``.

    Raises:
        ValueError: if the name is taken.
    """

    def decorate(strategy: _Strategy) -> _Strategy:
        if name in _REGISTRY:
            taken = _REGISTRY[name].strategy
            raise ValueError(
                f"method {name!r} is registered already, by {taken.__module__}.{taken.__qualname__}"
            )
        _REGISTRY[name] = Method(name, strategy, config, paper, trains, exemplars)
        return strategy

    return decorate


def available_methods() -> dict[str, Method]:
    """Return all registered methods by name: ours in the order of ``MODULES``, then all others."""
    ours = [f"avalanche_care.strategies.{module}" for module in MODULES]
    for module in ours:
        import_module(module)

    def place(method: Method) -> int:  # whichever module was imported first
        home = method.strategy.__module__
        return ours.index(home) if home in ours else len(ours)

    return {method.name: method for method in sorted(_REGISTRY.values(), key=place)}


def get_method(name: str) -> Method:
    """Return a registered method.

    Raises:
        ValueError: if there is none of that name, with the nearest ones.
    """
    methods = available_methods()
    if name not in methods:
        near = difflib.get_close_matches(name, methods, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {sorted(methods)}"
        raise ValueError(f"there is no method {name!r}; {hint}")
    return methods[name]
