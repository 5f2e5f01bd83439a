"""Several files read as one."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import Any


class JoinedFiles(io.RawIOBase):
    """The files' bytes one after the other, read-only and seekable.

    Args:
        paths: The files in order; at least one.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        with ExitStack() as opened:
            self._files = [opened.enter_context(open(path, "rb", buffering=0)) for path in paths]
            self._ends = list(accumulate(os.fstat(f.fileno()).st_size for f in self._files))
            self._opened = opened.pop_all()  # all of them could be opened
        self._position = 0

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; as much as the file at the position has."""
        view = memoryview(buffer).cast("B")
        start = 0
        for file, end in zip(self._files, self._ends, strict=True):
            if self._position < end:
                file.seek(self._position - start)
                count = file.readinto(view[: end - self._position]) or 0
                self._position += count
                return count
            start = end
        return 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._ends[-1]}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}, before the beginning")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def close(self) -> None:
        """Close the files."""
        self._opened.close()
        super().close()


def open_joined(paths: Sequence[Path]) -> io.BufferedReader:
    """The files as one, with a buffer."""
    return io.BufferedReader(JoinedFiles(paths), 1 << 20)
