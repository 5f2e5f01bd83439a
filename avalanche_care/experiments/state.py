"""The saved state of a run on disk: replaced as a whole or not at all, and checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

import torch

from avalanche_care._files import replace_text

__all__ = ["FORMAT", "StateStore"]

FORMAT = 1  # raise it when an entry of a state changes its meaning
POINTER = "latest.json"
BLOCK = 1 << 22


class StateStore:
    """A directory with the newest state of a run.

    A state is written to a file of its own, read back and compared, and only then does
    ``latest.json`` name it and the one before go. Killed at any moment, the directory has one whole
    state: the old one or the new one. States hold tensors and plain values; reading one runs no
    code.

    Args:
        directory: made when the first state is saved.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)

    def save(self, name: str, state: dict[str, Any]) -> int:
        """Make ``state`` the newest one.

        Args:
            name: for the file, such as ``"task012"``.
            state: tensors and plain values.

        Returns:
            Its size on disk in bytes.

        Raises:
            OSError: if it cannot be written, or reads back differently. The state before stays.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = self.directory / f".{name}.pt.part"
        try:
            written = _write(unfinished, state)
            if _sha256(unfinished) != written:
                raise OSError(f"{unfinished} reads back differently from what was written to it")
            # The content is part of the name, so that the file in use is never written over.
            file = self.directory / f"{name}-{written[:12]}.pt"
            os.replace(unfinished, file)
            size = file.stat().st_size
            self._point_to({"format": FORMAT, "file": file.name, "bytes": size, "sha256": written})
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise OSError(
                error.errno,
                f"the state of the run could not be saved in {self.directory} "
                f"({error.strerror or error}); the one before is kept, and the run can go on from "
                "it once this is mended",
            ) from error
        self._remove_others(file)
        return size

    def load(self) -> dict[str, Any] | None:
        """Read the newest state.

        Returns:
            The state, its tensors on the CPU; None if none was saved yet.

        Raises:
            ValueError: if the file is damaged, foreign, of a later version, or holds more than
                tensors and plain values; the message names it.
        """
        pointer = self._pointer()
        if pointer is None:
            return None
        file = self.directory / pointer["file"]
        if not file.is_file():
            raise ValueError(f"{file} is missing, though {POINTER} names it; {_AFRESH}")
        if file.stat().st_size != pointer["bytes"] or _sha256(file) != pointer["sha256"]:
            raise ValueError(
                f"{file} is damaged: its size or SHA-256 is not that in {POINTER}; {_AFRESH}"
            )
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # what arbitrary bytes make the reader raise cannot be listed
            raise ValueError(
                f"{file} holds more than tensors and plain values, or is no state at all, and was "
                f"not read: {(str(error) or repr(error)).splitlines()[0]}; {_AFRESH}"
            ) from error
        if not isinstance(state, dict):
            raise ValueError(f"{file} is not the state of a run: it holds a {type(state).__name__}")
        return state

    def _pointer(self) -> dict[str, Any] | None:
        path = self.directory / POINTER
        if not path.is_file():
            return None
        try:
            pointer = json.loads(path.read_text(encoding="utf-8"))
            version, name = pointer["format"], pointer["file"]
            known = {"bytes": pointer["bytes"], "sha256": pointer["sha256"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not what this package writes there; {_AFRESH}") from error
        if version != FORMAT:
            raise ValueError(
                f"{path} is of format {version}, this version of avalanche_care reads {FORMAT}: go "
                "on with the version that wrote it"
            )
        if Path(name).name != name:
            raise ValueError(f"{path} names {name!r}, which is not a file beside it; {_AFRESH}")
        return {"file": name, **known}

    def _point_to(self, pointer: dict[str, Any]) -> None:
        replace_text(self.directory / POINTER, json.dumps(pointer) + "\n")
        _sync_directory(self.directory)

    def _remove_others(self, keep: Path) -> None:
        for path in [*self.directory.glob("*.pt"), *self.directory.glob(".*.pt.part")]:
            if path != keep:
                with contextlib.suppress(OSError):  # a file left over does no harm
                    path.unlink()


_AFRESH = "restore the directory from a copy, or remove it to start the run afresh"


class _Hashing:
    """A file that is written through, with the SHA-256 of everything that went in."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        try:
            return self.file.write(data)
        except OSError as error:  # PyTorch would report it as something else
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _write(path: Path, state: dict[str, Any]) -> str:
    """Write a state; return the SHA-256 of what was given to the disk."""
    with path.open("wb") as file:
        hashing = _Hashing(file)
        try:
            torch.save(state, hashing)  # type: ignore[arg-type]  # it asks for write and flush
        except RuntimeError:
            if hashing.error is not None:
                raise hashing.error from None
            raise
        file.flush()
        os.fsync(file.fileno())
    return hashing.sha256.hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _sync_directory(path: Path) -> None:
    """Make a rename last through a power failure, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
