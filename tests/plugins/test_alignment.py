"""Re-aligning the head, against the method's description."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import snapshot, tiny_benchmark, tiny_care, tiny_images, tiny_vit
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from avalanche_care.alignment import cosine_gradient
from avalanche_care.benchmarks import Protocol, class_incremental
from avalanche_care.losses import NonFiniteLossError
from avalanche_care.nn import CaREModel
from avalanche_care.nn.heads import CosineHead
from avalanche_care.plugins import ClassifierAlignmentPlugin
from avalanche_care.plugins.alignment import mean_scales


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# Factors on the means


def test_released_factors() -> None:
    factors = mean_scales(torch.tensor([0] * 10 + [1] * 10), "released").tolist()
    assert factors == pytest.approx([0.95] + [0.90] * 10 + [0.85] * 9)


@pytest.mark.parametrize(("size", "tasks"), [(10, 2), (3, 4), (1, 5), (6, 30)])
def test_released_factors_are_the_descriptions(size: int, tasks: int) -> None:
    task_of = torch.arange(tasks).repeat_interleave(size)
    expected = [0.9 + 0.1 * (1 - math.ceil(c / size)) / tasks for c in range(size * tasks)]
    assert mean_scales(task_of, "released").tolist() == pytest.approx(expected)


def test_released_factors_of_a_large_first_task() -> None:
    """The size is that of the newest task, whatever the others have."""
    task_of = torch.tensor([0] * 7 + [1] * 3 + [2] * 3)
    expected = [0.9 + 0.1 * (1 - math.ceil(c / 3)) / 3 for c in range(13)]
    assert mean_scales(task_of, "released").tolist() == pytest.approx(expected)


def test_intended_and_no_factors() -> None:
    task_of = torch.tensor([0, 0, 0, 1, 1, 2, 3])
    expected = [0.925] * 3 + [0.95] * 2 + [0.975, 1.0]
    assert mean_scales(task_of, "intended").tolist() == pytest.approx(expected)
    assert mean_scales(task_of, "none").tolist() == [1.0] * 7


# The schedule


def test_learning_rate_has_period_five_whatever_the_epochs() -> None:
    plugin = ClassifierAlignmentPlugin(epochs=10, lr=0.3)
    rates = [plugin.learning_rate(epoch) for epoch in range(10)]
    assert rates == pytest.approx([0.3 * (1 + math.cos(math.pi * e / 5)) / 2 for e in range(10)])
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    scheduler = CosineAnnealingLR(optimizer, T_max=5)
    stepped = []
    for _ in range(10):
        stepped.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(stepped, abs=1e-9)


# Fitting and aligning


class Identity(nn.Module):
    """A model whose features are its inputs."""

    def __init__(self, dim: int, tasks: list[list[int]]) -> None:
        super().__init__()
        self.head = CosineHead(dim)
        self.other = nn.Linear(dim, dim)
        for labels in tasks:
            self.head.expand(labels)

    def features(self, x: Tensor) -> Tensor:
        return x


def clouds(model: Identity, per_class: int = 20) -> list[tuple[Tensor, Tensor]]:
    """A batch per class, each around a corner of its own."""
    dim = model.head.dim
    return [
        (3 * F.one_hot(torch.tensor(c), dim) + 0.3 * torch.randn(per_class, dim), label.repeat(20))
        for c, label in enumerate(model.head.labels)
    ]


def test_alignment_draws_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 B samples of each class and C steps on 5 B of them per epoch, at the epoch's rate."""
    model = Identity(6, [[4, 1], [0], [7, 3]])
    plugin = ClassifierAlignmentPlugin(epochs=3, lr=0.1, decay="intended")
    plugin.fit(model, clouds(model))
    drawn: list[tuple[list[int], int, Tensor]] = []
    draw = plugin.gaussians.draw

    def noting(columns: Tensor, chunk: int, *, mean_scale: Tensor, device: Any) -> Any:
        drawn.append((columns.bincount().tolist(), chunk, mean_scale))
        return draw(columns, chunk, mean_scale=mean_scale, device=device)

    batches: list[Tensor] = []
    rates: list[float] = []
    step = torch.optim.SGD.step

    def noting_step(self: torch.optim.SGD, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(plugin.gaussians, "draw", noting)
    monkeypatch.setattr(torch.optim.SGD, "step", noting_step)

    def noting_batch(weight: Tensor, x: Tensor, y: Tensor, scale: float) -> Tensor:
        batches.append(x)
        return cosine_gradient(weight, x, y, scale)

    monkeypatch.setattr("avalanche_care.alignment.cosine_gradient", noting_batch)
    plugin.align(model, batch_size=4)
    factors = [0.9 + 0.1 / 3] * 2 + [0.9 + 0.2 / 3] + [1.0] * 2
    assert [(counts, chunk) for counts, chunk, _ in drawn] == [([20] * 5, 20)] * 3
    assert all(scale.tolist() == pytest.approx(factors) for _, _, scale in drawn)
    assert [batch.shape for batch in batches] == [(20, 6)] * 15
    assert rates == pytest.approx([plugin.learning_rate(e) for e in range(3) for _ in range(5)])
    # Shuffled over classes: no batch is of one class only.
    assert all(len(batch.argmax(1).unique()) > 1 for batch in batches)


def test_batch_size_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Identity(6, [[0, 1]])
    plugin = ClassifierAlignmentPlugin(epochs=1, batch_size=3)
    plugin.fit(model, clouds(model))
    sizes: list[int] = []

    def noting(weight: Tensor, x: Tensor, y: Tensor, scale: float) -> Tensor:
        sizes.append(len(x))
        return torch.zeros_like(weight)

    monkeypatch.setattr("avalanche_care.alignment.cosine_gradient", noting)
    plugin.align(model, batch_size=100)
    assert sizes == [15, 15]


def test_alignment_is_plain_sgd_on_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a loop with modules of PyTorch only, on the same samples."""
    model = Identity(6, [[0, 1], [2]])
    plugin = ClassifierAlignmentPlugin(
        epochs=7, lr=0.2, decay="none", scale=10.0, momentum=0.8, weight_decay=0.01
    )
    plugin.fit(model, clouds(model))
    before = snapshot(model)
    weight = model.head.weight.detach().clone().requires_grad_()
    torch.manual_seed(1)
    plugin.align(model, batch_size=2)
    torch.manual_seed(1)
    optimizer = torch.optim.SGD([weight], lr=0.2, momentum=0.8, weight_decay=0.01)
    scheduler = CosineAnnealingLR(optimizer, T_max=5)
    for _ in range(7):
        y = torch.arange(3).repeat_interleave(10)[torch.randperm(30)]
        (x,) = plugin.gaussians.draw(y, 30)
        for rows in torch.arange(30).split(10):
            optimizer.zero_grad()
            cosines = torch.cosine_similarity(x[rows][:, None], weight[None], dim=2)
            F.cross_entropy(10.0 * cosines, y[rows]).backward()
            optimizer.step()
        scheduler.step()
    torch.testing.assert_close(model.head.weight.detach(), weight.detach(), rtol=1e-4, atol=1e-6)
    for name, value in snapshot(model).items():
        assert torch.equal(value, before[name]) == (name != "head.weight"), name
    assert model.head.weight.grad is None
    assert all(p.grad is None for p in model.parameters())


def test_alignment_learns() -> None:
    model = Identity(6, [[4, 1], [0], [7, 3]])
    plugin = ClassifierAlignmentPlugin(epochs=5, lr=0.01)
    batches = clouds(model)
    plugin.fit(model, batches)
    plugin.align(model, batch_size=16)
    for x, y in batches:
        assert (model.head(x).argmax(1) == model.head.columns(y)).float().mean() > 0.8


def test_fit_takes_the_batches_together_and_replaces() -> None:
    model = Identity(4, [[5, 2]])
    plugin = ClassifierAlignmentPlugin()
    x, y = torch.randn(20, 4), torch.tensor([5, 2] * 10)
    plugin.fit(model, [(torch.randn(4, 4), torch.tensor([2, 5, 2, 5]))])
    plugin.fit(model, [(x[:7], y[:7]), (x[7:8], y[7:8]), (x[8:], y[8:])])
    assert len(plugin.gaussians) == 2
    for column, label in enumerate((2, 5)):
        torch.testing.assert_close(plugin.gaussians.mean(column), x[y == label].mean(0))
        expected = torch.cov(x[y == label].T) + 1e-4 * torch.eye(4)
        torch.testing.assert_close(plugin.gaussians.matrix(column), expected)


def test_errors() -> None:
    model = Identity(4, [[0, 1], [2, 3]])
    plugin = ClassifierAlignmentPlugin()
    with pytest.raises(ValueError, match="class in column 3 has no training images"):
        plugin.fit(model, [(torch.randn(4, 4), torch.tensor([0, 1, 2, 2]))])
    with pytest.raises(RuntimeError, match=r"classes in columns \[3\] have no Gaussian: call fit"):
        plugin.align(model, batch_size=4)
    with pytest.raises(ValueError, match=r"epochs must not be negative, got -1; decay must"):
        ClassifierAlignmentPlugin(epochs=-1, decay="x")
    with pytest.raises(ValueError, match="covariance must be one of"):
        ClassifierAlignmentPlugin(covariance="x")


def test_no_epochs_leave_the_head_alone() -> None:
    model = Identity(4, [[0, 1]])
    plugin = ClassifierAlignmentPlugin(epochs=0)
    plugin.fit(model, clouds(model))
    before = model.head.weight.detach().clone()
    plugin.align(model, batch_size=4)
    assert torch.equal(model.head.weight, before)


def test_offloading_the_statistics_changes_nothing(tmp_path: Path) -> None:
    weights = []
    for offload in (None, "cpu", tmp_path):
        torch.manual_seed(0)
        model = Identity(6, [[4, 1], [0], [7, 3]])
        plugin = ClassifierAlignmentPlugin(epochs=2, offload=offload)
        batches = clouds(model)
        for _ in range(2):  # after each phase
            plugin.fit(model, batches)
            plugin.align(model, batch_size=4)
        weights.append(model.head.weight.detach())
        assert torch.equal(weights[0], weights[-1])
    assert len([*tmp_path.glob("*/factor.*")]) == 5
    with pytest.raises(ValueError, match="got 'nowhere': it does not exist"):
        ClassifierAlignmentPlugin(offload="nowhere")


def test_automatic_acts_after_an_experience_and_not_otherwise() -> None:
    model = CaREModel(tiny_vit())
    model.expand(0, [0, 1])
    model.train()
    experience = tiny_benchmark().train_stream[0]
    strategy = SimpleNamespace(
        model=model, experience=experience, eval_mb_size=5, train_mb_size=4, device="cpu"
    )
    for automatic in (False, True):
        before = model.head.weight.detach().clone()
        plugin = ClassifierAlignmentPlugin(epochs=1, automatic=automatic)
        plugin.after_training_exp(strategy)
        assert len(plugin.gaussians) == 2 * automatic
        assert torch.equal(before, model.head.weight) == (not automatic)
        assert next(model.layers()).training
        assert not model.backbone.training


@pytest.mark.parametrize("two_phases", [True, False])
def test_nan_features_do_not_reach_the_head(two_phases: bool) -> None:
    """A test transform can make NaN (a constant image, say) where the training one does not."""
    broken: list[bool] = []

    def transform(image: Tensor) -> Tensor:
        return torch.full_like(image, torch.nan) if broken else image

    benchmark = class_incremental(
        tiny_images(4),
        tiny_images(4, split=1),
        Protocol(0, 2, n_classes=4),
        eval_transform=transform,
        name="tiny",
    )
    strategy = tiny_care(two_phases=two_phases)
    strategy.train(benchmark.train_stream[0])
    broken.append(True)
    with pytest.raises((NonFiniteLossError, ValueError)):
        strategy.train(benchmark.train_stream[1])
    assert torch.isfinite(strategy.model.head.weight).all()
