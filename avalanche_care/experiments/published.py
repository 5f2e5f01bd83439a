"""Numbers that others have published, to stand beside ours: each with its source.

They are in ``assets/published.json``, one per line. Several sources for one setting stand side by
side, since they often differ by points: in transforms, weights, splits, class orders or averages.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from avalanche_care.experiments._published_entries import (
    BACKBONES,
    FILE,
    PROVENANCE,
    Asset,
    PublishedNumber,
    PublishedQuantity,
    Source,
    parse,
)

if TYPE_CHECKING:
    SOURCES: Mapping[str, Source]

__all__ = [
    "BACKBONES",
    "PROVENANCE",
    "SOURCES",
    "PublishedNumber",
    "PublishedQuantity",
    "Source",
    "published",
    "published_quantities",
]


def __getattr__(name: str) -> Any:
    if name == "SOURCES":  # in the file with the numbers, which is read when somebody asks
        return _asset().sources
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def published(
    method: str | None = None,
    benchmark: str | None = None,
    protocol: str | None = None,
    backbone: str | None = None,
    *,
    variant: str | None = "",
) -> tuple[PublishedNumber, ...]:
    """Return the published accuracies of a setting.

    Args:
        method, benchmark, protocol, backbone: Names to look for; None for any.
        variant: The methods themselves by default; None for their ablations too.

    Returns:
        The numbers, the most trustworthy provenance first, else in the order of the file; empty if
        nothing is published. ``SOURCES[number.source]`` is where one is from.

    Example:
        >>> found = published("care", "omnibenchmark1k", "B100-Inc3", "in21k")
        >>> [(number.A_last, number.provenance) for number in found]
        [(68.51, 'paper'), (68.5, 'digitised')]
    """
    wanted = {
        "method": method,
        "benchmark": benchmark,
        "protocol": protocol,
        "backbone": backbone,
        "variant": variant,
    }
    trust = list(PROVENANCE)
    found = [number for number in _asset().numbers if _fits(number, wanted)]
    return tuple(sorted(found, key=lambda number: trust.index(number.provenance)))


def published_quantities(
    method: str | None = None, quantity: str | None = None, *, variant: str | None = ""
) -> tuple[PublishedQuantity, ...]:
    """Return the published figures that are no A_avg or A_last, such as forgetting.

    Args:
        method, quantity: Names to look for; None for any.
        variant: The methods themselves by default; None for their ablations too.

    Returns:
        The figures in the order of the file; empty if there are none.
    """
    wanted = {"method": method, "quantity": quantity, "variant": variant}
    return tuple(entry for entry in _asset().quantities if _fits(entry, wanted))


@lru_cache(maxsize=1)
def _asset() -> Asset:
    file = resources.files("avalanche_care") / "assets" / FILE
    return parse(file.read_text(encoding="utf-8"))


def _fits(entry: object, wanted: Mapping[str, str | None]) -> bool:
    return all(want in (None, getattr(entry, name)) for name, want in wanted.items())
