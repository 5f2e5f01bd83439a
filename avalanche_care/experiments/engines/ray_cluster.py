"""A Ray cluster: as many machines as there are, and lost ones made up for."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from avalanche_care.experiments.engines.job import FAILURE, Job, Outcome, execute, note_failure

__all__ = ["RayCluster"]

STORE_BYTES = 100_000_000  # a run passes nothing but its name through Ray's object store


@dataclass(frozen=True)
class RayCluster:
    """Runs jobs as tasks of a Ray cluster (``pip install avalanche-care[ray]``).

    All machines need this package, the data, and the directory of the runs under the same paths. A
    task whose worker or machine is lost is run again by Ray, elsewhere, and goes on from its saved
    state.

    Args:
        address: of the cluster, such as ``"auto"``. None: a cluster of this machine alone, which
            ends with the suite. If Ray is initialised in this process, that is used.
        cpus: cores, and threads, of a run.
        gpus: GPUs of a run; fractions share one. None: one if the device is ``cuda``, else none.
        memory: bytes that a run may need; Ray starts no more than fit. None: it does not count.
        resources: further resources of a run, by the names that the cluster has for them.
        retries: how often a lost task is run again.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float | None = None
    memory: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    retries: int = 3

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Run the jobs, see :class:`avalanche_care.experiments.engines.Engine`."""
        if not jobs:
            return
        _check_devices(jobs)
        ray = _import_ray()
        ours = not ray.is_initialized()
        if ours:
            _connect(ray, self.address)
        task = ray.remote(execute)
        running: dict[Any, Job] = {}
        try:
            for job in jobs:
                running[task.options(**self._options(job)).remote(job)] = job
            while running:
                (reference,), _ = ray.wait(list(running), num_returns=1)
                yield _outcome(ray, reference, running.pop(reference))
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            if ours:
                ray.shutdown()

    def _options(self, job: Job) -> dict[str, Any]:
        gpus = self.gpus
        if gpus is None:
            gpus = 1 if job.config["device"] == "cuda" else 0
        return {
            "name": job.name,
            "num_cpus": self.cpus,
            "num_gpus": gpus,
            "memory": self.memory,
            "resources": dict(self.resources),
            "max_retries": self.retries,
        }


def _check_devices(jobs: Sequence[Job]) -> None:
    numbered = {d for d in (job.config["device"] for job in jobs) if d.startswith("cuda:")}
    if numbered:
        raise ValueError(
            f"device {min(numbered)!r} names a GPU of one machine; on a cluster write 'cuda', and "
            "each run gets a GPU of its own"
        )


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            f"the engine 'ray' needs Ray ({error}): pip install avalanche-care[ray]"
        ) from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    """Connect to a cluster, or start one on this machine."""
    if address is not None:
        try:
            ray.init(address=address, log_to_driver=False)
        except ConnectionError as error:
            raise ValueError(
                f"no Ray cluster answers at address {address!r} ({error}); `ray start --head` "
                "starts one"
            ) from error
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody was asked
    ray.init(
        address="local",
        log_to_driver=False,
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
    )


def _outcome(ray: Any, reference: Any, job: Job) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:  # lost too often, or no worker could begin it
        lines = [line for line in str(error).splitlines() if line.strip()]
        lost = RuntimeError(f"Ray gave up: {type(error).__name__}: {' '.join(lines[:2])}")
        return Outcome(job, FAILURE, note_failure(job, lost))
    return outcome
