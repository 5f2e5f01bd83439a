"""The model of CODA-Prompt: prompts that are weighted sums of components.

Smith, Karlinsky, Gutta, Cascante-Bonilla, Kim, Arbelle, Panda, Feris and Kira, "CODA-Prompt:
COntinual Decomposed Attention-based Prompting for Rehearsal-Free Continual Learning", CVPR 2023,
arXiv 2211.13218.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_care.nn.growing import GrowingModule
from avalanche_care.nn.plugs import Prefix
from avalanche_care.nn.prompts import PromptedClassifier, check_blocks
from avalanche_care.nn.vit import FrozenViT

PARTS = ("prompts", "keys", "attention")
EPS = 1e-12  # smallest norm that is divided by, as in F.normalize


class PromptComponents(GrowingModule):
    """The components of all blocks: those of the newest task train, the earlier ones are frozen.

    The original has one tensor with room for all tasks, of which a slice is used. Here it grows by
    the slice that a task adds, so the number of tasks need not be known; the numbers are the same.

    Args:
        blocks: number of blocks S that get prompts.
        length: tokens of a prompt L, keys and values together.
        dim: their width D.
    """

    prompts: nn.Parameter  # (n, S, L D), of the newest task
    keys: nn.Parameter  # (n, S, D)
    attention: nn.Parameter  # (n, S, D)
    old_prompts: Tensor  # (N - n, S, L D), of all earlier tasks
    old_keys: Tensor  # (N - n, S, D)
    old_attention: Tensor  # (N - n, S, D)

    def __init__(self, blocks: int, length: int, dim: int) -> None:
        super().__init__()
        for name, width in zip(PARTS, (length * dim, dim, dim), strict=True):
            setattr(self, name, nn.Parameter(torch.zeros(0, blocks, width)))
            self.register_buffer(f"old_{name}", torch.zeros(0, blocks, width))

    @property
    def count(self) -> int:
        """Number of components of a block, N."""
        return len(self.old_keys) + len(self.keys)

    @torch.no_grad()
    def append(self, rows: int) -> None:
        """Freeze the components there are, and add new ones, orthogonal to them.

        Args:
            rows: how many, n.
        """
        for name in PARTS:
            newest: Tensor = getattr(self, name)
            old = torch.cat([getattr(self, f"old_{name}"), newest.detach()])
            setattr(self, f"old_{name}", old)
            setattr(self, name, nn.Parameter(orthogonal_rows(old, rows)))

    def forward(self, query: Tensor) -> Tensor:
        """Return the prompts of images, (B, S, L D).

        Args:
            query: (B, D).
        """
        new = weighted_sum(query, self.attention, self.keys, self.prompts)
        if not len(self.old_keys):
            return new
        return new + weighted_sum(query, self.old_attention, self.old_keys, self.old_prompts)

    def rows(self) -> Iterator[Tensor]:
        """Iterate over prompts, keys and attention vectors of all tasks, each (S, N, m)."""
        for name in PARTS:
            both = torch.cat([getattr(self, f"old_{name}"), getattr(self, name)])
            yield both.transpose(0, 1)


def weighted_sum(query: Tensor, attention: Tensor, keys: Tensor, prompts: Tensor) -> Tensor:
    """Return the sum of components, each weighted by how much the query attends to it.

    The weight is the cosine of ``query * attention`` and the key (section 4). It is computed
    as ``q . (a k) / |k| / sqrt(q^2 . a^2)``, from two matrix products: the same number without a
    product of query and attention per image and component, (B, n, S, D), which would be 600 MB for
    128 images, 301 components and 5 blocks of ViT-B.

    Args:
        query: (B, D).
        attention: (n, S, D).
        keys: (n, S, D).
        prompts: (n, S, L D).

    Returns:
        (B, S, L D).
    """
    keys = F.normalize(keys, dim=-1, eps=EPS)
    dots = torch.einsum("bd,nsd->bns", query, attention * keys)
    squares = torch.einsum("bd,nsd->bns", query.square(), attention.square())
    weights = dots / squares.clamp_min(EPS**2).sqrt()  # (B, n, S)
    return torch.einsum("bns,nsm->bsm", weights, prompts)


def orthogonal_rows(old: Tensor, rows: int) -> Tensor:
    """Return random unit vectors that are orthogonal to earlier ones and to each other.

    Gram-Schmidt as in the released code: the projections of the random vector on every earlier one
    are subtracted at once. Where the earlier ones have been trained and are no longer orthogonal,
    the result is only about orthogonal to them. Earlier ones that are zero are passed over.

    A space of m dimensions has no direction orthogonal to m others. From there on a new vector is a
    random unit vector (the released code does not come to an end there).

    Args:
        old: earlier vectors of S spaces, (N, S, m).
        rows: how many to add, n.

    Returns:
        (n, S, m).
    """
    earlier, (count, spaces, dim) = old.transpose(0, 1), old.shape  # (S, N, m)
    fresh = torch.randn(spaces, rows, dim, dtype=old.dtype, device=old.device)
    out = fresh - _projections(fresh, earlier)
    for i in range(rows):
        if count + i >= dim:
            out[:, i] = fresh[:, i]
        elif i:
            out[:, i] -= _projections(fresh[:, i : i + 1], out[:, :i])[:, 0]
    return F.normalize(out, dim=-1).transpose(0, 1).contiguous()


def _projections(vectors: Tensor, earlier: Tensor) -> Tensor:
    """Return the sums of the projections of vectors (S, n, m) on earlier ones (S, N, m)."""
    squares = earlier.square().sum(-1)  # (S, N)
    inverse = torch.where(squares < 1e-8, 0.0, 1 / squares)
    return (vectors @ earlier.mT * inverse[:, None]) @ earlier


class CODAPromptModel(PromptedClassifier):
    """CODA-Prompt's network (section 4).

    The first half of a prompt's tokens are keys, the second half values, as prefixes of a block's
    attention. The features are those of the CLS token.

    Args:
        backbone: the frozen ViT.
        blocks: where prompts go.
        components_per_task: how many components a task adds to each of these blocks.
        length: tokens of a prompt L, keys and values together; an even number.

    Raises:
        ValueError: if a size or a block is out of range.
    """

    def __init__(
        self,
        backbone: FrozenViT,
        *,
        blocks: Sequence[int] = (0, 1, 2, 3, 4),
        components_per_task: int = 10,
        length: int = 8,
    ) -> None:
        super().__init__(backbone)
        check_blocks(backbone, blocks)
        if components_per_task < 1 or length < 2 or length % 2:
            raise ValueError(
                "expected components_per_task of at least 1 and an even length, got "
                f"{components_per_task} and {length}: without components there are no prompts"
            )
        self.blocks, self.components_per_task, self.length = [*blocks], components_per_task, length
        self.components = PromptComponents(len(self.blocks), length, backbone.embed_dim)

    def expand(self, task: int, classes: Sequence[int]) -> bool:
        """Add a task's classes and components; those of earlier tasks are frozen."""
        if not super().expand(task, classes):
            return False
        self.components.append(self.components_per_task)
        return True

    def features(self, x: Tensor) -> Tensor:
        """Return features (B, D) of images (B, C, H, W)."""
        prompts = self.components(self.query(x))  # (B, S, L D)
        prompts = prompts.unflatten(-1, (2, self.length // 2, -1))  # (B, S, 2, L / 2, D)
        prefix: list[Prefix | None] = [None] * self.backbone.depth
        for i, block in enumerate(self.blocks):
            prefix[block] = (prompts[:, i, 0], prompts[:, i, 1])
        features: Tensor = self.backbone(x, prefix=prefix)
        return features

    def arguments(self) -> dict[str, Any]:
        """Return sizes."""
        return {
            "blocks": self.blocks,
            "components_per_task": self.components_per_task,
            "length": self.length,
        }

    @classmethod
    def from_arguments(cls, backbone: FrozenViT, arguments: Mapping[str, Any]) -> CODAPromptModel:
        """Make a model that has learned nothing yet.

        Raises:
            TypeError: if an argument is not known.
        """
        return cls(backbone, **arguments)
