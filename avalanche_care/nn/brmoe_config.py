"""Sizes and switches of the bi-level routing mixture of experts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from avalanche_care.checked import CheckedConfig, at_least

ROUTING_INPUTS = ("expert", "block")
EXPERT_INITS = ("mean", "fresh")
BANK_DTYPES = {"same": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class BRMoEConfig(CheckedConfig):
    """Sizes and switches of :class:`BRMoE`.

    Attributes:
        bottleneck: hidden width r of an expert.
        shared_bottleneck: hidden width of the shared expert; 0 leaves it out (ablation).
        top_m: number M of routers that the class perceptrons select.
        top_k: number K of experts that each selected router mixes.
        dropout: on the hidden units of experts in training.
        routing_input: what perceptrons and routers read. ``"expert"``: the CLS row of their own
            expert's output (the released code; 0.53 points better in the paper's table 15).
            ``"block"``: the CLS row of the block's input (the paper's section 3.3 and figure 2);
            router storage then grows by D + 1 instead of r + 2 numbers per expert and router.
        perceptron_norm: a LayerNorm before each perceptron's linear layer, as released. False: the
            linear layer alone, as the paper says.
        expert_init: where expert t >= 2 starts. ``"mean"``: at the mean of experts 0 to t - 2, as
            released. ``"fresh"``: anew; the paper mentions no other initialisation.
        frozen_dropout: frozen experts keep their dropout in training, which makes routing noisy, as
            released. False: only the newest and the shared expert have dropout.
        normalised_entropy: divide each entropy by the log of the number of classes, so that
            perceptrons of large and small tasks compete evenly. Neither paper nor release does.
        bank_dtype: what frozen experts are stored in. ``"same"``: as the rest. ``"bfloat16"``:
            rounded to that, half the memory; their routers and perceptrons stay in full precision.
    """

    bottleneck: int = 16
    shared_bottleneck: int = 64
    top_m: int = 2
    top_k: int = 3
    dropout: float = 0.1
    routing_input: str = "expert"
    perceptron_norm: bool = True
    expert_init: str = "mean"
    frozen_dropout: bool = True
    normalised_entropy: bool = False
    bank_dtype: str = "same"

    def _problems(self) -> Iterable[str]:
        """Say what is wrong with the values."""
        least = {"bottleneck": 1, "shared_bottleneck": 0, "top_m": 1, "top_k": 1}
        yield from at_least(self, least)
        if not 0 <= self.dropout < 1:
            yield f"dropout must be in [0, 1), got {self.dropout}"
        choices = {
            "routing_input": ROUTING_INPUTS,
            "expert_init": EXPERT_INITS,
            "bank_dtype": tuple(BANK_DTYPES),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                yield f"{name} must be one of {allowed}, got {getattr(self, name)!r}"
