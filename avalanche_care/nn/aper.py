"""APER: the features of a pre-trained network beside those of the same network, adapted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avalanche_care.nn.heads import CosineHead
from avalanche_care.nn.tuned import TunedClassifier
from avalanche_care.nn.vit import FrozenViT


class APERModel(TunedClassifier):
    """A cosine classifier on ``[phi(x); phi'(x)]``, phi frozen and phi' adapted.

    Zhou et al., IJCV 2024. Neither half is normalised before they are put together;
    the cosine normalises the whole, so the half with the longer vectors counts more.

    Args:
        backbone: the frozen ViT.
        kind: how it is adapted, a key of :data:`avalanche_care.nn.petl.KINDS`.
        options: of that kind, plain values.
    """

    def __init__(self, backbone: FrozenViT, kind: str = "adapter", **options: Any) -> None:
        super().__init__(backbone, CosineHead(2 * backbone.embed_dim), kind, options)

    def features(self, x: Tensor) -> Tensor:
        """Return the features of both networks, (B, 2 D), of images (B, C, H, W)."""
        return torch.cat(self.petl.both(self.backbone, x), 1)

    @classmethod
    def from_arguments(cls, backbone: FrozenViT, arguments: Mapping[str, Any]) -> APERModel:
        """Make a model that has learned nothing; see :meth:`FrozenClassifier.from_arguments`."""
        return cls(backbone, arguments["kind"], **arguments["options"])
