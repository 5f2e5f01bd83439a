"""Which runs there are, and what became of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from avalanche_care.experiments.directory import CONFIG, EVENTS, FAILED, RESULT, read_config
from avalanche_care.experiments.reporting.run_entry import NOT_RUN, RunEntry
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.suite_list import PlannedRun, read_suite_lists

__all__ = ["collect_runs"]


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
            result = _with_state_size(entry.result, directory)
            return RunEntry(
                directory, "complete", entry.identity, result, tasks_done=entry.tasks_done
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
    return len(_events(directory))


def _events(directory: Path) -> list[str]:
    """The whole lines of a run's log."""
    try:
        lines = (directory / EVENTS).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return []
    return lines[:-1]  # a line that is not complete has no newline yet


def _with_state_size(result: RunResult, directory: Path) -> RunResult:
    """Add what the log knows and the result does not: how large the state of the run was."""
    sizes = []
    for line in _events(directory):
        try:
            sizes.append(json.loads(line).get("state_bytes"))
        except (ValueError, AttributeError):  # edited, or of another program
            continue
    known = [size for size in sizes if isinstance(size, int)]
    if not known or "state_bytes" in result.extra:
        return result
    return replace(result, extra={**result.extra, "state_bytes": known[-1]})


def _line(message: object) -> str:
    return " ".join(str(message).split())
