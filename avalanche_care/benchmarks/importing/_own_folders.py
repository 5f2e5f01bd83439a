"""Reading folders of images: one folder per class, with or without a realm above it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avalanche_care.benchmarks.importing._own_files import file_problems
from avalanche_care.benchmarks.importing._own_names import (
    class_problems,
    is_image,
    refusal,
    some,
)
from avalanche_care.benchmarks.importing._own_plan import ImagePlan, Images
from avalanche_care.benchmarks.importing._own_split import HeldOut
from avalanche_care.benchmarks.importing.arrangement import split_of
from avalanche_care.benchmarks.importing.contents import is_ignored
from avalanche_care.benchmarks.importing.layout import find_layout

__all__ = ["NoPairError", "read_class_folders", "read_pair"]

logger = logging.getLogger(__name__)


class NoPairError(ValueError):
    """A directory in which no training and test folders are found."""


@dataclass
class _Findings:
    """What is wrong, and what is no image of a class."""

    problems: list[str] = field(default_factory=list)
    empty: list[str | Path] = field(default_factory=list)
    deeper: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def images(self, name: str, folder: str | os.PathLike[str]) -> dict[str, str]:
        """File name -> path of the images directly in the folder of a class."""
        images = {}
        inside = False
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if is_ignored(entry.name):
                continue
            if entry.is_dir():
                inside |= _has_images(entry.path)
            elif is_image(entry.name):
                images[entry.name] = entry.path
            else:
                self.left_out.append(entry.path)
        if inside:
            self.deeper.append(name)
        elif not images:
            self.empty.append(name)
        return images

    def finish(self, source: Path, images: list[Images[str]]) -> dict[str, int]:
        """Refuse what cannot be imported; else say what is left out, and how many files that is."""
        if self.empty:
            self.problems.append(f"class folders without an image: {some(self.empty)}")
        if self.deeper:
            self.problems.append(
                f"class folders with images in folders of their own: {some(self.deeper)}. If the "
                "upper folders are realms, groups of classes, say realm_level=True "
                "(--realm-level); else name the folder that holds the class folders"
            )
        self.problems += class_problems(name for split in images for name in split)
        self.problems += file_problems(
            path for split in images for files in split.values() for path in files.values()
        )
        if self.problems:
            raise refusal(f"{source} cannot be imported", self.problems)
        if not self.left_out:
            return {}
        logger.warning(
            "left out, because they are no images of a class: %s",
            some(self.left_out),
        )
        return {"files_left_out": len(self.left_out)}


def read_class_folders(source: Path, held_out: HeldOut, realm_level: bool) -> ImagePlan[str]:
    """Images of one directory of class folders, split into training and test images.

    Args:
        source: The directory: ``<class>/<image>``, or ``<realm>/<class>/<image>``.
        held_out: Which images are for testing.
        realm_level: Whether there are realms.

    Returns:
        The plan.

    Raises:
        ValueError: If it has no such layout, or a class cannot be used; every problem is listed.
    """
    found = _Findings()
    top = _folders(source, found)
    splits = {split_of(name, adorned=False) for name in top}
    if top and (None not in splits or {"train", "test"} <= splits):
        raise ValueError(
            f"{source} is split already: it has the folders {', '.join(top)}. Leave test_fraction "
            "and test_per_class out, or name one of these folders"
        )
    if not top:
        raise ValueError(f"{source} has no folders; expected one for each class with its images")
    realms: dict[str, list[str]] = {}
    classes: dict[str, str] = {}
    if realm_level:
        for realm, folder in top.items():
            below = _folders(Path(folder), found)
            if not below:
                found.problems.append(f"the realm {realm} has no class folders")
            realms[realm] = list(below)
            for name, path in below.items():
                if name in classes:
                    first = next(other for other, names in realms.items() if name in names)
                    found.problems.append(
                        f"the class {name} is in two realms, {first} and {realm}; rename one"
                    )
                classes[name] = path
    else:
        classes = top
    images = {name: found.images(name, path) for name, path in sorted(classes.items())}
    details = found.finish(source, [images])
    train, test = held_out.divide(images)
    return ImagePlan(
        train, test, realms or None, {"layout": "class folders"} | details | held_out.record()
    )


def read_pair(source: Path, realm_level: bool) -> ImagePlan[str]:
    """Images of a directory that is split into training and test folders.

    Args:
        source: The directory: ``train/<class>/<image>`` and ``test/<class>/<image>``, in any of
            the forms that ``find_layout`` knows.
        realm_level: Whether there have to be realms.

    Returns:
        The plan.

    Raises:
        ValueError: If it has no such layout, or a class cannot be used; every problem is listed.
    """
    try:
        layout = find_layout(source)
    except ValueError as error:
        raise NoPairError(
            f"{error}\nIf its folders are classes that are not split yet, say how many images are "
            "for testing: test_fraction=0.2 (--test-fraction 0.2), or test_per_class"
        ) from error
    if realm_level and layout.realms is None:
        raise ValueError(
            f"{source} was to have realms, but its training folder holds class folders; leave "
            "realm_level (--realm-level) out"
        )
    found = _Findings()
    train, test = (
        {name: found.images(name, folder) for name, folder in sorted(split.items())}
        for split in (layout.train, layout.test)
    )
    _note_empty({*layout.train.values(), *layout.test.values()}, found)
    details: dict[str, Any] = {"layout": "train and test folders"}
    details |= found.finish(source, [train, test])
    for remark in layout.remarks:
        logger.info(remark)
        details.setdefault("remarks", []).append(remark)
    return ImagePlan(train, test, layout.realms, details)


def _note_empty(folders: set[Path], found: _Findings) -> None:
    """Note folders beside those of the classes: these have no images, so the layout skips them."""
    for parent in sorted({folder.parent for folder in folders}):
        found.empty += [
            Path(path)
            for name, path in _folders(parent, found).items()
            if Path(path) not in folders and split_of(name, adorned=True) is None
        ]


def _folders(directory: Path, found: _Findings) -> dict[str, str]:
    """Name -> path of the folders in a directory; files beside them belong to no class."""
    entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    visible = [entry for entry in entries if not is_ignored(entry.name)]
    found.left_out += [entry.path for entry in visible if not entry.is_dir()]
    return {entry.name: entry.path for entry in visible if entry.is_dir()}


def _has_images(folder: str) -> bool:
    return any(is_image(name) for _, _, names in os.walk(folder) for name in names)
