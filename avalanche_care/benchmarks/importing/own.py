"""Importing data of your own: folders, a CSV file, arrays, or a data set of the hub."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.importing._own_files import FileWriter
from avalanche_care.benchmarks.importing._own_folders import (
    NoPairError,
    read_class_folders,
    read_pair,
)
from avalanche_care.benchmarks.importing._own_names import new_target, refusal
from avalanche_care.benchmarks.importing._own_plan import make_dataset
from avalanche_care.benchmarks.importing._own_split import HeldOut
from avalanche_care.benchmarks.importing.contents import READABLE, kind_of_file, visible_files
from avalanche_care.benchmarks.importing.staging import exclusive

__all__ = ["import_data"]

HUB = "hub:"
PACKED = (*READABLE, "parquet")


def import_data(
    source: str | os.PathLike[str],
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    test_fraction: float | None = None,
    test_per_class: int | None = None,
    split_seed: int = 0,
    realm_level: bool = False,
    link: bool = False,
    progress: bool = False,
) -> DatasetRecord:
    """Bring data of your own into the layout that the benchmarks read.

    The result is ``<root>/<name>`` with ``train/<class>/*``, ``test/<class>/*`` and a record. It
    appears complete or not at all; after an interruption the same call goes on. Images are hard
    links of your files, or copies where that cannot be, and never encoded anew. Your files are not
    changed; do not edit them in place afterwards, a hard link is the same file.

    A split is made class by class, and depends only on the seed and the names of classes and files:
    it is the same on every system, and when images are added, the others stay where they are.

    Args:
        source: One of

            - a directory with ``train/<class>/*`` and ``test/<class>/*``, perhaps with a level of
              realms (groups of classes);
            - a directory with a folder of images per class, with ``test_fraction`` or
              ``test_per_class``;
            - a CSV file with the columns ``path`` (relative to the file) and ``label``, perhaps
              ``split`` (train or test; else ``test_fraction`` or ``test_per_class``) and ``realm``;
            - an ``.npz`` file with ``train_images``, ``test_images`` (uint8, N x height x width
              x 3, or without the 3), ``train_labels``, ``test_labels`` (N integers) and perhaps
              ``class_names`` (a text per label); the images become PNG files;
            - ``"hub:owner/name"`` or ``"hub:owner/name@revision"``, a data set of the Hugging Face
              hub that is split into training and test images;
            - an archive, a parquet file, or a directory with some, of a split layout.
        name: Name of the data set and of its folder; no name of a known benchmark.
        root: Directory of all data sets; else ``AVALANCHE_CARE_DATA``, else
            ``~/.avalanche_care/data``.
        test_fraction: Share of each class that is for testing, rounded; at least one image stays
            on each side.
        test_per_class: Number of images per class for testing, in place of the share.
        split_seed: Any integer; another one makes another split.
        realm_level: Whether class folders are in folders of realms: ``<realm>/<class>/*``.
        link: Make symbolic links. The data set then needs your files where they are.
        progress: Whether to show a bar.

    Returns:
        What is known about the data set; the same is in ``<root>/<name>/dataset.json``.

    Raises:
        FileNotFoundError: If the source does not exist.
        FileExistsError: If there is a data set of that name.
        ValueError: If the source cannot be used; every problem is listed, and nothing is written.
        OSError: If there is too little space or the folder cannot be written.

    Example:
        >>> import_data("photos", "my-set", test_fraction=0.2)  # doctest: +SKIP
    """
    target = new_target(name, root)
    given = {
        "test_fraction": test_fraction is not None,
        "test_per_class": test_per_class is not None,
        "realm_level": realm_level,
        "link": link,
    }
    wants_split = given["test_fraction"] or given["test_per_class"]
    held_out = HeldOut(test_fraction, test_per_class, split_seed) if wants_split else None
    text = os.fspath(source)
    if text.startswith(HUB):
        _refuse_options(text, given, set())
        return _import_hub(text.removeprefix(HUB), target, progress)
    path = Path(text).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no such file or directory: {path}")
    path = Path(os.path.abspath(path))
    if path.is_dir():
        _refuse_inside(path, target)
        try:
            plan = (
                read_pair(path, realm_level)
                if held_out is None
                else read_class_folders(path, held_out, realm_level)
            )
        except NoPairError:
            if link or not any(kind_of_file(file) in PACKED for _, file in visible_files(path)):
                raise
            return _prepare(path, target, progress)
        return make_dataset(target, plan, FileWriter(link), source=str(path), progress=progress)
    return _import_file(path, target, given, held_out, progress)


def _import_file(
    path: Path, target: Path, given: dict[str, bool], held_out: HeldOut | None, progress: bool
) -> DatasetRecord:
    """Import a table, arrays, or what is packed."""
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        from avalanche_care.benchmarks.importing._own_csv import read_csv

        _refuse_options(str(path), given, {"test_fraction", "test_per_class", "link"})
        table = read_csv(path, held_out)
        writer = FileWriter(given["link"])
        return make_dataset(target, table, writer, source=str(path), progress=progress)
    if kind == ".npz":
        from avalanche_care.benchmarks.importing._own_arrays import ArrayWriter, read_npz

        _refuse_options(str(path), given, set())
        arrays = read_npz(path)
        return make_dataset(target, arrays, ArrayWriter(path), source=str(path), progress=progress)
    if kind_of_file(path) in PACKED:
        _refuse_options(str(path), given, set())
        return _prepare(path, target, progress)
    raise ValueError(
        f"{path} is no source of images; expected a directory, a .csv or .npz file, an archive, a "
        "parquet file, or hub:owner/name"
    )


def _prepare(path: Path, target: Path, progress: bool) -> DatasetRecord:
    """Import archives or parquet files, or a directory with some."""
    from avalanche_care.benchmarks.importing.prepare import prepare_dataset

    return prepare_dataset(path, target, name=target.name, source_name=str(path), progress=progress)


def _import_hub(repository: str, target: Path, progress: bool) -> DatasetRecord:
    """Download a data set of the hub, prepare it, and remove what was downloaded."""
    from avalanche_care.benchmarks.importing.download import DOWNLOADS
    from avalanche_care.benchmarks.importing.hub import download_repository
    from avalanche_care.benchmarks.importing.prepare import prepare_dataset

    repo_id, _, revision = repository.partition("@")
    downloads = target.parent / DOWNLOADS / target.name
    with exclusive(downloads):
        snapshot = download_repository(
            repo_id, downloads / "files", revision=revision or None, progress=progress
        )
        try:
            record = prepare_dataset(
                snapshot.path,
                target,
                name=target.name,
                source_name=f"{HUB}{snapshot.repo_id}@{snapshot.revision}",
                progress=progress,
            )
        except ValueError as error:
            raise ValueError(f"{error}\n(the files are in {snapshot.path})") from error
        shutil.rmtree(downloads, ignore_errors=True)
    return record


def _refuse_options(source: str, given: dict[str, bool], allowed: set[str]) -> None:
    """Refuse options that the kind of source does not have."""
    why = {
        "test_fraction": "is for data that are not split yet",
        "test_per_class": "is for data that are not split yet",
        "realm_level": "is for directories; realms of a CSV file are in its column realm",
        "link": "is for images that are files",
    }
    wrong = [
        f"{option} {why[option]}; leave it out"
        for option in given
        if given[option] and option not in allowed
    ]
    if wrong:
        raise refusal(f"{source} cannot be imported like that", wrong)


def _refuse_inside(source: Path, target: Path) -> None:
    """The source must not change: the data set must not be made inside of it."""
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"the data set would be made inside of its source, {source}; choose another root "
            "(--root)"
        )
