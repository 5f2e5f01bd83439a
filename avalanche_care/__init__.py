"""Class-incremental learning on frozen, pre-trained vision transformers, for Avalanche.

The names below are imported on first use (PEP 562), so that ``import avalanche_care`` costs
nothing: neither torch nor avalanche is loaded until something that needs them is touched.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from avalanche_care._version import __version__

if TYPE_CHECKING:
    from avalanche_care.strategies.care import CaREConfig as CaREConfig
    from avalanche_care.strategies.care import CaREStrategy as CaREStrategy

_HOMES = {
    "CaREConfig": "avalanche_care.strategies.care",
    "CaREStrategy": "avalanche_care.strategies.care",
}
_ROOMS = frozenset(
    {"nn", "losses", "statistics", "metrics", "benchmarks", "plugins", "strategies", "experiments"}
)

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return import_module(f"avalanche_care.{name}")
    raise AttributeError(f"module 'avalanche_care' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_ROOMS})
