"""A head on a frozen backbone's features: the simplest model, and the base of all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from avalanche_care.nn.heads import CosineHead, GrowingHead, LinearHead
from avalanche_care.nn.vit import FrozenViT

HEADS = {kind.__name__: kind for kind in (CosineHead, LinearHead)}
"""Heads that a model without anything else may have, by name."""


class FrozenClassifier(nn.Module):
    """A frozen ViT and a head that grows; the base of every method's model.

    Args:
        backbone: the frozen ViT.
        head: of the backbone's width.
    """

    def __init__(self, backbone: FrozenViT, head: GrowingHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    @property
    def tasks(self) -> int:
        """Number of tasks that the model has been expanded to."""
        return self.head.tasks

    def expand(self, task: int, classes: Sequence[int]) -> bool:
        """Add a task's classes to the head, once; see :meth:`GrowingHead.begin_task`."""
        return self.head.begin_task(task, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return features (B, D) of images (B, C, H, W)."""
        features: Tensor = self.backbone(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Return the head's scores of every class seen, in label order, (B, classes seen)."""
        return self.head.in_label_order(self.head(self.features(x)))

    def predict(self, x: Tensor) -> Tensor:
        """Return the scores that a prediction is made of; the highest is the class.

        A model may have keyword arguments more, for plain values.

        Args:
            x: images, (B, C, H, W).

        Returns:
            (B, classes seen), in label order.
        """
        scores: Tensor = self(x)
        return scores

    def arguments(self) -> dict[str, Any]:
        """Return what :meth:`from_arguments` makes an equal, empty model from; plain values."""
        return {"head": type(self.head).__name__}

    @classmethod
    def from_arguments(cls, backbone: FrozenViT, arguments: Mapping[str, Any]) -> FrozenClassifier:
        """Make a model that has learned nothing yet.

        Raises:
            KeyError: if an argument is missing or not known.
        """
        return FrozenClassifier(backbone, HEADS[arguments["head"]](backbone.embed_dim))
