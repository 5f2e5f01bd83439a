"""The model of CaRE: a frozen ViT, a BR-MoE beside every MLP, and a cosine head."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from avalanche_care.nn.brmoe import BRMoE
from avalanche_care.nn.brmoe_config import BRMoEConfig
from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.heads import CosineHead
from avalanche_care.nn.vit import Begun, FrozenViT
from avalanche_care.offload import Offload


class CaREFeatures(NamedTuple):
    """What a forward pass with a task returns.

    Attributes:
        features: final features, (B, D).
        logits: the task's perceptron logits of every block, each (B, classes of the task).
    """

    features: Tensor
    logits: list[Tensor]


class CaREModel(FrozenClassifier):
    """CaRE's network (Lou et al., ICML 2026, figure 2).

    Args:
        backbone: the frozen ViT; its blocks must have the standard structure.
        config: of the BR-MoE layers.
        scale: s, what :meth:`forward` multiplies cosines with.
        offload: where frozen experts live: ``"cpu"``, or a directory to keep them in files; None:
            on the model's device. See :class:`avalanche_care.offload.Offload`.

    Example:
        >>> from avalanche_care.nn import CaREModel, FrozenViT
        >>> model = CaREModel(FrozenViT.create("glyph_vit_micro"))
        >>> model.expand(0, range(10))
        True
        >>> model(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        backbone: FrozenViT,
        config: BRMoEConfig | None = None,
        *,
        scale: float = 20.0,
        offload: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(backbone, CosineHead(backbone.embed_dim))
        self.config = config = config or BRMoEConfig()
        store = None if offload is None else Offload(offload)
        self.blocks = nn.ModuleList(
            BRMoE(backbone.embed_dim, config, offload=store, name=f"block{i}")
            for i in range(backbone.depth)
        )
        self.scale = scale

    def layers(self) -> Iterator[BRMoE]:
        """Iterate over the BR-MoE layers, typed."""
        for block in self.blocks:
            if isinstance(block, BRMoE):
                yield block

    def expand(self, task: int, classes: Sequence[int]) -> bool:
        """Add a triplet to every block and rows to the head, once per task.

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
        for layer in self.layers():
            layer.expand(len(classes))
        return True

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters of all shared experts."""
        for layer in self.layers():
            if layer.shared is not None:
                yield from layer.shared.parameters()

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over what CaRE trains: newest triplets, shared experts, the whole head."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def features(self, x: Tensor, *, task: int | None = None) -> Tensor:
        """Return features (B, D) of images (B, C, H, W); ``task`` as in :meth:`BRMoE.forward`."""
        plugs = [partial(_residual, layer, task, None) for layer in self.layers()]
        return self.backbone(x, parallel=plugs)

    def features_and_logits(self, x: Tensor, *, task: int) -> CaREFeatures:
        """Return features and all perceptron logits of ``task`` for images (B, C, H, W)."""
        logits: list[Tensor] = []
        plugs: list[Callable[[Tensor], Tensor]]
        plugs = [partial(_residual, layer, task, logits) for layer in self.layers()]
        return CaREFeatures(self.backbone(x, parallel=plugs), logits)

    def forward(self, x: Tensor) -> Tensor:
        """Return scaled cosines for every class seen, in label order (one pass, no task id).

        Args:
            x: images, (B, C, H, W).

        Returns:
            (B, classes seen); see :meth:`CosineHead.in_label_order` for labels that are not 0, 1,
            ...
        """
        return self.head.in_label_order(self.scale * self.head(self.features(x)))

    def predict(self, x: Tensor, *, iterative: bool = False) -> Tensor:
        """Return scores of every class seen, in label order, (B, classes seen).

        Args:
            x: images, (B, C, H, W).
            iterative: try every task id, see :meth:`iterative_scores`; False: one pass.
        """
        if iterative:
            return self.head.in_label_order(self.iterative_scores(x).log())
        scaled: Tensor = self(x)
        return scaled

    def arguments(self) -> dict[str, Any]:
        """Return the configuration; see :meth:`FrozenClassifier.arguments`."""
        return {"brmoe": dataclasses.asdict(self.config), "scale": self.scale}

    @classmethod
    def from_arguments(cls, backbone: FrozenViT, arguments: Mapping[str, Any]) -> CaREModel:
        """Make a model that has learned nothing; see :meth:`FrozenClassifier.from_arguments`."""
        return cls(backbone, BRMoEConfig(**arguments["brmoe"]), scale=arguments["scale"])

    def iterative_scores(self, x: Tensor, *, rows: int | None = None) -> Tensor:
        """Return class scores by iterative prediction, as released for short sequences.

        Every task id is tried; per sample the most certain pass (lowest entropy of its softmax) is
        kept, and the softmax of the pass without task id is added. The paper does not mention it.

        The passes share the embedding and block 0, and several task ids go through the rest as one
        batch. None can be left out: a later task id may be more certain than all before, since no
        bound on its entropy is known before the pass (only exactly zero could not be undercut).

        Args:
            x: images, (B, C, H, W).
            rows: images times task ids in one batch, which bounds memory; None: 32 on the CPU,
                where larger batches gain nothing, and 256 elsewhere.

        Returns:
            The mean of the two softmaxes, a probability per class in column order, (B, C).
        """
        if rows is None:
            rows = 32 if x.device.type == "cpu" else 256
        begun = self.backbone.begin(x)
        single = best = self._probabilities(begun, None)  # (B, C)
        lowest = single.new_full((len(x),), torch.inf)
        for tasks in torch.arange(self.tasks, device=x.device).split(max(1, rows // len(x))):
            task_of_row = tasks.repeat_interleave(len(x))  # (t B,)
            p = self._probabilities(begun.repeat(len(tasks)), task_of_row)  # (t B, C)
            for candidate in p.unflatten(0, (len(tasks), len(x))):  # (B, C)
                entropy = torch.special.entr(candidate).sum(1)  # (B,)
                better = entropy < lowest
                best = torch.where(better[:, None], candidate, best)
                lowest = torch.where(better, entropy, lowest)
        return (best + single) / 2

    def _probabilities(self, begun: Begun, task: Tensor | None) -> Tensor:
        plugs = [partial(_residual, layer, task, None) for layer in self.layers()]
        features = self.backbone.finish(begun, parallel=plugs)
        return (self.scale * self.head(features)).softmax(1)


def _residual(
    layer: BRMoE, task: int | Tensor | None, logits: list[Tensor] | None, h: Tensor
) -> Tensor:
    """Run a layer as the backbone's parallel branch, and note its perceptron logits."""
    out, own = layer(h, task=task)
    if logits is not None and own is not None:
        logits.append(own)
    return out
