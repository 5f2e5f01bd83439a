"""RanPAC against numpy: sums, regression and regulariser; what trains, and what stays."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tiny import snapshot, tiny_benchmark, tiny_images, tiny_vit, with_targets
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.benchmarks import CILBenchmark, Protocol
from avalanche_care.nn.petl import KINDS
from avalanche_care.nn.ranpac import RandomProjection, RanPACModel, RegressionHead
from avalanche_care.nn.ridge import RIDGES
from avalanche_care.nn.weights import state_sha256
from avalanche_care.strategies.phases import Computation, TrainingPhase
from avalanche_care.strategies.ranpac import RanPACStrategy
from avalanche_care.strategies.ranpac_config import PRESETS, RanPACConfig

QUICK: dict[str, Any] = {"projection": 40, "projection_seed": 3, "epochs": 2, "batch_size": 8}


def ranpac(**config: Any) -> RanPACStrategy:
    return RanPACStrategy(
        model=tiny_vit(), config=RanPACConfig(**{**QUICK, **config}), evaluator=None
    )


def all_data(strategy: RanPACStrategy, experiences: Any) -> tuple[np.ndarray, np.ndarray]:
    """h of all training images in one pass, and one-hot targets in the order of the columns."""
    model = strategy.model.eval()
    images, labels = [], []
    for experience in experiences:
        data = experience.dataset.eval()
        images += [data[i][0] for i in range(len(data))]
        labels += [int(data[i][1]) for i in range(len(data))]
    with torch.no_grad():
        h = model.features(torch.stack(images)).double().numpy()
    columns = model.head.columns(torch.tensor(labels)).numpy()
    return h, np.eye(model.head.n_classes)[columns]


@pytest.mark.parametrize("tuning", ["none", "adapter", "ssf", "vpt-deep"])
@pytest.mark.parametrize("projection", [40, 0])
def test_streaming_equals_the_closed_form_on_all_data(tuning: str, projection: int) -> None:
    """Tasks of unequal sizes, then one regression on everything with numpy."""
    benchmark = tiny_benchmark("B1-Inc3", 6)  # 1, 3 and 2 classes
    strategy = ranpac(tuning=tuning, projection=projection, ridge=0.5)
    strategy.train(benchmark.train_stream)
    h, targets = all_data(strategy, benchmark.train_stream)
    moments = strategy.moments
    assert moments is not None
    scale = np.abs(h.T @ h).max()
    np.testing.assert_allclose(moments.gram.numpy(), h.T @ h, rtol=1e-5, atol=1e-6 * scale)
    np.testing.assert_allclose(moments.sums.numpy(), targets.T @ h, rtol=1e-5, atol=1e-5)
    rows = np.concatenate([h, 0.5**0.5 * np.eye(h.shape[1])])
    augmented = np.concatenate([targets, np.zeros((h.shape[1], targets.shape[1]))])
    expected = np.linalg.lstsq(rows, augmented, rcond=None)[0].T
    np.testing.assert_allclose(strategy.model.head.weight.numpy(), expected, rtol=1e-3, atol=1e-5)
    assert strategy.ridges == [0.5] * 3


def test_the_order_of_tasks_makes_no_difference() -> None:
    """Without adaptation and with the same regulariser."""
    found = []
    for order in (range(3), (2, 0, 1)):
        strategy = ranpac(tuning="none", ridge=10.0)
        for task in order:
            strategy.train(tiny_benchmark().train_stream[task])
        head = strategy.model.head
        found.append(head.weight[head.labels.argsort()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


def test_the_batch_size_makes_no_difference(benchmark: CILBenchmark) -> None:
    weights = []
    for size in (1, 64):
        strategy = ranpac(tuning="none", ridge=10.0)
        strategy.eval_mb_size = size
        strategy.train(benchmark.train_stream)
        weights.append(strategy.model.head.weight)
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)


def slow_ridge(h: np.ndarray, targets: np.ndarray) -> float:
    """The regulariser of least squared error on the last fifth, fitted on the rest."""
    cut, errors = int(0.8 * len(h)), []
    for ridge in RIDGES:
        gram = h[:cut].T @ h[:cut] + ridge * np.eye(h.shape[1])
        solution = np.linalg.lstsq(gram, h[:cut].T @ targets[:cut], rcond=None)[0]
        errors.append(((h[cut:] @ solution - targets[cut:]) ** 2).mean())
    return float(RIDGES[int(np.argmin(errors))])


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Random orders that can be asked for again: one per number of images."""

    def order(n: int) -> Tensor:
        return torch.tensor(np.random.RandomState(n).permutation(n))

    monkeypatch.setattr(torch, "randperm", order)
    return order


@pytest.mark.parametrize("projection", [40, 12])
def test_the_regulariser_is_chosen_on_the_current_task_alone(projection: int, orders: Any) -> None:
    """Every task's choice is that of numpy on its images in the same random order."""
    benchmark = tiny_benchmark(train=noisy_images())
    strategy = ranpac(tuning="none", projection=projection)
    expected = []
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        h, targets = own_data(strategy, benchmark, task)
        order = orders(len(h)).numpy()
        expected.append(slow_ridge(h[order], targets[order]))
    assert strategy.ridges == expected
    assert len(set(expected)) > 1  # else it would say little


def noisy_images() -> Any:
    """Classes that overlap, so that the best regulariser is neither end of the grid."""
    images, labels = tiny_images(6, per_class=10).tensors
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(5))
    strength = torch.tensor([0.5, 0.5, 1.0, 1.0, 3.0, 3.0])[labels]
    return with_targets(images + strength[:, None, None, None] * noise, labels)


def own_data(
    strategy: RanPACStrategy, benchmark: CILBenchmark, task: int
) -> tuple[np.ndarray, np.ndarray]:
    """h of a task's images, and one-hot targets with a column for every class of the benchmark."""
    h, targets = all_data(strategy, [benchmark.train_stream[task]])
    return h, np.pad(targets, ((0, 0), (0, 6 - targets.shape[1])))


def test_old_sums_have_no_say_unless_they_are_asked() -> None:
    benchmark = tiny_benchmark(train=noisy_images())
    chosen = {}
    for choice in ("task", "running"):
        for factor in (1.0, 1e6):
            strategy = ranpac(tuning="none", ridge_choice=choice)
            strategy.train(benchmark.train_stream[0])
            for sums in (strategy.moments, strategy.held):
                if sums is not None:
                    sums.gram *= factor
            torch.manual_seed(1)
            strategy.train(benchmark.train_stream[1])
            chosen[choice, factor] = strategy.ridges[1]
    assert chosen["task", 1.0] == chosen["task", 1e6]
    assert chosen["running", 1.0] != chosen["running", 1e6]


def test_the_choice_on_running_sums_is_that_on_all_images(orders: Any) -> None:
    benchmark = tiny_benchmark(train=noisy_images())
    strategy = ranpac(tuning="none", ridge_choice="running")
    fit: list[Any] = []
    held: list[Any] = []
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        h, targets = own_data(strategy, benchmark, task)
        order = orders(len(h)).numpy()
        cut = int(0.8 * len(h))
        fit.append((h[order[:cut]], targets[order[:cut]]))
        held.append((h[order[cut:]], targets[order[cut:]]))
    x, y = (np.concatenate(part) for part in zip(*fit, *held, strict=True))
    assert len(x) == 60
    expected = slow_ridge(x, y)  # 48 to fit on, 12 to score on
    assert strategy.ridges[2] == expected
    assert RIDGES[0] < expected < RIDGES[-1]


@pytest.mark.parametrize("choice", ["task", "running"])
def test_tasks_of_a_single_image(choice: str) -> None:
    images, labels = tiny_images(4, per_class=1).tensors
    strategy = ranpac(tuning="none", ridge_choice=choice)
    benchmark = tiny_benchmark("B0-Inc1", 4, train=with_targets(images, labels))
    strategy.train(benchmark.train_stream)
    assert strategy.ridges == [1.0] * 4
    assert torch.isfinite(strategy.model.head.weight).all()


def test_a_single_image_keeps_the_regulariser_of_the_task_before() -> None:
    images, labels = noisy_images().tensors
    newest = Protocol.parse("B2-Inc1", n_classes=3).class_order[-1]
    kept = (labels < 3) & ((labels != newest) | (torch.arange(60) == 10 * newest))
    benchmark = tiny_benchmark("B2-Inc1", 3, train=with_targets(images[kept], labels[kept]))
    assert len(benchmark.train_stream[1].dataset) == 1
    strategy = ranpac(tuning="none")
    strategy.train(benchmark.train_stream)
    first, second = strategy.ridges
    assert first == second > RIDGES[0]


def test_random_features() -> None:
    projection = RandomProjection(16, 3000, seed=3)
    f = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    h = projection(f)
    assert (h >= 0).all()
    assert 0.45 < float((h == 0).float().mean()) < 0.55
    torch.testing.assert_close(h, (f @ projection.weight).clamp_min(0))
    assert float(projection.weight.mean()) == pytest.approx(0, abs=0.02)
    assert float(projection.weight.std()) == pytest.approx(1, abs=0.02)
    assert torch.equal(projection.weight, RandomProjection(16, 3000, seed=3).weight)
    assert not list(projection.parameters())


def test_the_random_matrix_follows_the_run_s_seed_unless_it_has_its_own() -> None:
    weights = []
    for seed, own in ((1, None), (1, None), (2, None), (1, 5), (2, 5)):
        torch.manual_seed(seed)
        projection = ranpac(projection_seed=own).model.projection
        assert projection is not None
        weights.append(projection.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(weights[3], weights[4])


def test_without_projection_there_is_no_relu(benchmark: CILBenchmark) -> None:
    strategy = ranpac(tuning="none", projection=0)
    strategy.train(benchmark.train_stream[0])
    x = torch.randn(4, 3, 16, 16)
    features = strategy.model.backbone(x)
    assert (features < 0).any()
    assert torch.equal(strategy.model.features(x), features)
    assert strategy.model.head.weight.shape == (2, 16)


def test_blocks_of_random_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avalanche_care.nn.ranpac.BLOCK", 7)
    model = RanPACModel(tiny_vit(), 40)
    f = torch.randn(5, 16)
    assert model.projection is not None
    torch.testing.assert_close(torch.cat([*model.lift(f)], 1), model.projection(f))
    assert [part.shape[1] for part in model.lift(f)] == [7] * 5 + [5]


def test_scores_are_linear() -> None:
    """A factor on h changes no prediction; one on a class's weights does: it is no cosine."""
    head = RegressionHead(8)
    head.expand(range(4))
    head.requires_grad_(False)
    h = torch.rand(200, 8, generator=torch.Generator().manual_seed(0))
    predictions = head(h).argmax(1)
    assert torch.equal(head(3.7 * h).argmax(1), predictions)
    torch.testing.assert_close(head(h), h @ head.weight.T)
    head.weight[1] *= 50
    assert not torch.equal(head(h).argmax(1), predictions)


@pytest.mark.parametrize("tuning", ["adapter", "ssf", "vpt-shallow", "vpt-deep", "finetune"])
def test_only_the_first_task_trains(tuning: str, benchmark: CILBenchmark) -> None:
    strategy = ranpac(tuning=tuning)
    fresh = snapshot(strategy.model.petl)
    backbone = state_sha256(strategy.model.backbone)
    strategy.train(benchmark.train_stream[0])
    adapted = snapshot(strategy.model.petl)
    assert any(not torch.equal(adapted[name], value) for name, value in fresh.items())
    assert not [name for name, p in strategy.model.named_parameters() if p.requires_grad]
    for experience in benchmark.train_stream[1:]:
        strategy.train(experience)
        assert not [name for name, p in strategy.model.named_parameters() if p.requires_grad]
    for name, value in snapshot(strategy.model.petl).items():
        assert torch.equal(value, adapted[name]), name
    assert state_sha256(strategy.model.backbone) == backbone


def test_gradients_reach_what_trains_and_nothing_else(benchmark: CILBenchmark) -> None:
    strategy = ranpac()
    reached: set[str] = set()
    original = strategy.optimizer_step

    def noting() -> None:
        names = dict(strategy.model.named_parameters())
        reached.update(name for name, p in names.items() if p.grad is not None)
        assert strategy._temporary is not None
        assert all(p.grad is not None for p in strategy._temporary.parameters())
        original()

    strategy.optimizer_step = noting  # type: ignore[method-assign]
    strategy.train(benchmark.train_stream[:2])
    assert reached == {f"petl.{name}" for name, _ in strategy.model.petl.named_parameters()}


def test_the_sums_are_of_the_adapted_network(benchmark: CILBenchmark) -> None:
    """Those of the first task too: computed after the adaptation, without dropout."""
    strategy = ranpac()
    assert [type(p) for p in first_phases(strategy)] == [TrainingPhase, Computation]
    strategy.train(benchmark.train_stream[0])
    h, targets = all_data(strategy, benchmark.train_stream[:1])
    assert strategy.moments is not None
    np.testing.assert_allclose(strategy.moments.sums.numpy(), targets.T @ h, rtol=1e-5, atol=1e-5)
    images = tiny_images(2).tensors[0]
    plain = strategy.model.backbone(images)
    assert not torch.allclose(strategy.model.adapted_features(images), plain, atol=1e-4)


def first_phases(strategy: RanPACStrategy) -> list[Any]:
    strategy.model.expand(0, [0, 1])
    phases = strategy.phases()
    strategy.model.head = RegressionHead(strategy.model.head.dim)
    return phases


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_precision(precision: str, benchmark: CILBenchmark) -> None:
    strategy = ranpac(precision=precision, tuning="none", ridge_choice="running")
    strategy.train(benchmark.train_stream[:2])
    assert strategy.moments is not None
    assert strategy.held is not None
    assert {strategy.moments.gram.dtype, strategy.held.sums.dtype} == {getattr(torch, precision)}
    assert strategy.model.head.weight.dtype == torch.float32
    assert torch.isfinite(strategy.model.head.weight).all()


@pytest.mark.parametrize("choice", ["task", "running"])
def test_going_on_from_a_state(choice: str, benchmark: CILBenchmark) -> None:
    first = ranpac(ridge_choice=choice, projection_seed=None)
    first.train(benchmark.train_stream[:2])
    copied = torch.utils._pytree.tree_map(
        lambda v: v.clone() if isinstance(v, Tensor) else v, first.run_state()
    )
    first.train(benchmark.train_stream[2])
    torch.manual_seed(99)
    second = ranpac(ridge_choice=choice, projection_seed=None)
    second.load_run_state(copied)
    second.train(benchmark.train_stream[2])
    assert second.ridges == first.ridges
    sums, expected = second.method_state(), first.method_state()
    assert set(sums) == {"moments", "ridges", *(["held"] if choice == "running" else [])}
    for name in set(sums) - {"ridges"}:
        for part, value in expected[name].items():
            assert torch.equal(sums[name][part], value), (name, part)
    after = snapshot(second.model)
    for name, value in snapshot(first.model).items():
        assert torch.equal(after[name], value), name


def test_a_model_from_its_arguments(benchmark: CILBenchmark) -> None:
    strategy = ranpac(tuning="vpt-deep", tokens=2)
    strategy.train(benchmark.train_stream)
    copy = RanPACModel.from_arguments(tiny_vit(), strategy.model.arguments())
    copy.load_state_dict(strategy.model.state_dict())
    x = torch.randn(3, 3, 16, 16)
    assert torch.equal(copy.eval()(x), strategy.model.eval()(x))
    for size in (0, 24):
        model = RanPACModel.from_arguments(tiny_vit(), ranpac(projection=size).model.arguments())
        assert model.head.dim == (size or 16)
        assert (model.projection is None) is (size == 0)


def test_one_factorisation_per_task(
    benchmark: CILBenchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda a: calls.append(len(a)) or original(a))
    ranpac(tuning="none", ridge=1.0).train(benchmark.train_stream)
    assert calls == [40] * 3


def test_a_singular_matrix_is_noted_with_the_regulariser_that_was_used(
    benchmark: CILBenchmark, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = ranpac(tuning="none", ridge=1e-8, precision="float32")  # 12 images, 40 features
    strategy.train(benchmark.train_stream[0])
    (used,) = strategy.ridges
    assert used > 1e-8
    assert f"using {used:g}" in caplog.text
    assert strategy.moments is not None
    gram, sums = (t.double() for t in (strategy.moments.gram, strategy.moments.sums))
    expected = torch.linalg.solve(gram + used * torch.eye(40), sums.T).T
    torch.testing.assert_close(strategy.model.head.weight.double(), expected, rtol=0.1, atol=1e-2)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_precision_of_the_choice(
    precision: str, benchmark: CILBenchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[torch.dtype] = []
    original = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda a: found.append(a.dtype) or original(a))
    ranpac(tuning="none", precision=precision).train(benchmark.train_stream)
    assert found == [getattr(torch, precision)] * 3


def test_images_of_an_earlier_class_count_too(orders: Any) -> None:
    """Sums do not ask when an image came, nor does the choice of the regulariser."""
    stream = tiny_benchmark(train=noisy_images()).train_stream
    strategy = ranpac(tuning="none")
    strategy.train(stream[0])
    both = copy.copy(stream[1])
    both._dataset = stream[1].dataset.concat(stream[0].dataset)
    strategy.train(both)
    h, targets = all_data(strategy, [both])
    order = orders(len(h)).numpy()
    assert strategy.ridges[1] == slow_ridge(h[order], targets[order])
    assert strategy.moments is not None
    assert strategy.moments.counts.tolist() == [20, 20, 10, 10]


def test_a_given_regulariser_needs_no_second_sums(benchmark: CILBenchmark) -> None:
    strategy = ranpac(tuning="none", ridge=1.0, ridge_choice="running")
    strategy.train(benchmark.train_stream)
    assert strategy.held is None
    assert strategy.ridges == [1.0] * 3


@pytest.mark.parametrize("choice", ["task", "running"])
def test_what_is_kept_is_one_matrix_whatever_the_number_of_tasks(choice: str) -> None:
    """Or two, to choose on running sums; M numbers per class more, and nothing of an image."""
    strategy = ranpac(tuning="none", ridge_choice=choice)
    size = 40
    for task, experience in enumerate(tiny_benchmark("B0-Inc1", 6).train_stream):
        strategy.train(experience)
        state, classes = strategy.method_state(), task + 1
        kept = [value for name in ("moments", "held") for value in state.get(name, {}).values()]
        numbers = size * size + classes * size + classes
        assert sum(t.nbytes for t in kept) == 8 * numbers * (2 if choice == "running" else 1)
        assert len(state["ridges"]) == classes
        learned = sum(p.numel() for p in strategy.model.head.parameters())
        assert learned == classes * size


@pytest.mark.parametrize("ridge", [1.0, None])
def test_random_features_are_computed_in_blocks(
    ridge: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With M = 10,000 those of 17,000 images at once would take 1.4 GB."""
    for place, size in (("strategies.ranpac.ROWS", 16), ("nn.ridge.ROWS", 16)):
        monkeypatch.setattr(f"avalanche_care.{place}", size)
    monkeypatch.setattr("avalanche_care.nn.ranpac.BLOCK", 64)
    sizes: list[int] = []
    original = RanPACModel.lift

    def noting(self: RanPACModel, features: Tensor) -> Any:
        for part in original(self, features):
            sizes.append(part.numel())
            yield part

    monkeypatch.setattr(RanPACModel, "lift", noting)
    train = tiny_images(2, per_class=200)
    strategy = ranpac(tuning="none", projection=256, ridge=ridge)
    strategy.train(tiny_benchmark("B0-Inc2", 2, train=train).train_stream)
    assert max(sizes) == 16 * 64
    images = 400 if ridge else 801  # a second time for the choice, after one that tells the width
    assert sum(sizes) == images * 256


def test_defaults_are_those_of_the_release() -> None:
    config = RanPACConfig()
    training = (config.epochs, config.lr, config.batch_size, config.momentum, config.weight_decay)
    assert training == (20, 0.01, 48, 0.9, 5e-4)
    assert (config.tuning, config.tokens, config.head_scale) == ("adapter", 5, 1.0)
    regression = (config.projection, config.projection_seed, config.ridge, config.ridge_choice)
    assert (*regression, config.precision) == (10_000, None, None, "task", "float64")
    strategy = ranpac()
    strategy._temporary = strategy.temporary_head()
    (group,) = strategy.build_optimizer(0.01).param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.9, 5e-4)
    (phase,) = [p for p in first_phases(strategy) if isinstance(p, TrainingPhase)]
    assert [phase.learning_rate(e) for e in (0, 1)] == pytest.approx([0.01, 0.005])  # of 2 epochs


def test_every_preset_differs_from_the_defaults_in_the_tuning_alone() -> None:
    tuning = {
        "cifar100": "adapter",
        "cub": "adapter",
        "objectnet": "adapter",
        "imagenet-r": "ssf",
        "imagenet-a": "ssf",
        "vtab": "ssf",
        "omnibenchmark": "vpt-deep",
        "omnibenchmark1k": "vpt-deep",
    }
    assert {name.split("/")[0] for name in PRESETS} == set(tuning)
    for name in PRESETS:
        assert RanPACConfig.preset(name) == RanPACConfig(tuning=tuning[name.split("/")[0]]), name


def test_presets() -> None:
    assert RanPACConfig.preset("imagenet-r/B0-Inc20") == RanPACConfig(tuning="ssf")
    assert RanPACConfig.preset("cifar100/B0-Inc10", epochs=3) == RanPACConfig(epochs=3)
    assert RanPACConfig.preset("omnibenchmark/B0-Inc30").tuning_options() == {"tokens": 5}
    assert {RanPACConfig.preset(name).tuning for name in PRESETS} <= set(KINDS)
    with pytest.raises(ValueError, match="no RanPAC preset 'cifar100/B0-Inc1'; did you mean"):
        RanPACConfig.preset("cifar100/B0-Inc1")


def test_everything_wrong_with_a_config_is_said_at_once() -> None:
    with pytest.raises(
        ValueError, match="RanPACConfig cannot be used:\n- tuning must be one of"
    ) as info:
        RanPACConfig(
            tuning="lora",
            epochs=0,
            batch_size=2.5,  # type: ignore[arg-type]
            momentum=1.0,
            weight_decay=-1.0,
            projection=-1,
            ridge=0.0,
            ridge_choice="all",
            precision="half",
        )
    for word in ("epochs", "batch_size", "momentum", "weight_decay", "projection", "ridge must"):
        assert word in str(info.value)
    for word in ("ridge_choice", "precision"):
        assert word in str(info.value)


def test_the_first_phase_has_a_cosine_head_that_is_thrown_away(benchmark: CILBenchmark) -> None:
    strategy = ranpac()
    losses: list[float] = []
    original = strategy.training_loss

    def noting() -> Tensor:
        head: Any = strategy._temporary
        f = strategy.model.adapted_features(strategy.mb_x)
        strategy_loss = original()
        if not losses:  # dropout does nothing yet: the adapter is zero
            assert float(head.scale.detach()) == 1.0
            cosines = F.cosine_similarity(f[:, None], head.weight[None], dim=2)
            torch.testing.assert_close(strategy_loss, F.cross_entropy(cosines, strategy.mb_y))
        losses.append(float(strategy_loss.detach()))
        return strategy_loss

    strategy.training_loss = noting  # type: ignore[method-assign]
    strategy.train(benchmark.train_stream[0])
    assert len(losses) == 4  # 12 images, batches of 8, 2 epochs
    assert strategy._temporary is None
    strategy.train(benchmark.train_stream[1])
    assert len(losses) == 4
