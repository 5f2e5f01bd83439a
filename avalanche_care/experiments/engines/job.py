"""A run as an engine sees it, and what a worker does with it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import traceback
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from avalanche_care._files import replace_text
from avalanche_care.experiments.config import RunConfig, run_config
from avalanche_care.experiments.directory import FAILED, OtherRun, RunInUse
from avalanche_care.experiments.launch import run

__all__ = ["BUSY", "COMPLETE", "FAILURE", "Job", "Outcome", "execute", "note_failure"]

COMPLETE, FAILURE, BUSY = "complete", "failed", "busy"
PATIENCE = 30.0  # seconds until the process of a suite that was killed has surely ended, too


@dataclass(frozen=True)
class Job:
    """One run, in plain values: it can be sent to a process on any machine.

    Attributes:
        name: of the run's directory.
        out: the directory that it is in, as an absolute path that all workers see.
        config: all fields of the run's configuration.
    """

    name: str
    out: str
    config: dict[str, Any]

    @classmethod
    def of(cls, config: RunConfig, out: str | os.PathLike[str]) -> Job:
        """Return the job of a run in a directory of runs."""
        values = dataclasses.asdict(config)
        values["settings"]["preset"] = "none"  # they are all there
        return cls(config.directory_name, str(Path(out).resolve()), values)

    @property
    def directory(self) -> Path:
        """The run's directory."""
        return Path(self.out) / self.name


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: the job.
        status: ``"complete"``, ``"failed"``, or ``"busy"``: another process is running it.
        error: why, in a line.
    """

    job: Job
    status: str
    error: str = ""


def execute(job: Job) -> Outcome:
    """Run a job, go on with it, or find that it is complete. Failures are noted, not raised.

    Args:
        job: the run.

    Returns:
        What became of it. A failure is also in ``failed.json`` in the run's directory.
    """
    if not Path(job.out).is_dir():
        message = f"{job.out} is not there for this worker; it has to be on storage that all share"
        return Outcome(job, FAILURE, message)
    if _in_use(job.directory):
        return Outcome(job, BUSY, f"another process is running in {job.directory}")
    try:
        run(run_config(job.config, where=job.name), job.out, progress=False)
    except RunInUse as error:  # since a moment ago
        return Outcome(job, BUSY, str(error))
    except OtherRun as error:  # whose directory is none of ours to write to
        return Outcome(job, FAILURE, " ".join(str(error).split()))
    except Exception as error:  # of any kind: the others are to go on
        return Outcome(job, FAILURE, note_failure(job, error))
    return Outcome(job, COMPLETE)


def note_failure(job: Job, error: Exception) -> str:
    """Write ``failed.json``, also for a run that failed before it had a directory.

    Returns:
        The error in a line.
    """
    line = " ".join(f"{type(error).__name__}: {error}".split())
    note = {
        "error": line,
        "traceback": "".join(traceback.format_exception(error)),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "run": job.config,
    }
    with contextlib.suppress(OSError):  # perhaps that is what failed
        job.directory.mkdir(parents=True, exist_ok=True)
        replace_text(job.directory / FAILED, json.dumps(note, indent=1, default=str) + "\n")
    return line


def _in_use(directory: Path) -> bool:
    """Whether another process is running there, and goes on doing so."""
    if not directory.is_dir():
        return False
    lock = FileLock(directory / ".lock")
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        return True
    lock.release()
    return False
