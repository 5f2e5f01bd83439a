"""Which runs belong together in a cell of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avalanche_care.experiments.reporting.run_entry import NOT_RUN, STATUSES, RunEntry, Setting
from avalanche_care.experiments.reporting.variants import Settings, flatten, merge, variant_labels
from avalanche_care.experiments.results import RunResult

__all__ = ["Cell", "cells", "row_name"]


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed only.

    Attributes:
        setting: what they learned.
        method: registered name.
        variant: name for tables: the method, and what tells this configuration from others of the
            method in the same setting.
        config: the method's settings.
        evaluated: steps after which they were evaluated.
        runs: one per seed, in the order of the seeds, complete or not.
        notes: what to know about them.
    """

    setting: Setting
    method: str
    variant: str
    config: Mapping[str, Any]
    evaluated: tuple[int, ...]
    runs: tuple[RunEntry, ...]
    notes: tuple[str, ...] = ()

    @property
    def results(self) -> list[RunResult]:
        """Results of the complete runs."""
        return [run.result for run in self.runs if run.result is not None]

    @property
    def left_out(self) -> int:
        """Number of tasks that were not followed by an evaluation."""
        return len(self.setting.task_sizes) - len(self.evaluated)


def cells(entries: Sequence[RunEntry]) -> list[Cell]:
    """Put runs together that differ in their seed only.

    Runs that were evaluated after different tasks are never put together. A setting of the method
    that one run does not record, since it was written before there was such a setting, does not
    keep runs apart; a note says so.

    Args:
        entries: of :func:`collect_runs`; those without a setting are left out.

    Returns:
        One cell per setting, configuration and evaluated steps, in the order of appearance.
    """
    groups: dict[tuple[str, Setting], dict[Settings, list[RunEntry]]] = {}
    for entry in entries:
        if entry.setting is not None:
            key = (str(entry.identity.get("method")), entry.setting)
            config = flatten(entry.identity.get("config", {}))
            groups.setdefault(key, {}).setdefault(config, []).append(entry)
    merged = {key: merge(configs) for key, configs in groups.items()}
    labels = variant_labels((*key, tuple(configs)) for key, configs in merged.items())
    made = []
    for (method, setting), configs in merged.items():
        for config, (runs, notes) in configs.items():
            for evaluated in dict.fromkeys(run.evaluated for run in runs):
                chosen, repeated = _one_per_seed([r for r in runs if r.evaluated == evaluated])
                label = labels[method, config]
                known = (*notes, *repeated, *_mixed_versions(chosen), *_continued(chosen))
                made.append(
                    Cell(setting, method, label, dict(config), evaluated, tuple(chosen), known)
                )
    return made


def _one_per_seed(runs: Sequence[RunEntry]) -> tuple[list[RunEntry], list[str]]:
    """The newest complete run of each seed, and a note where there were several."""
    by_seed: dict[int, list[RunEntry]] = {}
    for run in sorted(runs, key=lambda run: run.result.created if run.result else "", reverse=True):
        by_seed.setdefault(run.identity.get("seed", -1), []).append(run)
    chosen = [
        min(by_seed[seed], key=lambda run: STATUSES.index(run.status)) for seed in sorted(by_seed)
    ]
    times = {seed: sum(r.status != NOT_RUN for r in by_seed[seed]) for seed in sorted(by_seed)}
    notes = [
        f"seed {seed} was run {count} times; the newest complete run is shown"
        for seed, count in times.items()
        if count > 1
    ]
    return chosen, notes


def _mixed_versions(runs: Sequence[RunEntry]) -> list[str]:
    found = {str(run.result.versions.get("avalanche_care")) for run in runs if run.result}
    return [f"runs of versions {', '.join(sorted(found))}"] if len(found) > 1 else []


def _continued(runs: Sequence[RunEntry]) -> list[str]:
    """A note on runs that went on with other versions or on other hardware."""
    seeds = [str(r.identity.get("seed")) for r in runs if r.result and "machines" in r.result.extra]
    if not seeds:
        return []
    return [f"with other versions or hardware in between: seed {', '.join(seeds)}"]


def row_name(cell: Cell) -> str:
    """The name of a row in a table over settings; runs that skip evaluations have their own."""
    if not cell.left_out:
        return cell.variant
    every = next((run.identity.get("eval_every") for run in cell.runs), None)
    return f"{cell.variant}, evaluated every {every or '?'} tasks"
