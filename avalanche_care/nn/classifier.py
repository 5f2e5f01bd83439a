"""A head on a frozen backbone's features: the simplest model, and the base of all others."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from avalanche_care.nn.heads import GrowingHead
from avalanche_care.nn.vit import FrozenViT


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
