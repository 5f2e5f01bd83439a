"""Miniatures of data sets, in every form that they are published in.

A miniature is a dictionary: path such as ``"train/ant/0.jpg"`` -> bytes of a real, tiny image.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cat")
Files = dict[str, bytes]


def picture(seed: int, kind: str = "JPEG") -> bytes:
    """A small image of noise; another one for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def miniature(classes: Sequence[str] = CLASSES, train: int = 3, test: int = 2) -> Files:
    """Images as ``<split>/<class>/<n>.jpg``; every second one is a PNG. All are different."""
    files: Files = {}
    for split, count in (("train", train), ("test", test)):
        for name in classes:
            for number in range(count):
                suffix, kind = (("jpg", "JPEG"), ("png", "PNG"))[number % 2]
                path = f"{split}/{name}/{number}.{suffix}"
                files[path] = picture(len(files), kind)
    return files


def below(files: Mapping[str, bytes], prefix: str) -> Files:
    """The files below a folder, without its name: ``below(files, "train/")``."""
    return {path[len(prefix) :]: data for path, data in files.items() if path.startswith(prefix)}


def moved(files: Mapping[str, bytes], prefix: str) -> Files:
    """The same files with something before their paths."""
    return {prefix + path: data for path, data in files.items()}


def write_tree(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a directory."""
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def read_tree(root: Path) -> Files:
    """Everything below a directory, as :func:`write_tree` takes it, hidden files too."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return out.getvalue()


def tar_bytes(files: Mapping[str, bytes], compression: str = "") -> bytes:
    """A tar archive; compression "gz", "bz2" or "xz"."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compression}") as archive:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def split_bytes(data: bytes, names: Iterable[str]) -> Files:
    """A file in as many pieces as there are names, each of which has at least a byte."""
    names = list(names)
    step = -(-len(data) // len(names))
    return {name: data[k * step : (k + 1) * step] for k, name in enumerate(names)}


def parquet_bytes(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str] = (), row_group_size: int = 2
) -> bytes:
    """A Parquet file as the hub writes it; ``names`` makes the column ``label`` a ClassLabel."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist([dict(row) for row in rows])
    if names:
        features = {
            "image": {"_type": "Image"},
            "label": {"_type": "ClassLabel", "names": list(names)},
        }
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    out = io.BytesIO()
    parquet.write_table(table, out, row_group_size=row_group_size)
    return out.getvalue()


def parquet_of(files: Mapping[str, bytes], classes: Sequence[str]) -> bytes:
    """A Parquet file of images ``<class>/<name>``, in the hub's form."""
    return parquet_bytes(
        [
            {
                "image": {"bytes": data, "path": path.split("/")[-1]},
                "label": classes.index(path.split("/")[-2]),
            }
            for path, data in files.items()
        ],
        classes,
    )
