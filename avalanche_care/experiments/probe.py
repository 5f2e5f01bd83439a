"""A run's first tasks with a few images, to measure what it will need."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.determinism.rng_manager import RNGManager
from torch.utils._pytree import tree_leaves

from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.benchmarks.scenario import CILBenchmark, class_incremental
from avalanche_care.experiments.config import RunConfig
from avalanche_care.experiments.environment import PeakMemory
from avalanche_care.experiments.run_result import count_parameters
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.phase_times import PhaseTimes, now
from avalanche_care.strategies.phases import TrainingPhase
from avalanche_care.strategies.registry import get_method

__all__ = ["TASKS", "Measured", "Steps", "first_images", "measure"]

TASKS = 4  # the last three show how growth grows; the first may be special
LEAST = 4  # images of a class, so that class statistics are defined


@dataclass(frozen=True)
class Steps:
    """The gradient steps of a phase in one task.

    Attributes:
        epochs: that the phase would take.
        images: that one epoch of the probe took steps on.
        seconds: that this epoch took.
    """

    epochs: int
    images: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What was measured in the first tasks.

    Attributes:
        steps: per task, name of a training phase -> its steps.
        parameters: per task, numbers that the model stored after it.
        state_bytes: per task, size of the tensors of the state after it.
        eval_seconds: of an image in evaluation, after the last of these tasks.
        peak_memory: most bytes, of the ``process`` and on a GPU of the ``device``.
    """

    steps: tuple[dict[str, Steps], ...]
    parameters: tuple[int, ...]
    state_bytes: tuple[int, ...]
    eval_seconds: float
    peak_memory: dict[str, int]


class _OneEpoch(SupervisedPlugin[Any]):
    """Ends each training phase after an epoch, and counts the images of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: dict[str, int] = {}
        self.images: Counter[str] = Counter()

    def phase_start(self, strategy: Any) -> None:
        if isinstance(strategy.phase, TrainingPhase):
            self.epochs[strategy.phase.name] = strategy.phase.epochs

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.images[strategy.phase.name] += len(strategy.mb_y)

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.phase.epochs > 1:  # after the only one, the next phase would be ended
            strategy.stop_training()


def measure(config: RunConfig, benchmark: CILBenchmark, backbone: FrozenViT) -> Measured:
    """Let a method learn a few images of its first tasks, one epoch per phase, and watch it.

    Steps have as many images as those of the run, and the evaluation too, so that memory is the
    same. There are two steps, and at least four images of each class. What a method computes at the
    end of a task, such as alignment, is done in full.

    Args:
        config: the run. Nothing is read from or written to its directory.
        benchmark: its benchmark.
        backbone: its backbone; it is moved to the run's device.

    Returns:
        What was measured. Random numbers are seeded on the way, as by a run.
    """
    RNGManager.set_random_seeds(config.seed)
    batch = config.settings.batch_size
    evaluated = config.evaluation.batch_size
    small = first_images(benchmark, TASKS, train=2 * batch, test=evaluated)
    watch, times = _OneEpoch(), PhaseTimes()
    strategy: Any = get_method(config.method).strategy(
        model=backbone,
        config=config.settings,
        eval_mb_size=evaluated,
        device=config.device,
        plugins=[times, watch],
        evaluator=None,
    )
    memory = PeakMemory(config.device)
    steps, parameters, sizes = [], [], []
    for experience in small.train_stream:
        watch.images.clear()
        times.reset()
        strategy.train(experience, num_workers=0)
        steps.append(
            {
                name: Steps(watch.epochs[name], images, times.seconds[name])
                for name, images in watch.images.items()
            }
        )
        parameters.append(count_parameters(strategy.model)["total"])
        sizes.append(_tensor_bytes(strategy.run_state()))
    start = now(strategy.device)
    strategy.eval(small.seen_stream[-1], num_workers=0)
    seconds = now(strategy.device) - start
    return Measured(
        steps=tuple(steps),
        parameters=tuple(parameters),
        state_bytes=tuple(sizes),
        eval_seconds=seconds / len(small.seen_stream[-1].dataset),
        peak_memory=memory.read(),
    )


def first_images(benchmark: CILBenchmark, tasks: int, *, train: int, test: int) -> CILBenchmark:
    """Return a benchmark of the first tasks with the first images of each class.

    Args:
        benchmark: The whole.
        tasks: How many; all if it has no more.
        train, test: Images per task at least, where it has as many; and four of each class.
    """
    whole = benchmark.protocol
    classes = sum(whole.sizes[:tasks])
    # The labels of experiences are positions in the class order already.
    protocol = Protocol(whole.base, whole.increment, classes, class_order_seed=None)
    few = {}
    for stream, wanted in (("train", train), ("test", test)):
        data = benchmark.stream_definitions[stream].exps_data
        parts = [_few(data[task], wanted) for task in range(protocol.tasks)]
        few[stream] = reduce(lambda first, second: first.concat(second), parts)
    return class_incremental(few["train"], few["test"], protocol, name=benchmark.name)


def _few(data: Any, wanted: int) -> Any:
    """The first images of each class."""
    places: dict[int, list[int]] = {}
    for place, label in enumerate(data.targets):
        places.setdefault(int(label), []).append(place)
    each = max(LEAST, math.ceil(wanted / len(places)))
    return data.subset([place for of_class in places.values() for place in of_class[:each]])


def _tensor_bytes(state: Any) -> int:
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tree_leaves(state)
        if isinstance(tensor, torch.Tensor)
    }
    return sum(storages.values())
