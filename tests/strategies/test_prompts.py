"""What the prompt methods share: what trains, what a step costs, and what grows."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from steps import Steps
from tiny import Predictions, quick_settings, snapshot, tiny_benchmark, tiny_vit
from waits import Waits

from avalanche_care.benchmarks import CILBenchmark
from avalanche_care.nn.model_state import learned_state
from avalanche_care.strategies.registry import get_method

HEAD = {"head.weight", "head.bias"}
TRAINS = {
    "l2p": {"prompts", "keys"} | HEAD,
    "dualprompt": {"general", "experts.prompts", "experts.keys"} | HEAD,
    "coda-prompt": {f"components.{part}" for part in ("prompts", "keys", "attention")} | HEAD,
}
every_method = pytest.mark.parametrize("method", TRAINS)


def make(method: str, plugins: Any = None, **config: Any) -> Any:
    """A method on the tiny ViT, with two epochs."""
    found = get_method(method)
    settings = found.config(**{**quick_settings(method), "epochs": 2, **config})
    return found.strategy(
        model=tiny_vit(), config=settings, plugins=plugins, evaluator=None, eval_mb_size=5
    )


@every_method
def test_gradients_only_where_something_trains(method: str, benchmark: CILBenchmark) -> None:
    def look(strategy: Any) -> None:
        for name, parameter in strategy.model.named_parameters():
            assert (parameter.grad is not None) == (name in TRAINS[method]), name
        assert strategy.model.head.weight.grad.any()
        for name in HEAD:  # rows of earlier tasks
            assert not strategy.model.get_parameter(name).grad[: 2 * strategy.task].any()
        optimised = {id(p) for p in strategy.optimizer.param_groups[0]["params"]}
        assert optimised == {id(strategy.model.get_parameter(name)) for name in TRAINS[method]}

    strategy = make(method, [Steps(look)])
    for task, experience in enumerate(benchmark.train_stream):
        before = snapshot(strategy.model)
        strategy.train(experience)
        after = snapshot(strategy.model)
        for name in HEAD:
            assert torch.equal(after[name][: 2 * task], before[name][: 2 * task])
            assert len(after[name]) == 2 * task + 2


@every_method
def test_the_head_starts_anew_for_a_tasks_classes(method: str) -> None:
    """As in the PyTorch port: normal with deviation 0.02, bias 0."""
    model = make(method).model
    model.expand(0, range(500))
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.head.weight.abs().max() <= 2
    assert not model.head.bias.any()


@every_method
def test_a_task_of_one_class_moves_no_prompt(method: str) -> None:
    """Its cross-entropy is 0, so only keys are drawn to the queries; it is no error."""
    strategy = make(method)
    benchmark = tiny_benchmark("B2-Inc1", 4)
    strategy.train(benchmark.train_stream[0])
    for task in (1, 2):
        strategy.model.expand(task, [task + 1])  # what the experience would do
        before = snapshot(strategy.model)
        strategy.train(benchmark.train_stream[task])
        after = snapshot(strategy.model)
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == {"l2p": {"keys"}, "dualprompt": {"experts.keys"}}.get(method, set())


def kept(strategy: Any) -> list[str]:
    names = ("_logits", "_found", "_times_chosen")
    return [name for name in names if getattr(strategy, name, None) is not None]


@every_method
def test_nothing_of_a_batch_is_kept(method: str, benchmark: CILBenchmark) -> None:
    during: set[int] = set()
    strategy = make(method, [Steps(lambda s: during.add(len(kept(s))))])
    strategy.train(benchmark.train_stream[0])
    assert min(during) >= 1
    assert kept(strategy) == []

    def fail(strategy: Any) -> None:
        raise RuntimeError("in the middle of a step")

    strategy.plugins.append(Steps(fail))
    with pytest.raises(RuntimeError, match="in the middle"):
        strategy.train(benchmark.train_stream[1])
    assert kept(strategy) == []


@every_method
def test_labels_of_earlier_tasks_are_refused(method: str, benchmark: CILBenchmark) -> None:
    strategy = make(method)
    strategy.train(benchmark.train_stream[0])
    second = benchmark.train_stream[1]
    kept = second._dataset
    second._dataset = kept.concat(benchmark.train_stream[0].dataset)
    before = snapshot(strategy.model)
    with pytest.raises(ValueError, match=r"experience \[2, 3\], got \[[01, ]+\] of earlier ones"):
        strategy.train(second)
    second._dataset = kept
    for name in HEAD:
        assert torch.equal(strategy.model.get_parameter(name)[:2], before[name])
    strategy.train(second)


@every_method
def test_every_image_goes_twice_through_the_vit(method: str, benchmark: CILBenchmark) -> None:
    """Once for its query, once with prompts, at the first task as at the last; all images count."""
    strategy = make(method, batch_size=5, epochs=1)  # 12 images: the last batch has two
    passes: list[int] = []
    embedding: Any = strategy.model.backbone.vit.patch_embed
    embedding.register_forward_hook(lambda _, args, out: passes.append(len(out)))
    for task, experience in enumerate(benchmark.train_stream):
        passes.clear()
        strategy.train(experience)
        assert passes == [5, 5, 5, 5, 2, 2]
        passes.clear()
        strategy.eval(benchmark.test_stream[task])
        assert passes == [5, 5, 5, 5, 2, 2]


@every_method
@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1.0}, {"choice": "batch-in-training"}])
def test_waits_for_the_device_in_a_step(
    method: str,
    settings: dict[str, Any],
    benchmark: CILBenchmark,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A training step waits once, to learn whether its loss is finite; a prediction never waits.

    Counted up to Adam itself, which keeps its number of steps on the CPU.
    """
    if method == "coda-prompt" and "choice" in settings:
        settings = {"orthogonality": 0.1}  # its images have nothing to choose
    counters: dict[str, list[Waits]] = {"train": [], "eval": []}
    step = torch.optim.Adam.step

    def counted(self: Any, *args: Any) -> Any:
        counters["train"][-1].__exit__()
        return step(self, *args)

    class Count(SupervisedPlugin[Any], supports_distributed=False):
        def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            counters["train"].append(Waits().__enter__())

        def before_eval_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            counters["eval"].append(Waits().__enter__())

        def after_eval_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            counters["eval"][-1].__exit__()

    monkeypatch.setattr(torch.optim.Adam, "step", counted)
    strategy = make(method, [Count()], **settings)
    strategy.train(benchmark.train_stream[:2])
    strategy.eval(benchmark.test_stream[:2])
    assert len(counters["train"]) == 2 * 2 * 3
    assert len(counters["eval"]) == 2 * 3
    for counter in counters["train"]:
        assert len(counter.found) == 1, counter.found
    for counter in counters["eval"]:
        assert counter.found == []


GROWTH = {
    "l2p": 0,
    "dualprompt": 2 * 5 * 16 + 16,  # keys and values of length 5 in one block, and a key
    "coda-prompt": 2 * 2 * (8 * 16 + 2 * 16),  # two components in two blocks
}
"""Numbers that a task adds besides the head."""


@every_method
def test_memory_of_301_tasks(method: str) -> None:
    """Linear in the tasks, and in as many tensors and modules as one task has."""
    model = make(method).model
    sizes, found = [], []
    for task in range(301):
        model.expand(task, [2 * task, 2 * task + 1])
        state = learned_state(model)
        sizes.append(sum(value.numel() for value in state.values()))
        found.append((len(state), len(list(model.modules())), len(list(model.parameters()))))
    head = 2 * (16 + 1 + 2)  # weights, bias, label and task of two classes
    assert {b - a for a, b in itertools.pairwise(sizes)} == {GROWTH[method] + head}
    assert len(set(found)) == 1
    assert all(value.isfinite().all() for value in learned_state(model).values())
    if method == "coda-prompt":  # what is frozen is out of the optimizer's sight
        assert sum(p.numel() for p in model.trainable_parameters()) == GROWTH[method] + 602 * 17


@every_method
@pytest.mark.parametrize("value", [math.inf, math.nan, -1.0])
def test_numbers_that_no_training_can_have(method: str, value: float) -> None:
    weight = "orthogonality" if method == "coda-prompt" else "pull"
    with pytest.raises(ValueError, match=f"lr must be positive, got {value}"):
        make(method, lr=value)
    with pytest.raises(ValueError, match=f"{weight} must not be negative, got {value}"):
        make(method, **{weight: value})
    make(method, **{weight: 0.0})


@every_method
def test_a_state_goes_on_where_it_was(method: str, benchmark: CILBenchmark) -> None:
    """Training and predictions, bit for bit."""
    whole, resumed = (make(method, [Predictions()]) for _ in range(2))
    whole.train(benchmark.train_stream[:2])
    state = copy.deepcopy(whole.run_state())
    found = []
    for strategy in (whole, resumed):
        if strategy is resumed:
            torch.manual_seed(99)  # whatever the new process starts with
            resumed.load_run_state(state)
        strategy.train(benchmark.train_stream[2])
        strategy.eval(benchmark.seen_stream[2])
        found.append((snapshot(strategy.model), strategy.plugins[0].outputs))
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[key]) for key, value in one.items())
