"""Where large tensors live that are seldom read: in the CPU's memory, or in files."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import weakref
from math import prod
from pathlib import Path
from urllib.parse import quote

import torch
from torch import Tensor

__all__ = ["Offload"]


class Offload:
    """A store of tensors outside the training device, each under a name.

    With a directory, every tensor is a memory-mapped file: the operating system keeps in memory
    what is being used, as far as there is room, and the rest on disk. The files are scratch space
    in a sub-directory of their own, which goes when the store is collected or the process ends.
    To save a run, save the tensors: pickled or deep-copied, a mapped tensor becomes an ordinary one
    in memory, and a store becomes an empty one in the same place. :meth:`put` or :meth:`grow` then
    moves such a copy back into files.

    Args:
        where: ``"cpu"``, or an existing directory (``"./cpu"`` for one of that name).

    Raises:
        ValueError: if it is neither, or nothing can be written there.
    """

    def __init__(self, where: str | os.PathLike[str]) -> None:
        self.where: str | Path = "cpu"
        self._tensors: dict[str, Tensor] = {}  # the newest of each name
        self._scratch: Path | None = None
        if where != "cpu":
            self.where = _existing(where)
            try:
                self._scratch = Path(tempfile.mkdtemp(prefix="avalanche-care-", dir=self.where))
            except OSError as error:
                raise _bad(where, f"nothing can be written there ({error.strerror})") from error
            weakref.finalize(self, _remove, self._scratch, os.getpid())

    def __reduce__(self) -> tuple[type[Offload], tuple[str | Path]]:
        """Copy the place only: two stores must not share files."""
        return type(self), (self.where,)

    def put(self, name: str, tensor: Tensor) -> Tensor:
        """Return a copy of a tensor that lives in the store.

        The same name, shape and type again overwrites in place; another shape or type replaces,
        which leaves tensors returned earlier as they are.

        Args:
            name: any text; the file is named after it.
            tensor: on any device.

        Raises:
            OSError: if the disk is full; what the store had under the name is unchanged.
        """
        held = self._tensors.get(name)
        if held is None or (held.shape, held.dtype) != (tensor.shape, tensor.dtype):
            held = self._new(name, tensor.shape, tensor.dtype)
        held.copy_(tensor.detach())
        self._tensors[name] = held
        return held

    def grow(self, name: str, old: Tensor, rows: int) -> Tensor:
        """Return ``old`` with rows of zeros appended along its first axis, in the store.

        A mapped file is extended and mapped again, which costs the new rows only and shares the old
        ones with ``old``. Everything else is copied: in memory, and a tensor that is not the
        store's newest of this name.

        Args:
            name: what ``old`` was stored under.
            old: (R, ...), R may be 0.
            rows: how many.

        Returns:
            (R + rows, ...).

        Raises:
            OSError: if the disk is full; ``old`` stays valid.
        """
        shape = torch.Size((len(old) + rows, *old.shape[1:]))
        if self._scratch is not None and old.numel() and self._has(name, old):
            file = _file(self._scratch, name)
            _extend(file, old.nbytes, _size(shape, old.dtype))
            new = _mapped(file, shape, old.dtype)
        else:
            new = self._new(name, shape, old.dtype)
            new[: len(old)] = old.detach()
        self._tensors[name] = new
        return new

    def _has(self, name: str, tensor: Tensor) -> bool:
        held = self._tensors.get(name)
        return (
            held is not None
            and held.data_ptr() == tensor.data_ptr()
            and (held.shape, held.dtype) == (tensor.shape, tensor.dtype)
        )

    def _new(self, name: str, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Return zeros in the store, in a new file: the old one may still be mapped."""
        if self._scratch is None or not prod(shape):  # an empty file cannot be mapped
            return torch.zeros(shape, dtype=dtype)
        part, file = self._scratch / "part", _file(self._scratch, name)
        try:
            _extend(part, 0, _size(shape, dtype))
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._tensors.pop(name, None)  # it is not what the file holds any more
        os.replace(part, file)
        return _mapped(file, shape, dtype)


def _bad(where: object, why: str) -> ValueError:
    return ValueError(f'offload: expected "cpu" or an existing directory, got {where!r}: {why}')


def _existing(where: str | os.PathLike[str]) -> Path:
    if not isinstance(where, (str, os.PathLike)):
        raise _bad(where, f"its type is {type(where).__name__}")
    path = Path(where)
    if not path.is_dir():
        raise _bad(where, "it is a file" if path.exists() else "it does not exist")
    return path.resolve()


def _file(scratch: Path, name: str) -> Path:
    return scratch / (quote(name, safe="") + ".bin")


def _remove(scratch: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked worker has a copy of the store, but not its files
        shutil.rmtree(scratch, ignore_errors=True)


def _size(shape: torch.Size, dtype: torch.dtype) -> int:
    return prod(shape) * dtype.itemsize


def _mapped(path: Path, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return torch.from_file(str(path), shared=True, size=prod(shape), dtype=dtype).view(shape)


def _extend(path: Path, had: int, size: int) -> None:
    """Extend a file of ``had`` bytes to ``size`` bytes with zeros, or leave it as it was."""
    with path.open("r+b" if had else "w+b") as file:
        try:
            _reserve(file.fileno(), had, size - had)
        except OSError as error:
            file.truncate(had)
            message = f"offload: no room for {size - had:,} more bytes in {path.parent}"
            raise OSError(error.errno, f"{message} ({error.strerror})") from error


def _reserve(descriptor: int, start: int, size: int) -> None:
    """Take disk space now: writing to a mapping that finds none kills the process (SIGBUS)."""
    try:
        if size:
            os.posix_fallocate(descriptor, start, size)
    except (AttributeError, OSError) as error:  # not on every system, nor every file system
        if isinstance(error, OSError) and error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        _write_zeros(descriptor, start, size)


def _write_zeros(descriptor: int, start: int, size: int) -> None:
    os.lseek(descriptor, start, os.SEEK_SET)
    block = bytes(1 << 20)
    while size:
        size -= os.write(descriptor, block[: min(size, len(block))])
