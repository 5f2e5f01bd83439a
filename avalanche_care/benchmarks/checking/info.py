"""What is known about a data set, for people: the catalogue, and what is on the disk."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from pathlib import Path

from avalanche_care.benchmarks._cache import data_root
from avalanche_care.benchmarks.catalogue import (
    CARDS,
    DatasetCard,
    ManualSource,
    suggestion,
)
from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.importing.download import find_dataset
from avalanche_care.benchmarks.importing.staging import gigabytes
from avalanche_care.benchmarks.registry import imported_folders

__all__ = ["dataset_info", "dataset_table"]

WIDTH = 100
LABEL = 14


def dataset_table(root: str | os.PathLike[str] | None = None) -> str:
    """One line per data set: those of the catalogue, and those imported into a root.

    Args:
        root: As in :func:`dataset_info`.
    """
    root = data_root(root)
    rows = [("name", "classes", "training", "test", f"in {root}")]
    for card in CARDS.values():
        folder = find_dataset(card, root)
        there = "" if folder is None else str(folder.relative_to(root))
        rows.append((card.name, *_counts(card), there))
    for name, folder in imported_folders(root).items():
        record = DatasetRecord.load(folder)
        if record is not None:
            rows.append((name, *_counts(record), f"{name} (imported)"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"{name:{widths[0]}}  {classes:>{widths[1]}}  {train:>{widths[2]}}  {test:>{widths[3]}}  "
        f"{there}".rstrip()
        for name, classes, train, test, there in rows
    )


def dataset_info(name: str, root: str | os.PathLike[str] | None = None) -> str:
    """All that is known about a data set.

    Args:
        name: Name in the catalogue or of an imported data set.
        root: Directory of the data sets; else ``AVALANCHE_CARE_DATA``, else
            ``~/.avalanche_care/data``. It need not exist.

    Raises:
        ValueError: If there is no such data set.
    """
    given = None if root is None else os.fspath(root)
    root = data_root(root)
    if name in CARDS:
        return _of_card(CARDS[name], root, given)
    imported = imported_folders(root)
    record = DatasetRecord.load(imported[name]) if name in imported else None
    if record is not None:
        return _of_record(record, name, root, given)
    known = {**CARDS, **imported}
    raise ValueError(
        f"no data set is called {name!r}{suggestion(name, known)}; there are {', '.join(known)}"
    )


def _of_card(card: DatasetCard, root: Path, given: str | None) -> str:
    folder = find_dataset(card, root)
    record = None if folder is None else DatasetRecord.load(folder)
    train, test = f"{card.train_images:,}", f"{card.test_images:,}"
    lines = [
        ("classes", f"{card.classes:,}"),
        ("images", f"{train} for training, {test} for testing ({card.counts})"),
        ("realms", _realms(card, record)),
        ("protocols", ", ".join(f"{p} ({card.tasks(p)} tasks)" for p in card.protocols)),
        ("class orders", _orders(card)),
        ("transforms", _transforms(card)),
        ("licence", card.licence),
        ("citation", card.citation),
        ("notes", card.notes),
        ("source", _source(card)),
        ("get it", _command(card, given)),
        ("use it", f'{card.generator}(protocol="{card.protocols[0]}"{_argument(given)})'),
        *_on_disk(folder, record, root),
    ]
    return _page(f"{card.title} ({card.name})", lines)


def _of_record(record: DatasetRecord, name: str, root: Path, given: str | None) -> str:
    train, test = f"{record.train_images:,}", f"{record.test_images:,}"
    words = {key: value for key, value in record.details.items() if isinstance(value, str)}
    lines = [
        ("classes", f"{record.classes:,}"),
        ("images", f"{train} for training, {test} for testing"),
        ("realms", _realms(None, record)),
        *((key.replace("_", " ")[: LABEL - 1], value) for key, value in words.items()),
        ("use it", f'load_benchmark("{name}", "B0-Inc10"{_argument(given)})'),
        *_on_disk(root / name, record, root),
    ]
    return _page(f"{name} (imported)", lines)


def _counts(data: DatasetCard | DatasetRecord) -> tuple[str, str, str]:
    return f"{data.classes:,}", f"{data.train_images:,}", f"{data.test_images:,}"


def _realms(card: DatasetCard | None, record: DatasetRecord | None) -> str:
    """The realms of the copy on the disk, or else those that are published."""
    if record is not None and record.realms:
        return f"{len(record.realms)}: {', '.join(record.realms)}"
    if card is not None and card.name == "omnibenchmark1k":
        from avalanche_care.benchmarks.realms import OMNIBENCHMARK_REALMS

        names = ", ".join(OMNIBENCHMARK_REALMS)
        where = "" if record is None else "; this copy does not say which classes they have"
        return f"{len(OMNIBENCHMARK_REALMS)}: {names}{where}"
    return ""


def _orders(card: DatasetCard) -> str:
    seeds = ", ".join(map(str, card.class_orders))
    if all(card.shuffled.values()):
        return f"permuted with seed {seeds}"
    kept = " and ".join(name for name, shuffled in card.shuffled.items() if not shuffled)
    return f"permuted with seed {seeds}; under the transforms of {kept} in the sorted order"


def _transforms(card: DatasetCard) -> str:
    if card.generator == "SplitOmniglot":
        return "its own"
    from avalanche_care.benchmarks.transforms import available_transform_families

    return ", ".join(available_transform_families())


def _argument(given: str | None) -> str:
    return "" if given is None else f', root="{given}"'


def _source(card: DatasetCard) -> str:
    source = card.source
    return (
        f"{source.url}: {source.instructions}" if isinstance(source, ManualSource) else source.url
    )


def _command(card: DatasetCard, given: str | None) -> str:
    options = "" if given is None else f" --root {given}"
    if isinstance(card.source, ManualSource):
        options += " --from ARCHIVE"
    return f"avalanche-care data download {card.name}{options}"


def _on_disk(
    folder: Path | None, record: DatasetRecord | None, root: Path
) -> list[tuple[str, str]]:
    if folder is None:
        return [("on disk", f"not in {root}")]
    files, size = _size(folder)
    lines = [("on disk", f"{folder}, {files:,} files, {gigabytes(size)}")]
    if record is not None:
        counts = "{} classes, {} training and {} test images".format(*_counts(record))
        lines.append(("its record", f"{counts}, from {record.source or 'an unknown place'}"))
    return lines


def _size(folder: Path) -> tuple[int, int]:
    """Files in a folder and their bytes."""
    files = size = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(directory, name)).st_size
            except FileNotFoundError:
                continue  # gone since it was listed
            files += 1
    return files, size


def _page(title: str, lines: Iterable[tuple[str, str]]) -> str:
    return "\n".join([title, *(_filled(label, value) for label, value in lines if value)])


def _filled(label: str, value: str) -> str:
    """A labelled paragraph; what somebody may copy stays on one line."""
    first = f"{label:{LABEL}}"
    if label in ("get it", "use it", "on disk", "its record"):
        return first + value
    return textwrap.fill(
        value,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )
