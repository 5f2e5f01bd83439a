"""One line for a whole suite, wherever its runs are."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tqdm.auto import tqdm

from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.experiments.directory import CONFIG, EVENTS, read_config

__all__ = ["SuiteBar", "part_done"]

PERIOD = 2.0  # seconds between two looks at the directories
FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} runs [{elapsed}<{remaining}{postfix}]"


class SuiteBar:
    """A progress bar that counts runs, and of those under way the part that is done.

    It learns that part from the logs in the directories, which grow by a line per task: this works
    for all engines, and for workers on other machines.

    Args:
        name: of the suite.
        total: number of runs, those included that were complete before.
        directories: of the runs that are not complete.
        show: False: no bar.
    """

    def __init__(self, name: str, total: int, directories: Sequence[Path], *, show: bool) -> None:
        self.left = dict.fromkeys(directories, 0.0)
        self.complete = total - len(directories)
        self.failed = 0
        self.bar = tqdm(
            total=total,
            initial=self.complete,
            desc=name,
            bar_format=FORMAT,
            disable=not show,
        )
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> SuiteBar:
        if not self.bar.disable:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self.bar.close()

    def ended(self, directory: Path, status: str) -> None:
        """Note that a run is ``"complete"`` or ``"failed"``; others may still be under way."""
        with self._lock:
            if status in ("complete", "failed"):
                self.left.pop(directory, None)
                self.complete += status == "complete"
                self.failed += status == "failed"
        self._show()

    def _watch(self) -> None:
        while not self._stopped.wait(PERIOD):
            for directory in list(self.left):
                part = part_done(directory)
                with self._lock:
                    if directory in self.left:
                        self.left[directory] = part
            self._show()

    def _show(self) -> None:
        with self._lock:
            self.bar.n = self.complete + self.failed + sum(self.left.values())
            self.bar.set_postfix_str(f"{self.failed} failed" if self.failed else "")


def part_done(directory: Path) -> float:
    """Which part of its tasks a run has done, from 0 to 1; 0 if that cannot be told."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        done = (directory / EVENTS).read_bytes().count(b"\n")
        identity = read_config(directory / CONFIG)["identity"]
        classes = len(identity["class_order"])
        return done / Protocol.parse(identity["protocol"], n_classes=classes).tasks
    return 0.0
