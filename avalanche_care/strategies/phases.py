"""What a method does with an experience, as a list of phases."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class TrainingPhase:
    """Epochs of gradient steps with a cosine-annealed learning rate.

    Attributes:
        name: for progress bars and error messages.
        epochs: how many.
        lr: learning rate of the first epoch.
        min_lr: what it approaches: epoch e has
            ``min_lr + (lr - min_lr) (1 + cos(pi e / epochs)) / 2``.
        trains: True; tells it from a :class:`Computation`.
    """

    name: str
    epochs: int
    lr: float
    min_lr: float = 0.0
    trains: ClassVar[bool] = True

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        annealed = (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        return self.min_lr + (self.lr - self.min_lr) * annealed


@dataclass(frozen=True)
class Computation:
    """A phase without mini-batch callbacks: class statistics, alignment, prototypes.

    Attributes:
        name: for progress bars.
        run: does it.
        trains: False.
    """

    name: str
    run: Callable[[], None]
    trains: ClassVar[bool] = False


Phase = TrainingPhase | Computation
