"""Getting a published data set, from where its card says or from files that are at hand."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from avalanche_care.benchmarks._cache import data_root
from avalanche_care.benchmarks.catalogue import (
    DatasetCard,
    HubSource,
    ManualSource,
    TorchvisionSource,
    get_card,
)
from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.importing.staging import exclusive, is_there

__all__ = ["download_dataset", "find_dataset"]

logger = logging.getLogger(__name__)

DOWNLOADS = ".downloads"
"""Folder in the data root with what was downloaded and is not prepared yet."""


def download_dataset(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    source: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    force: bool = False,
    keep: bool = False,
    progress: bool = True,
) -> Path:
    """Download a published data set and bring it into the layout that the benchmarks read.

    What was downloaded is in ``<root>/.downloads/<name>`` until it is prepared. After an
    interruption the same call goes on; a second process waits for the first.

    Args:
        name: Name of the data set in the catalogue.
        root: Directory of the data sets; else ``AVALANCHE_CARE_DATA``, else
            ``~/.avalanche_care/data``.
        source: Files to take in place of a download: a directory with folders, archives or parquet
            files, or one archive. They are not changed.
        endpoint: Address of the hub; its own if left out.
        force: Replace the whole folder of the data set, if there is one, once the new is complete.
        keep: Leave what was downloaded where it is.
        progress: Whether to show bars.

    Returns:
        The folder of the data set. If it was there before, nothing is downloaded.

    Raises:
        ValueError: If there is no such data set, or the files are not those of this data set: other
            numbers of classes. (Other numbers of images are logged as a warning.)
        FileNotFoundError: If the data set has to be fetched by hand; the message says where.
        OSError: If the download fails, or there is too little room.
    """
    card, root = get_card(name), data_root(root)
    downloads = root / DOWNLOADS / card.name
    if source is not None:
        source = Path(source).expanduser().resolve()
        if not source.exists():
            raise FileNotFoundError(f"no such file or directory: {source}")
    with exclusive(downloads):
        for part in (card.folder, *card.other_folders):
            _put_back(root, root / part)
        folder = find_dataset(card, root)
        torchvisions = isinstance(card.source, TorchvisionSource)
        if folder is not None and not force and not torchvisions:  # torchvision looks for itself
            logger.info("%s is there already", folder)
            _check(card, folder)
            return folder
        folder = folder or root / card.folder
        if source is not None:
            _refuse_overlap(source, folder, inside_too=force, around_too=not torchvisions)
        if torchvisions:
            _get_from_torchvision(card, root, folder, source, force=force)
        else:
            files, origin = source, str(source)
            if files is None:
                files, origin = _download(card, root, endpoint=endpoint, progress=progress)
            _prepare(card, root, files, origin, folder, force=force, progress=progress)
        if not keep:
            shutil.rmtree(downloads, ignore_errors=True)
    _check(card, folder)
    return folder


def find_dataset(card: DatasetCard, root: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the folder of a data set below a root, or None if it has none.

    Args:
        card: The data set.
        root: As in :func:`download_dataset`.
    """
    root = data_root(root)
    if isinstance(card.source, TorchvisionSource):
        return root / card.folder if is_there(root / card.folder) else None
    for name in (card.folder, *card.other_folders):
        if all((root / name / part).is_dir() for part in ("train", "test")):
            return root / name
    return None


def _download(
    card: DatasetCard, root: Path, *, endpoint: str | None, progress: bool
) -> tuple[Path, str]:
    """Where the downloaded files are, and what they are called in the record."""
    if isinstance(card.source, ManualSource):
        raise FileNotFoundError(
            f"{card.title} has to be fetched by hand from {card.source.url}: "
            f"{card.source.instructions} (with --root {root})"
        )
    if not isinstance(card.source, HubSource):
        raise TypeError(f"unknown kind of source: {card.source!r}")
    from avalanche_care.benchmarks.importing.hub import download_repository

    snapshot = download_repository(
        card.source.repo_id,
        root / DOWNLOADS / card.name / "files",
        endpoint=endpoint,
        progress=progress,
    )
    return snapshot.path, f"hub:{snapshot.repo_id}@{snapshot.revision}"


def _prepare(
    card: DatasetCard,
    root: Path,
    files: Path,
    origin: str,
    folder: Path,
    *,
    force: bool,
    progress: bool,
) -> None:
    from avalanche_care.benchmarks.importing.prepare import prepare_dataset

    with _replacing(root, folder) if force else contextlib.nullcontext():
        try:
            prepare_dataset(
                files,
                folder,
                name=card.name,
                source_name=origin,
                expected_classes=card.classes,
                progress=progress,
            )
        except ValueError as error:
            raise ValueError(f"{error}\n(the files are in {files})") from error


def _get_from_torchvision(
    card: DatasetCard, root: Path, folder: Path, files: Path | None, *, force: bool
) -> None:
    from avalanche_care.benchmarks.importing._torchvision_files import get_from_torchvision

    with _replacing(root, folder) if force else contextlib.nullcontext():
        get_from_torchvision(card, root, files)


def _refuse_overlap(source: Path, folder: Path, *, inside_too: bool, around_too: bool) -> None:
    """Refuse a source that is or holds the folder to make, or lies in one to be replaced."""
    folder = folder.resolve()
    around = source != folder and folder.is_relative_to(source)
    inside = source != folder and source.is_relative_to(folder)
    if source == folder or (inside and inside_too) or (around and around_too):
        raise ValueError(
            f"{source} cannot be what {folder} is made from: one is in the other; move the source "
            "elsewhere, or choose another root (--root)"
        )


@contextlib.contextmanager
def _replacing(root: Path, folder: Path) -> Iterator[None]:
    """Move a folder out of the way while another is made, and back if that fails."""
    old = _old(root, folder)
    if is_there(folder):
        os.rename(folder, old)
    try:
        yield
    except BaseException:
        _put_back(root, folder)
        raise
    if old.exists():
        gone = old.with_suffix(".gone")  # a half removed folder must not be put back
        os.rename(old, gone)
        shutil.rmtree(gone, ignore_errors=True)


def _old(root: Path, folder: Path) -> Path:
    """Where a folder is while it is replaced; not beside it, where data sets are looked for."""
    return root / DOWNLOADS / f"{folder.name}.old"


def _put_back(root: Path, folder: Path) -> None:
    """Undo a replacement that did not end, also that of a process that was killed."""
    old = _old(root, folder)
    shutil.rmtree(old.with_suffix(".gone"), ignore_errors=True)
    if old.exists():
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(old, folder)


def _check(card: DatasetCard, folder: Path) -> None:
    """Refuse other classes than those of the card; warn of other numbers of images."""
    if isinstance(card.source, TorchvisionSource):
        return  # it compares checksums
    record = DatasetRecord.load(folder)
    counts = (
        [len([e for e in os.scandir(folder / part) if e.is_dir()]) for part in ("train", "test")]
        if record is None
        else [record.classes]
    )
    wrong = [count for count in counts if count != card.classes]
    if wrong:
        raise ValueError(
            f"{folder} has {wrong[0]:,} classes, and {card.title} has {card.classes:,}; "
            f"'avalanche-care data verify {card.name}' says more, 'data download {card.name} "
            "--force' replaces the folder"
        )
    if record is None:
        return
    for words, count, expected in (
        ("training", record.train_images, card.train_images),
        ("test", record.test_images, card.test_images),
    ):
        if count != expected:
            logger.warning(
                "%s has %s %s images, expected %s (%s); accuracies may not be comparable",
                *(folder, f"{count:,}", words, f"{expected:,}", card.counts),
            )
