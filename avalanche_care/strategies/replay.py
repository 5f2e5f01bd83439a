"""Experience replay: train on some images of earlier classes again. Avalanche's implementation.

Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019, arXiv 1902.10486: a batch
of the memory beside every batch of the experience. The memory has as many exemplars of every class,
as iCaRL's (Rebuffi et al., CVPR 2017, arXiv 1611.07725), chosen at random and not by herding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from avalanche.benchmarks.utils.utils import concat_datasets
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.storage_policy import ExemplarsBuffer
from torch import Tensor

from avalanche_care.checked import positive
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.strategies.earlier import whole_stream
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.sequential import SequentialConfig, SequentialStrategy


@dataclass(frozen=True)
class ReplayConfig(SequentialConfig):
    """Training and the memory; see :class:`SequentialConfig` for the former.

    Attributes:
        memory: exemplars of all classes together: iCaRL's 2,000, which are 20 per class of 100. If
            they do not come out even, the classes learned first have one more.
        batch_size: new images per step; as many of the memory come on top.
    """

    memory: int = 2000

    def _problems(self) -> list[str]:
        return [*super()._problems(), *positive(self, ("memory",), ("memory",))]


class ClassBalancedIndices(ExemplarsBuffer):
    """Which images are exemplars, as many of each class, and not the images themselves.

    It chooses as Avalanche's ``ClassBalancedBuffer`` does: at random, and of a class whose share
    becomes smaller it drops those that it chose last. Being numbers, it can be saved.

    Args:
        max_size: exemplars in all.

    Attributes:
        chosen: the head's column, the experience and the place in its data set of each exemplar,
            (n, 3); sorted by column, and within a class by rank.
    """

    def __init__(self, max_size: int) -> None:
        super().__init__(max_size)
        self.chosen = torch.zeros(0, 3, dtype=torch.long)

    def update(self, strategy: Any, **kwargs: Any) -> None:
        """Choose among the images of the experience, and make room for them."""
        experience, head = strategy.experience, strategy.model.head
        labels = torch.tensor([int(label) for label in experience.dataset.targets])
        columns, places = head.columns(labels.to(head.labels.device)).cpu().sort(stable=True)
        ranks = torch.rand(len(columns)).argsort(descending=True)
        ranks = ranks[columns[ranks].argsort(stable=True)]  # at random within each class
        number = torch.full_like(columns, experience.current_experience)
        new = torch.stack([columns, number, places], 1)[ranks]
        self._keep(torch.cat([self.chosen, new]), head.n_classes)

    def resize(self, strategy: Any, new_size: int) -> None:
        """Let fewer exemplars in all stay; more come with the next experience."""
        self.max_size = new_size
        self._keep(self.chosen, strategy.model.head.n_classes)

    def _keep(self, rows: Tensor, n_classes: int) -> None:
        columns = rows[:, 0]
        counts = columns.bincount(minlength=n_classes)
        rank = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[columns]  # within the class
        share, more = divmod(self.max_size, n_classes)
        self.chosen = rows[rank < share + (columns < more).long()]

    def find(self, stream: Any) -> None:
        """Look the images up.

        Args:
            stream: of all experiences, in which they stand in the order of their numbers.
        """
        numbers, counts = self.chosen[:, 1].unique_consecutive(return_counts=True)
        places = self.chosen[:, 2].split(counts.tolist())
        self.buffer = concat_datasets(
            [
                stream[number].dataset.subset(own.tolist())
                for number, own in zip(numbers.tolist(), places, strict=True)
            ]
        )

    def forget(self) -> None:
        """Let go of the images; they are looked up again."""
        self.buffer = concat_datasets([])


class IndexReplayPlugin(ReplayPlugin):
    """Avalanche's replay that looks its exemplars up when an experience begins.

    Args:
        memory: exemplars in all.
    """

    storage_policy: ClassBalancedIndices

    def __init__(self, memory: int) -> None:
        super().__init__(mem_size=memory, storage_policy=ClassBalancedIndices(memory))

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Make the data loader."""
        if len(self.storage_policy.chosen):
            self.storage_policy.find(whole_stream(strategy.experience))
        super().before_training_exp(strategy, *args, **kwargs)
        self.storage_policy.forget()


@register(
    "replay",
    config=ReplayConfig,
    paper="Chaudhry et al., 2019",
    trains="linear head",
    exemplars="exemplars",
)
class ReplayStrategy(SequentialStrategy):
    """Fine-tuning on new images and exemplars of the older classes together.

    Avalanche's ``ReplayPlugin`` and data loader, with a memory that keeps numbers: the images are
    read again from the benchmark. It uses exemplars, which other methods here do without.

    Args:
        model: a frozen ViT.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.

    Attributes:
        memory: which images are exemplars.
    """

    config: ReplayConfig

    def __init__(
        self, *, model: FrozenViT, config: ReplayConfig | None = None, **base_kwargs: Any
    ) -> None:
        config = config or ReplayConfig()
        plugin = IndexReplayPlugin(config.memory)
        self.memory = plugin.storage_policy
        super().__init__(model=model, config=config, own_plugins=[plugin], **base_kwargs)

    def method_state(self) -> dict[str, Any]:
        """Return which images are exemplars."""
        return {"chosen": self.memory.chosen}

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`method_state` returned."""
        self.memory.chosen = state["chosen"]
