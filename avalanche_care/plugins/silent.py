"""Evaluation without any output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avalanche.evaluation import PluginMetric
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin


class _Silent(BaseLogger):
    """Logs nothing; without any logger Avalanche warns."""

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Ignore the value."""


def silent_evaluator(
    *metrics: PluginMetric[Any], loggers: Sequence[BaseLogger] = ()
) -> EvaluationPlugin:
    """Return an evaluation plugin that computes metrics, prints nothing and keeps no history.

    Args:
        metrics: read them off after an evaluation, as with :class:`ClassCounts`.
        loggers: Avalanche's, which are told the values.
    """
    return EvaluationPlugin(*metrics, loggers=[_Silent(), *loggers], collect_all=False)
