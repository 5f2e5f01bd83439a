"""The state that training goes on from, as a part of Avalanche's template."""

from __future__ import annotations

from typing import Any

from avalanche.training.templates import SupervisedTemplate

from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.model_state import load_model_state, model_state
from avalanche_care.strategies.random_state import random_state, set_random_state

COUNTERS = (
    "train_iterations",
    "train_exp_counter",
    "train_exp_epochs",
    "train_exp_iterations",
    "train_epoch_iterations",
    "total_iterations",
)
"""What Avalanche's clock counts."""


class ResumableTemplate(SupervisedTemplate[Any, Any, Any]):
    """Avalanche's template with a state that can be saved; the base of :class:`PTMStrategy`.

    Avalanche's own checkpoints hold pickled objects, which do not load with a current PyTorch. This
    one is made of tensors and plain values.
    """

    model: FrozenClassifier
    phases_done: int = 0
    """How many phases of the current experience are complete; 0 between experiences."""
    _resumed: dict[str, Any] | None = None  # a state within an experience, until that is begun

    def method_state(self) -> dict[str, Any]:
        """Return what the method keeps outside its model, as tensors and plain values."""
        return {}

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`method_state` returned."""

    def run_state(self) -> dict[str, Any]:
        """Return everything that training goes on from, as tensors and plain values.

        It can be taken between experiences, and in ``phase_complete``. The frozen backbone is not
        part of it, nor is the optimizer: every phase makes its own. Tensors are not copied.
        """
        return {
            "model": model_state(self.model),
            "method": self.method_state(),
            "phases_done": self.phases_done,
            "clock": {name: getattr(self.clock, name) for name in COUNTERS},
            "random": random_state(),
        }

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Go on where another strategy of the same method and configuration was.

        Its next :meth:`train` must get the experience that comes next, or the one that was broken
        off: of that, the complete phases are not run again.

        Args:
            state: what :meth:`run_state` returned.

        Raises:
            ValueError: if the state is of another model.
        """
        load_model_state(self.model, state["model"])
        self.model.to(self.device)
        self.load_method_state(state["method"])
        self.phases_done = state["phases_done"]
        self._restore_moment(state)
        if self.phases_done:
            self._resumed = state

    def _restore_moment(self, state: dict[str, Any]) -> None:
        """Restore the counters and the random numbers."""
        for name in COUNTERS:
            setattr(self.clock, name, state["clock"][name])
        set_random_state(state["random"])
