"""FeTrIL: what it keeps of old classes, and what it makes of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import Predictions, snapshot, tiny_benchmark, tiny_images, tiny_vit
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.benchmarks import CILBenchmark, Protocol
from avalanche_care.nn.fetril import LOSSES, FeTrILModel, fit_linear
from avalanche_care.nn.weights import state_sha256
from avalanche_care.strategies.fetril import FeTrILConfig, FeTrILStrategy


def fetril(*, plugins: list[Any] | None = None, **config: Any) -> FeTrILStrategy:
    settings = FeTrILConfig(**{"epochs": 2, "batch_size": 8, **config})
    return FeTrILStrategy(model=tiny_vit(), config=settings, evaluator=None, plugins=plugins)


def features_of(strategy: FeTrILStrategy, experience: Any) -> tuple[Tensor, Tensor]:
    """Features, not normalised, and labels."""
    data = experience.dataset.eval()
    images = torch.stack([data[i][0] for i in range(len(data))])
    with torch.no_grad():
        features = strategy.model.eval().adapted_features(images)
    return features, torch.tensor([int(data[i][1]) for i in range(len(data))])


@pytest.mark.parametrize("tuning", ["none", "adapter"])
def test_means_are_those_of_the_task_and_never_change(tuning: str) -> None:
    benchmark = tiny_benchmark()
    strategy = fetril(tuning=tuning)
    for task, experience in enumerate(benchmark.train_stream):
        before = strategy.means.clone()
        strategy.train(experience)
        assert torch.equal(strategy.means[: 2 * task], before)
        features, labels = features_of(strategy, experience)
        for c in (2 * task, 2 * task + 1):
            torch.testing.assert_close(strategy.means[c], features[labels == c].mean(0))
    assert strategy.means.shape == (6, 16)


@pytest.mark.parametrize("classifier", ["svc", "logistic"])
def test_the_classifier_is_optimal_on_real_and_moved_features(classifier: str) -> None:
    """The gradient of the plain objective, on features that are really made, is zero."""
    benchmark = tiny_benchmark("B2-Inc2", 4)
    strategy = fetril(classifier=classifier, penalty=0.5, tolerance=1e-7)
    strategy.train(benchmark.train_stream[0])
    old = strategy.means.clone()
    strategy.train(benchmark.train_stream[1])
    new, labels = features_of(strategy, benchmark.train_stream[1])
    rows, classes = [new], [labels]
    means = torch.stack([new[labels == k].mean(0) for k in (2, 3)])
    for p in range(2):
        k = int((means - old[p]).norm(dim=1).argmin())
        moved = new[labels == 2 + k] - means[k] + old[p]
        rows.append(moved)
        classes.append(torch.full((len(moved),), p))
    x, y = F.normalize(torch.cat(rows), dim=1).double(), torch.cat(classes)
    head = strategy.model.head
    w, b = (t.detach().double().requires_grad_() for t in (head.weight, head.bias))
    scores = x @ w.T + b
    if classifier == "svc":
        signs = 2.0 * F.one_hot(y, 4) - 1
        loss = (1 - signs * scores).clamp_min(0).square().sum()
    else:
        loss = F.cross_entropy(scores, y, reduction="sum")
    objective = (w.square().sum() + b.square().sum()) / 2 + 0.5 * loss
    objective.backward()
    assert w.grad is not None
    assert b.grad is not None
    assert float(w.abs().max().detach()) > 0.1
    assert float(w.grad.abs().max()) < 2e-3
    assert float(b.grad.abs().max()) < 2e-3


def test_scores_are_of_features_of_length_1(benchmark: CILBenchmark) -> None:
    strategy = fetril()
    strategy.train(benchmark.train_stream)
    x = torch.randn(4, 3, 16, 16)
    model = strategy.model.eval()
    f = F.normalize(model.backbone(x), dim=1)
    torch.testing.assert_close(model(x), f @ model.head.weight.T + model.head.bias)
    assert not torch.allclose(model.backbone(x).norm(dim=1), torch.ones(4), atol=0.1)


def test_old_classes_are_not_forgotten() -> None:
    benchmark = tiny_benchmark()
    predictions = Predictions()
    strategy = fetril(plugins=[predictions])
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.seen_stream[2])
    assert predictions.accuracy >= 0.9  # chance is 1 / 6


@pytest.mark.parametrize("classifier", ["svc", "logistic"])
@pytest.mark.parametrize("protocol", ["B0-Inc1", "B1-Inc2"])
def test_classes_of_a_single_image(protocol: str, classifier: str) -> None:
    data = tiny_images(4, per_class=1)
    strategy = fetril(classifier=classifier)
    strategy.train(tiny_benchmark(protocol, 4, train=data).train_stream)
    assert torch.isfinite(strategy.model.head.weight).all()
    predictions = strategy.model.eval()(data.tensors[0]).argmax(1)
    order = torch.tensor(Protocol.parse(protocol, n_classes=4).class_order)
    assert torch.equal(order[predictions], data.tensors[1])


def test_settings_reach_the_classifier(
    benchmark: CILBenchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[str, Any]] = []

    def noting(pseudo: Any, loss: Any, **settings: Any) -> Any:
        found.append({"loss": loss, "donors": [d.receivers.tolist() for d in pseudo.donors]})
        found[-1] |= settings
        return fit_linear(pseudo, loss, **settings)

    monkeypatch.setattr("avalanche_care.strategies.fetril.fit_linear", noting)
    heads = {}
    for neighbour in (1, 2):
        strategy = fetril(
            classifier="logistic", penalty=3.0, tolerance=1e-3, iterations=7, neighbour=neighbour
        )
        strategy.train(benchmark.train_stream[:2])
        heads[neighbour] = found[-1]
    for settings in heads.values():
        assert settings["loss"] is LOSSES["logistic"]
        assert (settings["penalty"], settings["tolerance"]) == (3.0, 1e-3)
        assert settings["iterations"] == 7
    near, far = (heads[neighbour]["donors"] for neighbour in (1, 2))
    for old in (0, 1):  # of two new classes, the one and the other
        assert [old in receivers for receivers in near] == [old not in r for r in far]


def test_what_is_kept_is_a_mean_per_class() -> None:
    strategy = fetril()
    for task, experience in enumerate(tiny_benchmark("B0-Inc1", 6).train_stream):
        strategy.train(experience)
        (means,) = strategy.method_state().values()
        assert means.shape == (task + 1, 16)
        assert strategy.model.head.weight.shape == (task + 1, 16)


def test_defaults() -> None:
    config = FeTrILConfig()
    assert (config.tuning, config.classifier, config.neighbour) == ("none", "svc", 1)
    assert (config.penalty, config.tolerance, config.iterations) == (1.0, 1e-4, 1000)


@pytest.mark.parametrize("tuning", ["none", "adapter"])
def test_the_network_stays_after_the_first_task(tuning: str, benchmark: CILBenchmark) -> None:
    strategy = fetril(tuning=tuning)
    backbone = state_sha256(strategy.model.backbone)
    strategy.train(benchmark.train_stream[0])
    assert (strategy.clock.train_iterations > 0) is (tuning == "adapter")
    adapted = snapshot(strategy.model.petl)
    strategy.train(benchmark.train_stream[1:])
    for name, value in snapshot(strategy.model.petl).items():
        assert torch.equal(value, adapted[name]), name
    assert state_sha256(strategy.model.backbone) == backbone
    assert not [name for name, p in strategy.model.named_parameters() if p.requires_grad]


def test_going_on_from_a_state(benchmark: CILBenchmark) -> None:
    first, second = fetril(), fetril()
    first.train(benchmark.train_stream[:2])
    second.load_run_state(first.run_state())
    for strategy in (first, second):
        strategy.train(benchmark.train_stream[2])
    after = snapshot(second.model)
    for name, value in snapshot(first.model).items():
        assert torch.equal(after[name], value), name


def test_a_model_from_its_arguments(benchmark: CILBenchmark) -> None:
    strategy = fetril(tuning="adapter", bottleneck=3)
    strategy.train(benchmark.train_stream)
    copy = FeTrILModel.from_arguments(tiny_vit(), strategy.model.arguments())
    assert type(copy) is FeTrILModel
    copy.load_state_dict(strategy.model.state_dict())
    x = torch.randn(3, 3, 16, 16)
    assert torch.equal(copy.eval()(x), strategy.model.eval()(x))


def test_config() -> None:
    with pytest.raises(
        ValueError, match="FeTrILConfig cannot be used:\n- epochs must be positive"
    ) as info:
        FeTrILConfig(epochs=0, classifier="knn", penalty=0.0, neighbour=0, iterations=1.5)  # type: ignore[arg-type]
    for word in ("classifier must", "penalty", "neighbour", "iterations must be an integer"):
        assert word in str(info.value)
