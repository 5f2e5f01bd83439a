"""What the prompt methods share as strategies: Adam on prompts and head, one task's classes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.checked import CheckedConfig
from avalanche_care.nn.prompts import PromptedClassifier
from avalanche_care.plugins.expansion import ExpansionPlugin
from avalanche_care.strategies.phases import Phase, TrainingPhase
from avalanche_care.strategies.presets import HasPresets
from avalanche_care.strategies.template import PTMStrategy

CHOICES = ("per-image", "batch-in-training", "batch-leaks-task-identity")
"""Who chooses the prompts: each image; in training the batch; in training and prediction the batch.

With the last one a prediction depends on the other images of its batch. A test set that is sorted
by class, or evaluated task by task, then tells the method which task an image is of.
"""


@dataclass(frozen=True)
class PromptConfig(HasPresets, CheckedConfig):
    """How prompts are trained; the fields that all prompt methods share.

    Attributes:
        epochs: per task.
        lr: learning rate of Adam, without weight decay; it is made anew for every task.
        batch_size: images per step.
        clip_norm: largest norm of the gradient; None: it is not clipped.
        title: of the method; fixed by the class, not a field.
    """

    title: ClassVar[str] = "prompt"

    epochs: int
    lr: float
    batch_size: int
    clip_norm: float | None

    def _problems(self) -> Iterator[str]:
        """Say what is wrong with the values."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            if type(entry.default) is int and not isinstance(value, int):
                yield f"{entry.name} must be an integer, got {value!r}"
            elif entry.name in self._may_be_zero():
                if not 0 <= value < math.inf:
                    yield f"{entry.name} must not be negative, got {value}"
            elif not 0 < value < math.inf:
                yield f"{entry.name} must be positive, got {value}"

    def _may_be_zero(self) -> Collection[str]:
        """Return the names of numbers that may be 0."""
        return ()

    def _not_among(self, **allowed: Collection[str]) -> Iterator[str]:
        """Say which fields have none of the allowed values."""
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                yield f"{name} must be one of {tuple(values)}, got {getattr(self, name)!r}"


class PromptStrategy(PTMStrategy):
    """Train prompts and a linear head; the cross-entropy knows the current classes only.

    Logits of other classes are left out of the loss, in the originals by setting them to minus
    infinity. So the rows of earlier classes get no gradient, and logits of different tasks are
    never compared in training.

    Args:
        model: the frozen ViT with its prompts.
        config: the method's settings.
        base_kwargs: further arguments of :class:`PTMStrategy`.
    """

    model: PromptedClassifier
    config: PromptConfig
    _logits: Tensor | None = None  # of the mini-batch in training, (B, classes seen)

    def __init__(
        self, *, model: PromptedClassifier, config: PromptConfig, **base_kwargs: Any
    ) -> None:
        super().__init__(model=model, config=config, own_plugins=[ExpansionPlugin()], **base_kwargs)

    def training_features(self) -> Tensor:
        """Return the features of the mini-batch, (B, D), and keep what else the loss needs."""
        raise NotImplementedError

    def regularisation(self) -> Tensor:
        """Return what is added to the cross-entropy, a scalar."""
        raise NotImplementedError

    def phases(self) -> list[Phase]:
        """Return the one phase: training, with a constant learning rate."""
        lr = self.config.lr
        return [TrainingPhase("training", self.train_epochs, lr, min_lr=lr)]

    def build_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Return Adam over all but the backbone.

        What gets no gradient does not move: the state of a new Adam is zero, and so is its step.
        """
        return torch.optim.Adam(self.model.trainable_parameters(), lr=lr)

    def optimizer_step(self) -> None:
        """Take a step, with a gradient that is not too long."""
        if self.config.clip_norm is not None:
            parameters = self.model.trainable_parameters()
            torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        super().optimizer_step()

    @property
    def allowed_columns(self) -> slice:
        """The columns of the current experience: the loss knows no others."""
        return self.model.head.columns_of(self.task)

    def forward(self) -> Tensor:
        """Return logits of the classes seen, (B, classes seen)."""
        if not self.is_training:
            return self.model.predict(self.mb_x, **self.prediction())
        self._logits = self.model.head(self.training_features())
        return self.model.head.in_label_order(self._logits)

    def training_loss(self) -> Tensor:
        """Return the cross-entropy of the current classes and what the method adds to it."""
        if self._logits is None:
            raise RuntimeError("training_loss() needs a forward pass in training before it")
        first = self.allowed_columns.start
        loss = F.cross_entropy(self._logits[:, first:], self.mb_columns - first)
        return loss + self.regularisation()

    def _train_cleanup(self) -> None:
        super()._train_cleanup()
        self._logits = None
