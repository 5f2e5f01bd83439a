"""Avalanche's loggers for a run."""

from __future__ import annotations

import os
from typing import Any

from avalanche.logging import BaseLogger, TensorboardLogger, WandBLogger

from avalanche_care.experiments.config import RunConfig
from avalanche_care.experiments.directory import identity_hash

__all__ = ["loggers_of"]


class _WandBValues(WandBLogger):
    """Avalanche's logger, for numbers only.

    The original asks wandb for a chart class that current versions do not have, whatever the value.
    """

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Log a number at a training step."""
        if isinstance(value, (int, float)):
            self.wandb.log({name: value}, step=x_plot)


def loggers_of(config: RunConfig, directory: str | os.PathLike[str]) -> list[BaseLogger]:
    """Make the loggers that a run asks for.

    Args:
        config: its ``tensorboard`` and ``wandb``.
        directory: of the run; the loggers' files go below it.

    Returns:
        The loggers; a resumed run goes on in the same place.
    """
    place = os.fspath(directory)
    loggers: list[BaseLogger] = []
    if config.tensorboard:
        loggers.append(TensorboardLogger(os.path.join(place, "tensorboard")))
    if config.wandb is not None:
        known = {"id": identity_hash(config.identity()), "resume": "allow", "dir": place}
        loggers.append(
            _WandBValues(
                config.wandb,
                config.directory_name,
                save_code=False,
                params={"config": config.identity(), **known},
            )
        )
    return loggers
