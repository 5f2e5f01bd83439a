"""The classic class-incremental benchmarks for pre-trained models.

Each function takes a protocol and the options of ``BenchmarkOptions``, and raises what
:func:`named_benchmark` raises. The images lie below ``root`` where the reference repositories have
them, ``imagenet-r/train/<class>/*`` for example. ``transforms`` says whose crops and normalisation
they get; see :func:`transform_family`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.benchmarks.named import named_benchmark
from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.benchmarks.scenario import CILBenchmark

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from avalanche_care.benchmarks._options import BenchmarkOptions

__all__ = [
    "SplitCIFAR100",
    "SplitCUB200",
    "SplitImageNetA",
    "SplitImageNetR",
    "SplitObjectNet",
    "SplitOmniBenchmark300",
    "SplitVTAB",
]


def SplitCIFAR100(
    protocol: str | int | Protocol | None = None, **options: Unpack[BenchmarkOptions]
) -> CILBenchmark:
    """CIFAR-100, enlarged to ``image_size``: 100 classes, ``"B0-Inc10"`` if left out.

    torchvision's ``CIFAR100`` finds, checks and reads the files in ``root/cifar-100-python``;
    ``download=True`` fetches them. There are no image files, so ``packed`` and ``cache_eval`` are
    refused.
    """
    return named_benchmark(CARDS["cifar100"], protocol, **options)


def SplitImageNetR(
    protocol: str | int | Protocol | None = None, **options: Unpack[BenchmarkOptions]
) -> CILBenchmark:
    """ImageNet-R in ``root/imagenet-r``: 200 classes, ``"B0-Inc20"`` if left out."""
    return named_benchmark(CARDS["imagenet-r"], protocol, **options)


def SplitImageNetA(
    protocol: str | int | Protocol | None = None, **options: Unpack[BenchmarkOptions]
) -> CILBenchmark:
    """ImageNet-A in ``root/imagenet-a``: 200 classes, ``"B0-Inc20"`` if left out."""
    return named_benchmark(CARDS["imagenet-a"], protocol, **options)


def SplitObjectNet(
    protocol: str | int | Protocol | None = None, **options: Unpack[BenchmarkOptions]
) -> CILBenchmark:
    """ObjectNet in ``root/objectnet``: 200 of its classes, ``"B0-Inc10"`` if left out.

    The licence of the original forbids training on it; see its card.
    """
    return named_benchmark(CARDS["objectnet"], protocol, **options)


def SplitOmniBenchmark300(
    protocol: str | int | Protocol | None = None, **options: Unpack[BenchmarkOptions]
) -> CILBenchmark:
    """OmniBenchmark with 300 classes in ``root/omnibenchmark``; ``"B0-Inc30"`` if left out."""
    return named_benchmark(CARDS["omnibenchmark"], protocol, **options)


def SplitVTAB(
    protocol: str | int | Protocol | None = None, **options: Unpack[BenchmarkOptions]
) -> CILBenchmark:
    """VTAB in ``root/vtab`` or ``root/vtab-cil/vtab``: 50 classes, ``"B0-Inc10"`` if left out.

    Its classes are those of five data sets, ten each, one data set after the other. The PILOT
    family keeps that order, so that a task is a data set; the CaRE paper shuffles. So the order
    depends on ``transforms``: with ``"care"`` the classes are permuted by seed 1993, with every
    other family they are not. A seed, ``shuffle`` or ``fixed_class_order`` that you pass wins. The
    benchmark says which it is when it is printed.
    """
    return named_benchmark(CARDS["vtab"], protocol, **options)


def SplitCUB200(
    protocol: str | int | Protocol | None = None, **options: Unpack[BenchmarkOptions]
) -> CILBenchmark:
    """CUB-200 in ``root/cub``: 200 classes, ``"B0-Inc10"`` if left out."""
    return named_benchmark(CARDS["cub"], protocol, **options)
