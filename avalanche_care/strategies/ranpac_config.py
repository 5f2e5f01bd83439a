"""The settings of RanPAC."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from avalanche_care.strategies.presets import HasPresets
from avalanche_care.strategies.tuning_config import TuningConfig

CHOICES = ("task", "running")
PRECISIONS = {"float64": torch.float64, "float32": torch.float32}

_PROTOCOLS = {
    "cifar100": ("B0-Inc5", "B0-Inc10"),
    "cub": ("B0-Inc10", "B0-Inc20"),
    "imagenet-r": ("B0-Inc4", "B0-Inc5", "B0-Inc10", "B0-Inc20"),
    "imagenet-a": ("B0-Inc4", "B0-Inc10", "B0-Inc20"),
    "objectnet": ("B0-Inc4", "B0-Inc10", "B0-Inc20"),
    "omnibenchmark": ("B0-Inc5", "B0-Inc30"),
    "omnibenchmark1k": ("B0-Inc5", "B0-Inc10", "B100-Inc3", "B100-Inc6"),
    "vtab": ("B0-Inc10",),
}

# The authors' choice per data set (their repository, table of the main results). All share the
# defaults in everything else. Of these protocols they ran cifar100/B0-Inc10, imagenet-r/B0-Inc20,
# imagenet-a/B0-Inc20, cub/B0-Inc20, omnibenchmark/B0-Inc30 and vtab/B0-Inc10. There is no
# configuration of theirs for ObjectNet, which has the defaults here, and none for OmniBenchmark-1K,
# which has OmniBenchmark's.
_TUNING = {
    "imagenet-r": "ssf",
    "imagenet-a": "ssf",
    "vtab": "ssf",
    "omnibenchmark": "vpt-deep",
    "omnibenchmark1k": "vpt-deep",
}

PRESETS: dict[str, dict[str, Any]] = {
    f"{name}/{protocol}": {"tuning": _TUNING[name]} if name in _TUNING else {}
    for name, protocols in _PROTOCOLS.items()
    for protocol in protocols
}


@dataclass(frozen=True)
class RanPACConfig(HasPresets, TuningConfig):
    """How RanPAC adapts the network on the first task, and how it regresses afterwards.

    The defaults are those of the authors' code for CIFAR-100 and CUB; :meth:`preset` has their
    choice of ``tuning`` for the other data sets.

    Attributes:
        projection: M, how many random features; 0: none, regression on the features themselves.
        projection_seed: of the random matrix; None: it is drawn from PyTorch's global generator,
            so that it differs between the seeds of runs, as released. It is stored with the model
            either way.
        ridge: the regulariser; None: it is chosen anew for every task among 1e-8, 1e-7, ... 1e8.
        ridge_choice: what the choice rests on. ``"task"``, as released: ridge solutions of a random
            80 % of the current task's images alone, scored on its other 20 %; earlier tasks have no
            say, although the regulariser is then used with the sums of all tasks. ``"running"``:
            solutions of the 80 % of all tasks so far, scored on the 20 % of all tasks so far, from
            a second set of running sums (M^2 numbers more) and with 17 factorisations of M x M
            matrices per task.
        precision: of sums and solutions, ``"float64"`` or ``"float32"``. The release computes in
            float32, in which regularisers below about 1e3 drown in rounding (see
            :class:`avalanche_care.nn.moments.RunningMoments`); float64 is the same formula without
            that. It takes 800 MB for M = 10,000 where float32 takes 400 MB, and as much again for
            the factor while it solves (on a CPU, LAPACK makes two further copies). GPUs without
            fast double precision compute float32 up to 64 times faster.
    """

    title: ClassVar[str] = "RanPAC"

    projection: int = 10_000
    projection_seed: int | None = None
    ridge: float | None = None
    ridge_choice: str = "task"
    precision: str = "float64"

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not isinstance(self.projection, int) or self.projection < 0:
            problems.append(f"projection must be an integer from 0, got {self.projection!r}")
        if self.ridge is not None and not 0 < self.ridge < math.inf:
            problems.append(f"ridge must be positive, or None to choose it, got {self.ridge}")
        if self.ridge_choice not in CHOICES:
            problems.append(f"ridge_choice must be one of {CHOICES}, got {self.ridge_choice!r}")
        if self.precision not in PRECISIONS:
            allowed = tuple(PRECISIONS)
            problems.append(f"precision must be one of {allowed}, got {self.precision!r}")
        return problems

    @staticmethod
    def presets() -> dict[str, dict[str, Any]]:
        """Return the settings that differ from the defaults, by preset."""
        return PRESETS
