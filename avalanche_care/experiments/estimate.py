"""What a run would do and cost, without running it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from avalanche_care.benchmarks.loading import load_benchmark
from avalanche_care.benchmarks.scenario import CILBenchmark
from avalanche_care.experiments.config import RunConfig
from avalanche_care.experiments.config_parts import evaluated_tasks
from avalanche_care.experiments.directory import RESULT
from avalanche_care.experiments.launch import build_backbone
from avalanche_care.experiments.probe import Measured, Steps, measure
from avalanche_care.experiments.run import check_device
from avalanche_care.experiments.run_result import count_parameters
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.strategies.registry import get_method

__all__ = ["Cost", "describe_run", "estimate_cost"]


@dataclasses.dataclass(frozen=True)
class Cost:
    """How much work a run is.

    Attributes:
        train_images: images that gradient steps see, over all epochs, phases and tasks.
        eval_images: images that evaluations see.
        train_seconds: of these gradient steps. Class statistics, alignment and the like come on
            top, and so do images of earlier tasks that a method uses again.
        eval_seconds: of these evaluations, as fast as after the first tasks.
        backbone_parameters: numbers in the frozen backbone.
        parameters: numbers that the model stores in the end, backbone included.
        state_bytes: size of the last state on disk.
        peak_memory: bytes, of the ``process`` and on a GPU of the ``device``, at the most.
        measured: what all that was taken from.
    """

    train_images: int
    eval_images: int
    train_seconds: float
    eval_seconds: float
    backbone_parameters: int
    parameters: int
    state_bytes: int
    peak_memory: dict[str, int]
    measured: Measured


def estimate_cost(config: RunConfig, benchmark: CILBenchmark, backbone: FrozenViT) -> Cost:
    """Estimate a run from its first four tasks with a few images, done here and now.

    How sizes grew in the last two of them, and how that growth grew, is continued to the last task:
    this is exact for a method whose tasks add the same each, or whose router of task t has t
    outputs. The peak of the memory is taken to grow as the model does.

    Args:
        config: the run.
        benchmark: its benchmark.
        backbone: its backbone; it is moved to ``config.device``.

    Raises:
        ValueError: if the device cannot be used.
    """
    check_device(config.device)
    train, test = (
        [len(part) for part in benchmark.stream_definitions[stream].exps_data]
        for stream in ("train", "test")
    )
    tasks = len(train)
    evaluated = evaluated_tasks(tasks, config.evaluation.every)
    eval_images = sum(sum(test[: task + 1]) for task in evaluated)
    measured = measure(config, benchmark, backbone)
    work = [
        (images, steps) for task, images in enumerate(train) for steps in _steps(measured, task)
    ]
    parameters = _at_the_end(measured.parameters, tasks)
    growth = 4 * (parameters - measured.parameters[-1])
    return Cost(
        train_images=sum(images * steps.epochs for images, steps in work),
        eval_images=eval_images,
        train_seconds=sum(i * s.epochs * s.seconds / s.images for i, s in work),
        eval_seconds=eval_images * measured.eval_seconds,
        backbone_parameters=count_parameters(backbone)["total"],
        parameters=parameters,
        state_bytes=_at_the_end(measured.state_bytes, tasks),
        peak_memory={name: most + growth for name, most in measured.peak_memory.items()},
        measured=measured,
    )


def _steps(measured: Measured, task: int) -> Sequence[Steps]:
    """The training phases of a task; of tasks that were not tried, those of the last that was."""
    return list(measured.steps[min(task, len(measured.steps) - 1)].values())


def _at_the_end(sizes: Sequence[int], tasks: int) -> int:
    """A size after the last task, if it goes on as in the last three that were measured."""
    growth = [after - before for before, after in pairwise(sizes)][-2:]
    more = growth[-1] - growth[0] if growth else 0
    size, step = sizes[-1], growth[-1] if growth else 0
    for _ in range(tasks - len(sizes)):
        step += more
        size += step
    return size


def describe_run(config: RunConfig, out: str | os.PathLike[str]) -> str:
    """Everything that a run would be, as text: its settings, data, directory and cost."""
    benchmark = load_benchmark(
        config.benchmark.name, config.benchmark.protocol, **config.benchmark.options()
    )
    cost = estimate_cost(config, benchmark, build_backbone(config.backbone))
    directory = Path(out) / config.directory_name
    if not directory.exists():
        state = "would be made"
    elif (directory / RESULT).exists():
        state = "is there, and the run is complete: its result would be shown"
    else:
        state = "is there: the run would go on"
    tasks = benchmark.protocol.tasks
    again = get_method(config.method).exemplars
    memory = " and ".join(f"{_size(most)} of the {name}" for name, most in cost.peak_memory.items())
    return "\n".join(
        [
            json.dumps(dataclasses.asdict(config), indent=2),
            "",
            str(benchmark),
            "",
            f"directory: {directory} {state}",
            f"parameters: {cost.backbone_parameters:,} in the backbone; {cost.parameters:,} stored "
            f"after task {tasks}, the backbone included",
            f"memory: {memory or 'cannot be measured here'}, at the most",
            f"state: {_size(cost.state_bytes)} on disk after task {tasks}",
            f"images: {cost.train_images:,} in gradient steps (all epochs), {cost.eval_images:,} "
            "in evaluation",
            f"time: {_duration(cost.train_seconds)} of gradient steps, "
            f"{_duration(cost.eval_seconds)} of evaluation on {config.device}; class statistics, "
            "alignment and the like come on top"
            + (f", and earlier images ({again})" if again else ""),
            f"Estimated from the first {len(cost.measured.steps)} tasks with a few images, done "
            "just now: time and memory are those of this machine at this moment.",
        ]
    )


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
