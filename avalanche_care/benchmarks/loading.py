"""A benchmark from its name, whatever kind it is of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from avalanche_care.benchmarks._options import Settings
from avalanche_care.benchmarks.catalogue import (
    CARDS,
    LONG_PROTOCOLS,
    DatasetCard,
    ManualSource,
    suggestion,
)
from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.named import named_benchmark
from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.benchmarks.registry import available_benchmarks, imported_folders
from avalanche_care.benchmarks.scenario import CILBenchmark

if TYPE_CHECKING:
    from typing_extensions import Unpack  # torch brings it

    from avalanche_care.benchmarks._options import BenchmarkOptions

__all__ = ["load_benchmark"]


def load_benchmark(
    name: str,
    protocol: str | int | Protocol | None = None,
    **options: Unpack[BenchmarkOptions],
) -> CILBenchmark:
    """Make a benchmark from its name.

    Args:
        name: A name of the catalogue such as ``"imagenet-r"``, ``"glyphs"``, or that of a data set
            that was imported into ``root``. :func:`available_benchmarks` lists them.
        protocol: Name such as ``"B100-Inc3"``, a number of equal tasks, or a ``Protocol``. Left
            out: the first of the data set's published ones; for imported data ``"B0-Inc10"``.
        options: As in :class:`BenchmarkOptions`, ``root`` first of all. Glyphs and Omniglot have
            transforms of their own, and take only some of the options.

    Returns:
        The benchmark.

    Raises:
        ValueError: If there is no such benchmark, or the options or images do not fit.
        FileNotFoundError: If the images are not there.

    Example:
        >>> load_benchmark("imagenet-r", "B0-Inc20", root="~/data")  # doctest: +SKIP
    """
    from avalanche_care import benchmarks

    if name in _OWN_IMAGES:
        generator, total = _OWN_IMAGES[name]
        return _with_own_images(getattr(benchmarks, generator), name, total, protocol, options)
    if name in CARDS:
        return named_benchmark(CARDS[name], protocol, **options)
    root = Settings(**options).data_root
    folder = imported_folders(root).get(name)
    record = None if folder is None else DatasetRecord.load(folder)
    if record is not None:
        return named_benchmark(_card_of(record, name), protocol, **options)
    if name == "folders":
        raise ValueError("for two directories of your own call benchmark_from_folders(train, test)")
    known = available_benchmarks(root)
    raise ValueError(
        f"no benchmark is called {name!r}{suggestion(name, known)}; there are {', '.join(known)}"
    )


_OWN_IMAGES = {"glyphs": ("GlyphBenchmark", 1000), "omniglot": ("SplitOmniglot", 1623)}
"""Benchmarks that draw or crop in a way of their own: generator, classes there are."""

_SETTLED = {
    *("root", "dataset_root", "n_classes", "n_experiences"),
    *("class_order_seed", "seed", "fixed_class_order", "shuffle"),
    *("return_task_id", "class_ids_from_zero_from_first_exp", "class_ids_from_zero_in_each_exp"),
}
"""Options that say where the data sets are or what the protocol is, or that change nothing."""


def _with_own_images(
    generator: Callable[..., CILBenchmark],
    name: str,
    total: int,
    protocol: str | int | Protocol | None,
    options: Mapping[str, Any],
) -> CILBenchmark:
    """Call a generator that takes a protocol and only some of the options."""
    settings = Settings(**options)
    split = settings.split(
        protocol,
        title=name,
        default=LONG_PROTOCOLS[0],
        classes=1000,
        total_classes=total,
    )
    takes = inspect.signature(generator).parameters
    passed_on = {
        key: value
        for key, value in options.items()
        if key not in _SETTLED and value is not None and value is not False
    }
    strange = sorted(passed_on.keys() - takes.keys())
    if strange:
        raise ValueError(
            f"{name} has images and transforms of its own and does not take {', '.join(strange)}"
        )
    if "root" in takes:
        passed_on["root"] = settings.data_root
    return generator(split, **passed_on)


def _card_of(record: DatasetRecord, folder: str) -> DatasetCard:
    """A card for data that somebody imported."""
    return DatasetCard(
        name=record.name,
        title=record.name,
        generator="load_benchmark",
        folder=folder,
        classes=record.classes,
        train_images=record.train_images,
        test_images=record.test_images,
        counts="its dataset.json",
        protocols=LONG_PROTOCOLS[:1],
        source=ManualSource(record.source, "import it again"),
        licence="",
        citation="",
    )
