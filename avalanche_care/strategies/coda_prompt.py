"""CODA-Prompt: prompts that are weighted sums of components.

Smith, Karlinsky, Gutta, Cascante-Bonilla, Kim, Arbelle, Panda, Feris and Kira, "CODA-Prompt:
COntinual Decomposed Attention-based Prompting for Rehearsal-Free Continual Learning", CVPR 2023,
arXiv 2211.13218.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from avalanche_care.losses import orthogonality
from avalanche_care.nn.coda_prompt import CODAPromptModel
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.strategies.phases import Phase, TrainingPhase
from avalanche_care.strategies.prompts import PromptConfig, PromptStrategy
from avalanche_care.strategies.registry import register

POOL = 100
"""Components that all tasks share in the released configurations."""


def _share(tasks: int, epochs: int = 20) -> dict[str, Any]:
    """Settings for a number of tasks, with at least one component for each."""
    return {"components_per_task": max(1, POOL // tasks), "epochs": epochs}


PRESETS: dict[str, dict[str, Any]] = {
    "cifar100/B0-Inc10": _share(10),  # GT-RIPL/CODA-Prompt
    "imagenet-r/B0-Inc40": _share(5, 50),
    "imagenet-r/B0-Inc20": _share(10, 50),
    "imagenet-r/B0-Inc10": _share(20, 50),
    # No configuration was released for these: PILOT's.
    "cifar100/B0-Inc5": _share(20),
    "imagenet-r/B0-Inc5": _share(40, 50),
    "imagenet-r/B0-Inc4": _share(50, 50),
    "imagenet-a/B0-Inc20": _share(10),
    "imagenet-a/B0-Inc4": _share(50),
    "objectnet/B0-Inc20": _share(10),
    "objectnet/B0-Inc10": _share(20),
    "objectnet/B0-Inc4": _share(50),
    "omnibenchmark/B0-Inc30": _share(10),
    "omnibenchmark/B0-Inc5": _share(60),
    "vtab/B0-Inc10": _share(5),
    "cub/B0-Inc20": _share(10),
    "cub/B0-Inc10": _share(20),
    "omnibenchmark1k/B0-Inc10": _share(100),
    "omnibenchmark1k/B0-Inc5": _share(200),
    "omnibenchmark1k/B100-Inc6": _share(151),
    "omnibenchmark1k/B100-Inc3": _share(301),
}


@dataclass(frozen=True)
class CODAPromptConfig(PromptConfig):
    """How CODA-Prompt is trained.

    The defaults are the released code's for CIFAR-100 and ten tasks.

    The released code has 100 components, which the tasks share: of T tasks each gets 100 // T. With
    more than 100 tasks this is none, and the prompts are silently zero. Here every task adds
    ``components_per_task``, at least one, so the number of tasks need not be known and has no
    limit; :meth:`for_tasks` computes the released share. Components are orthogonal to all earlier
    ones up to the ViT's width (768 components on ViT-B); keys beyond start in random directions.

    Attributes:
        components_per_task: how many components a task adds in every block: 100 // T.
        length: tokens of a prompt, half of them keys and half of them values.
        blocks: which blocks get prompts.
        orthogonality: weight lambda of the penalty on components that are not orthogonal. The paper
            says 0.1; the released configurations, whose components start orthogonal, have 0.
        epochs: per task.
        lr: learning rate of Adam in the first epoch; it falls by a quarter of a cosine, see
            :class:`QuarterCosinePhase`.
        batch_size: images per step. The last, smaller batch of an epoch is used; the released code
            drops it, and with it all images of a task with fewer than 128.
        clip_norm: largest norm of the gradient; None: it is not clipped.
    """

    title: ClassVar[str] = "CODA-Prompt"

    epochs: int = 20
    lr: float = 0.001
    batch_size: int = 128
    clip_norm: float | None = None
    components_per_task: int = 10
    length: int = 8
    blocks: tuple[int, ...] = (0, 1, 2, 3, 4)
    orthogonality: float = 0.0

    def _may_be_zero(self) -> tuple[str, ...]:
        return ("orthogonality",)

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        if self.length % 2:
            yield f"length must be even, half keys and half values, got {self.length}"
        if len(set(self.blocks)) < len(self.blocks) or not self.blocks:
            yield f"blocks must be different blocks, and one at least, got {[*self.blocks]}"

    @staticmethod
    def presets() -> dict[str, dict[str, Any]]:
        """Return the settings that differ from the defaults, by preset."""
        return PRESETS

    @classmethod
    def for_tasks(cls, tasks: int, *, components: int = POOL, **changes: Any) -> CODAPromptConfig:
        """Return the released settings, in which tasks share a fixed number of components.

        Args:
            tasks: how many tasks there will be.
            components: how many components they share; of a remainder no use is made.
            changes: fields to set differently.

        Raises:
            ValueError: if there are fewer components than tasks.
        """
        if not 1 <= tasks <= components:
            raise ValueError(
                f"{components} components cannot be shared by {tasks} tasks: expected at least one "
                f"component for each, such as components={max(tasks, 1)}"
            )
        return cls(**{"components_per_task": components // tasks, **changes})


@dataclass(frozen=True)
class QuarterCosinePhase(TrainingPhase):
    """A training phase whose learning rate falls as in CODA-Prompt's released code.

    Epoch e of K has ``lr cos(99 pi e / (200 (K - 1)))``: slowly at first, and 0.016 lr at the end.
    """

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return self.lr * math.cos(0.495 * math.pi * epoch / max(self.epochs - 1, 1))


@register(
    "coda-prompt",
    config=CODAPromptConfig,
    paper="Smith et al., CVPR 2023",
    trains="newest components, their keys and attention; head",
)
class CODAPromptStrategy(PromptStrategy):
    """CODA-Prompt as an Avalanche strategy.

    Args:
        model: a frozen ViT.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.

    Raises:
        ValueError: if the ViT does not have the blocks that the prompts are for.
    """

    model: CODAPromptModel
    config: CODAPromptConfig

    def __init__(
        self, *, model: FrozenViT, config: CODAPromptConfig | None = None, **base_kwargs: Any
    ) -> None:
        config = config or CODAPromptConfig()
        prompts = CODAPromptModel(
            model,
            blocks=config.blocks,
            components_per_task=config.components_per_task,
            length=config.length,
        )
        super().__init__(model=prompts, config=config, **base_kwargs)

    def phases(self) -> list[Phase]:
        """Return the one phase: training, with a learning rate that falls."""
        return [QuarterCosinePhase("training", self.train_epochs, self.config.lr)]

    def training_features(self) -> Tensor:
        """Return the features of the mini-batch with prompts of all components, (B, D)."""
        return self.model.features(self.mb_x)

    def regularisation(self) -> Tensor:
        """Return the penalty on components that are not orthogonal (section 4)."""
        penalty = self.mb_x.new_zeros(())
        if self.config.orthogonality:
            for rows in self.model.components.rows():
                penalty = penalty + orthogonality(rows)
        return self.config.orthogonality * penalty
