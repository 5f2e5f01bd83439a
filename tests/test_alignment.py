"""The loop that trains a head on samples of class Gaussians."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from avalanche_care.alignment import align_head, cosine_gradient
from avalanche_care.losses import NonFiniteLossError
from avalanche_care.nn.heads import CosineHead
from avalanche_care.statistics import ClassGaussians

D = 8


def corners(classes: int, n: int = 20) -> ClassGaussians:
    """A small cloud around a corner of its own for each class."""
    gaussians = ClassGaussians()
    generator = torch.Generator().manual_seed(0)
    for c in range(classes):
        noise = 0.1 * torch.randn(n, D, generator=generator)
        gaussians.fit(c, 3 * F.one_hot(torch.tensor(c), D) + noise)
    return gaussians


def new_head(classes: int) -> CosineHead:
    torch.manual_seed(0)
    head = CosineHead(D)
    head.expand(range(classes))
    return head


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """The features and targets of every step taken."""
    found = []

    def noting(weight: Tensor, x: Tensor, y: Tensor, scale: float) -> Tensor:
        found.append((x, y))
        return cosine_gradient(weight, x, y, scale)

    monkeypatch.setattr("avalanche_care.alignment.cosine_gradient", noting)
    return found


@pytest.mark.parametrize("classes", [1, 5])
def test_every_epoch_shows_every_class_equally_often_and_shuffled(
    classes: int, batches: list[tuple[Tensor, Tensor]]
) -> None:
    align_head(new_head(classes), corners(classes), rates=[0.01, 0.01], rows=30)
    assert [len(y) for _, y in batches] == [30] * 2 * classes
    for x, y in batches:
        assert torch.equal(x.argmax(1), y)  # each feature is of the class it is said to be
        assert len(y.unique()) == classes
    targets = [y for _, y in batches]
    epochs = [torch.cat(targets[:classes]), torch.cat(targets[classes:])]
    assert all(epoch.bincount().tolist() == [30] * classes for epoch in epochs)
    assert torch.equal(*epochs) == (classes == 1)


def test_means_are_scaled_per_class(batches: list[tuple[Tensor, Tensor]]) -> None:
    scales = torch.tensor([1.0, 0.5, 2.0])
    align_head(new_head(3), corners(3), rates=[0.01], rows=500, mean_scale=scales)
    x = torch.cat([x for x, _ in batches])
    for c, scale in enumerate(scales.tolist()):
        assert x[x.argmax(1) == c, c].mean().item() == pytest.approx(3 * scale, abs=0.1)


@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("classes", [1, 2, 9])
def test_the_gradient_is_autograds(classes: int, scale: float) -> None:
    head = new_head(classes).double()
    with torch.no_grad():
        head.weight.mul_(torch.linspace(0.1, 50, classes)[:, None])  # norms differ
    x, y = torch.randn(30, D).double(), torch.randint(classes, (30,))
    (expected,) = torch.autograd.grad(F.cross_entropy(scale * head(x), y), head.weight)
    found = cosine_gradient(head.weight.detach(), x, y, scale)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


class Waits(TorchDispatchMode):
    """Counts how often a value is read back from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func.name() == "aten::_local_scalar_dense"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("classes", [2, 7])
def test_the_device_is_waited_for_once_per_epoch(classes: int) -> None:
    head, gaussians = new_head(classes), corners(classes)
    with Waits() as waits:
        align_head(head, gaussians, rates=[0.01] * 3, rows=10)
    assert waits.count == 3


@pytest.mark.parametrize("classes", [2, 5])
def test_a_broken_epoch_is_undone(classes: int) -> None:
    """In the second case the loss is already NaN when later steps of the epoch see it."""
    head, same = new_head(classes), new_head(classes)
    torch.manual_seed(1)
    align_head(same, corners(classes), rates=[0.1], rows=10)
    torch.manual_seed(1)
    with pytest.raises(NonFiniteLossError, match="in alignment epoch 1 and is again"):
        align_head(head, corners(classes), rates=[0.1, float("inf"), 0.1], rows=10)
    assert torch.equal(head.weight, same.weight)
    assert head.weight.grad is None
    assert head.weight.requires_grad


def test_a_weight_broken_by_the_last_step_is_found() -> None:
    """No loss of that epoch shows it."""
    head = new_head(1)
    before = head.weight.detach().clone()
    with pytest.raises(NonFiniteLossError, match="in alignment epoch 0"):
        align_head(head, corners(1), rates=[float("inf")], rows=10)
    assert torch.equal(head.weight, before)


def test_errors() -> None:
    with pytest.raises(
        RuntimeError, match=r"columns \[2, 3\] have no Gaussian: call fit\(\) first"
    ):
        align_head(new_head(4), corners(2), rates=[0.1], rows=10)
