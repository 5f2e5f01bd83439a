"""Which data set is meant by a name or a path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from avalanche_care.benchmarks._cache import data_root
from avalanche_care.benchmarks.catalogue import (
    CARDS,
    DatasetCard,
    ManualSource,
    TorchvisionSource,
    suggestion,
)
from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.importing.download import find_dataset
from avalanche_care.benchmarks.registry import imported_folders

__all__ = ["Located", "locate"]


class Located(NamedTuple):
    """A data set on disk.

    Attributes:
        path: Its folder, or a packed file.
        card: What it should have; None for imported data and packed files.
    """

    path: Path
    card: DatasetCard | None


def locate(
    name_or_path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None
) -> Located:
    """Find a data set.

    Args:
        name_or_path: Name in the catalogue or of an imported data set, which is looked for in the
            root first; else the path of its folder or of a packed file.
        root: Directory of the data sets; else ``AVALANCHE_CARE_DATA``, else
            ``~/.avalanche_care/data``.

    Raises:
        FileNotFoundError: If it is not there; the message says how to get it.
        ValueError: If there is neither such a name nor such a path.
    """
    root = data_root(root)
    text = os.fspath(name_or_path)
    card = CARDS.get(text)
    folder = find_dataset(card, root) if card else None
    if folder is not None:
        return Located(folder, card)
    imported = imported_folders(root)
    if text in imported:
        return Located(imported[text], None)
    path = Path(text).expanduser()
    if path.exists():
        return Located(path, _card_of(path) if path.is_dir() else None)
    if card is not None:
        how = f"avalanche-care data download {card.name} --root {root}"
        if isinstance(card.source, ManualSource):
            how += " --from ARCHIVE"
        raise FileNotFoundError(
            f"{card.title} is not in {root}: no {card.folder} there; run '{how}'"
        )
    raise ValueError(
        f"{text!r} is no file or folder, and no data set in {root} or in the catalogue"
        f"{suggestion(text, {**imported, **CARDS})}; there are {', '.join([*imported, *CARDS])}"
    )


def _card_of(folder: Path) -> DatasetCard | None:
    """The card of a folder, by its record or else by its name."""
    record = DatasetRecord.load(folder)
    if record is not None:
        return CARDS.get(record.name)
    name = folder.resolve().name
    cards = {card.folder: card for card in CARDS.values()}
    has_parts = all((folder / part).is_dir() for part in ("train", "test"))
    card = cards.get(name)
    if card is None or has_parts or isinstance(card.source, TorchvisionSource):
        return card
    return None
