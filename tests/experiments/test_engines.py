"""Engines: in this process, in several, and on a cluster that loses its workers."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import suite_jobs
import torch
from filelock import FileLock
from short_runs import comparable

from avalanche_care.experiments import RunResult
from avalanche_care.experiments.config import run_config
from avalanche_care.experiments.engines import (
    InProcess,
    Job,
    Outcome,
    Processes,
    RayCluster,
    execute,
    make_engine,
    processes,
    ray_cluster,
)
from avalanche_care.experiments.engines import job as job_module
from avalanche_care.experiments.launch import run
from avalanche_care.experiments.suite import Suite, run_suite
from avalanche_care.strategies.registry import available_methods

TINY = {"name": "glyphs", "protocol": "B0-Inc1", "n_classes": 2}


def tiny(method: str = "simplecil", **changes: Any) -> Any:
    return run_config({"method": method, "benchmark": TINY, **changes})


def test_engines_are_found_by_name() -> None:
    assert make_engine("in-process") == InProcess()
    assert make_engine("processes", workers=3, address=None) == Processes(workers=3)
    assert make_engine("ray", address="auto", gpus=0.5) == RayCluster(address="auto", gpus=0.5)
    with pytest.raises(ValueError, match="no engine 'proceses'; did you mean 'processes'"):
        make_engine("proceses")
    with pytest.raises(ValueError, match=r"'processes' has no option address; .* workers"):
        make_engine("processes", address="auto")
    with pytest.raises(ValueError, match="workers must be at least 1, got 0; retries must be"):
        make_engine("processes", workers=0, retries=-1)


@pytest.mark.parametrize("method", sorted(available_methods()))
def test_a_job_is_plain_and_names_the_same_run(method: str, tmp_path: Path) -> None:
    asked = tiny(method, seed=5, device="cuda:1", num_workers=2)
    job = Job.of(asked, tmp_path)
    sent = json.loads(json.dumps(job.config))
    assert run_config(sent) == asked
    assert job.directory == tmp_path / asked.directory_name


def test_a_preset_is_resolved_once(tmp_path: Path) -> None:
    benchmark = {"name": "omnibenchmark1k", "protocol": "B100-Inc3"}
    for settings in ({}, {"preset": "none"}, {"preset": "vtab/B0-Inc10"}):
        asked = run_config({"method": "care", "benchmark": benchmark, "settings": settings})
        assert run_config(Job.of(asked, tmp_path).config) == asked


def test_a_run_that_failed_before_it_began(tmp_path: Path) -> None:
    job = Job.of(tiny(device="cuda:77"), tmp_path)
    outcome = execute(job)
    assert (outcome.job, outcome.status) == (job, "failed")
    assert outcome.error.startswith("ValueError: device 'cuda:77' cannot be used")
    note = json.loads((job.directory / "failed.json").read_text())
    assert note["error"] == outcome.error
    assert "check_device" in note["traceback"]
    assert note["run"] == job.config
    assert execute(Job.of(tiny(), tmp_path)) == Outcome(Job.of(tiny(), tmp_path), "complete")
    assert not (job.directory / "failed.json").exists()


def test_where_workers_see_no_directory(tmp_path: Path) -> None:
    outcome = execute(Job.of(tiny(), tmp_path / "elsewhere"))
    assert outcome.status == "failed"
    assert "elsewhere is not there for this worker" in outcome.error
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_process_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "PATIENCE", 0.3)
    job = Job.of(tiny(), tmp_path)
    job.directory.mkdir()
    lock = FileLock(job.directory / ".lock", thread_local=False)
    lock.acquire()
    assert execute(job).status == "busy"
    assert not (job.directory / "failed.json").exists()
    threading.Timer(0.1, lock.release).start()
    assert execute(job).status == "complete"


def outcomes(
    monkeypatch: pytest.MonkeyPatch, work: Any, jobs: Sequence[Job], engine: Processes
) -> list[Outcome]:
    monkeypatch.setattr(processes, "execute", work)
    return list(engine.run(jobs))


def test_workers_share_cores_and_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "visible_gpus", lambda: ["3", "GPU-5f"])
    monkeypatch.setattr("joblib.cpu_count", lambda: 6)
    jobs = [suite_jobs.job(tmp_path, str(n), device="cuda") for n in range(3)]
    found = outcomes(monkeypatch, suite_jobs.look_around, jobs, Processes())
    seen = [json.loads(outcome.error) for outcome in found]
    assert sorted(outcome.job.name for outcome in found) == ["0", "1", "2"]
    by_worker = {s["pid"]: (s["CUDA_VISIBLE_DEVICES"], s["OMP_NUM_THREADS"]) for s in seen}
    assert sorted(by_worker.values()) == [("3", "3"), ("GPU-5f", "3")]
    assert os.getpid() not in by_worker
    logs = [path.read_text() for path in sorted((tmp_path / ".workers").iterdir())]
    assert "".join(logs) == "said by a worker\n" * 3


@pytest.mark.parametrize(
    ("devices", "options", "expected"),
    [
        (["cuda"] * 9, {}, [("3", "4"), ("GPU-5f", "4")]),
        (["cuda"] * 9, {"workers": 3}, [("3", "2"), ("GPU-5f", "2"), ("3", "2")]),
        (["cuda"], {}, [("3", "8")]),
        (["cuda:1"] * 2, {}, [(None, "4")] * 2),  # that very one, then
        (["cpu"] * 9, {}, [(None, "1")] * 8),
        (["cpu"] * 9, {"workers": 2, "threads": 1}, [(None, "1")] * 2),
        ([], {}, []),
    ],
)
def test_what_each_worker_is_given(
    devices: list[str], options: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "visible_gpus", lambda: ["3", "GPU-5f"])
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    jobs = [suite_jobs.job(Path(), "x", device=device) for device in devices]

    def given() -> list[tuple[str | None, str]]:
        environments = Processes(**options)._environments(jobs)
        return [(e.get("CUDA_VISIBLE_DEVICES"), e["OMP_NUM_THREADS"]) for e in environments]

    assert given() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert given() == [(gpu, "7") for gpu, _ in expected]


def test_gpus_have_the_names_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert processes.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, MIG-7")
    assert processes.visible_gpus() == ["2", "MIG-7"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert processes.visible_gpus() == []


def test_a_worker_that_dies_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deaths = {"healthy": 0, "weak": 2, "hopeless": 9, "next": 0}
    jobs = [suite_jobs.job(tmp_path, name, deaths=n) for name, n in deaths.items()]
    found = outcomes(monkeypatch, suite_jobs.die, jobs, Processes(workers=2, retries=2))
    by_name = {outcome.job.name: outcome for outcome in found}
    assert {name: outcome.status for name, outcome in by_name.items()} == {
        "healthy": "complete",
        "weak": "complete",
        "hopeless": "failed",
        "next": "complete",
    }
    tries = {name: len((tmp_path / name / "tries").read_text()) for name in deaths}
    assert tries == {"healthy": 1, "weak": 3, "hopeless": 3, "next": 1}
    assert "the worker died" in by_name["hopeless"].error
    note = json.loads((tmp_path / "hopeless" / "failed.json").read_text())
    assert note["error"] == by_name["hopeless"].error
    assert ".log" in note["error"]


def wait_for(path: Path, seconds: float = 30) -> int:
    """The process that a job has noted."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.05)
    return int(path.read_text())


def gone(pid: int, seconds: float = 10) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:  # nobody may be there to bury it
            process.wait(seconds)
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_to_close_an_engine_ends_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "execute", suite_jobs.sleep)
    jobs = [suite_jobs.job(tmp_path, name) for name in ("a", "b", "c")]
    found: list[int] = []

    def interrupt() -> None:
        found.extend(wait_for(tmp_path / name / "pid") for name in ("a", "b"))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt), contextlib.closing(Processes(workers=2).run(jobs)) as r:
        next(r)
    thread.join()
    assert len(set(found)) == 2
    assert all(gone(pid) for pid in found)
    assert not (tmp_path / "c").exists()


KILLED = """
import sys
sys.path.insert(0, {support!r})
import pathlib, suite_jobs
from avalanche_care.experiments.engines import Processes, processes
processes.execute = suite_jobs.sleep
list(Processes(workers=1).run([suite_jobs.job(pathlib.Path({out!r}), "a")]))
"""


def test_workers_do_not_outlive_their_parent(tmp_path: Path) -> None:
    support = str(Path(suite_jobs.__file__).parent)
    code = KILLED.format(support=support, out=str(tmp_path))
    parent = subprocess.Popen([sys.executable, "-c", code])
    worker = wait_for(tmp_path / "a" / "pid")
    assert psutil.pid_exists(worker)
    parent.kill()
    parent.wait()
    assert gone(worker)


def test_a_real_run_in_a_worker(tmp_path: Path) -> None:
    suite = Suite("tiny", (tiny("simplecil", seed=3),))
    report = run_suite(suite, tmp_path / "out", engine=Processes(workers=1, threads=1))
    assert str(report).endswith("1 complete, 0 failed, 0 left")
    result = RunResult.load(report.runs[0].directory / "result.json")
    assert result.hardware["threads"] == 1
    assert comparable(result) == comparable(run(suite.runs[0], tmp_path / "here", progress=False))


def test_ray_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install avalanche-care\[ray\]"):
        list(RayCluster().run([suite_jobs.job(tmp_path, "a")]))
    assert list(RayCluster().run([])) == []
    with pytest.raises(ValueError, match="'cuda:1' names a GPU of one machine"):
        list(RayCluster().run([suite_jobs.job(tmp_path, "a", device="cuda:1")]))


class FakeRay:
    """Ray as far as we call it; tasks are run when they are waited for."""

    class exceptions:
        class RayError(Exception):
            pass

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.up = False

    def is_initialized(self) -> bool:
        return self.up

    def init(self, **how: Any) -> None:
        self.up = True
        self.calls.append(("init", how))

    def shutdown(self) -> None:
        self.calls.append(("shutdown", None))

    def cancel(self, reference: Any, *, force: bool) -> None:
        self.calls.append(("cancel", (reference.args[0].name, force)))

    def remote(self, function: Any) -> Any:
        def options(**how: Any) -> Any:
            self.calls.append(("task", how))
            return SimpleNamespace(remote=functools.partial(functools.partial, function))

        return SimpleNamespace(options=options)

    def wait(self, references: list[Any], *, num_returns: int) -> Any:
        return references[:num_returns], references[num_returns:]

    def get(self, reference: Any) -> Any:
        return reference()


@pytest.mark.parametrize("address", [None, "auto"])
def test_what_ray_is_asked_for(
    address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr(ray_cluster, "execute", lambda job: Outcome(job, "complete"))
    jobs = [suite_jobs.job(tmp_path, device, device=device) for device in ("cpu", "cuda")]
    engine = RayCluster(address=address, cpus=3, memory=10**9, resources={"fast": 1}, retries=7)
    found = list(engine.run(jobs))
    assert [outcome.job for outcome in found] == jobs
    (_, how), *tasks, last = ray.calls
    assert how["log_to_driver"] is False
    assert how["address"] == (address or "local")
    assert ("object_store_memory" in how) == (address is None)  # only where it is ours to say
    same = {"num_cpus": 3, "memory": 10**9, "resources": {"fast": 1}, "max_retries": 7}
    assert tasks == [
        ("task", {"name": "cpu", "num_gpus": 0, **same}),
        ("task", {"name": "cuda", "num_gpus": 1, **same}),
    ]
    assert last == ("shutdown", None)
    ray.calls.clear()
    with contextlib.closing(RayCluster(gpus=0.5).run(jobs)) as outcomes:  # it is up: not ours
        next(outcomes)
    names = [name for name, _ in ray.calls]
    assert names == ["task", "task", "cancel"]
    assert [how["num_gpus"] for name, how in ray.calls if name == "task"] == [0.5, 0.5]
    assert ray.calls[-1] == ("cancel", ("cuda", True))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two worker processes on this machine."""
    ray = pytest.importorskip("ray", reason="needs pip install avalanche-care[ray]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_TOKEN", "a" * 32)  # or it would write one to the home directory
        patch.setenv("PYTHONPATH", str(Path(suite_jobs.__file__).parent))  # for the workers
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80_000_000,
            log_to_driver=False,
        )
        yield ray
        ray.shutdown()


def test_ray_ends_its_tasks_and_gives_up(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [suite_jobs.job(tmp_path, name) for name in ("a", "b", "c")]
    found: list[int] = []

    def interrupt() -> None:
        found.extend(wait_for(tmp_path / name / "pid") for name in ("a", "b"))
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ray_cluster, "execute", suite_jobs.sleep)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt), contextlib.closing(RayCluster().run(jobs)) as r:
        next(r)
    thread.join()
    assert len(set(found)) == 2
    assert all(gone(pid) for pid in found)

    monkeypatch.setattr(ray_cluster, "execute", suite_jobs.die)
    jobs = [suite_jobs.job(tmp_path, name, deaths=n) for name, n in (("weak", 1), ("hopeless", 9))]
    outcomes = {outcome.job.name: outcome for outcome in RayCluster(retries=1).run(jobs)}
    assert outcomes["weak"].status == "complete"
    assert outcomes["hopeless"].status == "failed"
    assert "Ray gave up: WorkerCrashedError" in outcomes["hopeless"].error
    assert (tmp_path / "hopeless" / "failed.json").exists()
    assert len((tmp_path / "hopeless" / "tries").read_text()) == 2
    assert cluster.is_initialized()  # it was not ours to end


def kill_the_worker_of(directory: Path, seen: dict[str, Any]) -> None:
    """Kill the process of a run after its second task; Ray calls its workers as their tasks."""
    events = directory / "events.jsonl"
    worker: psutil.Process | None = None
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if worker is None:  # looking through all processes may take longer than a task
            found = psutil.process_iter(["cmdline"])
            name = [f"ray::{directory.name}"]
            worker = next((p for p in found if (p.info["cmdline"] or [])[:1] == name), None)
        lines = events.read_text().splitlines(keepends=True) if events.exists() else []
        if worker is not None and len(lines) >= 2:
            worker.kill()
            seen.update(pid=worker.pid, first=lines[0])
            seen["complete"] = (directory / "result.json").exists()
            return
        time.sleep(0.02)


def test_ray_makes_up_for_a_worker_that_was_killed(cluster: Any, tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "method": "finetune",
        "benchmark": {"name": "glyphs", "protocol": "B0-Inc2", "n_classes": 16},
        "settings": {"epochs": 2},
    }
    runs = tuple(run_config({**values, "seed": seed}) for seed in (1, 2))
    victim = tmp_path / "out" / runs[0].directory_name
    seen: dict[str, Any] = {}
    killer = threading.Thread(target=kill_the_worker_of, args=(victim, seen))
    killer.start()
    report = run_suite(Suite("two", runs), tmp_path / "out", engine="ray", progress=False)
    killer.join()
    assert str(report).endswith("2 complete, 0 failed, 0 left")
    assert not seen["complete"]
    assert (victim / "events.jsonl").read_text().startswith(seen["first"])  # it went on
    for asked in runs:
        result = RunResult.load(tmp_path / "out" / asked.directory_name / "result.json")
        assert comparable(result) == comparable(run(asked, tmp_path / "here", progress=False))
