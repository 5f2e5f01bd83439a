"""Preparing a data set: from whatever was downloaded to the folders that benchmarks read."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.importing._placement import Placement, places, transfer
from avalanche_care.benchmarks.importing.archives import parts_beside
from avalanche_care.benchmarks.importing.arrangement import Arrangement, arrange
from avalanche_care.benchmarks.importing.contents import FoundFile, listing, visible_files
from avalanche_care.benchmarks.importing.extract import ignores_case
from avalanche_care.benchmarks.importing.staging import PLAN_FILE, is_there, staged
from avalanche_care.benchmarks.importing.unpacking import Listed, unpack

__all__ = ["prepare_dataset"]

logger = logging.getLogger(__name__)

_WORK = ".work"  # inside the unfinished folder
_PLACES = "places.jsonl"


def prepare_dataset(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    name: str,
    source_name: str = "",
    expected_classes: int | None = None,
    move: bool = False,
    progress: bool = False,
) -> DatasetRecord:
    """Bring images into the layout ``train/<class>/<image>`` and ``test/<class>/<image>``.

    The source may hold folders, archives (zip, tar, split ones, archives in archives) and Parquet
    files in any mix; what they are is told by their content. Images are never encoded again. The
    target appears complete or not at all: it is built in ``<target>.part``, and killed at any
    moment, the same call goes on where it stopped. A second process that prepares the same data
    meanwhile waits and then uses what the first one made.

    Args:
        source: A directory, an archive (any part of a split one) or a Parquet file.
        target: The folder to make, ``<root>/<name>``.
        name: Name of the data set.
        source_name: Where the images are from, for the record; default the path of the source.
        expected_classes: Refuse any other number of classes.
        move: Move the images of the source instead of linking or copying them, for a download that
            nobody needs any more. Archives stay. Otherwise the source is not altered; where the
            disk allows, images are hard links, so do not edit them in place.
        progress: Whether to show bars.

    Returns:
        The record, which is also in ``dataset.json`` in the target.

    Raises:
        FileNotFoundError: If there is no such source.
        FileExistsError: If the target is there already.
        ValueError: If the images of training and test cannot be told, with a list of what was
            found; if an archive is unsafe or damaged; if the number of classes is not as expected.
        OSError: If there is too little space, or something cannot be read or written.
    """
    source, target = (Path(os.path.abspath(Path(p).expanduser())) for p in (source, target))
    _check(source, target)
    files = list(visible_files(source)) if source.is_dir() else _single(source)
    plan = _plan(files, source, source_name, move)
    try:
        with staged(target, plan=plan) as part:
            return _prepare(files, part, plan, name, expected_classes, progress)
    except FileExistsError:
        record = DatasetRecord.load(target)
        if record is None or record.source != plan["source_name"]:
            raise
        logger.info("%s was made by another process meanwhile", target)
        return record


def _prepare(
    files: Listed,
    part: Path,
    plan: dict[str, Any],
    name: str,
    expected_classes: int | None,
    progress: bool,
) -> DatasetRecord:
    """Fill the unfinished folder, or what is left to do of it."""
    work = part / _WORK
    record = DatasetRecord.load(part)
    if record is None:
        (work / "unpacked").mkdir(parents=True, exist_ok=True)
        placement = Placement.load(work / _PLACES)
        if placement is None:
            found = unpack(files, work / "unpacked", progress=progress)
            arrangement = arrange(found, plan["source"])
            _check_classes(arrangement, found, part, plan["source"], expected_classes)
            placement = _placed(arrangement, found, name, plan["source_name"])
            placement.save(work / _PLACES)
        transfer(placement, part, work, move=plan["move"], progress=progress)
        record = placement.record
        record.save(part)  # from here on, only tidying up is left
    for entry in part.iterdir():  # also a record that a kill left half written
        if entry.name.startswith(".") and entry.name != PLAN_FILE:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return record


def _check(source: Path, target: Path) -> None:
    if not source.exists():
        raise FileNotFoundError(f"no such directory or archive: {source}")
    if is_there(target):
        raise FileExistsError(
            f"{target} is there already; use it, or move it away to prepare the data again"
        )
    real, aim = source.resolve(), target.resolve()
    if real == aim or real in aim.parents or aim in real.parents:
        raise ValueError(
            f"{target} and {source} lie inside each other; prepare the data in another place"
        )


def _single(source: Path) -> Listed:
    """A file, and the other parts if it is a part."""
    return [((), str(path)) for path in parts_beside(source)]


def _plan(files: Listed, source: Path, source_name: str, move: bool) -> dict[str, Any]:
    """What the data set is made from; another plan does not go on with the work of this one."""
    plan = {"source": str(source), "source_name": source_name or str(source), "move": move}
    if not move:  # moved files are missing later
        digest = hashlib.sha256()
        for folders, path in files:
            status = os.stat(path)
            line = f"{folders} {path} {status.st_size} {status.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        plan["files"] = digest.hexdigest()
    return plan


def _placed(
    arrangement: Arrangement, found: Iterable[FoundFile], name: str, source_name: str
) -> Placement:
    moves, remarks = places(arrangement)
    remarks = [*arrangement.remarks, *remarks]
    for remark in remarks:
        logger.warning("%s: %s", name, remark)
    others = Counter(
        os.path.splitext(file.path)[1].lower() or "none" for file in found if not file.is_image
    )
    splits = Counter(place.split("/", 1)[0] for _, place in moves)
    record = DatasetRecord(
        name=name,
        classes=len(arrangement.train),
        train_images=splits["train"],
        test_images=splits["test"],
        realms=arrangement.realms,
        source=source_name,
        details={"remarks": remarks, "other_files": dict(others.most_common(20))},
    )
    return Placement(record, moves)


def _check_classes(
    arrangement: Arrangement,
    found: Sequence[FoundFile],
    part: Path,
    source: str,
    expected: int | None,
) -> None:
    names = sorted(arrangement.train)
    if expected is not None and len(names) != expected:
        raise ValueError(
            f"expected {expected} classes in {source}, got {len(names)} (such as "
            f"{', '.join(names[:3])}); get all of the data, or name the data set that it is. "
            f"Found:\n{listing(found)}"
        )
    if ignores_case(part) and len({name.casefold() for name in names}) < len(names):
        raise ValueError(
            f"class names of {source} differ only in case, which the disk of {part.parent} "
            "ignores; prepare the data on another disk"
        )
