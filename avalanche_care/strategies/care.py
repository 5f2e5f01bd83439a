"""CaRE: bi-level routing mixture of experts for hundreds of tasks.

Lou, Fu and Yu, "Scaling Continual Learning to 300+ Tasks with Bi-Level Routing
Mixture-of-Experts", ICML 2026, arXiv 2602.03473.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from avalanche.core import BasePlugin
from torch import Tensor

from avalanche_care.losses import angular_penalty, perceptron_loss
from avalanche_care.nn.care import CaREModel
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.alignment import ClassifierAlignmentPlugin
from avalanche_care.plugins.ema import SharedExpertEMAPlugin
from avalanche_care.plugins.expansion import TripletExpansionPlugin
from avalanche_care.strategies.care_config import (
    PRECISIONS,
    CaREConfig,
    check_precision,
)
from avalanche_care.strategies.phases import Computation, Phase, TrainingPhase
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.template import PTMStrategy


@register(
    "care",
    config=CaREConfig,
    paper="Lou et al., ICML 2026",
    trains="adapter, router, perceptron per block; shared adapter; head",
)
class CaREStrategy(PTMStrategy):
    """CaRE as an Avalanche strategy.

    Composed of :class:`TripletExpansionPlugin`, :class:`SharedExpertEMAPlugin` and
    :class:`ClassifierAlignmentPlugin`, which also work on strategies that are not ours. No training
    image is kept beyond its experience; what is kept per class is a Gaussian in feature space.

    Args:
        model: a frozen ViT, to which the mixture layers are added, or a :class:`CaREModel`.
        config: settings; None: ``CaREConfig()``. For a :class:`CaREModel` the layers' own settings
            stand, and a config must agree with them.
        offload: where class statistics live, and frozen experts unless the model is a
            :class:`CaREModel`, which was told when it was made: ``"cpu"``, or an existing directory
            to keep them in files. None: on the device. The numbers are the same.
        base_kwargs: further arguments of :class:`PTMStrategy`, such as ``train_epochs``,
            ``device``, ``plugins`` and ``evaluator``.

    Raises:
        ValueError: if config and model disagree, ``offload`` is no such place, or the device cannot
            compute in ``config.amp``.

    Example:
        >>> from avalanche_care import CaREConfig, CaREStrategy
        >>> from avalanche_care.benchmarks import GlyphBenchmark
        >>> from avalanche_care.nn import FrozenViT
        >>> benchmark = GlyphBenchmark("B0-Inc10", n_classes=20)
        >>> strategy = CaREStrategy(
        ...     model=FrozenViT.create("glyph_vit_micro"), config=CaREConfig(epochs=2), device="cpu"
        ... )
        >>> for step, experience in enumerate(benchmark.train_stream):
        ...     strategy.train(experience)
        ...     strategy.eval(benchmark.seen_stream[step])
    """

    model: CaREModel
    config: CaREConfig

    def __init__(
        self,
        *,
        model: CaREModel | FrozenViT,
        config: CaREConfig | None = None,
        offload: str | os.PathLike[str] | None = None,
        **base_kwargs: Any,
    ) -> None:
        if isinstance(model, FrozenViT):
            config = config or CaREConfig()
            model = CaREModel(model, config.brmoe, scale=config.scale, offload=offload)
        elif config is None:
            config = CaREConfig(brmoe=model.config, scale=model.scale)
        elif model.config != config.brmoe or model.scale != config.scale:
            raise ValueError(
                f"the model has {model.config} and scale {model.scale}, the config has "
                f"{config.brmoe} and scale {config.scale}: make them agree, or pass a FrozenViT"
            )
        self.alignment = ClassifierAlignmentPlugin(
            epochs=config.alignment_epochs,
            lr=config.alignment_lr,
            covariance=config.covariance,
            decay=config.alignment_decay,
            scale=config.scale,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            automatic=False,
            offload=offload,
        )
        ours: list[BasePlugin[Any]] = [TripletExpansionPlugin(), self.alignment]
        if config.ema != "none":
            ours.append(SharedExpertEMAPlugin(config.ema_decay, rule=config.ema))
        super().__init__(model=model, config=config, own_plugins=ours, **base_kwargs)
        check_precision(config.amp, self.device)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "float16")
        self._cosines = torch.empty(0)
        self._perceptrons: list[Tensor] = []

    def phases(self) -> list[Phase]:
        """Return the schedule of the current task, see ``CaREConfig.two_phases``."""
        config, epochs = self.config, self.train_epochs
        statistics = Computation("class statistics", self._fit_gaussians)
        align = Computation("alignment", self._align)
        whole = TrainingPhase("training", epochs, config.lr, config.min_lr)
        if self.task == 0:
            return [whole, statistics]
        if not config.two_phases:
            return [whole, statistics, align]
        half = max(epochs // 2, 1)
        return [
            TrainingPhase("phase 1", half, config.lr, config.lr / 2),
            statistics,
            align,
            TrainingPhase("phase 2", half, config.lr / 2, config.min_lr),
            statistics,
            align,
        ]

    def build_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Return SGD over the newest triplets, the shared experts and the whole head."""
        config = self.config
        return torch.optim.SGD(
            self.model.trainable_parameters(),
            lr=lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )

    def forward(self) -> Tensor:
        """Return scaled cosines (training) or prediction scores, (B, classes seen)."""
        if not self.is_training:
            return self.model.predict(self.mb_x, **self.prediction())
        dtype = PRECISIONS[self.config.amp]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            out = self.model.features_and_logits(self.mb_x, task=self.task)
        self._cosines = self.model.head(out.features.to(self.model.head.weight.dtype))
        self._perceptrons = [z.to(self._cosines.dtype) for z in out.logits]
        return self.model.head.in_label_order(self.config.scale * self._cosines)

    def prediction(self) -> dict[str, Any]:
        """Return whether every task id is tried."""
        config = self.config
        return {
            "iterative": config.iterative_prediction and 0 < self.task <= config.iterative_max_tasks
        }

    @property
    def allowed_columns(self) -> slice:
        """The columns of the current experience: the loss knows no others."""
        return self.model.head.columns_of(self.task)

    def training_loss(self) -> Tensor:
        """Return the angular penalty of the current classes plus the perceptrons' loss."""
        config, first = self.config, self.allowed_columns.start
        current, targets = self._cosines[:, first:], self.mb_columns - first
        loss = angular_penalty(current, targets, scale=config.scale, margin=config.margin)
        auxiliary = perceptron_loss(
            self._perceptrons,
            current,
            targets,
            scale=config.scale,
            margin=config.margin,
            angular=config.perceptron_angular,
            distil=config.distillation,
            soft_from_block=config.soft_from_block,
        )
        return loss + config.perceptron_weight * auxiliary

    def backward(self) -> None:
        """Run the backward pass, scaled for half precision."""
        self.check_loss()
        self._scaler.scale(self.loss).backward()

    def optimizer_step(self) -> None:
        """Take a step; half precision skips it where gradients overflowed."""
        self._scaler.step(self.optimizer)
        self._scaler.update()

    def method_state(self) -> dict[str, Any]:
        """Return the class Gaussians and the scaler of half precision."""
        return {
            "gaussians": self.alignment.gaussians.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`method_state` returned."""
        self.alignment.gaussians.load_state_dict(state["gaussians"], device=self.device)
        self._scaler.load_state_dict(state["scaler"])

    def _train_cleanup(self) -> None:
        super()._train_cleanup()
        self._cosines, self._perceptrons = torch.empty(0), []

    def _fit_gaussians(self) -> None:
        task = {"task": self.task} if self.config.statistics_with_task else {}
        self.alignment.fit(self.model, self.clean_batches(), device=self.device, **task)

    def _align(self) -> None:
        self.alignment.align(self.model, batch_size=self.train_mb_size)
