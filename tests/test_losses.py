"""The losses against their formulas, written with plain floats."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from avalanche_care.losses import angular_penalty, distillation, orthogonality, perceptron_loss


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Cosines (5, 4) and targets (5,)."""
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(5, 4, generator=generator, dtype=torch.float64) * 2 - 1
    return cosines, torch.tensor([0, 3, 1, 1, 2])


def other(seed: int) -> Tensor:
    return 2 * torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)).double()


def penalty(cosines: Tensor, targets: Tensor, s: float, m: float) -> float:
    total = 0.0
    for row, y in zip(cosines.tolist(), targets.tolist(), strict=True):
        own = math.exp(s * (row[y] - m))
        rest = sum(math.exp(s * c) for j, c in enumerate(row) if j != y)
        total -= math.log(own / (own + rest))
    return total / len(cosines)


def plain_kl(teacher: Tensor, student: Tensor, tau: float) -> float:
    total = 0.0
    for one, two in zip(teacher.tolist(), student.tolist(), strict=True):
        p, q = ([math.exp(v / tau) for v in row] for row in (one, two))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return tau**2 * total / len(teacher)


@pytest.mark.parametrize(("scale", "margin"), [(20.0, 0.0), (20.0, 0.3), (5.0, 0.1), (1.0, 0.0)])
def test_angular_penalty(batch: tuple[Tensor, Tensor], scale: float, margin: float) -> None:
    cosines, targets = batch
    before = cosines.clone()
    loss = angular_penalty(cosines, targets, scale=scale, margin=margin)
    assert loss.item() == pytest.approx(penalty(cosines, targets, scale, margin))
    assert torch.equal(cosines, before)


def test_margin_makes_it_harder(batch: tuple[Tensor, Tensor]) -> None:
    assert angular_penalty(*batch, margin=0.3) > angular_penalty(*batch)


def test_a_single_class_costs_nothing() -> None:
    assert angular_penalty(torch.randn(3, 1), torch.zeros(3, dtype=torch.long), margin=0.3) == 0
    assert distillation(torch.randn(3, 1), torch.randn(3, 1)) == 0


@pytest.mark.parametrize("tau", [1.0, 2.0, 0.5])
def test_distillation(batch: tuple[Tensor, Tensor], tau: float) -> None:
    teacher, student = batch[0], other(1)
    loss = distillation(student, teacher, temperature=tau)
    assert loss.item() == pytest.approx(plain_kl(teacher, student, tau))
    assert distillation(teacher, teacher, temperature=tau).item() == pytest.approx(0, abs=1e-12)


def test_the_teacher_gets_no_gradient(batch: tuple[Tensor, Tensor]) -> None:
    teacher, student = batch[0].requires_grad_(), other(1).requires_grad_()
    distillation(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().max() > 0


@pytest.mark.parametrize("angular", [True, False])
@pytest.mark.parametrize("distil", [True, False])
@pytest.mark.parametrize("soft_from_block", [None, 0, 2, 6])
def test_perceptron_loss(
    batch: tuple[Tensor, Tensor], angular: bool, distil: bool, soft_from_block: int | None
) -> None:
    cosines, targets = batch
    logits = [other(seed) for seed in range(4)]
    total = 0.0
    for block, z in enumerate(logits):
        loss = penalty(z, targets, 20.0, 0.3) if angular else penalty(z, targets, 1.0, 0.0)
        if distil:
            tau = 2.0 if soft_from_block is not None and block >= soft_from_block else 1.0
            loss = (loss + plain_kl(cosines, z, tau)) / 2
        total += loss / 4
    got = perceptron_loss(
        logits,
        cosines,
        targets,
        margin=0.3,
        angular=angular,
        distil=distil,
        soft_from_block=soft_from_block,
    )
    assert got.item() == pytest.approx(total)


def test_perceptron_loss_teaches_the_perceptrons_only(batch: tuple[Tensor, Tensor]) -> None:
    cosines, targets = batch
    cosines.requires_grad_()
    logits = [other(seed).requires_grad_() for seed in range(3)]
    perceptron_loss(logits, cosines, targets).backward()
    assert cosines.grad is None
    assert all(z.grad is not None and z.grad.abs().max() > 0 for z in logits)


def test_orthogonality() -> None:
    rows = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = 0.0
    for block in rows.tolist():
        for i, a in enumerate(block):
            for j, b in enumerate(block):
                inner = sum(x * y for x, y in zip(a, b, strict=True))
                expected += (inner - (i == j)) ** 2 / 9
    assert orthogonality(rows).item() == pytest.approx(expected)
    assert orthogonality(rows[0]) + orthogonality(rows[1]) == pytest.approx(expected)
    assert orthogonality(torch.eye(5)[:3]) == 0
