"""Packing an image folder into one memory-mapped file. Avalanche is not imported."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from tqdm import tqdm

from avalanche_care.benchmarks._pack_format import PackSettings
from avalanche_care.benchmarks._pack_partial import PartialPack
from avalanche_care.benchmarks._pack_source import ImageSource, folder_source
from avalanche_care.benchmarks.images import image_folder
from avalanche_care.benchmarks.packed import PackedImages

__all__ = ["pack_folder", "pack_lock", "write_pack"]

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def pack_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int = 256,
    workers: int | None = None,
    force: bool = False,
    restart: bool = False,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> PackedImages:
    """Pack a directory of images, one folder per class, into one file.

    Each image is decoded once, resized and stored as uint8. Killed at any moment, the same call
    goes on where it stopped, and the file comes out byte for byte as if it had not been stopped.

    Args:
        folder: The directory; it must not change meanwhile.
        out: The file to make. While it is unfinished it has ``.part`` after its name.
        size: Pixels of the shorter side (bicubic, aspect ratio kept), 0: as the images are. Random
            crops are then cut from the resized images, so choose it well above the network's input
            if small crops are to keep their detail.
        workers: Threads that decode; None: one per core. The result is the same for any number.
        force: Replace ``out`` if it is there; the old one stays until the new one is complete.
        restart: Start afresh instead of going on with an unfinished file.
        skip_unreadable: Leave out images that cannot be read, with a warning for each.
        progress: Whether to show a bar with the time left.

    Returns:
        The packed images.

    Raises:
        FileNotFoundError, FileExistsError: If there is no such directory; if ``out`` is there.
        ValueError: If the directory has no images, some cannot be read (all are named), the files
            or settings are not those of the unfinished file (what has changed is named), or another
            process is packing the same file.
        OSError: If there is too little space or the file cannot be written. What is packed is kept.
    """
    target = Path(out)
    _check_target(target, force)
    if workers is not None and workers < 1:
        raise ValueError(f"workers is the number of threads, at least 1, got {workers}")
    source = folder_source(image_folder(folder), PackSettings(size=size))
    try:
        with pack_lock(target, wait=False):
            _check_target(target, force)  # somebody may have finished it meanwhile
            write_pack(
                source,
                target,
                workers=workers,
                restart=restart,
                skip_unreadable=skip_unreadable,
                advice="\nto leave them out: --skip-unreadable (skip_unreadable=True); once they "
                "are repaired or removed: --restart (restart=True)",
                progress=progress,
            )
    except Timeout:
        raise ValueError(
            f"another process is packing {target}; wait until it is done, or stop it first"
        ) from None
    return PackedImages(target)


@contextlib.contextmanager
def pack_lock(target: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of all who write a file; the system frees it when its holder dies.

    The empty file ``<target>.lock`` stays behind: to delete it would let two processes in.

    Raises:
        filelock.Timeout: If another process holds it and ``wait`` is off.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock", timeout=-1 if wait else 0):
        yield


def write_pack(
    source: ImageSource,
    target: Path,
    *,
    workers: int | None = None,
    restart: bool = False,
    skip_unreadable: bool = False,
    advice: str = "",
    progress: bool = False,
) -> None:
    """Pack the images of a source under the lock that the caller holds.

    Args:
        source: The images.
        target: The file; what is there is replaced at the end.
        workers, restart, skip_unreadable, progress: As in :func:`pack_folder`.
        advice: Added to the message about images that cannot be read.

    Raises:
        ValueError, OSError: As :func:`pack_folder`.
    """
    paths = source.plan.paths
    with PartialPack(target, source.plan, restart=restart, progress=progress) as partial:
        left = range(partial.done, len(paths))
        _check_space(target.parent, partial.overhead + source.estimate_bytes(left))
        partial.begin()
        problems = _fill(partial, source, workers or os.cpu_count() or 1, progress)
        unreadable = partial.unreadable
        if unreadable and not skip_unreadable:
            lines = [f"\n- {problems.get(index, paths[index])}" for index in unreadable]
            raise ValueError(
                f"{len(lines)} of {len(paths)} images cannot be read:" + "".join(lines) + advice
            )
        for index in unreadable:
            logger.warning("%s cannot be read and is left out of %s", paths[index], target)
        partial.finish()


def _fill(
    partial: PartialPack, source: ImageSource, workers: int, progress: bool
) -> dict[int, str]:
    """Add the images that are not there yet; return what is wrong with those that have none."""
    problems = {}
    left = range(partial.done, len(partial.table))
    bar = tqdm(
        desc="packing", total=left.stop, initial=left.start, unit="image", disable=not progress
    )
    with bar, contextlib.closing(_in_order(source.prepare, left, workers)) as images:
        for image in images:
            if image.pixels is None:
                problems[partial.done] = image.problem
            partial.add(image)
            bar.update()
    return problems


def _in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """Map over threads, in order, and only a few items ahead of who takes the results."""
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _check_target(target: Path, force: bool) -> None:
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a directory; name the file to make")
    if target.exists() and not force:
        raise FileExistsError(f"{target} is there already; --force (force=True) replaces it")


def _check_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(
            f"about {_gigabytes(needed)} more are needed and {directory} has {_gigabytes(free)} "
            "left; make room, or write to another disk"
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB"
