"""The model of L2P: a pool of prompts that an image chooses from by its query.

Wang, Zhang, Lee, Zhang, Sun, Ren, Su, Perot, Dy and Pfister, "Learning to Prompt for Continual
Learning", CVPR 2022, arXiv 2112.08654.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from avalanche_care.nn.prompts import PromptedClassifier, batch_majority, cosines, uniform
from avalanche_care.nn.vit import FrozenViT

POSITIONS = ("cls", "none")


class L2PFeatures(NamedTuple):
    """What a forward pass with prompts returns.

    Attributes:
        features: (B, D).
        match: sum of the cosines between an image's query and the keys that it has chosen, averaged
            over the batch; in [-k, k].
        chosen: indices of the prompts, the best first, (B, k).
    """

    features: Tensor
    match: Tensor
    chosen: Tensor


class L2PModel(PromptedClassifier):
    """L2P's network (section 4).

    The k prompts whose keys are nearest to the query become k L more input tokens. The features are
    the mean of these tokens' outputs, after the ViT's last norm (or before it, where the ViT
    itself normalises what it has pooled).

    The official code puts the prompts before the CLS token, its PyTorch port after it. For a
    transformer this is the same thing; what differs is their position embedding, see ``position``.

    Args:
        backbone: the frozen ViT.
        pool: number of prompts M.
        length: tokens of a prompt L.
        top_k: how many prompts an image chooses, k.
        init: prompts and keys start uniform in [-1, 1) with ``"symmetric"`` (the PyTorch port), in
            [0, 0.01) with ``"small"`` (the official code).
        position: ``"cls"`` adds the CLS token's position embedding to every prompt token, as the
            port does, where the ViT has one; ``"none"`` adds nothing, as the official code.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from avalanche_care.nn import FrozenViT, L2PModel
        >>> model = L2PModel(FrozenViT.create("glyph_vit_micro"))
        >>> model.expand(0, range(10))
        True
        >>> model(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        backbone: FrozenViT,
        *,
        pool: int = 10,
        length: int = 5,
        top_k: int = 5,
        init: str = "symmetric",
        position: str = "cls",
    ) -> None:
        super().__init__(backbone)
        if not 1 <= top_k <= pool or length < 1 or position not in POSITIONS:
            raise ValueError(
                f"expected 1 <= top_k <= pool, length >= 1 and position in {POSITIONS}, got "
                f"top_k={top_k}, pool={pool}, length={length}, position={position!r}"
            )
        self.pool, self.length, self.top_k, self.position = pool, length, top_k, position
        self.prompts = uniform(pool, length, backbone.embed_dim, init=init)
        self.keys = uniform(pool, backbone.embed_dim, init=init)

    def choose(self, similarity: Tensor, *, task: int | None = None) -> Tensor:
        """Return which prompts each image gets, the best first, (B, k).

        Args:
            similarity: of queries and keys, (B, M).
            task: give its own k prompts to all images, if the pool has enough for it ("prompt
                mask"); None: each image chooses.
        """
        if task is not None and (task + 1) * self.top_k <= self.pool:
            first = task * self.top_k
            own = torch.arange(first, first + self.top_k, device=similarity.device)
            return own.expand(len(similarity), -1)
        return similarity.topk(self.top_k, dim=1).indices

    def prompted(
        self, x: Tensor, *, task: int | None = None, majority: bool = False
    ) -> L2PFeatures:
        """Return the features of images, and how well their prompts match them.

        Prompts get no gradient through ``match``, keys none through the features: which prompts
        are chosen is not differentiable.

        Args:
            x: images, (B, C, H, W).
            task: as in :meth:`choose`.
            majority: all images get what most of the batch have chosen, see
                :func:`avalanche_care.nn.prompts.batch_majority`.
        """
        similarity = cosines(self.query(x), self.keys)
        chosen = self.choose(similarity.detach(), task=task)
        if majority:
            chosen = batch_majority(chosen, self.pool)
        tokens = self.prompts[chosen].flatten(1, 2) + self._position()  # (B, k L, D)
        out = self.backbone.forward_features(x, tokens=tokens)  # (B, N + k L, D)
        start = self.backbone.num_prefix_tokens
        # A ViT that pools an average normalises it, not the tokens; fc_norm is nothing elsewhere.
        features = self.backbone.vit.fc_norm(out[:, start : start + tokens.shape[1]].mean(1))
        match = similarity.gather(1, chosen).sum(1).mean()
        return L2PFeatures(features, match, chosen)

    def features(self, x: Tensor, *, majority: bool = False) -> Tensor:
        """Return features (B, D) of images (B, C, H, W); ``majority`` as in :meth:`prompted`."""
        return self.prompted(x, majority=majority).features

    def predict(self, x: Tensor, *, majority: bool = False, **how: Any) -> Tensor:
        """Return logits of every class seen, (B, classes seen); see :meth:`prompted`."""
        return self.head.in_label_order(self.head(self.features(x, majority=majority)))

    def _position(self) -> Tensor:
        """The position embedding of a prompt token, (D,)."""
        vit: Any = self.backbone.vit
        table = vit.pos_embed
        if self.position == "none" or table is None or vit.cls_token is None or vit.no_embed_class:
            return self.prompts.new_zeros(self.backbone.embed_dim)
        row: Tensor = table[0, 0]  # CLS comes first
        return row

    def arguments(self) -> dict[str, Any]:
        """Return sizes and switches."""
        return {
            "pool": self.pool,
            "length": self.length,
            "top_k": self.top_k,
            "position": self.position,
        }

    @classmethod
    def from_arguments(cls, backbone: FrozenViT, arguments: Mapping[str, Any]) -> L2PModel:
        """Make a model that has learned nothing yet.

        Raises:
            TypeError: if an argument is not known.
        """
        return cls(backbone, **arguments)
