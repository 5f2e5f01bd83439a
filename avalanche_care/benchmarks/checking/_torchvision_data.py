"""Checking data sets that are kept in torchvision's own layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from avalanche_care.benchmarks.catalogue import DatasetCard
from avalanche_care.benchmarks.checking.images import verify_images
from avalanche_care.benchmarks.checking.report import VerifyReport

__all__ = ["verify_torchvision"]


def verify_torchvision(
    card: DatasetCard,
    cls: str,
    folder: Path,
    *,
    deep: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> VerifyReport:
    """Check torchvision's folder of a data set; its class has checksums of what it reads.

    Args:
        card: The data set.
        cls: Name of torchvision's class.
        folder: The folder.
        deep, workers, progress: As in ``verify_dataset``; only images in files of their own are
            looked at one by one.
    """
    if cls == "Omniglot":
        return _verify_omniglot(folder, deep=deep, workers=workers, progress=progress)
    import torchvision.datasets

    dataset = getattr(torchvision.datasets, cls)
    images = {}
    classes = 0
    problems: dict[str, tuple[str, ...]] = {}
    try:
        for part, train in (("train", True), ("test", False)):
            data = dataset(folder.parent, train=train, download=False)
            images[part], classes = len(data), len(data.classes)
    except RuntimeError as error:
        problems["unreadable files"] = (f"{folder.name}: {error}",)
    else:
        wrong = [
            f"{count:,} {part} images, expected {expected:,} ({card.counts})"
            for (part, count), expected in zip(
                images.items(), (card.train_images, card.test_images), strict=True
            )
            if count != expected
        ]
        if wrong:
            problems["other counts"] = tuple(wrong)
    return VerifyReport(
        folder=str(folder),
        classes=classes,
        images=images,
        opened=sum(images.values()),
        deep=deep,
        problems=problems,
        notes=(f"checked by torchvision's {cls}, with checksums of its files",),
    )


def _verify_omniglot(
    folder: Path, *, deep: bool, workers: int | None, progress: bool
) -> VerifyReport:
    from avalanche_care.benchmarks._omniglot_files import PARTS, find_characters, find_drawings

    report = verify_images(folder, tuple(PARTS), deep=deep, workers=workers, progress=progress)
    problems = dict(report.problems)
    characters: dict[str, Path] = {}
    try:
        characters = find_characters(folder)
        find_drawings(characters, characters)
    except FileNotFoundError:
        pass  # the missing folders are in the report already
    except ValueError as error:
        _, *lines = str(error).splitlines()
        problems["other counts"] = tuple(line.removeprefix("- ") for line in lines)
    return dataclasses.replace(report, classes=len(characters), problems=problems)
