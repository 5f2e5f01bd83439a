"""Which results belong into one panel, and the numbers that figures show of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from avalanche_care.experiments.reporting.run_entry import FACTS
from avalanche_care.experiments.reporting.variants import Settings, flatten, merge, variant_labels
from avalanche_care.experiments.results import RunResult

Floats = NDArray[np.float64]
Runs = dict[str, list[RunResult]]  # label of a method -> its results, which differ in the seed
Facts = tuple[tuple[str, str], ...]  # what sets results on a benchmark apart: name, value
# Results of one place are compared: benchmark, facts, protocol, task sizes, class order.
Place = tuple[str, Facts, str, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Panel:
    """Results on one sequence of tasks.

    Attributes:
        title: Protocol and number of tasks.
        protocol: Its name, and what tells it from the others of the sheet.
        runs: Of each method.
    """

    title: str
    protocol: str
    runs: Runs

    @property
    def task_sizes(self) -> Sequence[int]:
        """Number of classes of each task."""
        return next(iter(self.runs.values()))[0].task_sizes


@dataclass(frozen=True)
class Sheet:
    """Results on one benchmark with one backbone, a panel for each sequence of tasks."""

    title: str
    panels: list[Panel]

    @property
    def labels(self) -> list[str]:
        """Of all methods, in the order of first appearance."""
        return list(dict.fromkeys(label for panel in self.panels for label in panel.runs))


def arrange(results: Sequence[RunResult]) -> list[Sheet]:
    """Sort results into sheets and panels, in the order of first appearance.

    Settings of a method that differ within a panel make two methods of one, named as in the tables.
    """
    places: dict[Place, list[RunResult]] = {}
    for result in results:
        places.setdefault(_place(result), []).append(result)
    sheets: dict[tuple[str, Facts], dict[Place, Runs]] = {}
    for place, runs in _labelled(places).items():
        sheets.setdefault(place[:2], {})[place] = runs
    return [
        Sheet(_title(benchmark, facts, list(sheets)), _panels(found))
        for (benchmark, facts), found in sheets.items()
    ]


def one_panel(results: Sequence[RunResult]) -> Panel:
    """Return results of one task sequence as a panel, whatever their backbone and class order."""
    first = results[0]
    [runs] = _labelled({_place(first): results}).values()
    tasks = count(len(first.task_sizes), "task")
    return Panel(f"{first.benchmark}, {first.protocol}: {tasks}", first.protocol, runs)


def _labelled(places: Mapping[Place, Sequence[RunResult]]) -> dict[Place, Runs]:
    """Group the results of each place by method and settings, with names for these."""
    found = {place: _merged(results) for place, results in places.items()}
    labels = variant_labels(
        (method, place, tuple(configs))
        for place, methods in found.items()
        for method, configs in methods.items()
    )
    return {
        place: {
            labels[method, config]: runs
            for method, configs in methods.items()
            for config, (runs, _) in configs.items()
        }
        for place, methods in found.items()
    }


def _place(result: RunResult) -> Place:
    name, digest = result.backbone.get("name", ""), str(result.backbone.get("sha256", ""))
    known = {"backbone": f"{name} {digest[:8]}".strip()}
    known |= {fact: str(result.extra[fact]) for fact in FACTS if fact in result.extra}
    sequence = (result.protocol, tuple(result.task_sizes), tuple(result.class_order))
    return (result.benchmark, tuple(known.items()), *sequence)


def _merged(
    results: Sequence[RunResult],
) -> dict[str, dict[Settings, tuple[list[RunResult], list[str]]]]:
    configs: dict[str, dict[Settings, list[RunResult]]] = {}
    for result in results:
        of_method = configs.setdefault(result.method, {})
        of_method.setdefault(flatten(result.config), []).append(result)
    return {method: merge(found) for method, found in configs.items()}


def _title(benchmark: str, facts: Facts, sheets: Sequence[tuple[str, Facts]]) -> str:
    """Name the benchmark, and the facts in which the results on it differ."""
    others = [set(found) for name, found in sheets if name == benchmark]
    shared = set.intersection(*others)
    return ", ".join([benchmark, *(f"{k} {v}" for k, v in facts if (k, v) not in shared)])


def _panels(found: Mapping[Place, Runs]) -> list[Panel]:
    protocols = [protocol for _, _, protocol, _, _ in found]
    panels = []
    for index, ((_, _, name, sizes, _), runs) in enumerate(found.items()):
        if protocols.count(name) > 1:  # one protocol in several class orders
            name += f", class order {1 + protocols[:index].count(name)}"
        panels.append(Panel(f"{name}: {count(len(sizes), 'task')}", name, runs))
    return panels


def count(number: int, noun: str) -> str:
    """Return ``1 task``, ``2 tasks``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


class Curve(NamedTuple):
    """A figure of merit over the classes seen, of one method."""

    x: Floats  # classes seen at the steps that all runs have evaluated, (n,)
    mean: Floats  # over runs, (n,)
    low: Floats
    high: Floats
    runs: int


def curve_of(values: Sequence[Floats], task_sizes: Sequence[int]) -> Curve:
    """Average several runs.

    Args:
        values: of each run, shape (T,), nan where unknown.
        task_sizes: length T.
    """
    stacked = np.array(values)  # (runs, T)
    known = ~np.isnan(stacked).any(axis=0)  # (T,)
    seen = np.array(list(accumulate(task_sizes)), np.float64)[known]
    stacked = stacked[:, known]  # (runs, n)
    return Curve(seen, stacked.mean(0), stacked.min(0), stacked.max(0), len(values))


def forgetting_curve(matrix: Floats) -> Floats:
    """Return :func:`avalanche_care.metrics.forgetting` after each step, as if it were the last.

    Args:
        matrix: R, shape (T, T).

    Returns:
        Shape (T,), nan where unknown: at the first step, at steps that were not evaluated, and at
        the first evaluated one.
    """
    known = ~np.isnan(matrix)  # (T, T)
    best = np.fmax.accumulate(matrix, axis=0)  # highest accuracy up to each step
    earlier = np.zeros_like(known)  # whether a task was evaluated before the step
    earlier[1:] = np.logical_or.accumulate(known, axis=0)[:-1]
    counted = known & earlier
    terms = counted.sum(1)  # (T,)
    total = np.where(counted, best - matrix, 0.0).sum(1)
    return np.divide(total, terms, out=np.full(len(matrix), np.nan), where=terms > 0)


def forgetting_by_task(matrix: Floats) -> Floats:
    """Return max minus last of every task but the newest, nan where it was evaluated only once.

    Args:
        matrix: R, shape (T, T).

    Returns:
        Shape (T - 1,); the mean of what is known is :func:`avalanche_care.metrics.forgetting`.
    """
    earlier = matrix[:-1, :-1]
    if not len(earlier):
        return np.zeros(0)
    best = np.fmax.reduce(earlier, axis=0)  # nan where there is none
    return np.maximum(best, matrix[-1, :-1]) - matrix[-1, :-1]


def mean_over_runs(values: Sequence[Floats]) -> Floats:
    """Return the mean, nan where a run has nan."""
    return np.mean(np.array(values), axis=0)
