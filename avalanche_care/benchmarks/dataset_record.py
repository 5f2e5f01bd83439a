"""What is known about a prepared data set: one small JSON file beside its images."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avalanche_care._files import replace_text

__all__ = ["RECORD_FILE", "DatasetRecord"]

RECORD_FILE = "dataset.json"
FORMAT = 1  # raise it when a key changes its meaning


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """A folder ``<root>/<name>`` with ``train/<class>/*`` and ``test/<class>/*``.

    Attributes:
        name: Name of the data set, and of its folder.
        classes: Number of classes; they are numbered in the sorted order of their folder names.
        train_images, test_images: Numbers of images.
        realms: Realm -> names of its class folders; None if the classes are not grouped.
        source: Where the images are from: a path, a hub repository and its revision, a URL.
        details: How they were prepared, for example the seed of a split.
    """

    name: str
    classes: int
    train_images: int
    test_images: int
    realms: Mapping[str, Sequence[str]] | None = None
    source: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the record into the folder of the data set; readers never see half a file."""
        path = Path(folder) / RECORD_FILE
        text = json.dumps({"format": FORMAT} | dataclasses.asdict(self), indent=1)
        replace_text(path, text + "\n")
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> DatasetRecord | None:
        """Read the record of a folder.

        Args:
            folder: The folder of the data set.

        Returns:
            The record; None if the folder has none, as when it was made by hand.

        Raises:
            ValueError: If there is a record that cannot be read.
        """
        path = Path(folder) / RECORD_FILE
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # broken JSON or broken UTF-8
            raise ValueError(f"{path} is not a JSON file: {error}") from error
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError(f"{path} is not a record of format {FORMAT}; prepare the data again")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"{path}: {error}; prepare the data again") from error
