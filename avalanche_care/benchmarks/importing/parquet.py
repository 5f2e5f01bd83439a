"""Images out of Parquet files as the Hugging Face hub has them."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from avalanche_care.benchmarks.importing.contents import IMAGE_SUFFIXES, kind_of_bytes
from avalanche_care.benchmarks.importing.staging import SPARE, empty, require_space, staged

__all__ = ["export_parquet", "need_pyarrow"]

_IMAGES = ("image", "img", "jpg", "jpeg", "png", "picture", "pixels")
_LABELS = ("label", "fine_label", "class", "class_name", "category", "target", "labels", "cls", "y")
_ROWS = 32  # that are in memory at once, beside what pyarrow reads ahead of them
_UNSAFE = re.compile(r'[/\\\0-\x1f<>:"|?*]')  # characters that some system has not in names


@dataclass(frozen=True)
class _Columns:
    """Which columns hold what; no split or realm if there is no such column.

    Attributes:
        names: Folder names of the classes by number; empty if the labels are text or bare numbers.
    """

    image: str
    label: str
    split: str | None
    realm: str | None
    names: tuple[str, ...]

    def used(self) -> list[str]:
        return [c for c in (self.image, self.label, self.split, self.realm) if c is not None]


def export_parquet(
    file: str | os.PathLike[str], into: str | os.PathLike[str], *, progress: bool = False
) -> Path:
    """Write the images of a Parquet file as ``<class>/<image>``, complete or not at all.

    The bytes of the images are written as they are. A column ``realm`` becomes a folder above the
    classes, and a column ``split`` one above that. The file is read in small batches, so one of any
    size needs little memory.

    Args:
        file: The file. Images are a struct with ``bytes`` or bytes themselves; labels are numbers
            with the names in the hub's metadata, text, or bare numbers (written as ``00012``).
        into: The folder to make.
        progress: Whether to show a bar.

    Returns:
        The folder.

    Raises:
        ValueError: If pyarrow is not installed, the file is damaged, or images or labels are not
            found in it (the columns are named).
        FileExistsError: If the folder is there already.
        OSError: If there is too little space or the folder cannot be written.
    """
    file, into = Path(file), Path(into)
    need_pyarrow(file)
    with staged(into) as part, _opened(file) as table:
        empty(part)  # of a run that was stopped
        columns = _find_columns(table.schema_arrow, file)
        bar = tqdm(
            desc=f"exporting {file.name}",
            total=table.metadata.num_rows,
            unit="image",
            disable=not progress,
        )
        with bar:
            for number, row in _rows(table, columns, file):
                _write(row, columns, part, f"{file} row {number}", f"{file.stem}-{number:07d}")
                bar.update()
    return into


def need_pyarrow(file: object) -> None:
    """Say what to install if Parquet files cannot be read.

    Raises:
        ValueError: If pyarrow is missing.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"{file} is a Parquet file, and pyarrow, which reads those, is not installed; "
            'install it: pip install "avalanche-care[parquet]"'
        ) from error


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The file, open so that only what is asked for is read."""
    from pyarrow import parquet

    with _reading(file):
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
    with table:
        yield table


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn what a damaged file raises into one error that says so."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's trouble; pyarrow's own has no number
        raise ValueError(f"{file} is damaged or cut short ({error}); get it again") from error


def _rows(table: Any, columns: _Columns, file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows with their numbers, a few in memory at a time."""
    number = 0
    with _reading(file):
        for batch in table.iter_batches(_ROWS, columns=columns.used(), use_threads=False):
            for row in batch.to_pylist():
                yield number, row
                number += 1


def _write(row: dict[str, Any], columns: _Columns, part: Path, where: str, number: str) -> None:
    """Write one image to its place."""
    image = row[columns.image]
    content = image.get("bytes") if isinstance(image, dict) else image
    if not content:
        raise ValueError(f"{where} has no image bytes; get a file that holds the images themselves")
    folders = [
        _folder(row[column], column, where)
        for column in (columns.split, columns.realm)
        if column is not None
    ]
    folders.append(_class_name(row[columns.label], columns, where))
    directory = part.joinpath(*folders)
    directory.mkdir(parents=True, exist_ok=True)
    given = (image.get("path") if isinstance(image, dict) else None) or ""
    stem, suffix = os.path.splitext(_UNSAFE.sub("_", re.split(r"[/\\]", given)[-1]).lstrip("."))
    if suffix.lower() not in IMAGE_SUFFIXES:
        kind = kind_of_bytes(content)
        suffix = kind if kind in IMAGE_SUFFIXES else ".jpg"  # not readable, which verify reports
    path = directory / f"{stem or number}{suffix}"
    if path.exists():
        path = directory / f"{stem or 'image'}-{number}{suffix}"
    require_space(part, len(content) + SPARE)
    path.write_bytes(content)


def _class_name(label: Any, columns: _Columns, where: str) -> str:
    if isinstance(label, int) and not isinstance(label, bool):
        if not columns.names and label >= 0:
            return f"{label:05d}"  # so that their sorted order is that of the numbers
        if 0 <= label < len(columns.names):
            return columns.names[label]
    elif isinstance(label, str):
        return _folder(label, columns.label, where)
    raise ValueError(
        f"{where} has the label {label!r}, which is no class; expected text or a number"
        + (f" below {len(columns.names)}" if columns.names else "")
        + "; perhaps this is a test set without labels"
    )


def _folder(value: Any, column: str, where: str) -> str:
    """A text as the name of a folder."""
    name = _UNSAFE.sub("_", str(value)).strip().lstrip(".") if value is not None else ""
    if not name:
        raise ValueError(f"{where} has {value!r} in the column {column}; expected a name")
    return name


def _find_columns(schema: Any, file: Path) -> _Columns:
    """Find out what the columns are, by the hub's metadata first and then by type and name."""
    import pyarrow.types as kinds

    features = _features(schema.metadata)
    types = {field.name: field.type for field in schema}
    images = [name for name, feature in features.items() if feature.get("_type") == "Image"]
    images = images or [name for name, kind in types.items() if _holds_bytes(kind, kinds)]
    classes = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    texts = [
        name
        for name, t in types.items()
        if kinds.is_integer(t) or _is_text(_values(t, kinds), kinds)
    ]
    image = _choose(images, _IMAGES, only=True)
    label = _choose(classes, _LABELS, only=True) or _choose(texts, _LABELS, only=False)
    if image is None or label is None:
        missing = " and ".join(
            what for what, column in (("images", image), ("labels", label)) if column is None
        )
        columns = ", ".join(f"{name} ({kind})" for name, kind in types.items())
        raise ValueError(
            f"cannot tell which column of {file} holds the {missing}; expected an image column "
            f"such as image, and a label column such as label; it has: {columns}"
        )
    names = tuple(
        _folder(name, label, str(file)) for name in features.get(label, {}).get("names") or ()
    )
    if len({name.casefold() for name in names}) < len(names):
        raise ValueError(f"the class names of {file} are not different as names of folders")
    split, realm = (column if column in texts else None for column in ("split", "realm"))
    return _Columns(image, label, split, realm, names)


def _features(metadata: dict[bytes, bytes] | None) -> dict[str, dict[str, Any]]:
    """The hub's description of the columns; empty if there is none that can be read."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _choose(found: Sequence[str], preferred: Sequence[str], *, only: bool) -> str | None:
    """The first preferred name that was found, or what was found if it is only one."""
    for name in preferred:
        if name in found:
            return name
    return found[0] if only and len(found) == 1 else None


def _values(kind: Any, kinds: Any) -> Any:
    return kind.value_type if kinds.is_dictionary(kind) else kind


def _is_text(kind: Any, kinds: Any) -> bool:
    return kinds.is_string(kind) or kinds.is_large_string(kind)


def _holds_bytes(kind: Any, kinds: Any) -> bool:
    """Whether a column is of bytes, or of structs with bytes."""
    if kinds.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type, kinds) for field in kind)
    return kinds.is_binary(kind) or kinds.is_large_binary(kind)
