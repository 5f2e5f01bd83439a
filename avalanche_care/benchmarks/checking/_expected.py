"""What a data set should have, against what lies in its folder."""

from __future__ import annotations

from collections.abc import Mapping

from avalanche_care.benchmarks.catalogue import DatasetCard
from avalanche_care.benchmarks.checking._scan import Scan
from avalanche_care.benchmarks.dataset_record import RECORD_FILE, DatasetRecord

__all__ = ["check_classes", "check_counts"]

Problems = Mapping[str, list[str]]


def check_classes(found: Scan, record: DatasetRecord | None, problems: Problems) -> None:
    """Compare the classes of the parts with each other, and with the realms of the record."""
    problems["missing folders"].extend(found.missing_parts)
    classes = {part: set(images) for part, images in found.images.items()}
    everywhere = set().union(*classes.values())
    for part, names in classes.items():
        problems["missing classes"].extend(f"{part}/{name}" for name in sorted(everywhere - names))
        problems["empty classes"].extend(
            f"{part}/{name}" for name, images in found.images[part].items() if not images
        )
    if record is None or record.realms is None:
        return
    expected = {name: realm for realm, names in record.realms.items() for name in names}
    if len(expected) != record.classes:
        return  # the realms do not name every class
    for name in sorted(expected.keys() - everywhere):
        problems["missing classes"].append(f"{name}, of the realm {expected[name]}")
    problems["extra classes"].extend(sorted(everywhere - expected.keys()))


def check_counts(
    found: Scan, card: DatasetCard | None, record: DatasetRecord | None, problems: Problems
) -> None:
    """Compare numbers of classes and images with those of the card and of the record."""
    there = {
        "classes": len({name for images in found.images.values() for name in images}),
        "train_images": found.count("train"),
        "test_images": found.count("test"),
    }
    sources: list[tuple[DatasetCard | DatasetRecord, str]] = []
    if card is not None:
        sources.append((card, card.counts))
    if record is not None:
        sources.append((record, RECORD_FILE))
    for expected, source in sources:
        for key, words in _WORDS.items():
            count, wanted = there[key], getattr(expected, key)
            if count != wanted:
                problems["other counts"].append(
                    f"{count:,} {words}, expected {wanted:,} ({source})"
                )


_WORDS = {"classes": "classes", "train_images": "training images", "test_images": "test images"}
