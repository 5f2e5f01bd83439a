"""OmniBenchmark-1K: 1,000 classes of 21 realms, in up to 301 tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.benchmarks.named import named_benchmark
from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.benchmarks.scenario import CILBenchmark

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from avalanche_care.benchmarks._options import BenchmarkOptions

__all__ = ["OmniBenchmark1K"]


def OmniBenchmark1K(
    protocol: str | int | Protocol | None = None, **options: Unpack[BenchmarkOptions]
) -> CILBenchmark:
    """OmniBenchmark-1K: 1,000 classes, 168,718 training and 19,849 test images.

    The paper's protocols are ``"B0-Inc10"`` (100 tasks), ``"B100-Inc6"`` (151), ``"B0-Inc5"`` (200)
    and ``"B100-Inc3"`` (301), and its class orders 1993 and, besides, 1990, 1996 and 1999. Any
    other works too. Classes are numbered in the sorted order of their folder names.

    Realms are those of the data set's record; or pass ``realms``, a mapping or a file.

    Args:
        protocol: ``"B0-Inc10"`` if left out; a number stands for as many equal tasks.
        options: See :class:`BenchmarkOptions`; ``root`` has ``omnibenchmark1k/train/<class>/*``
            and ``omnibenchmark1k/test/<class>/*``.

    Returns:
        The benchmark.

    Raises:
        FileNotFoundError: If the images are not there and ``download`` is off.
        ValueError: If they are not those of 1,000 classes, or the options do not fit.

    Example:
        >>> OmniBenchmark1K("B100-Inc3", root="~/data", download=True)  # doctest: +SKIP
    """
    return named_benchmark(CARDS["omnibenchmark1k"], protocol, **options)
