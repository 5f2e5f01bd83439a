"""Runs, their results, tables and figures.

Names are imported on first use (PEP 562): reading and printing results must not cost the import of
torch and avalanche.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche_care._lazy import lazy_names

if TYPE_CHECKING:
    from avalanche_care.experiments.config import RunConfig as RunConfig
    from avalanche_care.experiments.config import run_config as run_config
    from avalanche_care.experiments.export import export_run as export_run
    from avalanche_care.experiments.exported import ExportedModel as ExportedModel
    from avalanche_care.experiments.exported import load as load
    from avalanche_care.experiments.launch import resume as resume
    from avalanche_care.experiments.report import accuracy_figure as accuracy_figure
    from avalanche_care.experiments.report import results_table as results_table
    from avalanche_care.experiments.report import write_report as write_report
    from avalanche_care.experiments.results import RunResult as RunResult
    from avalanche_care.experiments.run import run_method as run_method
    from avalanche_care.experiments.suite import read_suite as read_suite
    from avalanche_care.experiments.suite import run_suite as run_suite

_HOMES = {
    "read_suite": "suite",
    "run_suite": "suite",
    "ExportedModel": "exported",
    "RunConfig": "config",
    "RunResult": "results",
    "accuracy_figure": "report",
    "export_run": "export",
    "load": "exported",
    "results_table": "report",
    "resume": "launch",
    "run_config": "config",
    "run_method": "run",
    "write_report": "report",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
