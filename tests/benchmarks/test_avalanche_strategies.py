"""Avalanche's own strategies on our benchmarks: nothing of this package is needed to learn them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.core import BasePlugin
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import BaseLogger
from avalanche.models import IncrementalClassifier
from avalanche.training import EWC, Cumulative, LwF, Naive, Replay, StreamingLDA
from avalanche.training.plugins import EvaluationPlugin
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from avalanche_care.benchmarks import (
    CILBenchmark,
    Protocol,
    benchmark_from_folders,
    class_incremental,
)

CLASSES, SIZE = 8, 4
CHANCE = 1 / CLASSES
SIZES = (4, 2, 2)  # classes of the tasks: B4-Inc2
FEATURES = 3 * SIZE * SIZE
Learn = Callable[..., Any]


def colours() -> list[tuple[int, ...]]:
    """A pale colour per class. What they share is why a linear network forgets the old ones."""
    return [tuple(110 + 110 * (c >> bit & 1) for bit in range(3)) for c in range(CLASSES)]


def pixels(seed: int, per_class: int) -> tuple[np.ndarray, list[int]]:
    """Images of one colour with some noise, (N, SIZE, SIZE, 3) uint8, and their classes."""
    labels = [c for c in range(CLASSES) for _ in range(per_class)]
    noise = np.random.default_rng(seed).integers(-30, 31, (len(labels), SIZE, SIZE, 3))
    return (np.array(colours())[labels][:, None, None] + noise).astype(np.uint8), labels


def from_tensors() -> CILBenchmark:
    def tensors(seed: int, per_class: int) -> TensorDataset:
        images, labels = pixels(seed, per_class)
        return TensorDataset(
            torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1, torch.tensor(labels)
        )

    protocol = Protocol.parse("B4-Inc2", n_classes=CLASSES)
    return class_incremental(tensors(0, 12), tensors(1, 5), protocol, name="tensors")


@pytest.fixture(scope="module", params=["tensors", "folders"])
def benchmark(request: pytest.FixtureRequest, tmp_path_factory: Any) -> CILBenchmark:
    """Eight classes in three tasks, from memory and through a generator of this package."""
    if request.param == "tensors":
        return from_tensors()
    root: Path = tmp_path_factory.mktemp("pictures")
    for split, seed, per_class in (("train", 0, 12), ("test", 1, 5)):
        for number, (image, label) in enumerate(zip(*pixels(seed, per_class), strict=True)):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:03d}.png")
    return benchmark_from_folders(
        root / "train", root / "test", protocol="B4-Inc2", image_size=SIZE
    )


class Conventions(BasePlugin[Any], supports_distributed=False):
    """Notes which labels and task labels a strategy meets, per phase."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: dict[str, set[int]] = {}
        self.tasks: set[int] = set()

    def _note(self, phase: str, strategy: Any) -> None:
        key = f"{phase} {strategy.experience.current_experience}"
        self.labels.setdefault(key, set()).update(strategy.mb_y.tolist())
        self.tasks.update(strategy.mb_task_id.tolist())
        assert strategy.mb_x.dtype == torch.float32

    def before_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._note("train", strategy)

    def after_eval_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._note(strategy.experience.origin_stream.name, strategy)


class Quiet(BaseLogger):
    """Without any logger Avalanche complains."""

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Nothing is written."""


def gradient(strategy: Any, head: nn.Module | None = None, **options: Any) -> Learn:
    """A strategy that trains a linear network by gradient descent."""

    def build(**kwargs: Any) -> Any:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, CLASSES) if head is None else head)
        return strategy(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.2),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=8,
            train_epochs=8,
            eval_mb_size=16,
            **options,
            **kwargs,
        )

    return build


def streaming_lda(**kwargs: Any) -> Any:
    return StreamingLDA(
        slda_model=nn.Flatten(),
        criterion=nn.CrossEntropyLoss(),
        input_size=FEATURES,
        num_classes=CLASSES,
        train_mb_size=16,
        eval_mb_size=16,
        **kwargs,
    )


FORGETTING: dict[str, Learn] = {
    "Naive": gradient(Naive),
    "EWC": gradient(EWC, ewc_lambda=50.0, mode="online", decay_factor=0.5),
    "LwF": gradient(LwF, alpha=3.0, temperature=2.0),
}
"""What sees images of new classes only forgets much of the old ones."""
REMEMBERING: dict[str, Learn] = {
    "Replay": gradient(Replay, mem_size=40),
    "Cumulative": gradient(Cumulative),
    "StreamingLDA": streaming_lda,
}


def run(build: Learn, benchmark: CILBenchmark) -> tuple[Any, Conventions, list[float]]:
    """Learn all tasks; the accuracy on everything seen after each."""
    conventions, curve = Conventions(), []
    evaluator = EvaluationPlugin(accuracy_metrics(stream=True, experience=True), loggers=[Quiet()])
    strategy = build(plugins=[conventions], evaluator=evaluator)
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        curve.append(stream_accuracy(strategy, benchmark.seen_stream[task], "test_seen"))
    return strategy, conventions, curve


def stream_accuracy(strategy: Any, stream: Any, name: str) -> float:
    result = strategy.eval(stream)
    return float(result[f"Top1_Acc_Stream/eval_phase/{name}_stream/Task000"])


@pytest.mark.parametrize("name", [*FORGETTING, *REMEMBERING])
def test_it_learns_and_is_evaluated(name: str, benchmark: CILBenchmark) -> None:
    strategy, conventions, curve = run({**FORGETTING, **REMEMBERING}[name], benchmark)
    n_tasks = len(SIZES)
    assert curve[0] > 0.7  # of four classes; StreamingLDA starts with few images for its covariance
    if name in REMEMBERING:
        assert curve[-1] > 0.95
    else:  # more than the two newest classes, and not all
        assert 2 * CHANCE < curve[-1] < 0.9
    # Both streams hold the same images after the last task.
    whole = strategy.eval(benchmark.test_stream)
    assert whole["Top1_Acc_Stream/eval_phase/test_stream/Task000"] == pytest.approx(curve[-1])
    newest = whole[f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{n_tasks - 1:03d}"]
    assert newest > 0.9  # even what forgets has learned its last task

    # Labels are positions in the class order, and there is one task label only.
    ends = np.cumsum(SIZES).tolist()
    for task, end in enumerate(ends):
        new = set(range(end - SIZES[task], end))
        # Replay and Cumulative train on more than the new classes, and never on later ones.
        trained = conventions.labels[f"train {task}"]
        assert new <= trained <= set(range(end))
        assert (trained > new) == (task > 0 and name in ("Replay", "Cumulative"))
        assert conventions.labels[f"test {task}"] == new
        assert conventions.labels[f"test_seen {task}"] == set(range(end))
    assert conventions.tasks == {0}


def test_a_growing_head_has_grown_by_what_was_seen() -> None:
    """Avalanche's head grows at evaluation too, so ``test_stream`` would give it classes to come.

    ``seen_stream`` does not.
    """
    head = IncrementalClassifier(FEATURES, initial_out_features=1)
    benchmark = from_tensors()
    strategy = gradient(Cumulative, head)(evaluator=EvaluationPlugin(loggers=[Quiet()]))
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        strategy.eval(benchmark.seen_stream[task])
        assert head.classifier.out_features == sum(SIZES[: task + 1])


def test_one_evaluation_of_what_was_seen_is_one_experience() -> None:
    """And so one data loader, where the part of ``test_stream`` up to the step has one per task."""
    benchmark = from_tensors()
    loaders = []

    class Loaders(BasePlugin[Any], supports_distributed=False):
        def before_eval_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            loaders.append(strategy.dataloader)

    strategy = gradient(Naive)(plugins=[Loaders()], evaluator=EvaluationPlugin(loggers=[Quiet()]))
    strategy.eval(benchmark.seen_stream[-1])
    assert len(loaders) == 1
    assert sum(len(batch[1]) for batch in loaders[0]) == CLASSES * 5
