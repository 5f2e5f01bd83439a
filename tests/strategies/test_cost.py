"""What a step, an experience and an evaluation cost, in counts that no machine disturbs."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from calls import Calls
from tiny import tiny_benchmark, tiny_images, tiny_strategy, tiny_vit
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from waits import Waits

from avalanche_care import CaREConfig, CaREStrategy
from avalanche_care.benchmarks import CILBenchmark
from avalanche_care.nn import BRMoEConfig
from avalanche_care.plugins import ClassCounts, ProgressPlugin, silent_evaluator
from avalanche_care.strategies.registry import available_methods

every_method = pytest.mark.parametrize("method", sorted(available_methods()))


def one_class_a_task(tasks: int, **data: Any) -> CILBenchmark:
    """Two training images and one test image per class, so that an experience is one batch."""
    train, test = tiny_images(tasks, per_class=2), tiny_images(tasks, per_class=1, split=1)
    return tiny_benchmark("B0-Inc1", tasks, **{"train": train, "test": test, **data})


LEAN: dict[str, Any] = {
    "brmoe": BRMoEConfig(bottleneck=2, shared_bottleneck=2),
    "two_phases": False,
    "alignment_epochs": 0,
    "iterative_prediction": False,
}
"""CaRE without what takes a step per class or a pass per task by its very definition."""


def lean(
    method: str, *, plugins: list[Any] | None = None, eval_mb_size: int = 64, **config: Any
) -> Any:
    """A method with one training step per experience."""
    kwargs: dict[str, Any] = {
        "evaluator": silent_evaluator(ClassCounts()),
        "train_epochs": 1,
        "plugins": plugins,
        "eval_mb_size": eval_mb_size,
    }
    if method == "care":
        return CaREStrategy(model=tiny_vit(), config=CaREConfig(**{**LEAN, **config}), **kwargs)
    return tiny_strategy(method, **kwargs)


# One pass per evaluation


class Reads(TensorDataset):
    """Counts how often each image is read."""

    def __init__(self, source: TensorDataset) -> None:
        super().__init__(*source.tensors)
        self.targets = source.targets  # type: ignore[attr-defined]
        self.of: Counter[int] = Counter()

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        self.of[index] += 1
        return super().__getitem__(index)


@pytest.fixture
def loaders(monkeypatch: pytest.MonkeyPatch) -> list[DataLoader[Any]]:
    """All data loaders that are started from here on; starting them is what takes time."""
    started: list[DataLoader[Any]] = []
    iterate = DataLoader.__iter__

    def noting(self: DataLoader[Any]) -> Any:
        started.append(self)
        return iterate(self)

    monkeypatch.setattr(DataLoader, "__iter__", noting)
    return started


@every_method
def test_evaluation_is_one_loader_and_one_pass(method: str, loaders: list[DataLoader[Any]]) -> None:
    test = Reads(tiny_images(5, per_class=3, split=1))
    benchmark = tiny_benchmark("B0-Inc1", 5, train=tiny_images(5, per_class=2), test=test)
    strategy = lean(method, eval_mb_size=4)
    passes: list[int] = []
    forward = strategy.forward

    def noting() -> Tensor:  # what a method does with a batch inside is its own business
        passes.append(len(strategy.mb_x))
        return forward()

    strategy.forward = noting
    for t, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        images = 3 * (t + 1)
        seen = benchmark.seen_stream[t]
        for what, expected_loaders, expected_passes in (
            (seen, 1, math.ceil(images / 4)),
            (benchmark.test_stream[: t + 1], t + 1, t + 1),  # as usual with Avalanche
        ):
            for counter in (loaders, passes, test.of):
                counter.clear()
            strategy.eval(what)
            assert len(loaders) == expected_loaders
            assert len(passes) == expected_passes
            assert sum(passes) == images
            assert len(test.of) == images
            assert set(test.of.values()) == {1}


# An experience costs the same whichever it is


@every_method
def test_calls_per_experience_do_not_grow(method: str) -> None:
    benchmark = one_class_a_task(60)
    strategy = lean(method, eval_mb_size=2)
    found: dict[int, dict[str, Calls]] = {}
    for t in range(60):
        if t not in (9, 10, 59):
            strategy.train(benchmark.train_stream[t])
            continue
        found[t] = {"train": Calls(), "first ten": Calls(), "seen": Calls()}
        with found[t]["train"]:
            strategy.train(benchmark.train_stream[t])
        with found[t]["first ten"]:
            strategy.eval(benchmark.seen_stream[9])
        with found[t]["seen"]:
            strategy.eval(benchmark.seen_stream[t])
    early, late = found[10], found[59]  # 9 was there to fill the caches
    # FeTrIL's solver takes as many steps over all classes as it needs to converge; joint training
    # has all images so far.
    for name in ("first ten",) if method in ("fetril", "joint") else ("train", "first ten"):
        assert late[name].total <= 1.05 * early[name].total, late[name].growth_from(early[name])
    # Evaluating 60 images in 30 batches rather than 10 in 5 costs 6 times as much at most.
    assert late["seen"].total <= 6 * late["first ten"].total


def sizes_of(thing: Any, besides: list[Any]) -> dict[str, int]:
    """The number of entries of every collection that can be reached from an object."""
    found: dict[str, int] = {}
    visited = {id(part) for part in besides}
    stack = [("strategy", thing)]
    while stack:
        path, thing = stack.pop()
        if id(thing) in visited or isinstance(thing, (Tensor, str, bytes, int, float, type)):
            continue
        visited.add(id(thing))
        if isinstance(thing, (list, tuple, set, frozenset, dict, deque)):
            found[path] = len(thing)
            items = thing.items() if isinstance(thing, dict) else enumerate(thing)
            named = ((key if isinstance(key, str) else "", part) for key, part in items)
            stack += [(f"{path}[{key}]", part) for key, part in named]
        if hasattr(thing, "__dict__"):
            stack += [(f"{path}.{name}", part) for name, part in vars(thing).items()]
    return found


TEACHER = "strategy.plugins[].lwf"  # a copy of the model, and which classes it knows
RECORDS = {
    "strategy.ridges",
    f"{TEACHER}.prev_classes_by_task[]",
    f"{TEACHER}.prev_model._modules[head]._ends",
}
"""A number per experience or class, on purpose."""


@every_method
def test_no_collection_grows_with_the_experiences(method: str) -> None:
    benchmark = one_class_a_task(12)
    hoarder = SupervisedPlugin[Any]()
    strategy = lean(method, plugins=[ProgressPlugin(12), hoarder])
    sizes = []
    for t, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        strategy.eval(benchmark.seen_stream[t])
        if t in (5, 11):
            # The model and the class statistics are there to grow; they are the method.
            besides = [strategy.model, *vars(getattr(strategy, "alignment", hoarder)).values()]
            sizes.append(sizes_of(strategy, besides))
    assert len(sizes[0]) > 30
    assert [path for path in grown(*sizes) if path not in RECORDS] == []
    hoarder.kept = [*range(12)]
    more = sizes_of(strategy, besides)
    hoarder.kept += [0]
    assert len(grown(more, sizes_of(strategy, besides))) == 1  # it would have been found


def grown(before: dict[str, int], after: dict[str, int]) -> list[str]:
    return [path for path, size in after.items() if size > before.get(path, 0)]


def test_modules_and_optimizer_entries_do_not_grow() -> None:
    strategy = lean("care")
    model = strategy.model
    found = {}
    for t in range(301):
        model.expand(t, [t])
        if t in (1, 300):
            optimizer = strategy.build_optimizer(0.1)
            tensors = [p for group in optimizer.param_groups for p in group["params"]]
            for parameter in tensors:
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            found[t + 1] = {
                "modules": len(list(model.modules())),
                "parameters": len(list(model.parameters())),
                "buffers": len(list(model.buffers())),
                "optimised": len(tensors),
                "state": sum(len(entry) for entry in optimizer.state.values()),
            }
    assert found[301] == found[2]
    assert found[2]["optimised"] == found[2]["state"] > 10


# Waits for the device

x = torch.arange(4.0)
mask = x > 1


@pytest.mark.parametrize(
    ("call", "waits"),
    [
        (lambda: x.sum().item(), 1),
        (lambda: 1 if mask.any() else 0, 1),
        (lambda: float(x[0]), 1),
        (lambda: x.tolist(), 1),
        (lambda: x.cpu(), 1),
        (lambda: x.numpy(), 1),
        (lambda: x[mask], 1),
        (lambda: x.clone().__setitem__(mask, x[:2]), 1),
        (lambda: mask.nonzero(), 1),
        (lambda: torch.where(mask), 1),
        (lambda: x.unique(), 1),
        (lambda: torch.equal(x, x), 1),
        (lambda: torch.isin(x, x), 1),
        (lambda: x.long().bincount(), 1),
        (lambda: x.repeat_interleave(x.long()), 1),
        (lambda: torch.tensor([1.0]), 1),
        (lambda: nn.functional.cross_entropy(x[None], mask.long()[:1]), 0),
        (lambda: torch.where(mask, x, 0.0)[x.long()], 0),
        (lambda: x.topk(2).indices.clamp(0, 1) + len(x) * x.shape[0], 0),
    ],
)
def test_the_counter_of_waits(call: Any, waits: int) -> None:
    with Waits() as counter:
        call()
    assert len(counter.found) == waits, counter.found


class Begin(SupervisedPlugin[Any], supports_distributed=False):
    """Counts the waits from the moment that a batch is on the device; called before all others."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = Waits()

    def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.counter = Waits().__enter__()

    before_eval_iteration = before_training_iteration


class End(SupervisedPlugin[Any], supports_distributed=False):
    """Notes what was counted in each step; called after all others."""

    def __init__(self, begin: Begin) -> None:
        super().__init__()
        self.begin = begin
        self.train: list[list[str]] = []
        self.eval: list[list[str]] = []

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.begin.counter.__exit__()
        self.train.append(self.begin.counter.found)

    def after_eval_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.begin.counter.__exit__()
        self.eval.append(self.begin.counter.found)


# A step waits once, to learn whether its loss is finite and its labels are in place: what is not
# must not reach the parameters. Half precision waits once more, for PyTorch's gradient scaler.
@pytest.mark.parametrize(
    ("method", "config", "waits"),
    [
        ("finetune", {}, 1),
        ("ease", {}, 1),
        ("care", {}, 1),
        ("care", {"margin": 0.0}, 1),
        ("care", {"amp": "bfloat16"}, 1),
        ("care", {"amp": "float16"}, 2),
        ("care", {"ema": "paper", "two_phases": True}, 1),
        ("care", {"brmoe": BRMoEConfig(2, 2, routing_input="block")}, 1),
    ],
    ids=str,
)
def test_waits_for_the_device_in_a_step(method: str, config: dict[str, Any], waits: int) -> None:
    benchmark = one_class_a_task(9)
    strategy = lean(method, plugins=[ProgressPlugin()], eval_mb_size=5, **config)
    for experience in benchmark.train_stream[:8]:
        strategy.train(experience)
    end = End(Begin())
    strategy.plugins = [end.begin, *strategy.plugins, end]
    strategy.train(benchmark.train_stream[8])
    strategy.eval(benchmark.seen_stream[8])
    assert len(end.train) >= 1
    assert len(end.eval) == 2
    for found in end.train:
        assert len(found) == waits, found
    assert end.eval == [[], []]
