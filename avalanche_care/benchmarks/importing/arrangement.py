"""Which split, class and realm an image belongs to, told by the folders that it is in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from avalanche_care.benchmarks.importing.contents import FoundFile, listing

__all__ = ["Arrangement", "arrange", "is_shard", "split_of"]

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}
_ADORNED = re.compile(
    rf"(?:.*[-_. ])?({'|'.join(_SPLITS)})"
    r"(?:[-_. ]*(?:set|data|images?|imgs?|split|part|shard|chunk|of|\d+))*"
)
_SHARD = re.compile(r".*?(?:part|shard|chunk|vol|batch)?[-_. ]*\d+(?:[-_ ]of[-_ ]\d+)?")
_STRAY = 20  # at most one image in so many may lie outside the training and test folders

Row = tuple[str, ...]  # names of folders


class _UnclearError(ValueError):
    """Why the folders cannot be read in one way."""


@dataclass(frozen=True)
class Arrangement:
    """The images of each class, wherever they are.

    Attributes:
        train, test: Class -> its images.
        realms: Realm -> its classes; None if the folders do not group them.
        remarks: What was decided on the way, for people.
    """

    train: Mapping[str, Sequence[FoundFile]]
    test: Mapping[str, Sequence[FoundFile]]
    realms: Mapping[str, Sequence[str]] | None
    remarks: Sequence[str] = ()


def arrange(files: Sequence[FoundFile], what: str) -> Arrangement:
    """Find out which image belongs to which split, class and realm, by the folders it is in.

    Args:
        files: Everything that was found; an archive counts as a folder.
        what: How messages call the whole.

    Returns:
        The arrangement. Training and test have the same classes.

    Raises:
        ValueError: If this is not clear, with a list of what was found.
    """
    images = [file for file in files if file.is_image]
    problems = []
    # Names like "train" first: a class may be called "bullet_train", an archive "images_train".
    for adorned in (False, True):
        try:
            return _Reading(images, adorned).arrangement()
        except _UnclearError as problem:
            problems.append(str(problem))
    raise ValueError(
        f"cannot find training and test images in {what}: {' / '.join(dict.fromkeys(problems))}.\n"
        "Expected train/<class>/<image> and test/<class>/<image>, in folders, archives or Parquet "
        "files, perhaps with a realm above the classes. Found:\n" + listing(files)
    )


@dataclass
class _Split:
    """The images of one split, the folders above its own, and those below."""

    images: list[FoundFile] = field(default_factory=list)
    above: list[Row] = field(default_factory=list)
    below: list[Row] = field(default_factory=list)


class _Reading:
    """One way to read the folders.

    Args:
        images: All images.
        adorned: Whether ``train_images_01`` and the like are training folders, too.
    """

    def __init__(self, images: Sequence[FoundFile], adorned: bool) -> None:
        self.total = len(images)
        self.splits: dict[str, _Split] = {}
        self.remarks: list[str] = []
        self.outside = 0
        for image in images:
            # The outermost one: "train" is also the name of a class, of CIFAR-100 for example.
            for depth, folder in enumerate(image.folders):
                name = split_of(folder, adorned=adorned)
                if name is not None:
                    split = self.splits.setdefault(name, _Split())
                    split.images.append(image)
                    split.above.append(image.folders[:depth])
                    split.below.append(image.folders[depth + 1 :])
                    break
            else:
                self.outside += 1

    def arrangement(self) -> Arrangement:
        if not self.total:
            raise _UnclearError("there are no images")
        tests = [name for name in ("test", "val") if name in self.splits]
        if "train" not in self.splits or not tests:
            lacking = "train" if "train" not in self.splits else "test"
            raise _UnclearError(f"there are no images in a folder or archive called {lacking}")
        if tests[0] == "val":
            self.remarks.append("there is no test folder; the validation images are for testing")
        elif len(tests) > 1:
            count = len(self.splits["val"].images)
            self.remarks.append(f"{count:,} validation images are not used")
        train, train_realms = self._classes("train")
        test, test_realms = self._classes(tests[0])
        self._note_strays()
        _compare(train, test)
        if train_realms and test_realms and train_realms != test_realms:
            raise _UnclearError("training and test folders put classes into different realms")
        realms: dict[str, list[str]] = {}
        for name in sorted(train_realms):
            realms.setdefault(train_realms[name], []).append(name)
        return Arrangement(train, test, realms or None, self.remarks)

    def _classes(self, name: str) -> tuple[dict[str, list[FoundFile]], dict[str, str]]:
        """Class -> images, and class -> realm (empty if there are none), of a split."""
        split = self.splits[name]
        images, above, below = split.images, split.above, split.below
        if not any(below):  # <class>/train/<image>
            below, above = above, [()] * len(images)
        elif not all(below):
            inside = [index for index, row in enumerate(below) if row]
            self.outside += len(images) - len(inside)
            images = [images[index] for index in inside]
            above, below = ([rows[index] for index in inside] for rows in (above, below))
        classes = _telling_levels(below, keep_last=True)
        # Where one image has nothing above "train" beyond what all have, that groups no classes.
        least = min(above, key=len)
        if all(row[: len(least)] == least for row in above):
            above = [()] * len(above)
        groups = _telling_levels(above, keep_last=False)
        depth, group_depth = len(classes[0]), len(groups[0])
        if depth == 0:
            raise _UnclearError(f"the images of {name} are not in class folders")
        if depth + group_depth > 2:
            example = "/".join((*above[0], name, *below[0]))
            raise _UnclearError(f"there are too many levels of folders, as in {example}")
        rows = [(*group, *row) for group, row in zip(groups, classes, strict=True)]
        if len(rows[0]) == 2 and all(map(is_shard, {group for group, _ in rows})):
            rows = [row[1:] for row in rows]  # data that somebody cut into numbered pieces
        found: dict[str, list[FoundFile]] = {}
        realms: dict[str, str] = {}
        for row, image in zip(rows, images, strict=True):
            found.setdefault(row[-1], []).append(image)
            if len(row) == 2 and realms.setdefault(row[1], row[0]) != row[0]:
                raise _UnclearError(
                    f"a class {row[1]} is both in {realms[row[1]]} and in {row[0]}; rename one"
                )
        return found, realms

    def _note_strays(self) -> None:
        if self.outside * _STRAY > self.total:
            raise _UnclearError(
                f"{self.outside:,} of {self.total:,} images are not in class folders of training "
                "or test folders"
            )
        if self.outside:
            self.remarks.append(f"{self.outside:,} images outside the class folders are left out")


def _telling_levels(rows: Sequence[Row], *, keep_last: bool) -> list[Row]:
    """Drop the levels of folders at which all rows agree.

    Args:
        rows: The folders of each image.
        keep_last: Whether the last level stays if nothing else does: the only class.
    """
    depths = {len(row) for row in rows}
    if len(depths) > 1:
        short, long = (next(row for row in rows if len(row) == d) for d in sorted(depths)[:2])
        raise _UnclearError(
            f"folders are at different depths, such as {'/'.join(short) or '(none)'} and "
            f"{'/'.join(long)}"
        )
    depth = depths.pop()
    telling = [level for level in range(depth) if len({row[level] for row in rows}) > 1]
    if not telling and depth and keep_last:
        telling = [depth - 1]
    return [tuple(row[level] for level in telling) for row in rows]


def _compare(train: Iterable[str], test: Iterable[str]) -> None:
    """Refuse classes that only training or only test has."""
    train, test = set(train), set(test)
    for only, here in ((train - test, "training"), (test - train, "test")):
        if only:
            names = ", ".join(sorted(only)[:10]) + (", ..." if len(only) > 10 else "")
            raise _UnclearError(f"{len(only)} classes have only {here} images: {names}")


def split_of(folder: str, *, adorned: bool) -> str | None:
    """The split that a folder's name says: ``"train"``, ``"test"``, ``"val"`` or None."""
    name = folder.lower()
    if not adorned:
        return _SPLITS.get(name)
    match = _ADORNED.fullmatch(name)
    return _SPLITS[match.group(1)] if match else None


def is_shard(name: str) -> bool:
    """Whether a name only numbers a piece of the data, as ``part-03`` or ``data-00-of-10``."""
    return _SHARD.fullmatch(name.lower()) is not None and split_of(name, adorned=True) is None
