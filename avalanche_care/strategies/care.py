"""CaRE: bi-level routing mixture of experts for hundreds of tasks.

Meng, Fu and Yu, "Scaling Continual Learning to 300+ Tasks with Bi-Level Routing
Mixture-of-Experts", ICML 2026, arXiv 2602.03473.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from avalanche.core import BasePlugin
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins.evaluation import default_evaluator
from torch import Tensor

from avalanche_care.losses import angular_penalty, perceptron_loss
from avalanche_care.nn.brmoe import BRMoEConfig
from avalanche_care.nn.care import CaREModel
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.alignment import DECAYS, ClassifierAlignmentPlugin
from avalanche_care.plugins.ema import RULES, SharedExpertEMAPlugin
from avalanche_care.plugins.expansion import TripletExpansionPlugin
from avalanche_care.statistics import COVARIANCES
from avalanche_care.strategies.care_presets import PRESETS
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.template import Computation, Phase, PTMStrategy, TrainingPhase

PRECISIONS = {"none": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class CaREConfig:
    """How CaRE is trained and how it predicts.

    The defaults are the released code's, which made the published numbers. Where the paper's text
    says something else, the field says what; :meth:`paper` switches all of them to the text.

    Attributes:
        brmoe: sizes and switches of the mixture layers.
        epochs: E, epochs per task.
        lr: learning rate.
        batch_size: images per step.
        momentum: of SGD.
        weight_decay: of SGD, on everything that trains.
        min_lr: where cosine annealing ends.
        two_phases: from the second task on, train E / 2 epochs from ``lr`` to ``lr / 2``, align,
            train E / 2 epochs from ``lr / 2`` to ``min_lr`` with a new optimizer, align again.
            False: one phase of E epochs, as the paper says.
        scale: s of the cosine logits.
        margin: m of the angular penalty.
        perceptron_angular: the perceptrons' hard loss is the angular penalty on their logits;
            False: plain cross-entropy.
        distillation: the classifier teaches the perceptrons.
        soft_from_block: first block whose distillation temperature is 2 instead of 1; None: never.
            The paper does not mention temperatures.
        perceptron_weight: weight of the perceptrons' loss, which is the mean of its hard and its
            soft part. The paper's equations 8 and 9 with lambda = 1 add the parts: 2.0.
        ema: how the shared expert moves after the first task: ``"release"``, ``"paper"`` (equation
            6) or ``"none"``; see :class:`SharedExpertEMAPlugin`.
        ema_decay: mu.
        alignment_epochs: epochs of classifier alignment; 0: no alignment. The paper does not
            mention this step.
        alignment_lr: its learning rate.
        covariance: of the class Gaussians, ``"full"`` or ``"diagonal"``.
        alignment_decay: factor on the class means, ``"released"``, ``"intended"`` or ``"none"``;
            see :func:`avalanche_care.plugins.alignment.mean_scales`.
        statistics_with_task: class statistics use the forward pass with the task's id, although
            prediction has none, as released. False: the pass without.
        iterative_prediction: predict with every task id and the pass without one, T + 1 passes; see
            :meth:`CaREModel.iterative_scores`. The paper does not mention it.
        iterative_max_tasks: with more tasks than this + 1, predict in a single pass.
        amp: autocast of the training forward pass: ``"none"``, ``"float16"`` or ``"bfloat16"``.
    """

    brmoe: BRMoEConfig = field(default_factory=BRMoEConfig)
    epochs: int = 20
    lr: float = 0.01
    batch_size: int = 16
    momentum: float = 0.9
    weight_decay: float = 5e-4
    min_lr: float = 0.0
    two_phases: bool = True
    scale: float = 20.0
    margin: float = 0.0
    perceptron_angular: bool = True
    distillation: bool = True
    soft_from_block: int | None = 6
    perceptron_weight: float = 1.0
    ema: str = "release"
    ema_decay: float = 0.999
    alignment_epochs: int = 30
    alignment_lr: float = 0.005
    covariance: str = "full"
    alignment_decay: str = "released"
    statistics_with_task: bool = True
    iterative_prediction: bool = True
    iterative_max_tasks: int = 60
    amp: str = "none"

    def __post_init__(self) -> None:
        problems = []
        choices = {
            "ema": (*RULES, "none"),
            "covariance": COVARIANCES,
            "alignment_decay": DECAYS,
            "amp": tuple(PRECISIONS),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                problems.append(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "lr", "scale", "alignment_lr"):
            if getattr(self, name) <= 0:
                problems.append(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("weight_decay", "min_lr", "margin", "alignment_epochs", "perceptron_weight"):
            if getattr(self, name) < 0:
                problems.append(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.ema_decay <= 1 or not 0 <= self.momentum < 1:
            problems.append(
                "expected ema_decay in [0, 1] and momentum in [0, 1), got "
                f"{self.ema_decay} and {self.momentum}"
            )
        if problems:
            raise ValueError("CaREConfig: " + "; ".join(problems))

    @classmethod
    def preset(cls, name: str, **changes: Any) -> CaREConfig:
        """Return the released settings for a data set and protocol.

        Args:
            name: such as ``"omnibenchmark-1k/B100-Inc3"``; ``PRESETS`` has all of them.
            changes: fields to set differently.

        Raises:
            ValueError: if there is no such preset.
        """
        if name not in PRESETS:
            near = difflib.get_close_matches(name, PRESETS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {sorted(PRESETS)}"
            raise ValueError(f"there is no CaRE preset {name!r}; {hint}")
        return cls(**{**PRESETS[name], **changes})

    @classmethod
    def paper(cls, **changes: Any) -> CaREConfig:
        """Return the method as the paper's text has it, one setting for all data sets.

        Args:
            changes: fields to set differently.
        """
        brmoe = BRMoEConfig(
            routing_input="block", perceptron_norm=False, expert_init="fresh", frozen_dropout=False
        )
        text = cls(
            brmoe=brmoe,
            epochs=20,
            lr=0.01,
            batch_size=16,
            two_phases=False,
            soft_from_block=None,
            perceptron_weight=2.0,
            ema="paper",
            alignment_epochs=0,
            iterative_prediction=False,
        )
        return replace(text, **changes)


@register(
    "care",
    config=CaREConfig,
    paper="Meng et al., ICML 2026",
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
            stand, and ``config.brmoe`` must agree with them if a config is given.
        train_mb_size: overrides ``config.batch_size``.
        train_epochs: overrides ``config.epochs``.
        eval_mb_size: images per evaluation step; None: as for training.
        device: where the model runs.
        plugins: further Avalanche plugins, called before ours.
        evaluator: Avalanche's evaluation plugin, or a function that makes one.
        base_kwargs: further arguments of :class:`PTMStrategy`.

    Raises:
        ValueError: if config and model disagree.

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

    def __init__(
        self,
        *,
        model: CaREModel | FrozenViT,
        config: CaREConfig | None = None,
        train_mb_size: int | None = None,
        train_epochs: int | None = None,
        eval_mb_size: int | None = None,
        device: str | torch.device = "cpu",
        plugins: Sequence[BasePlugin[Any]] | None = None,
        evaluator: EvaluationPlugin | Callable[[], EvaluationPlugin] | None = default_evaluator,
        **base_kwargs: Any,
    ) -> None:
        given = config
        self.config = config = config or CaREConfig()
        if isinstance(model, FrozenViT):
            model = CaREModel(model, config.brmoe, scale=config.scale)
        elif given and (model.config != config.brmoe or model.scale != config.scale):
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
        )
        ours: list[BasePlugin[Any]] = [TripletExpansionPlugin(), self.alignment]
        if config.ema != "none":
            ours.append(SharedExpertEMAPlugin(config.ema_decay, rule=config.ema))
        super().__init__(
            model=model,
            train_mb_size=train_mb_size or config.batch_size,
            train_epochs=train_epochs or config.epochs,
            eval_mb_size=eval_mb_size,
            device=device,
            plugins=[*(plugins or []), *ours],
            evaluator=evaluator,
            **base_kwargs,
        )
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "float16")
        self._cosines = torch.empty(0)
        self._perceptrons: list[Tensor] = []

    def phases(self) -> list[Phase]:
        """Return the schedule of the current task, see ``CaREConfig.two_phases``."""
        config, epochs = self.config, self.train_epochs
        statistics = Computation("class statistics", self._fit_gaussians)
        align = Computation("alignment", self._align)
        if self.task == 0:
            return [TrainingPhase("training", epochs, config.lr, config.min_lr), statistics]
        if not config.two_phases:
            phases: list[Phase] = [TrainingPhase("training", epochs, config.lr, config.min_lr)]
            return [*phases, statistics, align]
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
            return self._predict()
        dtype = PRECISIONS[self.config.amp]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            out = self.model.features_and_logits(self.mb_x, task=self.task)
        self._cosines = self.model.head(out.features.to(self.model.head.weight.dtype))
        self._perceptrons = [z.to(self._cosines.dtype) for z in out.logits]
        return self.model.head.in_label_order(self.config.scale * self._cosines)

    def _predict(self) -> Tensor:
        config = self.config
        if config.iterative_prediction and 0 < self.task <= config.iterative_max_tasks:
            scores = self.model.iterative_scores(self.mb_x)
            return self.model.head.in_label_order(scores.log())
        scaled: Tensor = self.model(self.mb_x)
        return scaled

    def training_loss(self) -> Tensor:
        """Return the angular penalty of the current classes plus the perceptrons' loss."""
        config, head = self.config, self.model.head
        first = head.columns_of(self.task).start
        current, targets = self._cosines[:, first:], self.mb_columns - first
        if (targets < 0).any():
            raise ValueError(
                f"expected labels of the current experience {head.classes_of(self.task).tolist()}, "
                f"got {sorted(set(self.mb_y[targets < 0].tolist()))} of earlier ones"
            )
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

    def _train_cleanup(self) -> None:
        super()._train_cleanup()
        self._cosines, self._perceptrons = torch.empty(0), []

    def _fit_gaussians(self) -> None:
        task = {"task": self.task} if self.config.statistics_with_task else {}
        with self.evaluating():
            self.alignment.fit(self.model, self.clean_batches(), device=self.device, **task)

    def _align(self) -> None:
        if self.config.alignment_epochs:
            self.alignment.align(self.model, batch_size=self.train_mb_size)
