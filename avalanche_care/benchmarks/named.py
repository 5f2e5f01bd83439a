"""From the card of a data set to its benchmark: find the images, check them, split them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avalanche_care.benchmarks._options import Settings
from avalanche_care.benchmarks.catalogue import DatasetCard, ManualSource, TorchvisionSource
from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.folders import ImageData, image_benchmark, open_images
from avalanche_care.benchmarks.importing.download import download_dataset
from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.benchmarks.realms import read_realms, realm_classes
from avalanche_care.benchmarks.scenario import CILBenchmark
from avalanche_care.benchmarks.transforms import transform_family

if TYPE_CHECKING:
    from typing_extensions import Unpack  # torch brings it

    from avalanche_care.benchmarks._options import BenchmarkOptions

__all__ = ["card_split", "named_benchmark"]

logger = logging.getLogger(__name__)


def named_benchmark(
    card: DatasetCard,
    protocol: str | int | Protocol | None = None,
    **options: Unpack[BenchmarkOptions],
) -> CILBenchmark:
    """Make the benchmark of a card.

    Args:
        card: The data set.
        protocol: Name such as ``"B100-Inc3"``, a number of equal tasks, or a ``Protocol``. Left
            out: the first of the card's.
        options: As in ``BenchmarkOptions``.

    Returns:
        The benchmark.

    Raises:
        ValueError: If the options contradict each other or do not fit the data set, or the images
            are not those of the card.
        FileNotFoundError: If the images are not there; the message has the command to run.
    """
    settings = Settings(**options)
    family = transform_family(settings.transforms, card.name, settings.image_size)
    split = card_split(card, protocol, settings)
    if isinstance(card.source, TorchvisionSource):
        folder = settings.data_root / card.folder
        images = _from_torchvision(card, card.source, settings)
    else:
        folder = _folder(card, settings)
        images = open_images(*(folder / part for part in _parts(settings)))
    _check_counts(card, images, folder)
    realms = _realms(settings.realms, folder)
    return image_benchmark(
        images,
        split,
        family.with_own(settings.train_transform, settings.eval_transform),
        cache_eval=settings.cache_eval,
        name=card.name,
        realms=None if realms is None else realm_classes(realms, images.classes),
    )


def card_split(
    card: DatasetCard, protocol: str | int | Protocol | None, settings: Settings
) -> Protocol:
    """Work out the protocol of a card's benchmark, without its images.

    Raises:
        ValueError: If it does not fit the data set.
    """
    return settings.split(
        protocol,
        title=card.title,
        default=card.protocols[0],
        classes=card.classes,
        shuffled=card.shuffled["care" if settings.transforms == "care" else "pilot"],
    )


def _parts(settings: Settings) -> tuple[str, str]:
    return ("train.pack", "test.pack") if settings.packed else ("train", "test")


def _find(card: DatasetCard, settings: Settings) -> Path | None:
    for name in (card.folder, *card.other_folders):
        folder = settings.data_root / name
        if all((folder / part).exists() for part in _parts(settings)):
            return folder
    return None


def _folder(card: DatasetCard, settings: Settings) -> Path:
    """The folder of the data set, downloaded if that is wanted."""
    folder = _find(card, settings)
    if folder is None and settings.download and not settings.packed:
        download_dataset(card.name, settings.data_root)
        folder = _find(card, settings)
    if folder is not None:
        return folder
    raise FileNotFoundError((_not_packed if settings.packed else _not_there)(card, settings))


def _not_packed(card: DatasetCard, settings: Settings) -> str:
    """What to say if there are no packed files."""
    folder = settings.data_root / card.folder
    commands = " and ".join(
        f"'avalanche-care data pack {folder / part} --out {folder / part}.pack'"
        for part in ("train", "test")
    )
    missing = [str(folder / part) for part in _parts(settings) if not (folder / part).exists()]
    return (
        f"{card.title} is not packed: no {' and no '.join(missing)}; run {commands}, or leave "
        "packed out"
    )


def _not_there(card: DatasetCard, settings: Settings) -> str:
    """What to say if the images are not there: what was expected, and how to get it."""
    root = settings.data_root
    expected = [root / card.folder / part for part in _parts(settings)]
    missing = " and no ".join(str(path) for path in expected if not path.exists())
    how = f"run 'avalanche-care data download {card.name} --root {root}' or pass download=True"
    if isinstance(card.source, ManualSource):
        how = f"from {card.source.url}, {card.source.instructions} (with --root {root})"
    hint = ""
    if (root / "train").is_dir() and (root / "test").is_dir():
        hint = f"; {root} itself has train and test, but root is the directory above such a folder"
    return (
        f"{card.title} is not there: no {missing}, with one folder of images per class; {how}; or "
        f"pass another root{hint}"
    )


def _from_torchvision(
    card: DatasetCard, source: TorchvisionSource, settings: Settings
) -> ImageData:
    """A data set that torchvision finds, checks and reads."""
    import torchvision.datasets

    if settings.packed:
        raise ValueError(f"{card.title} is read from torchvision's own files; leave packed out")
    make = getattr(torchvision.datasets, source.cls)
    root = settings.data_root
    if settings.download:  # under a lock; torchvision looks itself at what is there already
        download_dataset(card.name, root)
    try:
        train, test = (make(root, train=train) for train in (True, False))
    except RuntimeError as error:  # how torchvision says that files are missing or damaged
        raise FileNotFoundError(
            f"{card.title} is not in {root / card.folder}, or its files are damaged; run "
            f"'avalanche-care data download {card.name} --root {root}', pass download=True, or "
            "pass another root"
        ) from error
    return ImageData(train, test, list(train.classes))


def _check_counts(card: DatasetCard, images: ImageData, folder: Path) -> None:
    """Other classes are another benchmark; a few images more or less are worth a warning."""
    found = len(images.classes)
    if found != card.classes:
        difference = card.classes - found
        what = f"{difference} are missing" if difference > 0 else f"{-difference} are too many"
        raise ValueError(
            f"{folder} has {found} classes, and {card.title} has {card.classes}: {what}; "
            f"'avalanche-care data verify {folder}' says more. To use what is there, call "
            "benchmark_from_folders"
        )
    pairs = (
        ("training", len(images.train), card.train_images),
        ("test", len(images.test), card.test_images),
    )
    wrong = [
        f"{count:,} {part} images, expected {expected:,}"
        for part, count, expected in pairs
        if count != expected
    ]
    if wrong:
        logger.warning(
            "%s has %s (%s); accuracies may not be comparable",
            *(folder, " and ".join(wrong), card.counts),
        )


def _realms(
    given: Mapping[str, Any] | str | os.PathLike[str] | None, folder: Path
) -> Mapping[str, Any] | None:
    """Realm -> names of classes, from the user or else from the record of the data set."""
    if given is None:
        record = DatasetRecord.load(folder)
        return None if record is None else record.realms
    return given if isinstance(given, Mapping) else read_realms(given)
