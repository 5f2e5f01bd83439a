"""What every registered method has to do."""

from __future__ import annotations

import gc
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.logging import TextLogger
from avalanche.training.plugins import EvaluationPlugin
from tiny import (
    SHAPE,
    Predictions,
    snapshot,
    tiny_benchmark,
    tiny_images,
    tiny_strategy,
    with_targets,
)
from torch import Tensor
from torch.utils.data import TensorDataset

from avalanche_care.benchmarks import CILBenchmark
from avalanche_care.nn.weights import state_sha256
from avalanche_care.strategies.registry import available_methods

NO_STEPS = ("simplecil", "fetril", "slda")
every_method = pytest.mark.parametrize("method", sorted(available_methods()))


@every_method
def test_plain_avalanche_script(method: str, benchmark: CILBenchmark, tmp_path: Path) -> None:
    with (tmp_path / "log.txt").open("w") as log:
        evaluator = EvaluationPlugin(
            accuracy_metrics(epoch=True, experience=True, stream=True),
            loss_metrics(experience=True, stream=True),
            loggers=[TextLogger(log)],
        )
        strategy = tiny_strategy(method, evaluator=evaluator)
        for task, experience in enumerate(benchmark.train_stream):
            strategy.train(experience)
            seen = strategy.eval(benchmark.seen_stream[task])
            whole = strategy.eval(benchmark.test_stream)
    accuracy, loss = "Top1_Acc_Stream/eval_phase/", "Loss_Stream/eval_phase/"
    streams = [f"{stream}_stream/Task000" for stream in ("test_seen", "test")]
    for stream, results in zip(streams, (seen, whole), strict=True):
        assert 0 <= results[accuracy + stream] <= 1
        assert math.isfinite(results[loss + stream])
    # After the last task both streams hold the same images.
    assert whole[accuracy + streams[0]] == pytest.approx(whole[accuracy + streams[1]])
    assert (
        "Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp002" in (tmp_path / "log.txt").read_text()
    )


@every_method
def test_newest_classes_are_learned(method: str, benchmark: CILBenchmark) -> None:
    predictions = Predictions()
    strategy = tiny_strategy(method, plugins=[predictions])
    strategy.train(benchmark.train_stream[0])
    strategy.eval(benchmark.test_stream[0])
    assert predictions.accuracy >= 0.9 if method != "finetune" else predictions.accuracy > 0.5


@every_method
@pytest.mark.parametrize("eval_every", [0, 1])
@pytest.mark.parametrize("mode", ["epoch", "experience", "iteration"])
def test_periodic_evaluation(
    method: str, eval_every: int, mode: str, benchmark: CILBenchmark
) -> None:
    evaluated: list[tuple[int, int]] = []

    class Evaluated(SupervisedPlugin[Any], supports_distributed=False):
        def after_eval_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            step = strategy.clock.train_iterations
            evaluated.append((step, strategy.experience.current_experience))

        def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            assert strategy.model.training
            assert strategy.is_training

    strategy = tiny_strategy(method, plugins=[Evaluated()], eval_every=eval_every, peval_mode=mode)
    for task in (0, 1):
        strategy.train(benchmark.train_stream[task], eval_streams=[benchmark.test_stream[:2]])
    assert {experience for _, experience in evaluated} == {0, 1}
    if eval_every and mode == "iteration" and method not in NO_STEPS:
        assert len(evaluated) > 8
    assert strategy.task == 1


@every_method
def test_predictions_depend_on_neither_order_nor_batch_size(method: str) -> None:
    test = tiny_images(6, per_class=3, split=1)
    benchmark = tiny_benchmark(test=test)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(1))
    shuffled = tiny_benchmark(test=with_targets(*(t[order] for t in test.tensors)))
    predictions = Predictions()
    strategy = tiny_strategy(method, plugins=[predictions])
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.seen_stream[2])
    expected = predictions.outputs
    assert len(expected) == 18
    spread = torch.stack(list(expected.values())).std(0).max()
    assert spread > 1e-2  # the outputs do differ between images
    for size, source in ((1, benchmark), (3, shuffled), (64, shuffled)):
        strategy.eval_mb_size = size
        strategy.eval(source.seen_stream[2])
        assert predictions.outputs.keys() == expected.keys()
        for image, output in predictions.outputs.items():
            torch.testing.assert_close(output, expected[image], rtol=1e-4, atol=1e-5)
            assert output.argmax() == expected[image].argmax()


@every_method
def test_evaluation_changes_nothing(method: str, benchmark: CILBenchmark) -> None:
    predictions = Predictions()
    strategy = tiny_strategy(method, plugins=[predictions])
    strategy.train(benchmark.train_stream[:2])
    strategy.eval(benchmark.seen_stream[1])
    first, before = predictions.outputs, snapshot(strategy.model)
    modules, random = len(list(strategy.model.modules())), torch.get_rng_state()
    strategy.eval(benchmark.test_stream)
    strategy.eval(benchmark.seen_stream[1])
    assert first.keys() == predictions.outputs.keys()
    for image, output in predictions.outputs.items():
        assert torch.equal(output, first[image])
    after = snapshot(strategy.model)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    assert len(list(strategy.model.modules())) == modules
    assert torch.equal(torch.get_rng_state(), random)


@every_method
def test_backbone_is_frozen(method: str, benchmark: CILBenchmark) -> None:
    strategy = tiny_strategy(method)
    before = state_sha256(strategy.model.backbone)
    strategy.train(benchmark.train_stream)
    assert state_sha256(strategy.model.backbone) == before
    assert not any(p.requires_grad for p in strategy.model.backbone.parameters())


@every_method
def test_runs_repeat(method: str, benchmark: CILBenchmark) -> None:
    states = []
    for seed in (1, 1):
        torch.manual_seed(seed)
        strategy = tiny_strategy(method)
        strategy.train(benchmark.train_stream[:2])
        states.append(snapshot(strategy.model))
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


class Unkept(TensorDataset):
    """Every image is made anew, so whoever keeps one holds a tensor that nobody else does."""

    def __init__(self, source: TensorDataset) -> None:
        super().__init__(*source.tensors)
        self.targets = source.targets  # type: ignore[attr-defined]

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor.clone() for tensor in super().__getitem__(index))


def images_in_memory() -> dict[int, Tensor]:
    """All tensors of this process that are images, or batches of them, by id."""
    gc.collect()
    with warnings.catch_warnings():  # looking at every object wakes up deprecated ones
        warnings.simplefilter("ignore")
        return {
            id(thing): thing
            for thing in gc.get_objects()
            if isinstance(thing, Tensor) and tuple(thing.shape[-3:]) == SHAPE
        }


def tensors_of(thing: Any, visited: set[int]) -> list[Tensor]:
    """All tensors that can be reached from an object, however deep."""
    found, stack = [], [thing]
    while stack:
        thing = stack.pop()
        if id(thing) in visited or isinstance(thing, (str, bytes, int, float, type)):
            continue
        visited.add(id(thing))
        if isinstance(thing, Tensor):
            found.append(thing)
            stack.append(thing.grad_fn)
        elif isinstance(thing, dict):
            stack += [*thing.keys(), *thing.values()]
        elif isinstance(thing, (list, tuple, set, frozenset)):
            stack += list(thing)
        if hasattr(thing, "__dict__"):
            stack += list(vars(thing).values())
        if hasattr(thing, "__closure__") and thing.__closure__:
            stack += [cell.cell_contents for cell in thing.__closure__]
        if hasattr(thing, "__self__"):
            stack.append(thing.__self__)
    return found


def test_tensors_of_finds_hidden_ones() -> None:
    secret = torch.ones(3)

    def closure() -> Tensor:
        return secret

    holder = type("Holder", (), {})()
    holder.deep = {"a": [(closure,)]}
    assert any(t is secret for t in tensors_of(holder, set()))


@every_method
def test_no_image_outlives_its_experience(method: str) -> None:
    source, test = tiny_images(6), tiny_images(6, split=1)
    before = images_in_memory()
    benchmark = tiny_benchmark(train=Unkept(source), test=test)
    strategy = tiny_strategy(method)
    for task in (0, 1):
        strategy.train(benchmark.train_stream[task])
        strategy.eval(benchmark.seen_stream[task])
    left = images_in_memory()
    assert set(left) <= set(before), [tensor.shape for tensor in left.values()]
    kept = Unkept(source)[0]
    assert id(kept[0]) in images_in_memory()  # it would have been found


@every_method
def test_no_image_can_be_reached_from_the_strategy(method: str) -> None:
    source = tiny_images(6)
    benchmark = tiny_benchmark(train=source)
    strategy = tiny_strategy(method)
    for task in (0, 1):
        strategy.train(benchmark.train_stream[task])
        strategy.eval(benchmark.seen_stream[task])
    reachable = tensors_of(strategy, set())
    assert any(t is strategy.model.head.weight for t in reachable)
    pixels = source.tensors[0].flatten(1)  # (n, 768)
    for tensor in reachable:  # also cut up, joined, or in another shape
        flat = tensor.detach().flatten().float()
        if len(flat) >= pixels.shape[1]:
            windows = flat.unfold(0, pixels.shape[1], 1)
            for window in windows[torch.isin(windows[:, 0], pixels[:, 0])]:
                assert not (window == pixels).all(1).any(), tensor.shape
    strategy.hidden = {"buffer": [source.tensors[0][3:5].clone()]}
    found = [t for t in tensors_of(strategy, set()) if t.numel() == 2 * pixels.shape[1]]
    assert len(found) == 1  # it would have been found


@pytest.mark.parametrize("method", ["care", "simplecil"])
def test_labels_that_are_not_remapped(method: str) -> None:
    """Avalanche's own benchmark with the data set's labels, in an order that is not theirs."""
    order = [7, 2, 5, 0, 6, 3]
    train, test = tiny_images(8, per_class=12), tiny_images(8, per_class=12, split=1)
    chosen = [
        with_targets(*(t[torch.isin(data.tensors[1], torch.tensor(order))] for t in data.tensors))
        for data in (train, test)
    ]
    benchmark = nc_benchmark(
        *chosen,
        n_experiences=3,
        task_labels=False,
        shuffle=False,
        fixed_class_order=order,
        class_ids_from_zero_from_first_exp=False,
    )
    predictions = Predictions()
    strategy = tiny_strategy(method, plugins=[predictions])
    if method == "care":
        strategy.train_epochs, strategy.alignment.epochs = 6, 5
    seen: list[int] = []
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        seen += sorted(experience.classes_in_this_experience)
        strategy.eval(benchmark.test_stream[: task + 1])
        output = torch.stack(list(predictions.outputs.values()))
        assert output.shape[1] == max(seen) + 1
        assert set(output.argmax(1).tolist()) <= set(seen)
        assert all(math.isfinite(loss) for loss in predictions.losses)
    assert strategy.model.head.labels.tolist() == seen == [2, 7, 0, 5, 3, 6]
    assert predictions.accuracy >= 0.9  # chance is 1 / 6


@every_method
def test_growth_is_by_training_only(method: str, benchmark: CILBenchmark) -> None:
    strategy = tiny_strategy(method)
    for task, experience in enumerate(benchmark.train_stream):
        assert strategy.task == task - 1
        strategy.train(experience)
        strategy.eval(benchmark.test_stream)
        assert strategy.task == task
        assert strategy.model.head.n_classes == 2 * (task + 1)


@every_method
def test_a_list_of_experiences_is_like_one_after_another(
    method: str, benchmark: CILBenchmark
) -> None:
    states = []
    for whole in (True, False):
        torch.manual_seed(5)
        strategy = tiny_strategy(method)
        for part in [benchmark.train_stream] if whole else benchmark.train_stream:
            strategy.train(part)
        states.append(snapshot(strategy.model))
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@every_method
def test_evaluation_of_an_iterator(method: str, benchmark: CILBenchmark) -> None:
    predictions = Predictions()
    strategy = tiny_strategy(method, plugins=[predictions])
    strategy.train(benchmark.train_stream)
    strategy.eval(experience for experience in benchmark.test_stream)
    assert predictions.total == 36
