"""Sequential fine-tuning: the lower bound that forgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from avalanche_care.nn.vit import FrozenViT
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.sequential import SequentialConfig, SequentialStrategy


@dataclass(frozen=True)
class FinetuneConfig(SequentialConfig):
    """Fine-tuning has nothing of its own to set; see :class:`SequentialConfig`.

    By default a linear head on frozen features trains, which forgets less than a whole network.
    """


@register("finetune", config=FinetuneConfig, paper="lower bound", trains="linear head")
class FinetuneStrategy(SequentialStrategy):
    """Train on each experience in turn and do nothing else.

    Nothing protects what was learned before: images of the current experience only teach the
    head that older classes do not occur.

    Args:
        model: a frozen ViT.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.
    """

    def __init__(
        self, *, model: FrozenViT, config: FinetuneConfig | None = None, **base_kwargs: Any
    ) -> None:
        super().__init__(model=model, config=config or FinetuneConfig(), **base_kwargs)
