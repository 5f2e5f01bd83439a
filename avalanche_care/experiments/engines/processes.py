"""Several processes on this machine, through joblib's loky."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from avalanche_care.experiments.engines.job import FAILURE, Job, Outcome, execute, note_failure

__all__ = ["Processes"]

LOGS = ".workers"  # in the directory of the runs; hidden, so that nobody takes it for a run
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Processes:
    """Runs jobs in worker processes on this machine.

    Each worker is a process pool of one, so that it is known which run a worker that died was at.
    What a worker prints goes to ``.workers/<number>.log`` in the directory of the runs.

    Args:
        workers: number of processes. None: one per visible GPU if the device is ``cuda``, else one
            per core.
        threads: of each worker. None: the cores, shared out evenly. ``OMP_NUM_THREADS`` in the
            environment goes before both.
        retries: how often a run is tried again after its worker died, for lack of memory for
            example. It goes on from its saved state.

    With the device ``cuda`` (without a number) each worker sees one GPU only, in turn.
    """

    workers: int | None = None
    threads: int | None = None
    retries: int = 2

    def __post_init__(self) -> None:
        least = {"workers": 1, "threads": 1, "retries": 0}
        problems = [
            f"{name} must be at least {value}, got {getattr(self, name)}"
            for name, value in least.items()
            if getattr(self, name) is not None and getattr(self, name) < value
        ]
        if problems:
            raise ValueError("; ".join(problems))

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Run the jobs, see :class:`avalanche_care.experiments.engines.Engine`."""
        workers = [_Worker(n, env, jobs[0].out) for n, env in enumerate(self._environments(jobs))]
        waiting = deque((job, 0) for job in jobs)
        idle, running = list(workers), dict[Future[Outcome], tuple[_Worker, Job, int]]()
        try:
            while waiting or running:
                while waiting and idle:
                    worker, (job, lost) = idle.pop(0), waiting.popleft()
                    running[worker.start(job)] = (worker, job, lost)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    worker, job, lost = running.pop(future)
                    idle.append(worker)
                    died = isinstance(future.exception(), BrokenExecutor)
                    if died:
                        worker.stop()
                    if died and lost < self.retries:
                        waiting.appendleft((job, lost + 1))
                    else:
                        yield _outcome(job, future, worker)
        finally:
            for worker in workers:
                worker.stop()

    def _environments(self, jobs: Sequence[Job]) -> list[dict[str, str]]:
        """The environment of each worker: its GPU and number of threads."""
        from joblib import cpu_count

        spread = bool(jobs) and all(job.config["device"] == "cuda" for job in jobs)
        gpus = visible_gpus() if spread else []
        cores = cpu_count()
        workers = min(self.workers or len(gpus) or cores, len(jobs))
        threads = str(self.threads or max(1, cores // max(workers, 1)))
        return [
            {name: os.environ.get("OMP_NUM_THREADS", threads) for name in THREADS}
            | ({"CUDA_VISIBLE_DEVICES": gpus[n % len(gpus)]} if gpus else {})
            for n in range(workers)
        ]


class _Worker:
    """A process for one job at a time; a new one takes its place if it dies."""

    def __init__(self, number: int, environment: Mapping[str, str], out: str) -> None:
        self.environment = environment
        self.log = Path(out) / LOGS / f"{number}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.pool: Any = None

    def start(self, job: Job) -> Future[Outcome]:
        if self.pool is None:
            from joblib.externals.loky import ProcessPoolExecutor

            self.pool = ProcessPoolExecutor(
                max_workers=1,
                env=dict(self.environment),
                initializer=_prepare_worker,
                initargs=(os.getpid(), str(self.log)),
            )
        future: Future[Outcome] = self.pool.submit(execute, job)
        return future

    def stop(self) -> None:
        """End the process, whatever it is doing: a run can be broken off at any moment."""
        if self.pool is not None:
            self.pool.shutdown(kill_workers=True)
            self.pool = None


def _outcome(job: Job, future: Future[Outcome], worker: _Worker) -> Outcome:
    error = future.exception()
    if error is None:
        return future.result()
    message = f"the worker died; its last words may be in {worker.log}"
    lost = RuntimeError(f"{message}: {str(error).splitlines()[0]}")
    return Outcome(job, FAILURE, note_failure(job, lost))


def _prepare_worker(parent: int, log: str) -> None:
    """What a worker does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # control-C is for the parent, which ends us
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    tqdm.set_lock(threading.RLock())  # instead of a semaphore that a killed process leaves behind
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process soon after its parent was killed, so that another can go on with the run."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def visible_gpus() -> list[str]:
    """The GPUs of this process, each by its name for CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(number) for number in range(count)]
    return [name.strip() for name in names[:count]]
