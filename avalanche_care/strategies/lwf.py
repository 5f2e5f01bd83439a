"""LwF: hold on to what the model before says of the new images. Avalanche's implementation.

Li and Hoiem, "Learning without Forgetting", ECCV 2016 and TPAMI 2017, arXiv 1606.09282.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

from avalanche.training.plugins import LwFPlugin

from avalanche_care.nn.linear import LinearClassifier
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.sequential import SequentialConfig, SequentialStrategy


@dataclass(frozen=True)
class LwFConfig(SequentialConfig):
    """Training and distillation; see :class:`SequentialConfig` for the former.

    Attributes:
        alpha: weight of the distillation: the paper's lambda, which is 1 for its sequences.
        temperature: of both softmaxes, the paper's 2. The loss is not multiplied by its square.
    """

    alpha: float = 1.0
    temperature: float = 2.0

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not 0 <= self.alpha < math.inf:
            problems.append(f"alpha must not be negative, got {self.alpha}")
        if not 0 < self.temperature < math.inf:
            problems.append(f"temperature must be positive, got {self.temperature}")
        return problems


class DistillationPlugin(LwFPlugin):
    """Avalanche's LwF with a teacher that shares the frozen backbone and can be made again.

    Between experiences the teacher equals the model, so no state has to be saved. Avalanche's copy
    would stay in training mode, in which adapters draw dropout; this one is in eval mode.
    """

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Copy the model."""
        super().after_training_exp(strategy, **kwargs)
        self._keep(self.lwf.prev_model, strategy.model)

    def restore(self, model: LinearClassifier) -> None:
        """Go on after an experience: the teacher is a copy of the model."""
        backbone = model.backbone
        self._keep(copy.deepcopy(model, {id(backbone): backbone}), model)
        self.lwf.expcount = model.tasks
        self.lwf.prev_classes_by_task[0] = set(model.head.labels.tolist())

    def _keep(self, teacher: LinearClassifier, model: LinearClassifier) -> None:
        teacher.backbone = model.backbone
        self.lwf.prev_model = teacher.eval().requires_grad_(False)


@register("lwf", config=LwFConfig, paper="Li & Hoiem, ECCV 2016", trains="linear head")
class LwFStrategy(SequentialStrategy):
    """Fine-tuning, and the model before teaches the older classes on the new images.

    Avalanche's ``LwFPlugin``: to the cross-entropy over all classes seen it adds ``alpha`` times
    the Kullback-Leibler divergence between the softmax of the teacher and of the model, over the
    older classes. In the paper each task has a head of its own, and the new one is trained alone
    first; in class-incremental learning there is one head and no such beginning.

    Args:
        model: a frozen ViT.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.

    Attributes:
        distillation: the plugin.
    """

    config: LwFConfig

    def __init__(
        self, *, model: FrozenViT, config: LwFConfig | None = None, **base_kwargs: Any
    ) -> None:
        config = config or LwFConfig()
        self.distillation = DistillationPlugin(config.alpha, config.temperature)
        super().__init__(model=model, config=config, own_plugins=[self.distillation], **base_kwargs)

    def _before_training_exp(self, **kwargs: Any) -> None:
        labels = set(getattr(self.experience, "task_labels", [0]))
        if labels - {0}:
            raise ValueError(
                f"LwF expects one head for all experiences, so that all task labels are 0, got "
                f"{sorted(labels)}: Avalanche's LwF would leave the others out. Make the benchmark "
                "without task labels"
            )
        super()._before_training_exp(**kwargs)

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Make the teacher again."""
        if self.task >= 0:
            self.distillation.restore(self.model)
