"""Many runs from one file: what is complete is skipped, what was interrupted goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from avalanche_care.experiments._suite_bar import SuiteBar
from avalanche_care.experiments._suite_file import Suite, parse_suite
from avalanche_care.experiments.config import RunConfig, read_toml
from avalanche_care.experiments.engines import Job, Outcome, make_engine
from avalanche_care.experiments.launch import finished
from avalanche_care.experiments.suite_list import write_suite_list

if TYPE_CHECKING:
    from avalanche_care.experiments.engines import Engine

__all__ = ["RunStatus", "Suite", "SuiteReport", "SuiteStopped", "read_suite", "run_suite"]

COMPLETE, FAILED, LEFT = "complete", "failed", "left"


@dataclass(frozen=True)
class RunStatus:
    """What became of one run of a suite.

    Attributes:
        config: the run.
        directory: its directory.
        status: ``"complete"``, ``"failed"``, or ``"left"`` if it is still to do.
        error: why it failed, or is left, in a line.
        before: whether it was complete before the suite was started.
    """

    config: RunConfig
    directory: Path
    status: str = LEFT
    error: str = ""
    before: bool = False


@dataclass(frozen=True)
class SuiteReport:
    """What became of a suite.

    Attributes:
        name: of the suite.
        out: the directory of its runs.
        runs: in the order of the suite.
    """

    name: str
    out: Path
    runs: tuple[RunStatus, ...]

    def of(self, status: str) -> list[RunStatus]:
        """The runs that are ``"complete"``, ``"failed"`` or ``"left"``."""
        return [run for run in self.runs if run.status == status]

    def __str__(self) -> str:
        """A summary, with each error once."""
        before = sum(run.before for run in self.runs)
        counts = [f"{len(self.of(status))} {status}" for status in (COMPLETE, FAILED, LEFT)]
        counts[0] += f" ({before} of them before)" if before else ""
        lines = [f"suite {self.name}: {len(self.runs)} runs in {self.out}: {', '.join(counts)}"]
        for status in (FAILED, LEFT):
            by_error: dict[str, list[RunStatus]] = {}
            for run in self.of(status):
                by_error.setdefault(run.error, []).append(run)
            for error, runs in by_error.items():
                if error:
                    others = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
                    lines.append(f"- {status}: {runs[0].directory.name}{others}: {error}")
        return "\n".join(lines)


class SuiteStopped(KeyboardInterrupt):
    """A suite was stopped by the user; the text says how to go on.

    Attributes:
        report: what was done until then.
    """

    def __init__(self, report: SuiteReport) -> None:
        super().__init__(
            f"stopped; start it again with the same directory, and it goes on from here\n{report}"
        )
        self.report = report


def read_suite(path: str | os.PathLike[str]) -> Suite:
    """Read a suite from a TOML file.

    Args:
        path: the file. If it has no ``name``, the suite is called as the file.

    Returns:
        The suite, with the configuration of each run.

    Raises:
        ValueError: listing everything that is wrong.
        OSError: if the file cannot be read.
    """
    values = read_toml(Path(path))
    return parse_suite({"name": Path(path).stem, **values}, where=str(path))


def run_suite(
    suite: Suite | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    engine: str | Engine = "in-process",
    progress: bool = True,
    on_end: Callable[[RunStatus], None] | None = None,
) -> SuiteReport:
    """Run what is left of a suite.

    Complete runs are skipped, interrupted ones go on from their saved state, and failed ones are
    tried again. A run that fails leaves ``failed.json`` in its directory and does not stop the
    others. Which runs there are to be is written to ``.suites`` in ``out``, for reports.

    Args:
        suite: the suite, or its file.
        out: directory of its runs; it is made if needed.
        engine: where to run them: ``"in-process"``, ``"processes"`` or ``"ray"``, or an engine with
            options, such as ``Processes(workers=4)``.
        progress: show a progress bar.
        on_end: called with each run that has ended, in this process.

    Returns:
        What became of every run.

    Raises:
        ValueError: if the suite or the engine cannot be used.
        OSError: if ``out`` cannot be written.
        SuiteStopped: on control-C, a KeyboardInterrupt. All workers have been ended.
    """
    suite = suite if isinstance(suite, Suite) else read_suite(suite)
    engine = make_engine(engine) if isinstance(engine, str) else engine
    root = Path(out).resolve()
    root.mkdir(parents=True, exist_ok=True)
    write_suite_list(suite, root)
    runs = {run.directory.name: run for run in _find(suite, root)}
    jobs = [Job.of(run.config, root) for run in runs.values() if run.status == LEFT]
    bar = SuiteBar(suite.name, len(runs), [job.directory for job in jobs], show=progress)
    try:
        with bar, closing(engine.run(jobs)) as outcomes:
            for outcome in outcomes:
                run = _status(runs[outcome.job.name], outcome)
                runs[outcome.job.name] = run
                bar.ended(run.directory, run.status)
                if on_end is not None:
                    on_end(run)
    except KeyboardInterrupt:
        raise SuiteStopped(SuiteReport(suite.name, root, tuple(runs.values()))) from None
    return SuiteReport(suite.name, root, tuple(runs.values()))


def _find(suite: Suite, root: Path) -> Iterator[RunStatus]:
    """The runs, and which of them are complete."""
    for config in suite.runs:
        run = RunStatus(config, root / config.directory_name)
        try:
            complete = finished(config, run.directory) is not None
        except (ValueError, OSError):
            complete = False  # running it will say why
        yield replace(run, status=COMPLETE, before=True) if complete else run


def _status(run: RunStatus, outcome: Outcome) -> RunStatus:
    """A run after its outcome; one that another process is running is still to do."""
    status = outcome.status if outcome.status in (COMPLETE, FAILED) else LEFT
    return replace(run, status=status, error=outcome.error)
