"""Which images a data set will have, and making its folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from tqdm import tqdm

from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.importing._own_names import (
    class_problems,
    refusal,
    same_but_for_case,
    some,
)
from avalanche_care.benchmarks.importing.staging import staged

__all__ = ["ImagePlan", "Images", "Writer", "make_dataset"]

T = TypeVar("T")
Images = dict[str, dict[str, T]]
"""Class -> file name -> where the image is from."""
UNFINISHED = ".image"  # the file that is being written, moved to its name when it is complete


@dataclass(frozen=True)
class ImagePlan(Generic[T]):
    """The images of a data set, each with the name that its file gets.

    Attributes:
        train, test: Class -> file name -> where the image is from.
        realms: Realm -> names of its classes; None if the classes are not grouped.
        details: What the record says about how they were chosen.
    """

    train: Images[T]
    test: Images[T]
    realms: Mapping[str, Sequence[str]] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, str, str, T]]:
        """Split, class, file name and origin of every image, in sorted order."""
        for split, classes in (("train", self.train), ("test", self.test)):
            for name in sorted(classes):
                for file in sorted(classes[name]):
                    yield split, name, file, classes[name][file]

    def names_digest(self) -> str:
        """SHA-256 of the names of all images: equal where two copies have the same split."""
        digest = hashlib.sha256()
        for split, name, file, _ in self:
            digest.update(f"{split}/{name}/{file}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def problems(self) -> list[str]:
        """What keeps the images from being a data set."""
        names = {*self.train, *self.test}
        if not names:
            return ["there are no classes"]
        problems = class_problems(names)
        for split, classes in (("training", self.train), ("test", self.test)):
            empty = sorted(name for name in names if not classes.get(name))
            if empty:
                problems.append(f"classes without {split} images: {some(empty)}")
            for name, files in classes.items():
                problems += [
                    f"the {split} images {some(alike)} of the class {name} are one file on many "
                    "systems; rename them"
                    for alike in same_but_for_case(files)
                ]
        return problems


class Writer(Protocol[T]):
    """Puts images into the folder, in whatever form they come."""

    def fingerprint(self, plan: ImagePlan[T]) -> str:
        """A text that changes when an image does; what was begun before that is thrown away."""

    def begin(self, folder: Path, images: list[T]) -> None:
        """Check the space for what is still to be written."""

    def write(self, split: str, image: T, path: Path) -> None:
        """Make one file; there is none of that name."""

    def details(self) -> dict[str, Any]:
        """What the record says about the files."""


def make_dataset(
    target: Path,
    plan: ImagePlan[T],
    writer: Writer[T],
    *,
    source: str,
    notes: Mapping[str, str] | None = None,
    progress: bool = False,
) -> DatasetRecord:
    """Make the folder of a data set; it appears complete or not at all.

    Args:
        target: The folder, ``<root>/<name>``.
        plan: Its images.
        writer: Makes the files.
        source: Where the images are from, for the record.
        notes: Further files of the folder: name -> text.
        progress: Whether to show a bar.

    Returns:
        What is now known about the data set.

    Raises:
        ValueError: If the plan makes no data set; every problem is listed and nothing is written.
        FileExistsError: If the target is there.
        OSError: If it cannot be written. What is done is kept, and the same call goes on from it.
    """
    if problems := plan.problems():
        raise refusal(f"{source} cannot be imported", problems)
    with staged(target, plan={"images": writer.fingerprint(plan)}) as part:
        unfinished = part / UNFINISHED
        left = []
        for split, name, file, image in plan:
            path = part / split / name / file
            if not path.exists():  # moved there when it was complete
                left.append((split, image, path))
        writer.begin(part, [image for _, image, _ in left])
        for folder in sorted({path.parent for _, _, path in left}):
            folder.mkdir(parents=True, exist_ok=True)
        for split, image, path in tqdm(left, "importing", unit="image", disable=not progress):
            unfinished.unlink(missing_ok=True)
            writer.write(split, image, unfinished)
            os.replace(unfinished, path)
        unfinished.unlink(missing_ok=True)
        record = DatasetRecord(
            name=target.name,
            classes=len(plan.train),
            train_images=sum(map(len, plan.train.values())),
            test_images=sum(map(len, plan.test.values())),
            realms=plan.realms,
            source=source,
            details={
                **plan.details,
                **writer.details(),
                "names_sha256": plan.names_digest(),
            },
        )
        for file, text in (notes or {}).items():
            (part / file).write_text(text, encoding="utf-8", errors="surrogateescape")
        record.save(part)
    return record
