"""SimpleCIL: nearest class mean on frozen features.

Zhou, Cai, Ye, Zhan and Liu, "Revisiting Class-Incremental Learning with Pre-Trained Models:
Generalizability and Adaptivity are All You Need", IJCV 2024, arXiv 2303.07338, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from avalanche_care.checked import CheckedConfig, positive
from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.heads import CosineHead
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.expansion import ExpansionPlugin
from avalanche_care.strategies.phases import Computation, Phase
from avalanche_care.strategies.prototypes import fit_prototypes
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.template import PTMStrategy


@dataclass(frozen=True)
class SimpleCILConfig(CheckedConfig):
    """SimpleCIL has nothing to set.

    Attributes:
        batch_size: images per forward pass; the result does not depend on it.
    """

    batch_size: int = 64

    def _problems(self) -> list[str]:
        """Say what is wrong with the values."""
        return positive(self, ("batch_size",), ("batch_size",))


@register("simplecil", config=SimpleCILConfig, paper="Zhou et al., IJCV 2024", trains="nothing")
class SimpleCILStrategy(PTMStrategy):
    """Classify by the cosine between a frozen feature and each class's mean feature.

    The means are of the raw features (not normalised first), of the training images with the test
    transform. There is no training and no randomness but the class order.

    Args:
        model: a frozen ViT.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.
    """

    model: FrozenClassifier
    config: SimpleCILConfig

    def __init__(
        self, *, model: FrozenViT, config: SimpleCILConfig | None = None, **base_kwargs: Any
    ) -> None:
        super().__init__(
            model=FrozenClassifier(model, CosineHead(model.embed_dim)),
            config=config or SimpleCILConfig(),
            own_plugins=[ExpansionPlugin()],
            **base_kwargs,
        )

    def phases(self) -> list[Phase]:
        """Return the one phase: computing the means."""
        return [Computation("prototypes", lambda: fit_prototypes(self))]
