"""The temporary head of FSA, which adapts the network on the first task; see ``LinearClassifier``.

Panos, Kobe, Reino, Aljundi and Turner, "First Session Adaptation: A Strong Replay-Free Baseline for
Class-Incremental Learning", ICCV 2023, arXiv 2303.13199.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


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
