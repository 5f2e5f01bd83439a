"""The benchmarks that can be named, on the command line and in ``load_benchmark``.

A table and not a decorator: listing the benchmarks must not import what defines them.
"""

from __future__ import annotations

import os
from pathlib import Path

from avalanche_care.benchmarks._cache import data_root
from avalanche_care.benchmarks.catalogue import CARDS, DatasetCard
from avalanche_care.benchmarks.dataset_record import RECORD_FILE, DatasetRecord

__all__ = ["available_benchmarks", "imported_folders"]

_DESCRIPTIONS = {
    "folders": "your own images: a training and a test directory with one folder per class",
    "glyphs": "1,000 Unicode characters drawn from matplotlib's typefaces; nothing to download",
}


def available_benchmarks(root: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Name and one-line description of every benchmark, sorted by name.

    Args:
        root: Directory of the data sets; those that were imported into it are listed too. Left out:
            ``AVALANCHE_CARE_DATA``, else ``~/.avalanche_care/data``.

    Returns:
        Name -> description. That a data set of the catalogue is listed does not mean that its
        images are there.
    """
    listed = dict(_DESCRIPTIONS)
    for name, folder in imported_folders(root).items():
        try:
            record = DatasetRecord.load(folder)
        except ValueError as error:
            listed[name] = f"imported, but its record cannot be read: {error}"
            continue
        if record is not None:
            listed[name] = f"imported: {_counts(record)}"
    for name, card in CARDS.items():
        listed[name] = f"{card.title}: {_counts(card)}; {', '.join(card.protocols)}"
    return dict(sorted(listed.items()))


def imported_folders(root: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """Folders of the data sets in a directory that are not of the catalogue, by name.

    Args:
        root: As in :func:`available_benchmarks`. It need not exist.
    """
    directory = data_root(root)
    if not directory.is_dir():
        return {}
    published = {name for card in CARDS.values() for name in (card.name, card.folder)}
    folders = sorted(path.parent for path in directory.glob(f"*/{RECORD_FILE}"))
    return {
        folder.name: folder
        for folder in folders
        if folder.name not in published and folder.suffix != ".part"  # that one is unfinished
    }


def _counts(data: DatasetRecord | DatasetCard) -> str:
    return (
        f"{data.classes:,} classes, {data.train_images:,} training and {data.test_images:,} test "
        "images"
    )
