"""RanPAC: ridge regression on random features of an adapted network.

McDonnell, Gong, Parvaneh, Abbasnejad and van den Hengel, "RanPAC: Random Projections and
Pre-trained Models for Continual Learning", NeurIPS 2023, arXiv 2307.02251.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_care.nn.heads import GrowingHead
from avalanche_care.nn.tuned import TunedClassifier
from avalanche_care.nn.vit import FrozenViT

BLOCK = 1024
"""Random features that are computed at once where they are wanted in blocks."""


class RandomProjection(nn.Module):
    """A fixed layer of random features, ``relu(f W)`` with entries of W from N(0, 1).

    Args:
        dim: D, width of f.
        size: M, how many random features.
        seed: of the entries; None: they are drawn from PyTorch's global generator.
    """

    weight: Tensor  # (D, M)

    def __init__(self, dim: int, size: int, *, seed: int | None = None) -> None:
        super().__init__()
        source = None if seed is None else torch.Generator().manual_seed(seed)
        self.register_buffer("weight", torch.randn(dim, size, generator=source))

    def forward(self, features: Tensor) -> Tensor:
        """Return the random features (n, M) of features (n, D)."""
        return F.relu(features @ self.weight)


class RegressionHead(GrowingHead):
    """Linear classifier without bias."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores of features (B, M) for every class, (B, C)."""
        return F.linear(features, self.weight)


class RanPACModel(TunedClassifier):
    """A linear classifier on random features of adapted ones.

    ``h = relu(f W)`` and scores ``W_o' h`` (section 4.2): linear, without bias, and neither f nor
    h is normalised or centred. Unlike in APER, f is of the adapted network alone.

    Args:
        backbone: the frozen ViT.
        projection: M, how many random features; 0: none, the head reads f itself.
        seed: of the projection, see :class:`RandomProjection`.
        kind: how the backbone is adapted, a key of :data:`avalanche_care.nn.petl.KINDS`.
        options: of that kind, plain values.
    """

    def __init__(
        self,
        backbone: FrozenViT,
        projection: int = 10_000,
        *,
        seed: int | None = None,
        kind: str = "none",
        **options: Any,
    ) -> None:
        width = backbone.embed_dim
        super().__init__(backbone, RegressionHead(projection or width), kind, options)
        self.projection = RandomProjection(width, projection, seed=seed) if projection else None

    def features(self, x: Tensor) -> Tensor:
        """Return h, (B, M), of images (B, C, H, W)."""
        features = self.adapted_features(x)
        return features if self.projection is None else self.projection(features)

    def lift(self, features: Tensor) -> Iterator[Tensor]:
        """Yield h of adapted features (n, D) in blocks of columns, each (n, up to BLOCK)."""
        if self.projection is None:
            yield features
            return
        for block in self.projection.weight.split(BLOCK, dim=1):
            yield F.relu(features @ block)

    def arguments(self) -> dict[str, Any]:
        """Return size, kind and options; see :meth:`FrozenClassifier.arguments`."""
        size = 0 if self.projection is None else self.projection.weight.shape[1]
        return {**super().arguments(), "projection": size}

    @classmethod
    def from_arguments(cls, backbone: FrozenViT, arguments: Mapping[str, Any]) -> RanPACModel:
        """Make a model that has learned nothing; see :meth:`FrozenClassifier.from_arguments`."""
        options = arguments["options"]
        return cls(backbone, arguments["projection"], kind=arguments["kind"], **options)
