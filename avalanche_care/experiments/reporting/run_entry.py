"""One run that was found, and what it was to learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.experiments.config_parts import evaluated_tasks
from avalanche_care.experiments.results import RunResult

__all__ = ["RunEntry", "Setting"]

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
        result: of a complete run. Its ``extra`` has ``state_bytes`` too, the size of the last state
            that was saved, if the log of the run has it.
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
        return tuple(evaluated_tasks(tasks, every))

    @property
    def state(self) -> str:
        """What became of it, in a few words."""
        if self.status == "unfinished":
            tasks = f" of {len(self.setting.task_sizes)}" if self.setting else ""
            return f"unfinished, {self.tasks_done}{tasks} tasks done"
        return self.status
