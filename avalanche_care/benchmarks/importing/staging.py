"""Folders that appear complete or not at all, however the process that makes them ends."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

__all__ = [
    "PLAN_FILE",
    "SPARE",
    "empty",
    "exclusive",
    "gigabytes",
    "is_there",
    "require_space",
    "staged",
]

logger = logging.getLogger(__name__)

PLAN_FILE = ".plan.json"
"""What an unfinished folder is made from; removed from a complete one."""

SPARE = 64 << 20
"""Bytes that unpacking leaves free on the disk."""


@contextlib.contextmanager
def staged(
    target: str | os.PathLike[str], *, wait: bool = True, plan: Mapping[str, Any] | None = None
) -> Iterator[Path]:
    """Make a folder under another name; it gets its own when the block ends without an error.

    The block fills ``<target>.part``. After an error or a kill that folder stays, and the next call
    hands it out again with what is in it, so that work can go on where it stopped. Meanwhile the
    lock ``<target>.lock`` keeps others out; the system frees it when its holder dies.

    Args:
        target: The folder to make; its parents are made too.
        wait: Whether to wait for another process that makes the same folder.
        plan: What the folder is made from, in values that JSON has. What was begun from another
            plan is thrown away and not mixed with this one.

    Yields:
        The unfinished folder. It exists, and only this process writes to it.

    Raises:
        FileExistsError: If the target is there, perhaps since another process was waited for.
        NotADirectoryError: If a file is in the way of the unfinished folder.
        TimeoutError: If another process makes the same folder and ``wait`` is off.
    """
    target = Path(target)
    part = target.with_name(f"{target.name}.part")
    with exclusive(target, wait=wait):
        if is_there(target):
            raise FileExistsError(
                f"{target} is there already; use it, or move it away to make it again"
            )
        _begin(part, plan)
        yield part
        if target.is_dir():
            target.rmdir()  # an empty one, which not every system lets a rename replace
        os.rename(part, target)
        (target / PLAN_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(target: str | os.PathLike[str], *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of all who make ``target``.

    The empty file ``<target>.lock`` stays behind: to delete it would let two processes in.

    Raises:
        TimeoutError: If another process holds it and ``wait`` is off.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{target}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise TimeoutError(
                f"another process is making {target}; wait until it is done, or stop it first"
            ) from None
        logger.info("another process is making %s; waiting for it", target)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_there(target: Path) -> bool:
    """Whether there is something other than an empty folder."""
    if not target.is_dir():
        return target.exists() or target.is_symlink()
    return any(target.iterdir())


def empty(folder: Path) -> None:
    """Remove everything in a folder."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _begin(part: Path, plan: Mapping[str, Any] | None) -> None:
    """Make the unfinished folder, or take over the one that is there if it has the same plan."""
    if part.is_symlink() or (part.exists() and not part.is_dir()):
        raise NotADirectoryError(f"{part} is in the way: it is no folder; move it away")
    if plan is not None and part.is_dir():
        try:
            same = (part / PLAN_FILE).read_text(encoding="utf-8") == _text(plan)
        except (FileNotFoundError, UnicodeDecodeError):
            same = False
        if not same:
            logger.info("%s was begun from other files or settings; starting afresh", part)
            shutil.rmtree(part)
    part.mkdir(exist_ok=True)
    if plan is not None and not (part / PLAN_FILE).exists():
        unfinished = part / f"{PLAN_FILE}.new"
        unfinished.write_text(_text(plan), encoding="utf-8")
        os.replace(unfinished, part / PLAN_FILE)


def _text(plan: Mapping[str, Any]) -> str:
    return json.dumps(plan, sort_keys=True, indent=1) + "\n"


def require_space(directory: str | os.PathLike[str], needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        directory: An existing directory on the disk that is written to.
        needed: Bytes that will be written.

    Raises:
        OSError: If there is less room; the message has both numbers.
    """
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(
            f"about {gigabytes(needed)} more are needed and {directory} has {gigabytes(free)} "
            "left; make room, or write to another disk"
        )


def gigabytes(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:,.2f} GB"
