"""How CaRE's shared expert moves after the first task."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor

RULES = ("release", "paper")


class SharedExpertEMAPlugin(SupervisedPlugin[Any]):
    """Hold the shared expert close to where it was when the task began.

    From the second experience on, with a snapshot ``s`` taken at the start of each training phase
    (of the experience, for strategies without phases):

    ``rule="release"``, the released code. Before every training forward pass the live parameters
    ``p`` become ``decay * s + (1 - decay) * p``. Each optimizer step is thus all but undone by the
    next forward pass, except the last one of the phase.

    ``rule="paper"``, equation 6 (CaRE, arXiv 2602.03473). The task's own adapter starts at ``s``
    and trains freely; when the phase ends the shared expert becomes ``decay * s + (1 - decay) *
    p``. The paper does not say what the task's adapter starts from; this is our reading.

    Works with any strategy whose model has ``shared_parameters()``.

    Args:
        decay: mu in the paper, in [0, 1].
        rule: ``"release"`` or ``"paper"``.

    Raises:
        ValueError: on a decay outside [0, 1] or an unknown rule.
    """

    def __init__(self, decay: float = 0.999, *, rule: str = "release") -> None:
        super().__init__()
        if not 0 <= decay <= 1 or rule not in RULES:
            raise ValueError(
                f"expected decay in [0, 1] and rule in {RULES}, got decay={decay}, rule={rule!r}"
            )
        self.decay = decay
        self.rule = rule
        self._snapshot: list[Tensor] = []

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Take the snapshot, unless this is the first experience."""
        self.phase_start(strategy)

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Apply the paper's rule to strategies without phases, and drop the snapshot."""
        self.phase_end(strategy)

    def phase_start(self, strategy: Any) -> None:
        """Take a new snapshot; our own strategies call this as each training phase starts."""
        if strategy.clock.train_exp_counter >= 1 and trains(strategy):
            self._snapshot = [p.detach().clone() for p in strategy.model.shared_parameters()]

    def phase_end(self, strategy: Any) -> None:
        """End the phase; our own strategies call this."""
        if trains(strategy):
            if self.rule == "paper":
                self._pull(strategy)
            self._snapshot = []

    def before_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Apply the released rule; training only, evaluation has callbacks of its own."""
        if self.rule == "release":
            self._pull(strategy)

    @torch.no_grad()
    def _pull(self, strategy: Any) -> None:
        if not self._snapshot:
            return
        for live, start in zip(strategy.model.shared_parameters(), self._snapshot, strict=True):
            live.lerp_(start, self.decay)  # exact where the two are equal


def trains(strategy: Any) -> bool:
    """Return whether a strategy is in a phase that trains; one without phases always is."""
    phase = getattr(strategy, "phase", None)
    return phase is None or bool(phase.trains)
