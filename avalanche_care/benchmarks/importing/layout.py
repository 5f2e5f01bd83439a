"""The class folders of a directory that holds training and test images in some arrangement."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avalanche_care.benchmarks.importing.arrangement import arrange
from avalanche_care.benchmarks.importing.contents import FoundFile, kind_of_file, visible_files

__all__ = ["Layout", "find_layout"]


@dataclass(frozen=True)
class Layout:
    """A directory that holds class folders for training and for testing.

    Attributes:
        train, test: Class -> its folder.
        realms: Realm -> its classes; None if the folders do not group them.
        remarks: What was decided on the way, for people.
    """

    train: Mapping[str, Path]
    test: Mapping[str, Path]
    realms: Mapping[str, Sequence[str]] | None
    remarks: Sequence[str] = ()


def find_layout(tree: str | os.PathLike[str]) -> Layout:
    """Find the class folders of a directory; archives in it are not opened.

    Known are ``train/<class>/<image>`` beside ``test/...`` (or ``val/...`` if there is no test),
    below any number of single folders, and with realms: ``train/<realm>/<class>`` or
    ``<realm>/train/<class>``.

    Args:
        tree: The directory.

    Returns:
        The layout.

    Raises:
        ValueError: If there is none, with a list of what was found; or if a class is spread over
            several folders.
        OSError: If a folder cannot be read.
    """
    files = [FoundFile(folders, path, kind_of_file(path)) for folders, path in visible_files(tree)]
    found = arrange(files, str(tree))
    return Layout(
        {name: _one_folder(name, images) for name, images in found.train.items()},
        {name: _one_folder(name, images) for name, images in found.test.items()},
        found.realms,
        found.remarks,
    )


def _one_folder(name: str, images: Sequence[FoundFile]) -> Path:
    folders = sorted({os.path.dirname(image.path) for image in images})
    if len(folders) > 1:
        raise ValueError(
            f"the class {name} is spread over {len(folders)} folders ({', '.join(folders[:3])}); "
            "move its images into one"
        )
    return Path(folders[0])
