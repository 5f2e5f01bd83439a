"""A progress bar for the phases and epochs of an experience."""

from __future__ import annotations

from typing import Any

from avalanche.core import SupervisedPlugin
from tqdm.auto import tqdm


class ProgressPlugin(SupervisedPlugin[Any]):
    """Show which task and phase is running, and how many steps of it are done.

    Args:
        tasks: number of tasks, for the bar's text; None if it is not known.
    """

    def __init__(self, tasks: int | None = None) -> None:
        super().__init__()
        self.tasks = tasks
        self._bar: tqdm[Any] | None = None

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Open the bar."""
        number = strategy.clock.train_exp_counter + 1
        of = f"/{self.tasks}" if self.tasks else ""
        self._bar = tqdm(desc=f"task {number}{of}", unit="step", leave=False)

    def phase_start(self, strategy: Any) -> None:
        """Name the phase."""
        if self._bar is not None:
            self._bar.set_postfix_str(strategy.phase.name)

    def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Let the bar know how much the experience takes in all."""
        if self._bar is not None and strategy.clock.train_exp_epochs == 0:
            self._bar.total = strategy.train_epochs * len(strategy.dataloader)

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Advance by one step."""
        if self._bar is not None:
            self._bar.update()

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
