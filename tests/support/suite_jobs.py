"""What workers do in place of a run, in tests of the engines: nothing that needs torch."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from avalanche_care.experiments.engines.job import COMPLETE, FAILURE, Job, Outcome


def job(out: Path, name: str, **config: Any) -> Job:
    """A job that is no run."""
    return Job(name, str(out), {"device": "cpu", **config})


def look_around(job: Job) -> Outcome:
    """Tell the process and its environment, and print."""
    sys.stdout.write("said by a worker\n")
    sys.stdout.flush()
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    seen = {"pid": os.getpid(), **{name: os.environ.get(name) for name in names}}
    return Outcome(job, COMPLETE, json.dumps(seen))


def die(job: Job) -> Outcome:
    """Be killed ``deaths`` times, and fail or succeed then."""
    job.directory.mkdir(exist_ok=True)
    tries = job.directory / "tries"
    with tries.open("a") as file:
        file.write("x")
    if len(tries.read_text()) <= job.config["deaths"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(job, FAILURE if job.config.get("fails") else COMPLETE)


def sleep(job: Job) -> Outcome:
    """Note the process, and never end."""
    job.directory.mkdir(exist_ok=True)
    (job.directory / "pid.part").write_text(str(os.getpid()))
    (job.directory / "pid.part").rename(job.directory / "pid")
    time.sleep(600)
    return Outcome(job, COMPLETE)
