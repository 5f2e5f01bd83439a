"""A run that was broken off anywhere ends with the numbers of one that was not."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from short_runs import comparable, short_config, short_run
from tiny import tiny_strategy

from avalanche_care.experiments import learning
from avalanche_care.experiments.directory import RunDirectory
from avalanche_care.experiments.learning import Learning
from avalanche_care.experiments.state import StateStore, _Hashing
from avalanche_care.strategies.registry import available_methods
from avalanche_care.strategies.template import PTMStrategy

METHODS = sorted(available_methods())


class Stop(BaseException):
    """Stands for the death of the process."""


@pytest.fixture(scope="module")
def whole() -> Any:
    """The comparable result of a run that was not broken off, per method."""
    results: dict[str, Any] = {}

    def get(method: str) -> Any:
        if method not in results:
            results[method] = comparable(short_run(method))
        return results[method]

    return get


def stop_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    """Let the given call of a method (counted from 0) do its work and then die."""
    original, calls = getattr(owner, name), iter(range(10**6))

    def stopping(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = original(self, *args, **kwargs)
        if next(calls) == call:
            raise Stop
        return out

    monkeypatch.setattr(owner, name, stopping)


PLACES = {
    "after a save": (RunDirectory, "save_state", (0, 3)),
    "after an evaluation": (Learning, "_evaluate", (0, 2)),
    "after an event": (RunDirectory, "log", (1,)),
}  # and in the middle of things, see test_killed


def moments() -> Iterator[Any]:
    for place, (owner, name, calls) in PLACES.items():
        for call in calls:
            yield pytest.param(owner, name, call, id=f"{place} {call}")


@pytest.mark.parametrize(
    ("method", "phases"), [*((method, True) for method in METHODS), ("care", False)]
)
def test_the_result_is_that_of_an_uninterrupted_run(
    method: str, phases: bool, whole: Any, tmp_path: Path
) -> None:
    never: list[str] = []
    for number, moment in enumerate(moments()):
        owner, name, call = moment.values
        directory = tmp_path / str(number)
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, owner, name, call)
            with contextlib.suppress(Stop):  # not every method comes by every place so often
                short_run(method, directory, save_every_phase=phases)
                never.append(moment.id)
        if moment.id not in never:
            assert not (directory / "result.json").exists()
        torch.manual_seed(99)  # whatever the new process starts with
        resumed = short_run(method, directory, save_every_phase=phases)
        assert comparable(resumed) == whole(method), moment.id
        if number == 0:
            assert resumed == short_run(method, directory)  # complete: nothing is learned again
        events = [json.loads(line) for line in (directory / "events.jsonl").open()]
        assert [event["task"] for event in events] == [0, 1, 2]
        last = events[-1]
        assert sum(last["correct"]) / sum(last["total"]) == resumed.A_last
    assert len(never) < 2


def test_complete_phases_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, RunDirectory, "save_state", 4)  # task 1, after the third of six phases
        with pytest.raises(Stop):
            short_run("care", tmp_path, save_every_phase=True)
    names: list[str] = []
    original = PTMStrategy.notify

    def noting(self: PTMStrategy, event: str) -> None:
        if event == "phase_start" and self.phase is not None:
            names.append(self.phase.name)
        original(self, event)

    monkeypatch.setattr(PTMStrategy, "notify", noting)
    short_run("care", tmp_path, save_every_phase=True)
    two = ["phase 2", "class statistics", "alignment"]
    assert names == [*two, "phase 1", "class statistics", "alignment", *two]


@pytest.mark.parametrize("every", [0, 2])
def test_states_are_saved_as_often_as_asked(tmp_path: Path, every: int, whole: Any) -> None:
    saved: list[str] = []
    original = RunDirectory.save_state
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            RunDirectory,
            "save_state",
            lambda self, name, state: saved.append(name) or original(self, name, state),  # type: ignore[func-returns-value]
        )
        result = short_run("finetune", tmp_path, save_every=every)
    assert comparable(result) == whole("finetune")
    assert saved == ([] if every == 0 else ["task0001-trained", "task0002-trained"])


def test_without_a_directory_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short_run("simplecil")
    assert not list(tmp_path.iterdir())


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    short_run("finetune", tmp_path)
    before = (tmp_path / "result.json").read_bytes()
    with pytest.raises(ValueError, match=r"holds another run.*\n- seed: 1 -> 2") as info:
        short_run("finetune", tmp_path, seed=2, eval_every=2)
    assert "eval_every: 1 -> 2" in str(info.value)
    with pytest.raises(ValueError, match='method: "finetune" -> "simplecil"'):
        short_run("simplecil", tmp_path)
    config = short_config("finetune")
    with pytest.raises(ValueError, match=r"config\.lr: "):
        short_run("finetune", tmp_path, config=type(config)(lr=config.lr / 2, epochs=2))
    assert (tmp_path / "result.json").read_bytes() == before


def test_an_edited_configuration_is_refused(tmp_path: Path) -> None:
    short_run("simplecil", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(ValueError, match="it was edited after it was written"):
        short_run("simplecil", tmp_path, seed=2)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json is not the configuration of a run"):
        short_run("simplecil", tmp_path)


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match="no run of this package"):
        short_run("simplecil", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_killed_process_leaves_is_no_obstacle(tmp_path: Path, whole: Any) -> None:
    (tmp_path / ".config.json.123").write_text('{"format": 1, "ha')
    (tmp_path / ".lock").touch()
    assert comparable(short_run("simplecil", tmp_path)) == whole("simplecil")


def test_two_processes_do_not_share_a_directory(tmp_path: Path) -> None:
    identity = {"method": "x"}
    first = RunDirectory(tmp_path, identity)
    first.open()
    with pytest.raises(ValueError, match="another process is running in"):
        RunDirectory(tmp_path, identity).open()
    first.close()
    RunDirectory(tmp_path, identity).open()


def test_a_state_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="the state is of another model"):
        tiny_strategy("care").load_run_state(tiny_strategy("finetune").run_state())


@pytest.mark.parametrize("method", METHODS)
def test_the_state_has_no_backbone_and_is_plain(method: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, RunDirectory, "save_state", 2)
        with pytest.raises(Stop):
            short_run(method, tmp_path)
    (file,) = (tmp_path / "state").glob("*.pt")
    state = torch.load(file, weights_only=True)
    tensors = state["strategy"]["model"]["tensors"]
    assert tensors
    assert not [name for name in tensors if "backbone" in name]
    held = sum(tensor.nbytes for tensor in tensors.values())
    assert file.stat().st_size < 4 * held + 100_000  # nothing large that nobody asked for


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    for seed in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, RunDirectory, "save_state", 1)
            with pytest.raises(Stop):
                short_run("finetune", tmp_path / str(seed), seed=seed)
    shutil.rmtree(tmp_path / "1" / "state")
    (tmp_path / "2" / "state").rename(tmp_path / "1" / "state")
    log = (tmp_path / "1" / "events.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"the state in .* is of another run"):
        short_run("finetune", tmp_path / "1")
    assert (tmp_path / "1" / "events.jsonl").read_bytes() == log


def test_a_result_of_another_run_is_refused(tmp_path: Path) -> None:
    for seed in (1, 2):
        short_run("simplecil", tmp_path / str(seed), seed=seed)
    result = tmp_path / "1" / "result.json"
    (tmp_path / "2" / "result.json").replace(result)
    with pytest.raises(ValueError, match=r"result\.json is of another run"):
        short_run("simplecil", tmp_path / "1")
    result.write_text(result.read_text()[:100])
    with pytest.raises(ValueError, match=r"not a JSON file.*or remove it and start the run again"):
        short_run("simplecil", tmp_path / "1")
    result.unlink()
    short_run("simplecil", tmp_path / "1")


def test_all_machines_that_worked_on_a_run_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, last in enumerate((0, 0, 10**6)):
        with monkeypatch.context() as patch:
            here = {"device": "cpu", "threads": 1 + number}
            patch.setattr(learning, "hardware", lambda device, here=here: here)
            stop_at(patch, RunDirectory, "save_state", last)
            with contextlib.suppress(Stop):
                result = short_run("finetune", tmp_path)
    noted = [machine["hardware"]["threads"] for machine in result.extra["machines"]]
    assert noted == [1, 2, 3]
    assert "machines" not in short_run("finetune", tmp_path / "alone").extra


def test_the_time_of_saving_is_not_that_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, saves = [0.0], []
    original = RunDirectory.save_state

    def slow(self: RunDirectory, *args: Any) -> int:
        clock[0] += 1000.0
        saves.append(args[0])
        return original(self, *args)

    monkeypatch.setattr(RunDirectory, "save_state", slow)
    monkeypatch.setattr(learning, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    result = short_run("care", tmp_path, save_every_phase=True)
    assert result.seconds["saving"] == 1000 * len(saves) > 3000
    assert result.seconds["train"] == result.seconds["total"] == 0


# Where a process is killed: before which call of what, counted from 0 in each process. Each goes on
# from where the one before was killed.
KILLS: dict[str, tuple[Any, str, int]] = {
    "in a training step": (PTMStrategy, "check_loss", 1),
    "between rename and pointer": (StateStore, "_point_to", 1),
    "while writing a state": (_Hashing, "write", 5),
    "in an evaluation step": (PTMStrategy, "criterion", 1),
}


def run_and_be_killed(method: str, directory: Path, place: str) -> None:
    """Run in this process, which dies at a place and says so."""
    torch.set_num_threads(1)
    owner, name, call = KILLS[place]
    original, calls = getattr(owner, name), iter(range(10**6))

    def killing(self: Any, *args: Any, **kwargs: Any) -> Any:
        elsewhere = name == "criterion" and self.is_training
        if not elsewhere and next(calls) == call:
            (directory / ".killed").write_text(place)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *args, **kwargs)

    setattr(owner, name, killing)
    short_run(method, directory, save_every_phase=True)


@pytest.mark.parametrize("method", METHODS)
def test_killed(method: str, whole: Any, tmp_path: Path) -> None:
    directory, state = tmp_path / "run", tmp_path / "run" / "state"
    expected = whole(method)
    context = multiprocessing.get_context("fork")  # PyTorch has one thread, and is imported
    for place in KILLS:
        if place == "in a training step" and expected["parameters"]["trainable"] == 0:
            continue  # there is none
        child = context.Process(target=run_and_be_killed, args=(method, directory, place))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL, place
        assert (directory / ".killed").read_text() == place
        if place == "while writing a state":
            assert list(state.glob(".*.pt.part"))
        if place == "between rename and pointer":
            assert len(list(state.glob("*.pt"))) == 2
            assert json.loads((state / "latest.json").read_text())["file"].startswith("task0000")
    assert comparable(short_run(method, directory, save_every_phase=True)) == expected
    assert len(list(state.iterdir())) == 2
