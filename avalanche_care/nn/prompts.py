"""What the prompt methods share: a query from the frozen ViT, matching it with keys, a head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.heads import LinearHead
from avalanche_care.nn.vit import FrozenViT

RANGES = {"symmetric": (-1.0, 1.0), "small": (0.0, 0.01)}
"""Initial values of prompts and keys are uniform in one of these ranges."""


class PromptedClassifier(FrozenClassifier):
    """A frozen ViT that is run twice: for a query, then with the prompts that the query has chosen.

    Args:
        backbone: the frozen ViT.
    """

    head: LinearHead

    def __init__(self, backbone: FrozenViT) -> None:
        super().__init__(backbone, LinearHead(backbone.embed_dim))

    @torch.no_grad()
    def query(self, x: Tensor) -> Tensor:
        """Return the features (B, D) of images without prompts; they never change."""
        query: Tensor = self.backbone(x)
        return query

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over what trains: everything but the backbone."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)


def check_blocks(backbone: FrozenViT, blocks: Sequence[int]) -> None:
    """Refuse blocks that a ViT does not have, or that are named twice.

    Raises:
        ValueError: naming them.
    """
    if len(set(blocks)) < len(blocks) or not set(blocks) <= set(range(backbone.depth)):
        raise ValueError(
            f"prompts go into different blocks of 0 .. {backbone.depth - 1}, got {[*blocks]}. "
            "Choose others for this ViT."
        )


def uniform(*shape: int, init: str) -> nn.Parameter:
    """Return a parameter with values of a range.

    Args:
        shape: of the parameter.
        init: a key of :data:`RANGES`.

    Raises:
        ValueError: if there is no such range.
    """
    if init not in RANGES:
        raise ValueError(f"init must be one of {tuple(RANGES)}, got {init!r}")
    return nn.Parameter(torch.empty(shape).uniform_(*RANGES[init]))


def cosines(queries: Tensor, keys: Tensor) -> Tensor:
    """Return the cosine of every query with every key.

    Args:
        queries: (B, D).
        keys: (M, D).

    Returns:
        (B, M).
    """
    # The norm is bounded as in the original: x / sqrt(max(|x|^2, 1e-12)).
    return F.linear(F.normalize(queries, dim=1, eps=1e-6), F.normalize(keys, dim=1, eps=1e-6))


def batch_majority(chosen: Tensor, n: int) -> Tensor:
    """Give all images of a batch what most of them have chosen.

    In evaluation this lets images tell each other their task: a loader sorted by class has batches
    of one task, whose images should not know that of each other.

    Args:
        chosen: for each image k different numbers below ``n``, (B, k).
        n: how many there are to choose from.

    Returns:
        (B, k): the k most frequent, of equally frequent ones the lowest. Every row is the same.
    """
    votes = (chosen.flatten()[:, None] == torch.arange(n, device=chosen.device)).sum(0)  # (n,)
    most = votes.argsort(descending=True, stable=True)[: chosen.shape[1]]
    return most.expand_as(chosen)
