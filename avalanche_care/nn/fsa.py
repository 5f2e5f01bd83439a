"""FSA: linear discriminants on the features of a network that was adapted once.

Panos, Kobe, Reino, Aljundi and Turner, "First Session Adaptation: A Strong Replay-Free Baseline for
Class-Incremental Learning", ICCV 2023, arXiv 2303.13199.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_care.nn.heads import LinearHead
from avalanche_care.nn.tuned import TunedClassifier
from avalanche_care.nn.vit import FrozenViT


class FSAModel(TunedClassifier):
    """A linear classifier with bias on adapted features.

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
    def from_arguments(cls, backbone: FrozenViT, arguments: Mapping[str, Any]) -> FSAModel:
        """Make a model that has learned nothing; see :meth:`FrozenClassifier.from_arguments`."""
        return cls(backbone, arguments["kind"], **arguments["options"])


class SessionHead(nn.Module):
    """The temporary head of the first session: dropout, then a linear layer.

    Args:
        dim: width D of the features.
        n_classes: C.
        dropout: probability of dropping a feature in training.
    """

    def __init__(self, dim: int, n_classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, n_classes)
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of features (B, D) for every class, (B, C)."""
        return self.linear(F.dropout(features, self.dropout, self.training))
