"""Methods that adapt the network on the first task and only compute afterwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_care.nn.heads import ProxyHead
from avalanche_care.nn.tuned import TunedClassifier
from avalanche_care.strategies.phases import Computation, Phase, TrainingPhase
from avalanche_care.strategies.template import PTMStrategy


class FirstSessionStrategy(PTMStrategy):
    """Train what adapts the network on the first experience, then freeze it for good.

    It trains by cross-entropy behind a temporary head, a :class:`ProxyHead` unless the method has
    another. What classifies is computed afterwards, of every experience: see :meth:`computations`.

    The config has ``lr``, ``momentum``, ``weight_decay`` and ``head_scale`` besides what
    :class:`PTMStrategy` asks for.
    """

    model: TunedClassifier
    _temporary: nn.Module | None = None

    def computations(self) -> list[Computation]:
        """Return what is done with every experience, with the first one after the training."""
        raise NotImplementedError

    def adaptation(self) -> TrainingPhase:
        """Return the training phase of the first experience."""
        return TrainingPhase("adaptation", self.train_epochs, self.config.lr)

    def temporary_head(self) -> nn.Module:
        """Return a new head, from features (B, D) to logits of the first experience's classes."""
        head, width = self.model.head, self.model.backbone.embed_dim
        return ProxyHead(width, head.n_classes, scale=self.config.head_scale)

    def phases(self) -> list[Phase]:
        """Return the computations; before them, if there is what to train, the training."""
        if self.task > 0 or not any(True for _ in self.model.petl.parameters()):
            return [*self.computations()]
        return [self.adaptation(), *self.computations()]

    def _run_epochs(self, phase: TrainingPhase, **kwargs: Any) -> None:
        self._temporary = self.temporary_head().to(self.model.head.weight)  # device and type
        try:
            super()._run_epochs(phase, **kwargs)
        finally:
            self._temporary = None
        self.model.petl.requires_grad_(False)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return what adapts the network and the temporary head, with its scale."""
        head = [] if self._temporary is None else [*self._temporary.parameters()]
        return [*self.model.petl.parameters(), *head]

    def build_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Return SGD over the :meth:`trained_parameters`."""
        return torch.optim.SGD(
            self.trained_parameters(),
            lr=lr,
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
        )

    def forward(self) -> Tensor:
        """Return scores of the classes seen, (B, classes seen).

        In the training phase they are the temporary head's, in evaluations too: the classifier is
        not there yet.
        """
        if self._temporary is None:
            return self.model.predict(self.mb_x, **self.prediction())
        logits = self._temporary(self.model.adapted_features(self.mb_x))
        return self.model.head.in_label_order(logits)

    def training_loss(self) -> Tensor:
        """Return the cross-entropy over the experience's classes."""
        return F.cross_entropy(self.mb_output, self.model.head.labels[self.mb_columns])
