"""A model whose frozen network is adapted once: the base of APER, RanPAC and FSA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.heads import GrowingHead
from avalanche_care.nn.petl import build_petl
from avalanche_care.nn.vit import FrozenViT


class TunedClassifier(FrozenClassifier):
    """A frozen ViT, what adapts it, and a head: the base of methods that tune the network once.

    Args:
        backbone: the frozen ViT.
        head: as wide as what the method makes of the features.
        kind: how the backbone is adapted, a key of :data:`avalanche_care.nn.petl.KINDS`.
        options: of that kind, plain values.
    """

    def __init__(
        self, backbone: FrozenViT, head: GrowingHead, kind: str, options: Mapping[str, Any]
    ) -> None:
        super().__init__(backbone, head)
        self.kind = kind
        self.options = dict(options)
        self.petl = build_petl(kind, backbone, **options)

    def adapted_features(self, x: Tensor) -> Tensor:
        """Return what the adapted network says of images (B, C, H, W), (B, D)."""
        adapted: Tensor = self.petl(self.backbone, x)
        return adapted

    def arguments(self) -> dict[str, Any]:
        """Return kind and options; see :meth:`FrozenClassifier.arguments`."""
        return {"kind": self.kind, "options": self.options}
