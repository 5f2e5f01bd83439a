"""Seconds spent in each phase of a method."""

from __future__ import annotations

import time
from typing import Any

import torch
from avalanche.core import SupervisedPlugin


class PhaseTimes(SupervisedPlugin[Any]):
    """Add up the wall-clock seconds of every phase, by its name.

    For the strategies of this package; others have no phases. A GPU is waited for at both ends of a
    phase, a handful of times per task.

    Attributes:
        seconds: phase name -> seconds since :meth:`reset`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self._start = 0.0

    def reset(self) -> None:
        """Forget what was measured."""
        self.seconds = {}

    def phase_start(self, strategy: Any) -> None:
        """Note the time."""
        self._start = now(strategy.device)

    def phase_end(self, strategy: Any) -> None:
        """Add what the phase took."""
        name = strategy.phase.name
        passed = now(strategy.device) - self._start
        self.seconds[name] = self.seconds.get(name, 0.0) + passed


def now(device: torch.device) -> float:
    """Return the time in seconds, on a GPU once it has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
