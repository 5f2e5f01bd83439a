"""FSA: adapt on the first task, then linear discriminants from running moments.

Panos, Kobe, Reino, Aljundi and Turner, "First Session Adaptation: A Strong Replay-Free Baseline for
Class-Incremental Learning", ICCV 2023, arXiv 2303.13199.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from avalanche_care.checked import CheckedConfig, positive
from avalanche_care.nn.discriminant import COVARIANCES, linear_discriminants
from avalanche_care.nn.fsa import SessionHead
from avalanche_care.nn.linear import LinearClassifier
from avalanche_care.nn.moments import RunningMoments
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.expansion import ExpansionPlugin
from avalanche_care.strategies.collecting import experience_features
from avalanche_care.strategies.first_session import FirstSessionStrategy
from avalanche_care.strategies.phases import Computation, TrainingPhase
from avalanche_care.strategies.presets import HasPresets
from avalanche_care.strategies.registry import register

FILM = {"operations": ["norm1", "norm2", "norm"], "std": 0.0}
TUNING: dict[str, tuple[str, dict[str, Any]]] = {
    "film": ("ssf", FILM),
    "finetune": ("finetune", {}),
    "none": ("none", {}),
}
"""Name -> kind of tuning and its options."""

PRESETS: dict[str, dict[str, Any]] = {
    "cifar100/B20-Inc10": {},  # the paper's "high-shot": 20 classes, then 8 sessions of 10
    "few-shot": {"milestones": (25, 50, 100), "decay": 0.3},
}


@dataclass(frozen=True)
class FSAConfig(HasPresets, CheckedConfig):
    """How FSA adapts the network on the first task, and its discriminants.

    The defaults are those of the released code, whose body is an EfficientNet-B0 at 0.5/0.5
    normalisation; there is no release for a ViT.

    Attributes:
        tuning: what is adapted: ``"film"``, a scale and a shift after every LayerNorm, which is
            what the paper's FiLM after every batch normalisation becomes in a ViT (our
            translation); ``"finetune"``, the whole network (in a copy), the paper's FSA, for which
            the learning rate of the release is very high in a ViT; or ``"none"``.
        epochs: on the first task.
        lr: learning rate of Adam.
        batch_size: images per step.
        milestones: epochs from which the learning rate is multiplied by ``decay``, each once more.
        decay: that factor.
        dropout: on the features before the temporary linear head, in training.
        ridge: what is added to the covariance's diagonal. 1 is the release's, for features of
            another network: how strong it is depends on their variance.
        covariance: ``"total"``, of all features around their common mean, as released, or
            ``"within"``, around their class's mean, as the paper and textbooks write it.
    """

    title: ClassVar[str] = "FSA"

    tuning: str = "film"
    epochs: int = 200
    lr: float = 0.005
    batch_size: int = 256
    milestones: tuple[int, ...] = (50, 100, 150)
    decay: float = 0.7
    dropout: float = 0.5
    ridge: float = 1.0
    covariance: str = "total"

    def _problems(self) -> list[str]:
        problems = positive(
            self, ("epochs", "lr", "batch_size", "decay", "ridge"), ("epochs", "batch_size")
        )
        if self.tuning not in TUNING:
            problems.append(f"tuning must be one of {tuple(TUNING)}, got {self.tuning!r}")
        if self.covariance not in COVARIANCES:
            problems.append(f"covariance must be one of {COVARIANCES}, got {self.covariance!r}")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout must be in [0, 1), got {self.dropout}")
        if any(epoch < 1 for epoch in self.milestones):
            problems.append(f"milestones must be positive, got {self.milestones}")
        return problems

    @staticmethod
    def presets() -> dict[str, dict[str, Any]]:
        """Return the settings that differ from the defaults, by preset."""
        return PRESETS


@dataclass(frozen=True)
class StepPhase(TrainingPhase):
    """Epochs of gradient steps with a learning rate that drops at some of them.

    Attributes:
        milestones: epochs from which the rate is multiplied by ``decay``, each once more.
        decay: that factor.
    """

    milestones: tuple[int, ...] = ()
    decay: float = 1.0

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return self.lr * self.decay ** sum(epoch >= milestone for milestone in self.milestones)


@register(
    "fsa",
    config=FSAConfig,
    paper="Panos et al., ICCV 2023",
    trains="scales and shifts of norms, first task",
)
class FSAStrategy(FirstSessionStrategy):
    """Linear discriminants on features that were adapted on the first experience only.

    The discriminants are a function of running sums, so after every experience they are those of
    all images so far, in whatever order these came. No image's features are kept.

    Args:
        model: a frozen ViT; it stays as it is.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.

    Attributes:
        moments: the sums.
    """

    model: LinearClassifier
    config: FSAConfig

    def __init__(
        self, *, model: FrozenViT, config: FSAConfig | None = None, **base_kwargs: Any
    ) -> None:
        config = config or FSAConfig()
        kind, options = TUNING[config.tuning]
        super().__init__(
            model=LinearClassifier(model, kind, **options),
            config=config,
            own_plugins=[ExpansionPlugin()],
            **base_kwargs,
        )
        self.moments = RunningMoments(self.model.head.dim, device=self.device)

    def adaptation(self) -> TrainingPhase:
        """Return the training phase of the first experience."""
        config = self.config
        return StepPhase(
            "adaptation",
            self.train_epochs,
            config.lr,
            milestones=config.milestones,
            decay=config.decay,
        )

    def temporary_head(self) -> nn.Module:
        """Return dropout and a linear layer, which are discarded after the first session."""
        head = self.model.head
        return SessionHead(head.dim, head.n_classes, dropout=self.config.dropout)

    def build_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Return Adam over what adapts the network and the temporary head."""
        return torch.optim.Adam(self.trained_parameters(), lr=lr)

    def computations(self) -> list[Computation]:
        """Return the one: the discriminants."""
        return [Computation("discriminants", self._discriminate)]

    @torch.no_grad()
    def _discriminate(self) -> None:
        head = self.model.head
        features, columns = experience_features(self, self.model.features)
        self.moments.expand(head.n_classes)
        self.moments.add(features, columns)
        weight, bias = linear_discriminants(
            self.moments, ridge=self.config.ridge, covariance=self.config.covariance
        )
        head.weight.copy_(weight)
        head.bias.copy_(bias)
        head.requires_grad_(False)

    def method_state(self) -> dict[str, Tensor]:
        """Return the sums."""
        return self.moments.state_dict()

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`method_state` returned."""
        self.moments.load_state_dict(state)
