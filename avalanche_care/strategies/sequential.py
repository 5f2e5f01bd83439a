"""Training a linear head, and perhaps the network under it, by cross-entropy: the plain way.

Fine-tuning is no more than this; joint training changes what is trained on, replay, LwF and EWC
are Avalanche's plugins on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.core import BasePlugin
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_care.checked import CheckedConfig, positive
from avalanche_care.nn.linear import LinearClassifier
from avalanche_care.nn.petl import KINDS
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.expansion import ExpansionPlugin
from avalanche_care.strategies.phases import Phase, TrainingPhase
from avalanche_care.strategies.template import PTMStrategy
from avalanche_care.strategies.tuning_config import tuning_options


@dataclass(frozen=True)
class SequentialConfig(CheckedConfig):
    """How a linear head and the network are trained on an experience.

    Attributes:
        tuning: what trains besides the head: ``"none"``; ``"adapter"``, ``"ssf"``,
            ``"vpt-shallow"`` or ``"vpt-deep"``; or ``"finetune"``, a copy of the whole ViT. See
            :data:`avalanche_care.nn.petl.KINDS`. It goes on training in every experience.
        bottleneck: hidden width of an adapter.
        tokens: how many prompt tokens VPT has, per block if deep.
        epochs: per experience.
        lr: learning rate of the first epoch, annealed to 0 by half a cosine.
        batch_size: images per step.
        momentum: of SGD.
        weight_decay: of SGD, on all that trains.
    """

    tuning: str = "none"
    bottleneck: int = 64
    tokens: int = 5
    epochs: int = 20
    lr: float = 0.01
    batch_size: int = 16
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def _problems(self) -> list[str]:
        """Say what is wrong with the values."""
        problems = []
        if self.tuning not in KINDS:
            problems.append(f"tuning must be one of {sorted(KINDS)}, got {self.tuning!r}")
        integers = ("bottleneck", "tokens", "epochs", "batch_size")
        problems += positive(self, (*integers, "lr"), integers)
        if not 0 <= self.momentum < 1:
            problems.append(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            problems.append(f"weight_decay must not be negative, got {self.weight_decay}")
        return problems


class SequentialStrategy(PTMStrategy):
    """Train on each experience in turn, with cross-entropy over all classes seen.

    Args:
        model: a frozen ViT; it stays as it is.
        config: settings.
        own_plugins: the method's.
        base_kwargs: further arguments of :class:`PTMStrategy`.
    """

    model: LinearClassifier
    config: SequentialConfig

    def __init__(
        self,
        *,
        model: FrozenViT,
        config: SequentialConfig,
        own_plugins: Sequence[BasePlugin[Any]] = (),
        **base_kwargs: Any,
    ) -> None:
        super().__init__(
            model=LinearClassifier(model, config.tuning, **tuning_options(config)),
            config=config,
            own_plugins=[ExpansionPlugin(), *own_plugins],
            **base_kwargs,
        )

    def phases(self) -> list[Phase]:
        """Return the one phase: training."""
        return [TrainingPhase("training", self.train_epochs, self.config.lr)]

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return what tunes the network, and the head."""
        return [*self.model.petl.parameters(), *self.model.head.parameters()]

    def build_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Return SGD over the :meth:`trained_parameters`."""
        return torch.optim.SGD(
            self.trained_parameters(),
            lr=lr,
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
        )

    def training_loss(self) -> Tensor:
        """Return the cross-entropy over all classes seen."""
        return F.cross_entropy(self.mb_output, self.model.head.labels[self.mb_columns])
