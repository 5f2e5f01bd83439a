"""ClassCounts on Avalanche's own strategies, against counts made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import BaseLogger
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from avalanche_care import metrics
from avalanche_care.benchmarks import CILBenchmark, Protocol, class_incremental
from avalanche_care.plugins.class_counts import ClassCounts

N_CLASSES = 7


class Echo(nn.Module):
    """Predicts the class that the image names; a trainable scale keeps the optimizer happy."""

    def __init__(self, width: int = N_CLASSES) -> None:
        super().__init__()
        self.width = width
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        predictions = x[:, 0].long() % self.width
        return self.scale * nn.functional.one_hot(predictions, self.width).float()


class Recorder(BaseLogger):
    """Keeps what the evaluator hands to its loggers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Any, int]] = []

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        self.seen.append((name, value, x_plot))


def benchmark_of_predictions() -> tuple[CILBenchmark, list[tuple[int, int]]]:
    """Test images that name their own prediction, unevenly many and unevenly right per class."""
    rng = np.random.default_rng(3)
    pairs = [(label, int(rng.integers(N_CLASSES))) for label in range(N_CLASSES) for _ in range(9)]
    pairs += [(label, label) for label in range(N_CLASSES) for _ in range(label)]
    labels, predictions = (torch.tensor(column) for column in zip(*pairs, strict=True))
    data = TensorDataset(predictions[:, None].float(), labels)
    protocol = Protocol.parse("B3-Inc2", n_classes=N_CLASSES, class_order_seed=None)
    return class_incremental(data, data, protocol, name="toy"), pairs


def naive(*plugins: Any, model: nn.Module | None = None, criterion: Any = None) -> Naive:
    model = Echo() if model is None else model
    return Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        criterion=nn.CrossEntropyLoss() if criterion is None else criterion,
        train_mb_size=16,
        eval_mb_size=5,
        evaluator=EvaluationPlugin(*plugins[:-1], loggers=plugins[-1]),
    )


def counted(pairs: list[tuple[int, int]], n_seen: int) -> tuple[list[int], list[int]]:
    correct = [sum(p == y == c for y, p in pairs) for c in range(n_seen)]
    total = [sum(y == c for y, _ in pairs) for c in range(n_seen)]
    return correct, total


def test_counts_of_each_cumulative_experience() -> None:
    benchmark, pairs = benchmark_of_predictions()
    counts = ClassCounts()
    strategy = naive(counts, [Recorder()])
    rows = []
    for t, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        strategy.eval(benchmark.seen_stream[t])
        correct, total = counted(pairs, sum(benchmark.protocol.sizes[: t + 1]))
        np.testing.assert_array_equal(counts.correct, correct)
        np.testing.assert_array_equal(counts.total, total)
        assert counts.result() == pytest.approx(sum(correct) / sum(total))
        rows.append((counts.correct, counts.total))
    stacked = [metrics.stack_counts(column, N_CLASSES) for column in zip(*rows, strict=True)]
    curve = metrics.accuracy_curve(*stacked, benchmark.protocol.sizes)
    assert curve[-1] == pytest.approx(sum(correct) / sum(total))


def test_one_pass_equals_the_test_stream_and_avalanche() -> None:
    benchmark, _ = benchmark_of_predictions()
    counts = ClassCounts()
    strategy = naive(counts, accuracy_metrics(stream=True), [Recorder()])
    cumulative = strategy.eval(benchmark.seen_stream[-1])
    correct, total = counts.correct, counts.total
    listed = strategy.eval(list(benchmark.test_stream))
    np.testing.assert_array_equal(counts.correct, correct)
    np.testing.assert_array_equal(counts.total, total)
    reference = cumulative["Top1_Acc_Stream/eval_phase/test_seen_stream/Task000"]
    assert cumulative["Top1_Acc_Seen/eval_phase/test_seen_stream"] == pytest.approx(reference)
    assert listed["Top1_Acc_Seen/eval_phase/test_stream"] == pytest.approx(reference)


def test_a_list_in_any_order_counts_each_experience() -> None:
    benchmark, pairs = benchmark_of_predictions()
    counts = ClassCounts()
    naive(counts, [Recorder()]).eval([benchmark.test_stream[0], benchmark.test_stream[2]])
    correct, total = counted(pairs, N_CLASSES)
    total[3:5] = correct[3:5] = [0, 0]  # the classes of task 1, which was left out
    np.testing.assert_array_equal(counts.total, total)
    np.testing.assert_array_equal(counts.correct, correct)
    first = counts.correct
    naive(counts, [Recorder()]).eval([benchmark.test_stream[2], benchmark.test_stream[0]])
    np.testing.assert_array_equal(counts.correct, first)


def test_loggers_get_one_value() -> None:
    benchmark, _ = benchmark_of_predictions()
    counts, recorder = ClassCounts(), Recorder()
    strategy = naive(counts, [recorder])
    strategy.train(benchmark.train_stream[0])
    assert recorder.seen == []
    strategy.eval(benchmark.seen_stream[0])
    steps = strategy.clock.train_iterations
    name = "Top1_Acc_Seen/eval_phase/test_seen_stream"
    assert recorder.seen == [(name, counts.result(), steps)]


def test_a_head_narrower_than_the_labels() -> None:
    benchmark, pairs = benchmark_of_predictions()
    counts = ClassCounts()
    # Avalanche computes the loss at evaluation, and cross-entropy refuses labels without a logit.
    strategy = naive(counts, [Recorder()], model=Echo(4), criterion=lambda out, y: out.sum() * 0)
    strategy.eval(benchmark.seen_stream[-1])
    correct, total = counted([(y, p % 4) for y, p in pairs], N_CLASSES)
    np.testing.assert_array_equal(counts.correct, correct)
    np.testing.assert_array_equal(counts.total, total)
    assert counts.correct is not None
    assert not counts.correct[4:].any()
    assert counts.correct[:4].any()


def test_experience_that_does_not_say_its_classes() -> None:
    benchmark, pairs = benchmark_of_predictions()
    experience = benchmark.seen_stream[1]
    experience.classes_in_this_experience = None
    counts = ClassCounts()
    naive(counts, [Recorder()]).eval(experience)
    np.testing.assert_array_equal(counts.correct, counted(pairs, 5)[0])


def test_an_evaluation_that_broke_off_is_forgotten() -> None:
    class Stumbling(Echo):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().forward(x)

    benchmark, pairs = benchmark_of_predictions()
    counts = ClassCounts()
    strategy = naive(counts, [Recorder()], model=Stumbling())
    with pytest.raises(KeyboardInterrupt):
        strategy.eval(benchmark.seen_stream[-1])
    assert counts.correct is None
    strategy.eval(benchmark.seen_stream[-1])
    np.testing.assert_array_equal(counts.total, counted(pairs, N_CLASSES)[1])


def test_nothing_counted_yet() -> None:
    counts = ClassCounts()
    assert counts.result() is None
    assert counts.correct is None
    assert counts.total is None
    benchmark, _ = benchmark_of_predictions()
    naive(counts, [Recorder()]).eval(benchmark.seen_stream[0])
    assert counts.result() is not None
    counts.reset()
    assert counts.result() is None


@pytest.mark.parametrize(
    ("output", "got"), [(lambda x: {"logits": x}, "dict"), (lambda x: x[:, 0], r"\(5,\)")]
)
def test_output_that_is_not_logits_is_refused(output: Any, got: str) -> None:
    class Odd(Echo):
        def forward(self, x: Tensor) -> Any:
            return output(super().forward(x))

    benchmark, _ = benchmark_of_predictions()
    strategy = naive(ClassCounts(), [Recorder()], model=Odd(), criterion=lambda out, y: 0.0)
    with pytest.raises(ValueError, match=rf"shape \(5, classes\), got {got}"):
        strategy.eval(benchmark.seen_stream[0])
