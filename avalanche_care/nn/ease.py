"""EASE's network: a frozen ViT, one set of adapters per task, and a classifier on all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_care.nn.adapter import ParallelAdapter
from avalanche_care.nn.adapter_bank import AdapterBank
from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.ensemble_config import EnsembleConfig
from avalanche_care.nn.petl import AdapterTuning
from avalanche_care.nn.subspaces import SubspaceHead
from avalanche_care.nn.vit import FrozenViT


class EASEModel(FrozenClassifier):
    """Expandable subspace ensemble (Zhou et al., CVPR 2024, arXiv 2403.12030).

    Every task trains adapters of its own, from scratch and alone, and its features are a subspace.
    Finished adapters are stacked in one bank per block.

    A prediction takes a pass per adapter. The passes share the embedding and block 0 but its
    adapter, and several go through the other blocks as one batch: 1 + T (L - 1) blocks of an image
    for T tasks, where a pass after the other has T L. From block 1 on every adapter has changed
    the tokens, so nothing more can be shared.

    Args:
        backbone: the frozen ViT; its blocks must have the standard structure.
        bottleneck: hidden width r of an adapter.
        scale: s, constant factor on what an adapter adds.
        dropout: in an adapter, in training.
        config: how the subspaces are combined.

    Example:
        >>> import torch
        >>> from avalanche_care.nn import EASEModel, FrozenViT
        >>> model = EASEModel(FrozenViT.create("glyph_vit_micro"))
        >>> model.expand(0, range(10))
        True
        >>> model.keep_adapters()
        >>> model(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    head: SubspaceHead

    def __init__(
        self,
        backbone: FrozenViT,
        *,
        bottleneck: int = 64,
        scale: float = 0.1,
        dropout: float = 0.1,
        config: EnsembleConfig | None = None,
    ) -> None:
        super().__init__(backbone, SubspaceHead(backbone.embed_dim, config))
        self.sizes: dict[str, Any] = {"bottleneck": bottleneck, "scale": scale, "dropout": dropout}
        self.petl = AdapterTuning(backbone, **self.sizes)
        self.banks = nn.ModuleList(
            AdapterBank(backbone.embed_dim, bottleneck) for _ in range(backbone.depth)
        )

    @property
    def adapters(self) -> int:
        """Number of finished adapters per block."""
        return next(self._banks()).tasks

    @property
    def adapts(self) -> bool:
        """Whether the newest task has adapters of its own."""
        return self.tasks <= (self.head.config.max_adapters or self.tasks)

    def _banks(self) -> Iterator[AdapterBank]:
        for bank in self.banks:
            if isinstance(bank, AdapterBank):
                yield bank

    def expand(self, task: int, classes: Sequence[int]) -> bool:
        """Add a task's classes and begin new adapters, once per task.

        Args:
            task: index of the task to learn next.
            classes: its labels.

        Returns:
            Whether the model grew: False if it had this task already.

        Raises:
            ValueError: as :meth:`GrowingHead.begin_task`.
        """
        if not self.head.begin_task(task, classes):
            return False
        if self.adapts:
            self.petl = AdapterTuning(self.backbone, **self.sizes).to(self.head.weight)
        else:
            self.petl.requires_grad_(False)
        return True

    @torch.no_grad()
    def keep_adapters(self) -> None:
        """Put the newest task's adapters into the banks, or what has become of them there."""
        if self.adapts:
            for bank, adapter in zip(self._banks(), self.petl.adapters, strict=True):
                if isinstance(adapter, ParallelAdapter):
                    bank.write(self.tasks - 1, adapter)

    def features(self, x: Tensor) -> Tensor:
        """Return features (B, D) of images (B, C, H, W) in the newest subspace, to train it."""
        features: Tensor = self.petl(self.backbone, x)
        return features

    def subspaces(
        self, x: Tensor, *, rows: int | None = None
    ) -> tuple[Iterator[tuple[int, Tensor]], Tensor | None]:
        """Return features in all subspaces, as :class:`SubspaceHead` takes them.

        Args:
            x: images, (B, C, H, W).
            rows: images times adapters in one batch, which bounds memory; None: 32 on the CPU,
                where larger batches gain nothing, and 256 elsewhere.

        Returns:
            an iterator over (index of the first subspace, (k, B, D)) for all finished adapters; and
            the features without adapter, (B, D), or None if they are not used.
        """
        if rows is None:
            rows = 32 if x.device.type == "cpu" else 256
        begun = self.backbone.begin(x)

        def blocks() -> Iterator[tuple[int, Tensor]]:
            at_once = max(1, rows // max(1, len(x)))
            for first in range(0, self.adapters, at_once):
                count = min(at_once, self.adapters - first)
                plugs = [partial(bank.residual, first=first, count=count) for bank in self._banks()]
                features = self.backbone.finish(begun.repeat(count), parallel=plugs)
                yield first, features.unflatten(0, (count, len(x)))  # (k, B, D)

        if not self.head.config.pretrained:
            return blocks(), None
        return blocks(), self.backbone.finish(begun, parallel=[None] * self.backbone.depth)

    def all_features(self, x: Tensor, *, rows: int | None = None) -> Tensor:
        """Return features in all subspaces side by side, those without adapter last if used.

        Args:
            x: images, (B, C, H, W).
            rows: see :meth:`subspaces`.

        Returns:
            (B, subspaces, D).
        """
        blocks, bare = self.subspaces(x, rows=rows)
        parts = [features for _, features in blocks]
        if bare is not None:
            parts.append(bare[None])
        return torch.cat(parts).transpose(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of :meth:`predict`, (B, classes seen)."""
        return self.predict(x)

    def predict(self, x: Tensor, *, rows: int | None = None) -> Tensor:
        """Return scores of every class seen, in label order, (B, classes seen).

        A task whose class means are not known yet scores 0.

        Args:
            x: images, (B, C, H, W).
            rows: see :meth:`subspaces`.
        """
        if not self.adapters:
            return self.head.in_label_order(x.new_zeros(len(x), self.head.n_classes))
        return self.head.in_label_order(self.head(*self.subspaces(x, rows=rows)))

    def arguments(self) -> dict[str, Any]:
        """Return sizes and configuration; see :meth:`FrozenClassifier.arguments`."""
        return {**self.sizes, "config": dataclasses.asdict(self.head.config)}

    @classmethod
    def from_arguments(cls, backbone: FrozenViT, arguments: Mapping[str, Any]) -> EASEModel:
        """Make a model that has learned nothing; see :meth:`FrozenClassifier.from_arguments`."""
        sizes = {name: arguments[name] for name in ("bottleneck", "scale", "dropout")}
        return cls(backbone, **sizes, config=EnsembleConfig(**arguments["config"]))
