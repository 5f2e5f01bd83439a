"""SimpleCIL: rows are class means, and nothing else has a say in them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny import Predictions, snapshot, tiny_benchmark, tiny_images, tiny_strategy, tiny_vit
from torch import Tensor

from avalanche_care.benchmarks import CILBenchmark, Protocol, class_incremental
from avalanche_care.nn.weights import state_sha256
from avalanche_care.strategies import SimpleCILConfig, SimpleCILStrategy


def simplecil(*, eval_mb_size: int = 64, plugins: list[Any] | None = None) -> SimpleCILStrategy:
    return SimpleCILStrategy(
        model=tiny_vit(), plugins=plugins, eval_mb_size=eval_mb_size, evaluator=None
    )


def learned(protocol: str, **kwargs: Any) -> tuple[SimpleCILStrategy, Predictions]:
    """After all tasks of a protocol, and the outputs of all test images."""
    predictions = Predictions()
    strategy = simplecil(plugins=[predictions], **kwargs)
    benchmark = tiny_benchmark(protocol)
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.seen_stream[-1])
    return strategy, predictions


@pytest.mark.parametrize("protocol", ["B0-Inc2", "B0-Inc4", "B3-Inc1"])
@pytest.mark.parametrize("size", [1, 5, 64])
def test_rows_are_class_means_of_clean_images(size: int, protocol: str) -> None:
    """Raw means with the test transform; the images come from both data sets' own transforms."""
    train, split = tiny_images(6), Protocol.parse(protocol, n_classes=6)
    benchmark = class_incremental(
        train,
        tiny_images(6, split=1),
        split,
        train_transform=lambda image: image + torch.randn_like(image),
        eval_transform=lambda image: image.flip(-1),
        name="tiny",
    )
    strategy = simplecil(eval_mb_size=size)
    strategy.train(benchmark.train_stream)
    model = copy.deepcopy(strategy.model).double()
    with torch.no_grad():
        features = model.backbone(train.tensors[0].double().flip(-1))
    unit = features / features.norm(dim=1, keepdim=True)
    for c, original in enumerate(benchmark.class_order):
        own = train.tensors[1] == original
        mean = features[own].sum(0) / own.sum()
        torch.testing.assert_close(model.head.weight[c], mean, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(mean, unit[own].mean(0), rtol=1e-2)


def test_every_increment_ends_alike() -> None:
    """Rows and predictions after the last task are the same whatever the tasks were, exactly."""
    strategies, outputs = [], []
    for protocol in ("B0-Inc6", "B0-Inc1", "B0-Inc2", "B0-Inc4", "B3-Inc2"):
        strategy, predictions = learned(protocol, eval_mb_size=1)
        strategies.append(strategy)
        outputs.append(predictions.outputs)
    for strategy, output in zip(strategies[1:], outputs[1:], strict=True):
        assert torch.equal(strategy.model.head.weight, strategies[0].model.head.weight)
        assert output.keys() == outputs[0].keys()
        for image, scores in output.items():
            assert torch.equal(scores, outputs[0][image])


def test_the_order_of_classes_only_moves_columns() -> None:
    found: list[dict[bytes, Tensor]] = []
    for seed in (1, 2):
        split = Protocol.parse("B0-Inc2", n_classes=6, class_order_seed=seed)
        benchmark = class_incremental(tiny_images(6), tiny_images(6, split=1), split, name="tiny")
        predictions = Predictions()
        strategy = simplecil(eval_mb_size=1, plugins=[predictions])
        strategy.train(benchmark.train_stream)
        strategy.eval(benchmark.seen_stream[-1])
        order = torch.tensor(benchmark.class_order).argsort()
        found.append({image: scores[order] for image, scores in predictions.outputs.items()})
    for image, scores in found[0].items():
        torch.testing.assert_close(scores, found[1][image], rtol=1e-6, atol=1e-6)
        assert scores.argmax() == found[1][image].argmax()


def test_nothing_trains_and_old_rows_stay(benchmark: CILBenchmark) -> None:
    strategy = simplecil()
    before = state_sha256(strategy.model.backbone)
    kept: list[dict[str, Tensor]] = []
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        assert not any(p.requires_grad for p in strategy.model.parameters())
        assert [phase.trains for phase in strategy.phases()] == [False]
        kept.append(snapshot(strategy.model))
        assert kept[-1]["head.weight"].shape == (2 * task + 2, 16)  # D numbers a class, no more
        for state in kept[:-1]:
            for name, value in state.items():
                assert torch.equal(kept[-1][name][: len(value)], value), name
    assert state_sha256(strategy.model.backbone) == before


def test_lengths_of_features_and_rows_do_not_matter() -> None:
    strategy, predictions = learned("B0-Inc2")
    expected = predictions.outputs
    head = strategy.model.head
    with torch.no_grad():
        head.weight *= torch.rand(6, 1) * 10 + 0.1
        strategy.model.backbone.vit.norm.weight *= 3.0  # with its bias: three times the feature
        strategy.model.backbone.vit.norm.bias *= 3.0
    strategy.eval(tiny_benchmark("B0-Inc2").seen_stream[-1])
    for image, scores in predictions.outputs.items():
        torch.testing.assert_close(scores, expected[image], rtol=1e-5, atol=1e-6)
        assert scores.argmax() == expected[image].argmax()


def test_scores_are_cosines() -> None:
    strategy, predictions = learned("B0-Inc2")
    assert predictions.accuracy >= 0.9
    for image, scores in predictions.outputs.items():
        x = torch.frombuffer(bytearray(image), dtype=torch.float32).view(1, 3, 16, 16)
        feature = strategy.model.backbone(x)[0]
        for score, row in zip(scores, strategy.model.head.weight, strict=True):
            torch.testing.assert_close(score, feature @ row / feature.norm() / row.norm())


def test_only_rows_grow() -> None:
    model = simplecil().model
    sizes = []
    for task in range(301):
        model.expand(task, [task])
        if task in (0, 300):
            sizes.append((len(list(model.modules())), len(model.state_dict())))
    assert sizes[0] == sizes[1]
    assert model.head.weight.shape == (301, 16)
    with torch.no_grad():
        assert model.predict(torch.randn(2, 3, 16, 16)).shape == (2, 301)


@pytest.mark.parametrize("method", ["simplecil", "aper-adapter"])
def test_labels_of_an_earlier_experience(method: str, benchmark: CILBenchmark) -> None:
    """They would change rows that are learned."""
    strategy = tiny_strategy(method)
    strategy.train(benchmark.train_stream[0])
    rows = strategy.model.head.weight.clone()
    second = benchmark.train_stream[1]
    both = copy.copy(second)
    both._dataset = second.dataset.concat(benchmark.train_stream[0].dataset)
    with pytest.raises(ValueError, match=r"experience \[2, 3\], got \[0, 1\] of earlier ones"):
        strategy.train(both)
    assert torch.equal(strategy.model.head.weight[:2], rows)
    strategy.train(second)  # the same experience goes on
    assert strategy.task == 1
    assert torch.equal(strategy.model.head.weight[:2], rows)


@pytest.mark.parametrize("method", ["simplecil", "aper-adapter"])
def test_announced_class_without_images(method: str, benchmark: CILBenchmark) -> None:
    """Its row would be the random one that heads start with."""
    experience = copy.copy(benchmark.train_stream[0])
    experience.classes_in_this_experience = [0, 1, 2]
    with pytest.raises(ValueError, match=r"classes \[2\] have no training images"):
        tiny_strategy(method).train(experience)


def test_without_settings() -> None:
    assert simplecil().config == SimpleCILConfig()
    assert simplecil().train_mb_size == 64
