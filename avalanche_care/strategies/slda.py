"""SLDA: streaming linear discriminant analysis on frozen features. Avalanche's implementation.

Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", CVPR
Workshops 2020, arXiv 1909.01520.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any, cast

import torch
from avalanche.training import StreamingLDA
from torch import nn
from torch.nn import functional as F

from avalanche_care.checked import CheckedConfig, positive
from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.heads import LinearHead
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.expansion import ExpansionPlugin
from avalanche_care.plugins.silent import silent_evaluator
from avalanche_care.strategies.collecting import experience_features
from avalanche_care.strategies.phases import Computation, Phase
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.template import PTMStrategy


@dataclass(frozen=True)
class SLDAConfig(CheckedConfig):
    """How the covariance is estimated.

    Attributes:
        shrinkage: epsilon: the precision is the pseudo-inverse of ``(1 - epsilon) covariance +
            epsilon I``. The paper's 1e-4.
        base: start with the covariance of the first experience, by oracle approximating shrinkage,
            as the paper does; False: from nothing, as Avalanche does by default.
        streaming: update the covariance with every image, the paper's "plastic" one; False: it
            stays that of the first experience, for which ``base`` has to be on.
        batch_size: images per forward pass; the result does not depend on it.
    """

    shrinkage: float = 1e-4
    base: bool = False
    streaming: bool = True
    batch_size: int = 64

    def _problems(self) -> list[str]:
        problems = positive(self, ("batch_size",), ("batch_size",))
        if not 0 <= self.shrinkage <= 1:
            problems.append(f"shrinkage must be in [0, 1], got {self.shrinkage}")
        if not (self.base or self.streaming):
            problems.append("without streaming, base must be on: there would be no covariance")
        return problems


@register("slda", config=SLDAConfig, paper="Hayes & Kanan, CVPRW 2020", trains="nothing")
class SLDAStrategy(PTMStrategy):
    """Linear discriminants from class means and a covariance that every image updates in turn.

    Avalanche's ``StreamingLDA`` keeps the statistics, image by image. It is given the training
    images once, with the test transform, in the data set's order. Its discriminants are a linear
    head, written once per experience; Avalanche's own strategy works them out for every batch.

    Args:
        model: a frozen ViT.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.

    Attributes:
        slda: Avalanche's strategy, of which the statistics are used.
    """

    model: FrozenClassifier
    config: SLDAConfig

    def __init__(
        self, *, model: FrozenViT, config: SLDAConfig | None = None, **base_kwargs: Any
    ) -> None:
        config = config or SLDAConfig()
        super().__init__(
            model=FrozenClassifier(model, LinearHead(model.embed_dim)),
            config=config,
            own_plugins=[ExpansionPlugin()],
            **base_kwargs,
        )
        self.slda: Any = StreamingLDA(
            slda_model=nn.Identity(),
            criterion=nn.CrossEntropyLoss(),
            input_size=model.embed_dim,
            num_classes=0,  # it grows
            shrinkage_param=config.shrinkage,
            streaming_update_sigma=config.streaming,
            device=self.device,
            evaluator=silent_evaluator(),
        )

    def phases(self) -> list[Phase]:
        """Return the one phase: computing the discriminants."""
        return [Computation("discriminants", self._discriminate)]

    @torch.no_grad()
    def _discriminate(self) -> None:
        slda, head = self.slda, cast(LinearHead, self.model.head)
        features, columns = experience_features(self, self.model.features)
        new = head.n_classes - len(slda.cK)
        slda.muK, slda.cK = F.pad(slda.muK, (0, 0, 0, new)), F.pad(slda.cK, (0, new))
        if self.config.base and self.task == 0:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints
                slda.fit_base(features, columns)
        else:
            for feature, column in zip(features.split(1), columns.split(1), strict=True):
                slda.fit(feature, column)
        slda.predict(features[:1])  # this works the precision out
        weight = slda.muK @ slda.Lambda.T  # (C, D)
        head.weight.copy_(weight)
        head.bias.copy_(-(slda.muK * weight).sum(1) / 2)
        head.requires_grad_(False)

    def method_state(self) -> dict[str, Any]:
        """Return the statistics."""
        slda = self.slda
        return {
            "means": slda.muK,
            "counts": slda.cK,
            "covariance": slda.Sigma,
            "updates": slda.num_updates,
        }

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`method_state` returned."""
        slda = self.slda
        slda.muK, slda.cK, slda.Sigma = (
            state[name].to(self.device, copy=True) for name in ("means", "counts", "covariance")
        )
        slda.num_updates, slda.prev_num_updates = state["updates"], -1
