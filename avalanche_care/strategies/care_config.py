"""The settings of CaRE, released and as published."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from avalanche_care.checked import CheckedConfig
from avalanche_care.nn.brmoe_config import BRMoEConfig
from avalanche_care.plugins.alignment import DECAYS
from avalanche_care.plugins.ema import RULES
from avalanche_care.statistics import COVARIANCES
from avalanche_care.strategies.care_presets import PRESETS
from avalanche_care.strategies.presets import HasPresets

PRECISIONS = {"none": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class CaREConfig(HasPresets, CheckedConfig):
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
        two_phases: from the second task on, train E // 2 epochs (at least one) from ``lr`` to
            ``lr / 2``, align, train E // 2 epochs from ``lr / 2`` to ``min_lr`` with a new
            optimizer, align again. False: one phase of E epochs, as the paper says.
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

    title: ClassVar[str] = "CaRE"

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

    def _problems(self) -> list[str]:
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
            if not 0 < getattr(self, name) < math.inf:
                problems.append(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("epochs", "batch_size", "alignment_epochs", "iterative_max_tasks"):
            if not isinstance(getattr(self, name), int):
                problems.append(f"{name} must be an integer, got {getattr(self, name)!r}")
        for name in ("weight_decay", "min_lr", "margin", "alignment_epochs", "perceptron_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                problems.append(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.ema_decay <= 1:
            problems.append(f"ema_decay must be in [0, 1], got {self.ema_decay}")
        if not 0 <= self.momentum < 1:
            problems.append(f"momentum must be in [0, 1), got {self.momentum}")
        return problems

    @staticmethod
    def presets() -> dict[str, dict[str, Any]]:
        """Return the settings that differ from the defaults, by preset."""
        return PRESETS

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


def check_precision(amp: str, device: torch.device) -> None:
    """Refuse a precision that the device has no hardware for.

    PyTorch computes bfloat16 on older GPUs too, by conversions that make it slower than float32.

    Args:
        amp: a key of ``PRECISIONS``.
        device: of the model.

    Raises:
        ValueError: naming the device and what to use instead.
    """
    if amp != "bfloat16" or device.type != "cuda":
        return
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"amp='bfloat16' needs a GPU that computes in it, which "
            f"{torch.cuda.get_device_name(device)} does not: use amp='float16' or amp='none'"
        )
