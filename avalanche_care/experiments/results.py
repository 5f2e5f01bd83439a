"""Result files: everything that a cell of a table needs, in one JSON object per run."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avalanche_care import metrics
from avalanche_care.experiments.environment import versions

if TYPE_CHECKING:
    from avalanche_care.benchmarks.protocol import Protocol

__all__ = ["RunResult"]

FORMAT = 1  # raise it when a key changes its meaning


# Fields that must hold something, by what they are in JSON.
_FILLED = {
    str: ("method", "benchmark", "protocol", "created"),
    list: ("class_order", "task_sizes", "accuracy", "accuracy_matrix"),
    dict: ("seconds", "parameters", "versions"),
}


def _utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One finished run. Accuracies are fractions in [0, 1].

    Build it with :meth:`from_counts`, which computes the accuracies.

    Attributes:
        method: Registered name of the method.
        benchmark: Name of the benchmark.
        protocol: Name of the protocol, for example ``"B0-Inc10"``.
        seed: Seed of the run.
        class_order: Original class index of each label, length C.
        task_sizes: Number of classes of each task, length T, summing to C.
        A_last: Accuracy on all test images after the last task.
        A_avg: Mean of ``accuracy`` over the steps that were evaluated; see
            :func:`avalanche_care.metrics.average_accuracy`.
        forgetting: Max minus last; see :func:`avalanche_care.metrics.forgetting`. None if only the
            last of several steps was evaluated.
        accuracy: Accuracy on all test images seen so far, after each task (sample-weighted), (T,);
            None at steps that were not evaluated. The last one always is.
        accuracy_matrix: Accuracy of task j after task t at [t][j], (T, T); None above the diagonal
            and in the rows of steps that were not evaluated.
        seconds: Wall-clock seconds, at least ``total``; usually ``train`` and ``eval`` too.
        parameters: Numbers of parameters, at least ``trainable`` (the most in any task) and
            ``total`` (at the end).
        config: The method's settings, all of them.
        backbone: ``name`` and ``sha256`` of the weights, and what else tells them apart.
        hardware: See :func:`avalanche_care.experiments.environment.hardware`.
        versions: See :func:`avalanche_care.experiments.environment.versions`.
        created: When the run ended, UTC, ISO 8601.
        extra: Further figures, such as other metrics.

    Raises:
        ValueError: If the values contradict each other; every problem is listed.
    """

    method: str
    benchmark: str
    protocol: str
    seed: int
    class_order: Sequence[int]
    task_sizes: Sequence[int]
    A_last: float
    A_avg: float
    forgetting: float | None
    accuracy: Sequence[float | None]
    accuracy_matrix: Sequence[Sequence[float | None]]
    seconds: Mapping[str, float]
    parameters: Mapping[str, int]
    config: Mapping[str, Any] = field(default_factory=dict)
    backbone: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    created: str = field(default_factory=_utc_now)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # What is kept is what a file can hold, so that a result equals its own copy from disk.
        for entry in dataclasses.fields(self):
            plain = _plain(getattr(self, entry.name), entry.name)
            object.__setattr__(self, entry.name, plain)
        problems = self._problems()
        if problems:
            raise ValueError("the result contradicts itself:\n- " + "\n- ".join(problems))

    def _problems(self) -> list[str]:
        problems = [
            f"{name} must be a {kind.__name__} that is not empty, got {getattr(self, name)!r}"
            for kind, names in _FILLED.items()
            for name in names
            if not isinstance(getattr(self, name), kind) or not getattr(self, name)
        ]
        if problems:
            return problems
        for name, keys in (("seconds", ("total",)), ("parameters", ("trainable", "total"))):
            given = getattr(self, name)
            lacking = [key for key in keys if not isinstance(given.get(key), (int, float))]
            if lacking:
                problems.append(f"{name} lacks a number for {' and '.join(lacking)}, got {given}")
        n_tasks, n_classes = len(self.task_sizes), len(self.class_order)
        if sum(self.task_sizes) != n_classes:
            problems.append(
                f"task_sizes sum to {sum(self.task_sizes)}, but class_order has {n_classes} entries"
            )
        outside = [a for a in self.accuracy if not (a is None or _is_fraction(a))]
        if outside:
            problems.append(f"accuracy must be fractions in [0, 1], got {outside[:5]}")
        if self.accuracy[-1] is None:
            problems.append("accuracy lacks the last step, which always has to be evaluated")
        if len(self.accuracy) != n_tasks:
            problems.append(f"accuracy has {len(self.accuracy)} entries for {n_tasks} tasks")
        rows = [len(row) if isinstance(row, list) else 0 for row in self.accuracy_matrix]
        if rows != [n_tasks] * n_tasks:
            problems.append(f"accuracy_matrix must have {n_tasks} rows of {n_tasks} entries")
        return problems or self._summary_problems()

    def _summary_problems(self) -> list[str]:
        rows = [t for t, row in enumerate(self.matrix) if not np.isnan(row).all()]
        if rows != self.evaluated:
            return [f"accuracy has steps {self.evaluated}, accuracy_matrix has {rows}"]
        expected = {
            "A_last": metrics.last_accuracy(self.curve),
            "A_avg": metrics.average_accuracy(self.curve),
            "forgetting": _plain(metrics.forgetting(self.matrix), "forgetting"),
        }
        return [
            f"{name} is {getattr(self, name)}, but the accuracies give {value}"
            for name, value in expected.items()
            if not _agree(getattr(self, name), value)
        ]

    @classmethod
    def from_counts(
        cls,
        correct: ArrayLike,
        total: ArrayLike,
        *,
        method: str,
        benchmark: str,
        protocol: Protocol,
        seed: int,
        **details: Any,
    ) -> RunResult:
        """Compute the accuracies of a run from its per-class counts.

        Args:
            correct, total: Counts, shape (T, C), 0 in the rows of steps that were not evaluated;
                see :mod:`avalanche_care.metrics`.
            method, benchmark, seed: As in the class.
            protocol: The split.
            **details: The other fields, ``seconds`` and ``parameters`` at least.

        Returns:
            The result. ``extra`` also holds the class-mean and sample-weighted averages and the
            other definition of forgetting.
        """
        curve = metrics.accuracy_curve(correct, total, protocol.sizes)
        class_mean = metrics.class_mean_accuracy_curve(correct, total, protocol.sizes)
        matrix = metrics.accuracy_matrix(correct, total, protocol.sizes)
        twins = {
            "A_last_class_mean": metrics.last_accuracy(class_mean),
            "A_avg_class_mean": metrics.average_accuracy(class_mean),
            "A_avg_over_samples": metrics.average_accuracy_over_samples(
                correct, total, protocol.sizes
            ),
            "forgetting_from_first": metrics.forgetting_from_first(matrix),
            "backward_transfer": metrics.backward_transfer(matrix),
        }
        return cls(
            method=method,
            benchmark=benchmark,
            protocol=protocol.name,
            seed=seed,
            class_order=protocol.class_order,
            task_sizes=protocol.sizes,
            A_last=metrics.last_accuracy(curve),
            A_avg=metrics.average_accuracy(curve),
            forgetting=metrics.forgetting(matrix),
            accuracy=curve.tolist(),
            accuracy_matrix=matrix.tolist(),
            extra={**twins, **details.pop("extra", {})},
            **details,
        )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """``accuracy_matrix`` as an array, shape (T, T), nan where it has None."""
        return np.array(self.accuracy_matrix, dtype=np.float64)

    @property
    def curve(self) -> NDArray[np.float64]:
        """``accuracy`` as an array, shape (T,), nan at steps that were not evaluated."""
        return np.array(self.accuracy, dtype=np.float64)

    @property
    def evaluated(self) -> list[int]:
        """The steps that were evaluated, counted from 0."""
        return [step for step, accuracy in enumerate(self.accuracy) if accuracy is not None]

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the result as JSON. Readers never see half a file.

        Args:
            path: The file; its directory is made if needed.
            overwrite: Whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            FileExistsError: If the file exists and may not be replaced.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            raise FileExistsError(
                f"{path} exists; choose another directory, or pass overwrite=True to replace it"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT} | dataclasses.asdict(self), indent=1, allow_nan=False)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with unfinished.open("w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | Path) -> RunResult:
        """Read a result that :meth:`save` wrote.

        Args:
            path: The file.

        Returns:
            The result.

        Raises:
            ValueError: If the file is no result, or one of a later format; the message names it.
            OSError: If the file cannot be read.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:  # broken JSON or broken UTF-8
            raise ValueError(f"{path} is not a JSON file: {error}") from error
        if not isinstance(values, dict) or "format" not in values:
            raise ValueError(f"{path} is not a result file: it has no entry 'format'")
        if values.pop("format") != FORMAT:
            raise ValueError(
                f"{path} is not of result format {FORMAT}; read it with the version of "
                f"avalanche_care that wrote it: {values.get('versions')}"
            )
        known = {entry.name for entry in dataclasses.fields(cls)}
        lacking, unknown = sorted(known - values.keys()), sorted(values.keys() - known)
        if lacking or unknown:
            raise ValueError(f"{path}: entries missing: {lacking}; entries unknown: {unknown}")
        try:
            return cls(**values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error


def _is_fraction(value: object) -> bool:
    return isinstance(value, (int, float)) and 0.0 <= value <= 1.0


def _agree(given: Any, computed: float | None) -> bool:
    if computed is None:
        return given is None
    return _is_fraction(given) and abs(given - computed) <= 1e-9


def _plain(value: Any, where: str) -> Any:
    """The same value in what JSON knows: dict, list, str, bool, int, float and None (for nan)."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError(f"{where} is {value}, which a result file cannot hold")
        return None if math.isnan(value) else float(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist(), where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value), where)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ValueError(
        f"{where} is a {type(value).__name__}, which a result file cannot hold; give numbers, "
        "texts, lists or dictionaries"
    )
