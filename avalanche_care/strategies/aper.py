"""APER: adapt on the first task, merge with the pre-trained network, classify by class means.

Zhou, Cai, Ye, Zhan and Liu, "Revisiting Class-Incremental Learning with Pre-Trained Models:
Generalizability and Adaptivity are All You Need", IJCV 2024, arXiv 2303.07338. The first
versions call it ADAM.
"""

from __future__ import annotations

from typing import Any

from avalanche_care.nn.aper import APERModel
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.expansion import ExpansionPlugin
from avalanche_care.strategies.aper_config import (
    APERAdapterConfig,
    APERConfig,
    APERFinetuneConfig,
    APERSSFConfig,
    APERVPTDeepConfig,
    APERVPTShallowConfig,
)
from avalanche_care.strategies.first_session import FirstSessionStrategy
from avalanche_care.strategies.phases import Computation
from avalanche_care.strategies.prototypes import fit_prototypes
from avalanche_care.strategies.registry import register

PAPER = "Zhou et al., IJCV 2024"


# The lowest registers first.
@register(
    "aper-finetune", config=APERFinetuneConfig, paper=PAPER, trains="a copy of the ViT, first task"
)
@register(
    "aper-vpt-deep", config=APERVPTDeepConfig, paper=PAPER, trains="prompts per block, first task"
)
@register(
    "aper-vpt-shallow", config=APERVPTShallowConfig, paper=PAPER, trains="prompts, first task"
)
@register("aper-ssf", config=APERSSFConfig, paper=PAPER, trains="scales and shifts, first task")
@register(
    "aper-adapter", config=APERAdapterConfig, paper=PAPER, trains="adapter per block, first task"
)
class APERStrategy(FirstSessionStrategy):
    """Class means in the features of the pre-trained and of the adapted network together.

    The network is adapted on the first experience only, behind a cosine head that is discarded.
    The rows of all classes, the first ones' too, are mean features of both networks side by side.
    How it is adapted is the config's class: one per registered method.

    Args:
        model: a frozen ViT; it stays as it is.
        config: settings; None: those of ``aper-adapter``.
        base_kwargs: further arguments of :class:`PTMStrategy`.
    """

    model: APERModel
    config: APERConfig

    def __init__(
        self, *, model: FrozenViT, config: APERConfig | None = None, **base_kwargs: Any
    ) -> None:
        config = config or APERAdapterConfig()
        super().__init__(
            model=APERModel(model, config.kind, **config.options()),
            config=config,
            own_plugins=[ExpansionPlugin()],
            **base_kwargs,
        )

    def computations(self) -> list[Computation]:
        """Return the one: class means."""
        return [Computation("prototypes", lambda: fit_prototypes(self))]
