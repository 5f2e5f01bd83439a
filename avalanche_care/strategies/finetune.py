"""Sequential fine-tuning of a linear head: the lower bound that forgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.heads import LinearHead
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.expansion import ExpansionPlugin
from avalanche_care.strategies.phases import Phase, TrainingPhase
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.template import PTMStrategy


@dataclass(frozen=True)
class FinetuneConfig:
    """How the linear head is trained.

    Attributes:
        epochs: per experience.
        lr: learning rate of the first epoch, annealed to 0 by half a cosine.
        batch_size: images per step.
        momentum: of SGD.
        weight_decay: of SGD.
    """

    epochs: int = 20
    lr: float = 0.01
    batch_size: int = 16
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be positive, got {getattr(self, name)}"
            for name in ("epochs", "lr", "batch_size")
            if getattr(self, name) <= 0
        ]
        if problems:
            raise ValueError("FinetuneConfig: " + "; ".join(problems))


@register("finetune", config=FinetuneConfig, paper="lower bound", trains="linear head")
class FinetuneStrategy(PTMStrategy):
    """Train a linear head on each experience in turn, with cross-entropy over all classes seen.

    Nothing protects what was learned before: images of the current experience only teach the
    head that older classes do not occur.

    Args:
        model: a frozen ViT.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.
    """

    model: FrozenClassifier
    config: FinetuneConfig

    def __init__(
        self, *, model: FrozenViT, config: FinetuneConfig | None = None, **base_kwargs: Any
    ) -> None:
        super().__init__(
            model=FrozenClassifier(model, LinearHead(model.embed_dim)),
            config=config or FinetuneConfig(),
            own_plugins=[ExpansionPlugin()],
            **base_kwargs,
        )

    def phases(self) -> list[Phase]:
        """Return the one phase: training the head."""
        return [TrainingPhase("training", self.train_epochs, self.config.lr)]

    def build_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Return SGD over the head."""
        config = self.config
        return torch.optim.SGD(
            self.model.head.parameters(),
            lr=lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )

    def training_loss(self) -> Tensor:
        """Return the cross-entropy over all classes seen."""
        return F.cross_entropy(self.mb_output, self.model.head.labels[self.mb_columns])
