"""A benchmark from its name, whatever kind it is of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
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
from avalanche_care.benchmarks.named import card_split, named_benchmark
from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.benchmarks.registry import available_benchmarks, imported_folders
from avalanche_care.benchmarks.scenario import CILBenchmark
from avalanche_care.benchmarks.transforms import transform_family
from avalanche_care.checked import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Unpack  # torch brings it

    from avalanche_care.benchmarks._options import BenchmarkOptions

__all__ = ["check_benchmark", "load_benchmark"]


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
    settings = Settings(**options)
    if name not in _OWN_IMAGES:
        return named_benchmark(_card(name, settings), protocol, **options)
    passed_on = _own_options(name, options)
    return _generator(name)(_own_split(name, protocol, settings), **passed_on)


def check_benchmark(
    name: str, protocol: str | None = None, **options: Unpack[BenchmarkOptions]
) -> list[str]:
    """Say what :func:`load_benchmark` would refuse, as far as it can be told without the images.

    Args:
        name, protocol, options: As there.

    Returns:
        What is wrong, a line each. One that begins with an argument's name and a colon is about
        that argument alone.
    """
    settings = Settings(**options)
    steps: list[tuple[str, Callable[[], object]]]
    if name in _OWN_IMAGES:
        steps = [
            ("", lambda: _own_options(name, options)),
            ("", lambda: _own_split(name, protocol, settings)),
        ]
    else:
        try:
            card = _card(name, settings)
        except ValueError as error:
            return [f"name: {error}"]
        family = partial(transform_family, settings.transforms, card.name, settings.image_size)
        steps = [("transforms: ", family), ("", lambda: card_split(card, protocol, settings))]
    problems = []
    for place, step in steps:
        try:
            step()
        except ValueError as error:
            lines = error.problems if isinstance(error, ConfigError) else (str(error),)
            problems += [place + line for line in lines]
    return problems


def _card(name: str, settings: Settings) -> DatasetCard:
    """The card of a data set, published or imported."""
    if name in CARDS:
        return CARDS[name]
    folder = imported_folders(settings.data_root).get(name)
    record = None if folder is None else DatasetRecord.load(folder)
    if record is not None:
        return _card_of(record, name)
    if name == "folders":
        raise ValueError("for two directories of your own call benchmark_from_folders(train, test)")
    known = available_benchmarks(settings.data_root)
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


def _generator(name: str) -> Callable[..., CILBenchmark]:
    from avalanche_care import benchmarks

    generator: Callable[..., CILBenchmark] = getattr(benchmarks, _OWN_IMAGES[name][0])
    return generator


def _own_split(name: str, protocol: str | int | Protocol | None, settings: Settings) -> Protocol:
    return settings.split(
        protocol,
        title=name,
        default=LONG_PROTOCOLS[0],
        classes=1000,
        total_classes=_OWN_IMAGES[name][1],
    )


def _own_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that go to a generator, which takes only some."""
    takes = inspect.signature(_generator(name)).parameters
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
        passed_on["root"] = Settings(**options).data_root
    return passed_on


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
