"""Whether the images of a data set are all there, can be read, and are the same as before."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from avalanche_care.benchmarks.catalogue import DatasetCard, TorchvisionSource
from avalanche_care.benchmarks.checking._expected import check_classes, check_counts
from avalanche_care.benchmarks.checking._scan import scan
from avalanche_care.benchmarks.checking._torchvision_data import verify_torchvision
from avalanche_care.benchmarks.checking.images import compare, reading_pool
from avalanche_care.benchmarks.checking.report import VerifyReport
from avalanche_care.benchmarks.dataset_record import DatasetRecord

__all__ = ["verify_dataset"]

PARTS = ("train", "test")


def verify_dataset(
    folder: str | os.PathLike[str],
    *,
    card: DatasetCard | None = None,
    deep: bool = False,
    renew: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> VerifyReport:
    """Check the folder of a data set, ``train/<class>/*`` and ``test/<class>/*``, or torchvision's.

    The first time every image is opened (its header is read, not its pixels) and its SHA-256 goes
    into ``manifest.txt`` in the folder, unless images cannot be read. Later an image whose size
    and time are those of the manifest is taken to be the same; any other is opened and compared by
    its content. A copy with other times is therefore no problem, only slower once.

    Args:
        folder: The folder.
        card: What the data set should have. The record in the folder is compared in any case.
        deep: Decode every image and compare every content, whatever the times say.
        renew: Forget the manifest and make another, of the images that are there now.
        workers: Threads; as many as Python thinks right if left out.
        progress: Whether to show a bar.

    Returns:
        What was found.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the manifest or the record is damaged, or ``workers`` is not positive.
    """
    folder = Path(folder)
    if card is not None and isinstance(card.source, TorchvisionSource):
        return verify_torchvision(
            card, card.source.cls, folder, deep=deep, workers=workers, progress=progress
        )
    record = DatasetRecord.load(folder)
    with reading_pool(folder, workers) as pool:
        found = scan(folder, PARTS, pool)
        problems: dict[str, list[str]] = defaultdict(list)
        check_classes(found, record, problems)
        check_counts(found, card, record, problems)
        return compare(folder, found, problems, pool, deep=deep, renew=renew, progress=progress)
