"""The model of DualPrompt: general prompts for all, expert prompts for each task.

Wang, Zhang, Ebrahimi, Sun, Zhang, Lee, Ren, Su, Perot, Dy and Pfister, "DualPrompt: Complementary
Prompting for Rehearsal-free Continual Learning", ECCV 2022, arXiv 2204.04799.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from avalanche_care.nn.growing import GrowingModule
from avalanche_care.nn.plugs import Prefix
from avalanche_care.nn.prompts import (
    PromptedClassifier,
    batch_majority,
    check_blocks,
    cosines,
    uniform,
)
from avalanche_care.nn.vit import FrozenViT


class DualPromptFeatures(NamedTuple):
    """What a forward pass with prompts returns.

    Attributes:
        features: (B, D).
        match: cosine of an image's query and the key of its expert prompt, mean of the batch.
        chosen: index of the expert prompt, (B,).
    """

    features: Tensor
    match: Tensor
    chosen: Tensor


class ExpertPrompts(GrowingModule):
    """Expert prompts and their keys, one row per prompt.

    Args:
        rows: how many there are at the start.
        shape: of a prompt: blocks, keys and values (2), length, width D.
        init: range of the initial values.
    """

    prompts: nn.Parameter  # (E, blocks, 2, L, D)
    keys: nn.Parameter  # (E, D)

    def __init__(self, rows: int, shape: tuple[int, int, int, int], *, init: str) -> None:
        super().__init__()
        self.init = init
        self.prompts = uniform(rows, *shape, init=init)
        self.keys = uniform(rows, shape[-1], init=init)

    @property
    def rows(self) -> int:
        """Number of expert prompts E."""
        return len(self.keys)

    @torch.no_grad()
    def append(self) -> None:
        """Add a prompt and a key, both with new initial values."""
        for name in ("prompts", "keys"):
            old: Tensor = getattr(self, name).detach()
            new = uniform(1, *old.shape[1:], init=self.init).to(old)
            setattr(self, name, nn.Parameter(torch.cat([old, new])))


class DualPromptModel(PromptedClassifier):
    """DualPrompt's network (section 4), with prompts as prefixes of keys and values ("Pre-T").

    Each prompt has L keys and L values of its own for every block that it goes into. They stand in
    front of what the attention has projected, and are not projected themselves. The features are
    those of the CLS token.

    Layout: image b gets its own expert's keys as keys and its own expert's values as values, as in
    the official JAX code. The PyTorch ports reshape where they should permute, and so give images
    each other's prefixes, and keys in place of values.

    Args:
        backbone: the frozen ViT.
        pool: number of expert prompts. None: one is added for every task. With a number, they are
            there from the start, and tasks beyond the pool have no prompt of their own: their
            images choose one in training too, and change what earlier tasks have learned.
        general_blocks: where the general prompt goes.
        expert_blocks: where the expert prompts go.
        general_length: keys and values per block of the general prompt.
        expert_length: keys and values per block of an expert prompt.
        init: initial values of prompts and keys: uniform in [-1, 1) with ``"symmetric"`` (the
            PyTorch ports), in [0, 0.01) with ``"small"`` (the official code).
        match_unseen: with a pool, images may choose expert prompts of tasks that were not learned
            yet, as in the originals.

    Raises:
        ValueError: if a size or a block is out of range.
    """

    def __init__(
        self,
        backbone: FrozenViT,
        *,
        pool: int | None = None,
        general_blocks: Sequence[int] = (0, 1),
        expert_blocks: Sequence[int] = (2, 3, 4),
        general_length: int = 5,
        expert_length: int = 5,
        init: str = "symmetric",
        match_unseen: bool = True,
    ) -> None:
        super().__init__(backbone)
        check_blocks(backbone, [*general_blocks, *expert_blocks])
        if min(general_length, expert_length, 1 if pool is None else pool) < 1:
            raise ValueError(
                "expected lengths and pool of at least 1, got "
                f"general_length={general_length}, expert_length={expert_length}, pool={pool}"
            )
        self.pool, self.match_unseen = pool, match_unseen
        self.general_blocks, self.expert_blocks = [*general_blocks], [*expert_blocks]
        width, places = backbone.embed_dim, len(self.expert_blocks)
        self.general = uniform(len(self.general_blocks), 2, general_length, width, init=init)
        self.experts = ExpertPrompts(pool or 0, (places, 2, expert_length, width), init=init)

    @torch.no_grad()
    def expand(self, task: int, classes: Sequence[int]) -> bool:
        """Add a task's classes; its expert prompt starts as the previous one, its key anew."""
        if not super().expand(task, classes):
            return False
        if self.pool is None:
            self.experts.append()
        if 0 < task < self.experts.rows:
            self.experts.prompts[task] = self.experts.prompts[task - 1]
        return True

    def choose(self, similarity: Tensor) -> Tensor:
        """Return the expert prompt whose key is nearest, (B,).

        Args:
            similarity: of queries and all keys, (B, E).
        """
        if not self.match_unseen:
            similarity = similarity[:, : self.tasks]
        return similarity.argmax(1)

    def prompted(
        self, x: Tensor, *, task: int | None = None, majority: bool = False
    ) -> DualPromptFeatures:
        """Return the features of images, and how well their expert prompts match them.

        Args:
            x: images, (B, C, H, W).
            task: all images get this task's expert prompt, if the pool has one for it; None: each
                gets the one whose key is nearest.
            majority: where images choose, all get what most of the batch have chosen, see
                :func:`avalanche_care.nn.prompts.batch_majority`.
        """
        experts = self.experts
        similarity = cosines(self.query(x), experts.keys)  # (B, E)
        if task is not None and task < experts.rows:
            prompts = experts.prompts[task]  # (blocks, 2, L, D), for all images
            chosen = torch.full((len(x),), task, device=x.device)
        else:
            chosen = self.choose(similarity.detach())
            if majority:
                chosen = batch_majority(chosen[:, None], experts.rows)[:, 0]
            prompts = experts.prompts[chosen].movedim(0, 2)  # (blocks, 2, B, L, D)
        prefix: list[Prefix | None] = [None] * self.backbone.depth
        for i, block in enumerate(self.general_blocks):
            prefix[block] = (self.general[i, 0], self.general[i, 1])
        for i, block in enumerate(self.expert_blocks):
            prefix[block] = (prompts[i, 0], prompts[i, 1])
        match = similarity.gather(1, chosen[:, None]).mean()
        return DualPromptFeatures(self.backbone(x, prefix=prefix), match, chosen)

    def features(self, x: Tensor, *, majority: bool = False) -> Tensor:
        """Return features (B, D) of images (B, C, H, W); ``majority`` as in :meth:`prompted`."""
        return self.prompted(x, majority=majority).features

    def predict(self, x: Tensor, *, majority: bool = False, **how: Any) -> Tensor:
        """Return logits of every class seen, (B, classes seen); see :meth:`prompted`."""
        return self.head.in_label_order(self.head(self.features(x, majority=majority)))

    def arguments(self) -> dict[str, Any]:
        """Return sizes and switches."""
        return {
            "pool": self.pool,
            "general_blocks": self.general_blocks,
            "expert_blocks": self.expert_blocks,
            "general_length": self.general.shape[2],
            "expert_length": self.experts.prompts.shape[3],
            "match_unseen": self.match_unseen,
        }

    @classmethod
    def from_arguments(cls, backbone: FrozenViT, arguments: Mapping[str, Any]) -> DualPromptModel:
        """Make a model that has learned nothing yet.

        Raises:
            TypeError: if an argument is not known.
        """
        return cls(backbone, **arguments)
