"""Learning one task after the other, so that it can be broken off anywhere and go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from avalanche.core import SupervisedPlugin
from avalanche.logging import BaseLogger
from numpy.typing import NDArray
from tqdm.auto import tqdm

from avalanche_care.benchmarks.scenario import CILBenchmark
from avalanche_care.experiments.directory import RunDirectory
from avalanche_care.experiments.environment import PeakMemory, hardware, versions
from avalanche_care.plugins.class_counts import ClassCounts
from avalanche_care.plugins.phase_times import PhaseTimes
from avalanche_care.plugins.progress import ProgressPlugin
from avalanche_care.plugins.silent import silent_evaluator
from avalanche_care.strategies.phases import TrainingPhase

__all__ = ["Learning", "SavePhases", "TrainableParameters"]


class SavePhases(SupervisedPlugin[Any]):
    """Save the state of the run after each phase but the last of a task.

    Args:
        learning: whose state.
    """

    def __init__(self, learning: Learning) -> None:
        super().__init__()
        self.learning = learning

    def phase_complete(self, strategy: Any) -> None:
        """Save, unless the task is complete, which is saved elsewhere."""
        if strategy.phases_done < len(strategy.phases()):
            self.learning.save(f"phase{strategy.phases_done}")


class TrainableParameters(SupervisedPlugin[Any]):
    """Notes the most numbers that a phase has trained; some methods train none after a while.

    Attributes:
        most: of all phases until now.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def phase_start(self, strategy: Any) -> None:
        """Count what requires a gradient, if the phase takes steps."""
        if isinstance(strategy.phase, TrainingPhase):
            count = sum(p.numel() for p in strategy.model.parameters() if p.requires_grad)
            self.most = max(self.most, count)

    phase_end = phase_start  # a method may also choose them as it begins


@dataclass
class Learning:
    """Trains a strategy on every task, evaluates it at some, and keeps a record.

    An event per task says what happened, as plain values; all figures of a result follow from them.

    Args:
        make_strategy: makes one of this package's strategies, given ``plugins`` and ``evaluator``.
        benchmark: what to learn.
        steps: tasks after which to evaluate.
        loggers: Avalanche's; they get the accuracy at each evaluation.
        record: where events and states go; None: nowhere.
        save_every: save the state after every k-th task and the last; 0: never.
        save_every_phase: save it after each phase of a task too.
        num_workers: data loading processes.
        progress: show bars.
        on_event: called with each event of this process.

    Attributes:
        strategy: what was made.
        events: one per task that was learned, see :meth:`run`.
        machines: versions and hardware of all processes that worked on the run.
        trained: the most numbers that a phase has trained.
    """

    make_strategy: Callable[..., Any]
    benchmark: CILBenchmark
    steps: Sequence[int]
    loggers: Sequence[BaseLogger] = ()
    record: RunDirectory | None = None
    save_every: int = 1
    save_every_phase: bool = False
    num_workers: int = 0
    progress: bool = True
    on_event: Callable[[dict[str, Any]], None] | None = None

    def __post_init__(self) -> None:
        self.counts, self.times, self.trained = ClassCounts(), PhaseTimes(), TrainableParameters()
        plugins: list[Any] = [self.times, self.trained]
        if self.save_every_phase:
            plugins.append(SavePhases(self))
        if self.progress:
            plugins.append(ProgressPlugin(len(self.benchmark.train_stream)))
        self.strategy = self.make_strategy(
            plugins=plugins, evaluator=silent_evaluator(self.counts, loggers=self.loggers)
        )
        self.events: list[dict[str, Any]] = []
        self.machines: list[dict[str, Any]] = [
            {"versions": versions(), "hardware": hardware(str(self.strategy.device))}
        ]  # more than one if it went on elsewhere
        self._spent: dict[str, float] = {}  # seconds of the current task, before a resume
        self._start = 0.0
        self._saving = 0.0  # seconds of the current task, in this process
        self._memory = PeakMemory(self.strategy.device)

    def run(self) -> list[dict[str, Any]]:
        """Learn what is left to learn.

        Returns:
            One event per task: ``task``, ``classes`` (seen so far), ``seconds``, ``memory``; where
            it was evaluated, ``correct``, ``correct_top5`` and ``total`` per class; where the state
            was saved after it, ``state_bytes``.

        Raises:
            ValueError: if the saved state cannot be used.
        """
        self._resume()
        tasks = len(self.benchmark.train_stream)
        done = len(self.events)
        bar = tqdm(
            range(done, tasks),
            desc=self.strategy.__class__.__name__,
            unit="task",
            initial=done,
            total=tasks,
            disable=not self.progress,
        )
        for step in bar:
            event = self._learn(step)
            if "correct" in event:
                accuracy = sum(event["correct"]) / sum(event["total"])
                saved = event.get("state_bytes", 0)
                bar.set_postfix_str(
                    f"accuracy {100 * accuracy:.1f} %"
                    + (f", state {saved / 1e6:.1f} MB" if saved else "")
                )
        return self.events

    def _learn(self, step: int) -> dict[str, Any]:
        """Train on a task, unless that is done already, and evaluate."""
        strategy = self.strategy
        saved = 0
        self._start, self._saving = time.perf_counter(), 0.0
        self.times.reset()
        if strategy.clock.train_exp_counter == step:
            strategy.train(self.benchmark.train_stream[step], num_workers=self.num_workers)
            last = step == len(self.benchmark.train_stream) - 1
            if self.save_every and (last or (step + 1) % self.save_every == 0):
                saved = self.save("trained")
        event: dict[str, Any] = {
            "task": step,
            "classes": sum(self.benchmark.protocol.sizes[: step + 1]),
            "seconds": self._seconds(),
        }
        if step in self.steps:
            start = time.perf_counter()
            event |= self._evaluate(step)
            event["seconds"]["eval"] = time.perf_counter() - start
        event["memory"] = self._memory.read()
        if saved:
            event["state_bytes"] = saved
        self._spent = {}
        self.events.append(event)
        if self.record is not None:
            self.record.log(event)
        if self.on_event is not None:
            self.on_event(event)
        return event

    def _evaluate(self, step: int) -> dict[str, Any]:
        counts = self.counts
        self.strategy.eval(self.benchmark.seen_stream[step], num_workers=self.num_workers)
        if counts.correct is None or counts.correct_top5 is None or counts.total is None:
            raise RuntimeError("the evaluation counted no image")
        return {
            "correct": _ints(counts.correct),
            "correct_top5": _ints(counts.correct_top5),
            "total": _ints(counts.total),
        }

    def _seconds(self) -> dict[str, float]:
        """Seconds spent on training the current task, on its phases, and on saving the state."""
        passed = time.perf_counter() - self._start
        now = {"train": passed - self._saving, **self.times.seconds}
        if self.record is not None:
            now["saving"] = self._saving
        names = [*self._spent, *(name for name in now if name not in self._spent)]
        return {name: self._spent.get(name, 0.0) + now.get(name, 0.0) for name in names}

    def save(self, moment: str) -> int:
        """Save the state, if there is a record.

        Args:
            moment: where in the task, for the name of the file.

        Returns:
            Its size in bytes; 0 if there is no record.
        """
        if self.record is None:
            return 0
        start = time.perf_counter()
        state = {
            "strategy": self.strategy.run_state(),
            "events": self.events,
            "spent": self._seconds(),
            "machines": self.machines,
            "trainable": self.trained.most,
        }
        size = self.record.save_state(f"task{len(self.events):04}-{moment}", state)
        self._saving += time.perf_counter() - start
        return size

    def _resume(self) -> None:
        state = None if self.record is None else self.record.load_state()
        if state is None:
            return
        self.events = list(state["events"])
        self._spent = dict(state["spent"])
        self.trained.most = state["trainable"]
        here = self.machines[0]
        self.machines = [*(m for m in state["machines"] if m != here), here]
        self.strategy.load_run_state(state["strategy"])


def _ints(values: NDArray[np.int64]) -> list[int]:
    plain: list[int] = values.tolist()
    return plain
