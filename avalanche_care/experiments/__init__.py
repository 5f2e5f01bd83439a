"""Runs, their results, tables and figures."""

from avalanche_care.experiments.report import accuracy_figure, results_table
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.run import run_method

__all__ = ["RunResult", "accuracy_figure", "results_table", "run_method"]
