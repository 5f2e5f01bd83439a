"""FeTrIL: old classes get the features of new ones, moved to their means.

Petit, Popescu, Schindler, Picard and Delezoide, "FeTrIL: Feature Translation for Exemplar-Free
Class-Incremental Learning", WACV 2023, arXiv 2211.13131.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avalanche_care.checked import positive
from avalanche_care.nn.fetril import LOSSES, FeTrILModel, PseudoFeatures, fit_linear
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.expansion import ExpansionPlugin
from avalanche_care.strategies.collecting import experience_features
from avalanche_care.strategies.first_session import FirstSessionStrategy
from avalanche_care.strategies.phases import Computation
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.tuning_config import TuningConfig


@dataclass(frozen=True)
class FeTrILConfig(TuningConfig):
    """FeTrIL's classifier, and how the network is adapted before it, if at all.

    The paper trains a ResNet-18 on the first half of the classes. On a pre-trained network there
    is nothing to train; ``tuning`` puts a step in that place, with APER's and RanPAC's settings.

    Attributes:
        tuning: see :class:`TuningConfig`; ``"none"`` by default.
        classifier: ``"svc"``, one-vs-all linear support vector machines with a squared hinge loss,
            as released, or ``"logistic"``, multinomial logistic regression (the paper's variant
            with a fully connected layer, solved to the end).
        penalty: C, the weight of the loss against half the squared length of the weights.
        tolerance: how small the gradient becomes, relative to the first one.
        iterations: of the solver, at most.
        neighbour: whose features an old class gets: those of the nearest new class (1), of the
            second nearest (2) ...; the paper's FeTrIL^k.
    """

    tuning: str = "none"
    classifier: str = "svc"
    penalty: float = 1.0
    tolerance: float = 1e-4
    iterations: int = 1000
    neighbour: int = 1

    def _problems(self) -> list[str]:
        problems = super()._problems()
        integers = ("iterations", "neighbour")
        problems += positive(self, ("penalty", "tolerance", *integers), integers)
        if self.classifier not in LOSSES:
            problems.append(f"classifier must be one of {tuple(LOSSES)}, got {self.classifier!r}")
        return problems


@register(
    "fetril",
    config=FeTrILConfig,
    paper="Petit et al., WACV 2023",
    trains="linear classifier, anew every task",
)
class FeTrILStrategy(FirstSessionStrategy):
    """Train a linear classifier on all classes seen, old ones by translated features of new ones.

    What is kept of a class is its mean feature. The classifier is trained from scratch in every
    experience, on as many features per old class as its nearest new class has images.

    Args:
        model: a frozen ViT; it stays as it is.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.

    Attributes:
        means: of the features of all classes seen, (C, D).
    """

    model: FeTrILModel
    config: FeTrILConfig

    def __init__(
        self, *, model: FrozenViT, config: FeTrILConfig | None = None, **base_kwargs: Any
    ) -> None:
        config = config or FeTrILConfig()
        super().__init__(
            model=FeTrILModel(model, config.tuning, **config.tuning_options()),
            config=config,
            own_plugins=[ExpansionPlugin()],
            **base_kwargs,
        )
        self.means = torch.zeros(0, self.model.head.dim, device=self.device)

    def computations(self) -> list[Computation]:
        """Return the one: translating features and training the classifier on them."""
        return [Computation("classifier", self._classify)]

    def _classify(self) -> None:
        head, config = self.model.head, self.config
        features, columns = experience_features(self, self.model.adapted_features)
        first = head.columns_of(self.task).start
        old = torch.cat([self.means[:first], features.new_zeros(head.n_classes - first, head.dim)])
        pseudo = PseudoFeatures(features, columns, old, first, neighbour=config.neighbour)
        self.means = pseudo.means
        weight, bias = fit_linear(
            pseudo,
            LOSSES[config.classifier],
            penalty=config.penalty,
            tolerance=config.tolerance,
            iterations=config.iterations,
        )
        with torch.no_grad():
            head.weight.copy_(weight)
            head.bias.copy_(bias)
        head.requires_grad_(False)

    def method_state(self) -> dict[str, Tensor]:
        """Return the class means."""
        return {"means": self.means}

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`method_state` returned."""
        self.means = state["means"].to(self.device, copy=True)
