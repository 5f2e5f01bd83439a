"""Joint training: the upper bound that has all images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from avalanche.benchmarks.utils.utils import concat_datasets
from torch import nn

from avalanche_care.nn.petl import build_petl
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.strategies.earlier import whole_stream
from avalanche_care.strategies.phases import Phase
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.sequential import SequentialConfig, SequentialStrategy
from avalanche_care.strategies.tuning_config import tuning_options


@dataclass(frozen=True)
class JointConfig(SequentialConfig):
    """How the network and a linear head are trained on all images so far.

    A bound is one for methods that may train no more than it does. So the whole network is tuned by
    default: a linear head on frozen features, ``tuning="none"``, bounds methods with frozen
    features only. There is no published setting; these are ours.

    Attributes:
        tuning: see :class:`SequentialConfig`.
        lr: see :class:`SequentialConfig`; of the head too. For a head alone it is low.
        batch_size: images per step.
        every: train after every k-th experience and the last one only, where the model is also to
            be evaluated: as ``eval_every`` of a run. At the others it cannot be evaluated. Training
            is from the start each time, so T experiences of equal size cost (T + 1) / 2 times as
            much as the last one alone.
    """

    tuning: str = "finetune"
    lr: float = 0.005
    batch_size: int = 64
    every: int = 1

    def _problems(self) -> list[str]:
        integer = isinstance(self.every, int) and self.every >= 1
        wrong = [] if integer else [f"every must be an integer of at least 1, got {self.every!r}"]
        return [*super()._problems(), *wrong]


@register(
    "joint",
    config=JointConfig,
    paper="upper bound",
    trains="a copy of the ViT and a linear head",
    exemplars="all images",
)
class JointStrategy(SequentialStrategy):
    """Train anew on the images of all experiences so far, whenever another one comes.

    It is no continual learning: each accuracy is what the classes seen so far allow if all their
    images are there at once. The images are read again from the benchmark; none is stored.

    Args:
        model: a frozen ViT; it stays as it is.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.

    Attributes:
        trained: number of tasks that it was trained on last.
    """

    config: JointConfig
    trained: int = 0

    def __init__(
        self, *, model: FrozenViT, config: JointConfig | None = None, **base_kwargs: Any
    ) -> None:
        super().__init__(model=model, config=config or JointConfig(), **base_kwargs)

    @property
    def due(self) -> bool:
        """Whether there is training on the current experience."""
        number = self.experience.current_experience + 1
        return number % self.config.every == 0 or number == len(whole_stream(self.experience))

    def phases(self) -> list[Phase]:
        """Return the one phase, or none where training is left out."""
        return super().phases() if self.due else []

    def train_dataset_adaptation(self, **kwargs: Any) -> None:
        """Put the images of all experiences so far together."""
        now = self.experience
        parts = [now.dataset]
        if self.due:
            earlier = whole_stream(now)[: now.current_experience]
            parts = [*(experience.dataset for experience in earlier), now.dataset]
        self.adapted_dataset = concat_datasets(parts).train()

    def check_model_and_optimizer(self, **kwargs: Any) -> None:
        """Begin with a new network and a new head."""
        super().check_model_and_optimizer(**kwargs)
        if not self.due:
            return
        model, config = self.model, self.config
        model.petl = build_petl(config.tuning, model.backbone, **tuning_options(config))
        model.petl.to(self.device)
        with torch.no_grad():
            nn.init.trunc_normal_(model.head.weight, std=0.02)  # as when a head grows
            model.head.bias.zero_()
        self.trained = model.tasks

    def eval(self, experiences: Any, **kwargs: Any) -> Any:
        """Evaluate; see :meth:`PTMStrategy.eval`.

        Raises:
            RuntimeError: also if training was left out since the newest classes came.
        """
        if self.trained < self.model.tasks:
            if self._in_train:  # periodic evaluation
                return {}
            every = self.config.every
            raise RuntimeError(
                f"with every={every}, training after experience {self.task} was left out, so its "
                f"classes are not known: evaluate after every {every} experiences and the last "
                f"(eval_every={every}), or set every=1"
            )
        return super().eval(experiences, **kwargs)

    def method_state(self) -> dict[str, Any]:
        """Return how many tasks it was trained on."""
        return {"trained": self.trained}

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`method_state` returned."""
        self.trained = state["trained"]
