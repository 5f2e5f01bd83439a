"""Which runs there are, and which of them belong together in a cell of a table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.experiments.directory import CONFIG, EVENTS, FAILED, RESULT, read_config
from avalanche_care.experiments.reporting.variants import Settings, flatten, merge, variant_labels
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.suite_list import PlannedRun, read_suite_lists

__all__ = ["Cell", "RunEntry", "Setting", "cells", "collect_runs"]

NOT_RUN = "not run"
STATUSES = ("complete", "failed", "unfinished", "unreadable", NOT_RUN)  # the first counts
FACTS = ("train_images", "test_images", "transforms", "img_size", "packed")  # that change the task


@dataclass(frozen=True)
class Setting:
    """What was to be learned, on which backbone. Only runs of one setting are compared.

    Attributes:
        benchmark, protocol: their names.
        task_sizes: number of classes of each task.
        class_order: original class index of each label.
        backbone: its name.
        sha256: of its weights.
        facts: what else is recorded of the data, (name, value) each.
    """

    benchmark: str
    protocol: str
    task_sizes: tuple[int, ...]
    class_order: tuple[int, ...]
    backbone: str
    sha256: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RunEntry:
    """One run that was found.

    Attributes:
        path: its directory, or the result file if that was saved by hand.
        status: ``"complete"``, ``"failed"``, ``"unfinished"``, ``"unreadable"``, or ``"not run"``
            for a run of a suite that was never begun.
        identity: what was asked for, as in ``config.json``; empty if that cannot be told.
        result: of a complete run.
        error: why it failed or cannot be read, in a line.
        tasks_done: number of tasks.
    """

    path: Path
    status: str
    identity: Mapping[str, Any] = field(default_factory=dict)
    result: RunResult | None = None
    error: str = ""
    tasks_done: int = 0

    @cached_property
    def setting(self) -> Setting | None:
        """What was to be learned; None if that cannot be told."""
        asked = self.identity
        try:
            backbone, order = asked["backbone"], tuple(asked["class_order"])
            if self.result is not None:
                sizes = tuple(self.result.task_sizes)
            else:
                sizes = Protocol.parse(asked["protocol"], n_classes=len(order)).sizes
            return Setting(
                asked["benchmark"],
                asked["protocol"],
                sizes,
                order,
                str(backbone.get("name", "not recorded")),
                str(backbone.get("sha256", "")),
                tuple((name, str(asked[name])) for name in FACTS if name in asked),
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            return None

    @property
    def evaluated(self) -> tuple[int, ...]:
        """The steps that are evaluated, counted from 0; those that will be, if not complete."""
        if self.result is not None:
            return tuple(self.result.evaluated)
        tasks = len(self.setting.task_sizes) if self.setting else 0
        every = self.identity.get("eval_every", 1)
        return tuple(t for t in range(tasks) if (t + 1) % every == 0 or t == tasks - 1)

    @property
    def state(self) -> str:
        """What became of it, in a few words."""
        if self.status == "unfinished":
            tasks = f" of {len(self.setting.task_sizes)}" if self.setting else ""
            return f"unfinished, {self.tasks_done}{tasks} tasks done"
        return self.status


def collect_runs(paths: str | Path | Iterable[str | Path]) -> list[RunEntry]:
    """Find runs: directories of runs at any depth, and result files that were saved by hand.

    Where a suite has noted its runs, those that were not begun are found too.

    Args:
        paths: directories and result files.

    Returns:
        One entry each, in the order of the paths and sorted by name within. JSON files of another
        kind are passed over, unless they were named.

    Raises:
        FileNotFoundError: if a path does not exist.
    """
    found: dict[Path, RunEntry] = {}
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        if not Path(path).exists():
            raise FileNotFoundError(f"{path} does not exist; expected runs or a result file there")
        for entry in _entries(Path(path)):
            found.setdefault(entry.path.resolve(), entry)
    return _with_planned(list(found.values()))


def _with_planned(found: list[RunEntry]) -> list[RunEntry]:
    """The runs, and those that the suites beside them are still to have.

    What a suite asks for becomes a setting only when the data are loaded. So a run that was not
    begun, or failed before that, takes the setting of another run of the same place.
    """
    roots = dict.fromkeys(e.path.parent for e in found if e.path.is_dir())
    planned = {
        (root / run.directory).resolve(): (root, run)
        for root in roots
        for run in read_suite_lists(root)
    }
    known: dict[tuple[Path, str], Mapping[str, Any]] = {}
    for entry in found:
        if entry.setting is not None and entry.path.resolve() in planned:
            root, run = planned[entry.path.resolve()]
            known.setdefault((root, run.place), entry.identity)

    def identity(root: Path, run: PlannedRun) -> dict[str, Any]:
        own = {name: getattr(run, name) for name in ("method", "seed", "eval_every", "config")}
        return {**known.get((root, run.place), {}), **own}

    entries = []
    for entry in found:
        place = planned.pop(entry.path.resolve(), None)
        lacking = place is not None and entry.setting is None
        entries.append(replace(entry, identity=identity(*place)) if place and lacking else entry)
    return entries + [
        RunEntry(root / run.directory, NOT_RUN, identity(root, run))
        for root, run in planned.values()
    ]


def _entries(path: Path) -> Iterator[RunEntry]:
    if path.is_file():
        entry = _read_result(path)
        yield entry or RunEntry(path, "unreadable", error="it is not a result file")
        return
    for place, folders, files in os.walk(path):
        folders.sort()
        directory = Path(place)
        if {RESULT, FAILED, EVENTS} & set(files) or (CONFIG in files and _identity(directory)[0]):
            folders.clear()  # nothing below belongs to another run
            yield _read_directory(directory)
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(files):
            if name.endswith(".json") and not name.startswith("."):
                entry = _read_result(directory / name)
                if entry is not None:
                    yield entry


def _read_result(path: Path) -> RunEntry | None:
    """A result file; None if the file is something else."""
    try:
        result = RunResult.load(path)
    except (ValueError, OSError) as error:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError):
            return RunEntry(path, "unreadable", error=_line(error))
        ours = isinstance(values, dict) and "accuracy_matrix" in values
        return RunEntry(path, "unreadable", error=_line(error)) if ours else None
    identity = {**result.extra}
    for name in ("method", "config", "benchmark", "protocol", "class_order", "seed", "backbone"):
        identity[name] = getattr(result, name)
    return RunEntry(path, "complete", identity, result, tasks_done=len(result.task_sizes))


def _read_directory(directory: Path) -> RunEntry:
    identity, problem = _identity(directory)
    if (directory / RESULT).exists():
        entry = _read_result(directory / RESULT)
        if entry is not None and entry.result is not None:
            return RunEntry(
                directory, "complete", entry.identity, entry.result, tasks_done=entry.tasks_done
            )
        problem = entry.error if entry else f"{directory / RESULT} is not a result file"
        return RunEntry(directory, "unreadable", identity, error=problem)
    done = _tasks_done(directory)
    if (directory / FAILED).exists():
        return RunEntry(directory, "failed", identity, error=_failure(directory), tasks_done=done)
    if not identity:
        return RunEntry(directory, "unreadable", error=problem, tasks_done=done)
    return RunEntry(directory, "unfinished", identity, tasks_done=done)


def _identity(directory: Path) -> tuple[Mapping[str, Any], str]:
    """What was asked for, and why that cannot be told."""
    try:
        return read_config(directory / CONFIG)["identity"], ""
    except (ValueError, OSError) as error:
        return {}, _line(error)


def _failure(directory: Path) -> str:
    try:
        return _line(json.loads((directory / FAILED).read_text(encoding="utf-8"))["error"])
    except (ValueError, OSError, KeyError, TypeError) as error:
        return f"{FAILED} cannot be read: {_line(error)}"


def _tasks_done(directory: Path) -> int:
    try:
        lines = (directory / EVENTS).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return 0
    return len(lines) - 1  # a line that is not complete has no newline yet


def _line(message: object) -> str:
    return " ".join(str(message).split())


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
