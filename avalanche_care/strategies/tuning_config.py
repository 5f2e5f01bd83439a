"""The settings of adapting the network on the first task, for methods that let you choose how."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from avalanche_care.checked import CheckedConfig, positive
from avalanche_care.nn.petl import KINDS


@dataclass(frozen=True)
class TuningConfig(CheckedConfig):
    """How the network is adapted on the first task.

    Attributes:
        tuning: ``"adapter"``, ``"ssf"``, ``"vpt-shallow"``, ``"vpt-deep"``, ``"finetune"`` or
            ``"none"``; see :data:`avalanche_care.nn.petl.KINDS`.
        bottleneck: hidden width of an adapter.
        tokens: how many prompt tokens VPT has, per block if deep.
        epochs: on the first task.
        lr: learning rate of the first epoch, annealed to 0 by half a cosine.
        batch_size: images per step.
        momentum: of SGD.
        weight_decay: of SGD, on all that trains: the temporary head and its scale too.
        head_scale: what the learnable scale of the temporary cosine head starts at.
    """

    tuning: str = "adapter"
    bottleneck: int = 64
    tokens: int = 5
    epochs: int = 20
    lr: float = 0.01
    batch_size: int = 48
    momentum: float = 0.9
    weight_decay: float = 5e-4
    head_scale: float = 1.0

    def _problems(self) -> list[str]:
        """Say what is wrong with the values."""
        problems = []
        if self.tuning not in KINDS:
            problems.append(f"tuning must be one of {sorted(KINDS)}, got {self.tuning!r}")
        integers = ("bottleneck", "tokens", "epochs", "batch_size")
        problems += positive(self, (*integers, "lr", "head_scale"), integers)
        if not 0 <= self.momentum < 1:
            problems.append(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            problems.append(f"weight_decay must not be negative, got {self.weight_decay}")
        return problems

    def tuning_options(self) -> dict[str, Any]:
        """Return the chosen kind's own settings: arguments of :func:`build_petl`."""
        return tuning_options(self)


def tuning_options(config: Any) -> dict[str, Any]:
    """Return what a configuration says of the kind of tuning that it chooses.

    Args:
        config: has ``tuning``, ``bottleneck`` and ``tokens``.
    """
    names = {"adapter": "bottleneck", "vpt-shallow": "tokens", "vpt-deep": "tokens"}
    chosen = names.get(config.tuning)
    return {} if chosen is None else {chosen: getattr(config, chosen)}
