"""FSA: discriminants of all images so far, an adaptation that ends with the first session."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import snapshot, tiny_benchmark, tiny_images, tiny_vit, with_targets

from avalanche_care.benchmarks import CILBenchmark, Protocol
from avalanche_care.nn.fsa import SessionHead
from avalanche_care.nn.linear import LinearClassifier
from avalanche_care.nn.weights import state_sha256
from avalanche_care.strategies.fsa import PRESETS, FSAConfig, FSAStrategy, StepPhase


def fsa(**config: Any) -> FSAStrategy:
    settings = FSAConfig(**{"epochs": 2, "batch_size": 4, **config})
    return FSAStrategy(model=tiny_vit(), config=settings, evaluator=None)


@pytest.mark.parametrize("tuning", ["film", "finetune", "none"])
@pytest.mark.parametrize("covariance", ["total", "within"])
def test_the_head_is_that_of_all_images_at_once(tuning: str, covariance: str) -> None:
    """With numpy, on tasks of unequal sizes and classes of unequal numbers of images."""
    images, labels = tiny_images(6, per_class=9).tensors
    kept = torch.arange(54) % 9 < 3 + labels
    train = with_targets(images[kept], labels[kept])
    strategy = fsa(tuning=tuning, covariance=covariance, ridge=0.3)
    protocol = "B2-Inc3"  # a first task of one class would teach the network nothing
    strategy.train(tiny_benchmark(protocol, 6, train=train).train_stream)
    columns = np.argsort(Protocol.parse(protocol, n_classes=6).class_order)[labels[kept]]
    with torch.no_grad():
        x = strategy.model.eval().features(images[kept]).double().numpy()
        frozen = strategy.model.backbone(images[kept]).double().numpy()
    assert np.allclose(x, frozen, atol=1e-3) is (tuning == "none")
    means = np.stack([x[columns == c].mean(0) for c in range(6)])
    if covariance == "total":
        spread = np.cov(x.T)
    else:
        spread = (x - means[columns]).T @ (x - means[columns]) / (len(x) - 6)
    inverse = np.linalg.inv(spread + 0.3 * np.eye(16))
    head = strategy.model.head
    assert head.labels.tolist() == list(range(6))
    np.testing.assert_allclose(head.weight.numpy(), means @ inverse, rtol=2e-4, atol=1e-4)
    bias = -np.einsum("cd,de,ce->c", means, inverse, means) / 2
    np.testing.assert_allclose(head.bias.numpy(), bias, rtol=2e-4, atol=1e-4)


def test_the_order_of_tasks_makes_no_difference() -> None:
    found = []
    for order in (range(3), (2, 0, 1)):
        strategy = fsa(tuning="none")
        for task in order:
            strategy.train(tiny_benchmark().train_stream[task])
        head = strategy.model.head
        places = head.labels.argsort()
        found.append((head.weight[places], head.bias[places]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_a_constant_on_all_biases_changes_no_prediction(benchmark: CILBenchmark) -> None:
    strategy = fsa(tuning="none")
    strategy.train(benchmark.train_stream)
    x = tiny_images(6, split=1).tensors[0]
    model = strategy.model.eval()
    expected = model(x)
    model.head.bias += 7.5
    assert torch.equal(model(x).argmax(1), expected.argmax(1))
    torch.testing.assert_close(model(x), expected + 7.5)


def test_film_is_the_identity_at_the_start() -> None:
    strategy = fsa()
    x = tiny_images(2).tensors[0]
    model = strategy.model.eval()
    assert torch.equal(model.features(x), model.backbone(x))
    # Two LayerNorms in each of two blocks and the last one, a scale and a shift per channel.
    assert sum(p.numel() for p in model.petl.parameters()) == 5 * 2 * 16


@pytest.mark.parametrize("tuning", ["film", "finetune"])
def test_only_the_first_session_trains(tuning: str, benchmark: CILBenchmark) -> None:
    strategy = fsa(tuning=tuning)
    backbone, fresh = state_sha256(strategy.model.backbone), snapshot(strategy.model.petl)
    strategy.train(benchmark.train_stream[0])
    adapted = snapshot(strategy.model.petl)
    for name, p in strategy.model.petl.named_parameters():
        assert not torch.equal(p, fresh[name]) or "patch_embed.proj.bias" in name, name
    strategy.train(benchmark.train_stream[1:])
    assert not [name for name, p in strategy.model.named_parameters() if p.requires_grad]
    for name, value in snapshot(strategy.model.petl).items():
        assert torch.equal(value, adapted[name]), name
    assert state_sha256(strategy.model.backbone) == backbone


def test_without_tuning_nothing_trains(benchmark: CILBenchmark) -> None:
    strategy = fsa(tuning="none")
    strategy.train(benchmark.train_stream[0])
    assert strategy.clock.train_iterations == 0


def test_the_optimizer_and_the_temporary_head(benchmark: CILBenchmark) -> None:
    strategy = fsa(epochs=5, milestones=(2, 4), decay=0.5, dropout=0.25)
    rates: list[float] = []
    original = strategy.optimizer_step

    def noting() -> None:
        head = strategy._temporary
        assert isinstance(head, SessionHead)
        assert head.dropout == 0.25
        assert head.linear.weight.shape == (2, 16)
        assert type(strategy.optimizer) is torch.optim.Adam
        trained = {id(p) for group in strategy.optimizer.param_groups for p in group["params"]}
        both = [*strategy.model.petl.parameters(), *head.parameters()]
        assert trained == {id(p) for p in both}
        assert all(p.grad is not None for p in both)
        assert all(p.grad is None for p in strategy.model.head.parameters())
        rates.append(strategy.optimizer.param_groups[0]["lr"])
        original()

    strategy.optimizer_step = noting  # type: ignore[method-assign]
    strategy.train(benchmark.train_stream[:2])
    expected = [0.005, 0.005, 0.0025, 0.0025, 0.00125]
    assert rates == pytest.approx([rate for rate in expected for _ in range(3)])
    assert strategy._temporary is None


def test_rates_of_the_release() -> None:
    config = FSAConfig()
    phase = StepPhase("x", 200, config.lr, milestones=config.milestones, decay=config.decay)
    rates = [phase.learning_rate(e) for e in (0, 49, 50, 99, 100, 149, 150, 199)]
    expected = [0.005 * 0.7**k for k in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert rates == pytest.approx(expected)


def test_defaults_are_those_of_the_release() -> None:
    config = FSAConfig()
    assert (config.tuning, config.ridge, config.covariance) == ("film", 1.0, "total")
    assert (config.epochs, config.batch_size, config.dropout) == (200, 256, 0.5)
    assert PRESETS["cifar100/B20-Inc10"] == {}
    assert PRESETS["few-shot"] == {"milestones": (25, 50, 100), "decay": 0.3}
    (group,) = fsa().build_optimizer(config.lr).param_groups
    assert (group["weight_decay"], group["betas"]) == (0, (0.9, 0.999))


def test_tasks_of_a_single_image() -> None:
    data = tiny_images(4, per_class=1)
    strategy = fsa()
    strategy.train(tiny_benchmark("B0-Inc1", 4, train=data).train_stream)
    head = strategy.model.head
    assert torch.isfinite(head.weight).all()
    predictions = strategy.model.eval()(data.tensors[0]).argmax(1)
    order = torch.tensor(Protocol.parse("B0-Inc1", n_classes=4).class_order)
    assert torch.equal(order[predictions], data.tensors[1])


def test_what_is_kept_is_one_matrix_and_a_row_per_class() -> None:
    strategy = fsa(tuning="none")
    for task, experience in enumerate(tiny_benchmark("B0-Inc1", 6).train_stream):
        strategy.train(experience)
        kept = strategy.method_state().values()
        assert sum(t.nbytes for t in kept) == 8 * (16 * 16 + (task + 1) * (16 + 1))


def test_dropout_of_the_temporary_head() -> None:
    head = SessionHead(400, 3, dropout=0.5)
    with torch.no_grad():
        head.linear.weight.fill_(1.0)
        head.linear.bias.zero_()
    x = torch.ones(1, 400)
    torch.testing.assert_close(head.eval()(x), torch.full((1, 3), 400.0))
    kept = head.train()(x) / 2
    assert (kept == kept.round()).all()
    assert 150 < float(kept[0, 0].detach()) < 250


def test_going_on_from_a_state(benchmark: CILBenchmark) -> None:
    first, second = fsa(), fsa()
    first.train(benchmark.train_stream[:2])
    second.load_run_state(first.run_state())
    for strategy in (first, second):
        strategy.train(benchmark.train_stream[2])
    after = snapshot(second.model)
    for name, value in snapshot(first.model).items():
        assert torch.equal(after[name], value), name


@pytest.mark.parametrize("tuning", ["film", "finetune", "none"])
def test_a_model_from_its_arguments(tuning: str, benchmark: CILBenchmark) -> None:
    strategy = fsa(tuning=tuning)
    strategy.train(benchmark.train_stream)
    copy = LinearClassifier.from_arguments(tiny_vit(), strategy.model.arguments())
    copy.load_state_dict(strategy.model.state_dict())
    x = torch.randn(3, 3, 16, 16)
    assert torch.equal(copy.eval()(x), strategy.model.eval()(x))


def test_config() -> None:
    assert FSAConfig.preset("few-shot", ridge=2.0).milestones == (25, 50, 100)
    assert all(FSAConfig.preset(name) for name in PRESETS)
    with pytest.raises(ValueError, match="no FSA preset 'few-shots'; did you mean 'few-shot'"):
        FSAConfig.preset("few-shots")
    with pytest.raises(
        ValueError, match="FSAConfig cannot be used:\n- epochs must be positive"
    ) as info:
        FSAConfig(
            tuning="lora",
            epochs=0,
            batch_size=1.5,  # type: ignore[arg-type]
            milestones=(0,),
            dropout=1.0,
            ridge=-1.0,
            covariance="full",
        )
    for word in ("tuning must", "batch_size", "milestones", "dropout", "ridge", "covariance must"):
        assert word in str(info.value)
