"""What a dry run promises, against what was then needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from tiny import tiny_benchmark, tiny_images, tiny_strategy, tiny_vit

from avalanche_care.benchmarks import CILBenchmark
from avalanche_care.experiments import run_method
from avalanche_care.experiments.config import RunConfig, run_type
from avalanche_care.experiments.estimate import estimate_cost
from avalanche_care.experiments.probe import first_images
from avalanche_care.experiments.run_result import count_parameters
from avalanche_care.strategies import available_methods
from avalanche_care.strategies.registry import get_method
from avalanche_care.strategies.sequential import SequentialStrategy


class Images(SupervisedPlugin[Any]):
    """Counts the images of all training steps."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.seen += len(strategy.mb_y)


def asked(method: str, **changes: Any) -> RunConfig:
    settings = tiny_strategy(method).config
    return run_type(method)(method=method, settings=settings, **changes)


def many() -> CILBenchmark:
    """Six tasks, twelve images a class."""
    return tiny_benchmark(n_classes=12, train=tiny_images(12, 12))


@pytest.mark.parametrize("method", available_methods())
def test_what_was_estimated_is_what_the_run_needs(method: str) -> None:
    cost = estimate_cost(asked(method), many(), tiny_vit())

    images = Images()
    strategy = tiny_strategy(method, plugins=[images])
    for experience in many().train_stream:
        strategy.train(experience)
    assert cost.parameters == count_parameters(strategy.model)["total"]
    assert cost.backbone_parameters == count_parameters(tiny_vit())["total"]
    again = bool(get_method(method).exemplars)  # images of earlier tasks are not estimated
    assert (cost.train_images < images.seen) if again else (cost.train_images == images.seen)
    assert cost.eval_images == 6 * sum(range(2, 13, 2))
    assert (cost.train_seconds > 0) == (cost.train_images > 0)
    assert cost.eval_seconds > 0


@pytest.mark.parametrize("method", ["care", "ease", "replay", "simplecil"])
def test_a_state_is_as_large_as_estimated(method: str, tmp_path: Path) -> None:
    config = asked(method)
    cost = estimate_cost(config, many(), tiny_vit())
    events: list[dict[str, Any]] = []
    run_method(
        method,
        many(),
        tiny_vit(),
        config=config.settings,
        directory=tmp_path,
        progress=False,
        on_event=events.append,
    )
    assert 0 <= events[-1]["state_bytes"] - cost.state_bytes < 40_000  # names, events, the format


def test_few_images_are_the_first_of_each_class_under_the_same_labels() -> None:
    whole = many()
    few = first_images(whole, 2, train=16, test=1)
    assert [len(experience.dataset) for experience in few.train_stream] == [16, 16]
    assert [len(experience.dataset) for experience in few.test_stream] == [8, 8]  # 4 of each class
    for small, large in zip(few.train_stream, whole.train_stream[:2], strict=True):
        assert small.classes_in_this_experience == large.classes_in_this_experience
        for image, label, *_ in small.dataset:
            same = [torch.equal(image, other) for other, of, *_ in large.dataset if of == label]
            assert same.index(True) < 8
    assert len(first_images(whole, 20, train=1, test=1).train_stream) == 6


@pytest.mark.parametrize("protocol", ["B0-Inc6", "B4-Inc2", "B0-Inc4"])
def test_short_and_uneven_sequences_are_estimated_too(protocol: str) -> None:
    benchmark = tiny_benchmark(protocol)
    cost = estimate_cost(asked("care"), benchmark, tiny_vit())
    strategy = tiny_strategy("care")
    for experience in benchmark.train_stream:
        strategy.train(experience)
    assert cost.parameters == count_parameters(strategy.model)["total"]


def test_steps_are_as_large_as_those_of_the_run_and_one_epoch_is_enough() -> None:
    """Memory is that of full steps; a hundred epochs do not make the probe slower."""
    config = asked("finetune")
    config = replace(config, settings=replace(config.settings, epochs=100, batch_size=5))
    batches: list[int] = []
    original = SequentialStrategy.training_loss

    def counted(strategy: SequentialStrategy) -> torch.Tensor:
        batches.append(len(strategy.mb_y))
        return original(strategy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SequentialStrategy, "training_loss", counted)
        cost = estimate_cost(config, many(), tiny_vit())
    assert batches == 4 * [5, 5]
    assert cost.train_images == 100 * 144
