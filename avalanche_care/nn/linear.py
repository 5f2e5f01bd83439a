"""A linear classifier on the features of a network that may be tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from avalanche_care.nn.heads import LinearHead
from avalanche_care.nn.tuned import TunedClassifier
from avalanche_care.nn.vit import FrozenViT


class LinearClassifier(TunedClassifier):
    """A linear head with bias on adapted features.

    Args:
        backbone: the frozen ViT.
        kind: how it is adapted, a key of :data:`avalanche_care.nn.petl.KINDS`.
        options: of that kind, plain values.
    """

    head: LinearHead

    def __init__(self, backbone: FrozenViT, kind: str = "none", **options: Any) -> None:
        super().__init__(backbone, LinearHead(backbone.embed_dim), kind, options)

    def features(self, x: Tensor) -> Tensor:
        """Return the adapted features, (B, D), of images (B, C, H, W)."""
        return self.adapted_features(x)

    @classmethod
    def from_arguments(cls, backbone: FrozenViT, arguments: Mapping[str, Any]) -> LinearClassifier:
        """Make a model that has learned nothing; see :meth:`FrozenClassifier.from_arguments`."""
        return cls(backbone, arguments["kind"], **arguments["options"])
