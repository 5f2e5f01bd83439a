"""Translated features and the classifier on them, against features that are really made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from calls import Calls
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.nn import fetril
from avalanche_care.nn.fetril import LOSSES, PseudoFeatures, fit_linear, squared_hinge

D, OLD, NEW = 10, 7, 3
SIZES = (6, 1, 9)  # images per new class


def data(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features and columns of the new classes in mixed order, and the means of the old ones."""
    source = torch.Generator().manual_seed(seed)
    columns = torch.arange(OLD, OLD + NEW).repeat_interleave(torch.tensor(SIZES))
    columns = columns[torch.randperm(len(columns), generator=source)]
    centres = 2 * torch.randn(OLD + NEW, D, generator=source)
    features = centres[columns] + torch.randn(len(columns), D, generator=source)
    means = torch.cat([centres[:OLD], torch.full((NEW, D), torch.nan)])  # of new ones: not read
    return features, columns, means


def slow(neighbour: int = 1) -> dict[int, Tensor]:
    """The features of every class, one class after another."""
    features, columns, means = data()
    own = {k: features[columns == k] for k in range(OLD, OLD + NEW)}
    out = {}
    for p in range(OLD):
        ordered = sorted(own, key=lambda k: float((own[k].mean(0) - means[p]).norm()))
        donor = own[ordered[min(neighbour, NEW) - 1]]
        out[p] = donor - donor.mean(0) + means[p]
    return {**out, **own}


@pytest.mark.parametrize("neighbour", [1, 2, 9])
def test_features_of_every_class(neighbour: int) -> None:
    pseudo = PseudoFeatures(*data(), OLD, neighbour=neighbour)
    for column, expected in slow(neighbour).items():
        torch.testing.assert_close(pseudo.of(column), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="expected a column below 10, got 10"):
        pseudo.of(10)


def test_the_neighbours_differ() -> None:
    """Or the test above would not tell them apart."""
    assert any(len(slow(1)[p]) != len(slow(2)[p]) for p in range(OLD))


def test_mean_is_the_old_class_s_and_covariance_the_donor_s() -> None:
    features, columns, means = (t.double() if t.is_floating_point() else t for t in data())
    pseudo = PseudoFeatures(features, columns, means, OLD)
    for p in range(OLD):
        moved = pseudo.of(p)
        torch.testing.assert_close(moved.mean(0), means[p], rtol=1e-13, atol=1e-13)
        new = pseudo.means[OLD:]
        donor = features[columns == OLD + int((new - means[p]).norm(dim=1).argmin())]
        torch.testing.assert_close(centred(moved), centred(donor), rtol=1e-12, atol=1e-12)
    assert torch.equal(pseudo.means[:OLD], means[:OLD])


def centred(rows: Tensor) -> Tensor:
    """n times the covariance."""
    rows = rows - rows.mean(0)
    return rows.T @ rows


def test_features_of_new_classes_are_the_real_ones() -> None:
    features, columns, means = data()
    pseudo = PseudoFeatures(features, columns, means, OLD)
    for k in range(OLD, OLD + NEW):
        torch.testing.assert_close(pseudo.of(k), features[columns == k])
        torch.testing.assert_close(pseudo.means[k], features[columns == k].mean(0))


def made() -> tuple[Tensor, Tensor]:
    """All normalised features and their classes."""
    rows = slow()
    features = torch.cat([rows[c] for c in range(OLD + NEW)])
    classes = torch.cat([torch.full((len(rows[c]),), c) for c in range(OLD + NEW)])
    return F.normalize(features, dim=1).double(), classes


def slow_loss(kind: str, scores: Tensor, classes: Tensor) -> Tensor:
    if kind == "logistic":
        return -scores.log_softmax(1)[torch.arange(len(classes)), classes].sum()
    signs = 2.0 * F.one_hot(classes, OLD + NEW) - 1
    return (1 - signs * scores).clamp_min(0).square().sum()


@pytest.mark.parametrize("kind", sorted(LOSSES))
@pytest.mark.parametrize("block", [1, 200, 1 << 24])
def test_loss_and_gradients(kind: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetril, "BLOCK", block)
    source = torch.Generator().manual_seed(1)
    weight = torch.randn(OLD + NEW, D, generator=source).requires_grad_()
    bias = torch.randn(OLD + NEW, generator=source).requires_grad_()
    found = PseudoFeatures(*data(), OLD).backward(weight, bias, LOSSES[kind])
    w, b = (t.detach().double().requires_grad_() for t in (weight, bias))
    features, classes = made()
    expected = slow_loss(kind, features @ w.T + b, classes)
    expected.backward()
    assert float(found) == pytest.approx(float(expected.detach()), rel=1e-5)
    for ours, theirs in ((weight, w), (bias, b)):
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad.float(), rtol=1e-4, atol=1e-4)


def test_calls_do_not_grow_with_the_old_classes() -> None:
    """A task of three classes after 100 tasks of three and after 300: no loop over classes."""
    features, columns, _ = data()
    found = {}
    for old in (3, 300, 900):  # the first fills the caches
        means = torch.randn(old + NEW, D, generator=torch.Generator().manual_seed(3))
        weight = torch.zeros(old + NEW, D, requires_grad=True)
        bias = torch.zeros(old + NEW, requires_grad=True)
        with Calls() as found[old]:
            pseudo = PseudoFeatures(features, columns - OLD + old, means, old)
            pseudo.backward(weight, bias, squared_hinge)
        assert weight.grad is not None
        assert (weight.grad.abs().sum(1) > 0).all()
    assert found[900].total <= found[300].total, found[900].growth_from(found[300])


def test_the_classifier_is_the_support_vector_machine() -> None:
    svm = pytest.importorskip("sklearn.svm")
    features, classes = made()
    theirs = svm.LinearSVC(dual=False, C=2.0, tol=1e-8, max_iter=10_000)
    theirs.fit(features.numpy(), classes.numpy())
    features, columns, means = data()
    pseudo = PseudoFeatures(features.double(), columns, means.double(), OLD)
    weight, bias = fit_linear(pseudo, squared_hinge, penalty=2.0, tolerance=1e-8)
    np.testing.assert_allclose(weight.numpy(), theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(bias.numpy(), theirs.intercept_, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_nothing_near_the_classifier_is_better(kind: str) -> None:
    weight, bias = fit_linear(PseudoFeatures(*data(), OLD), LOSSES[kind], tolerance=1e-6)
    features, classes = made()

    def objective(w: Tensor, b: Tensor) -> float:
        norm = (w.square().sum() + b.square().sum()) / 2
        return float(norm + slow_loss(kind, features @ w.T + b, classes))

    best = objective(weight.double(), bias.double())
    assert best < objective(torch.zeros_like(weight).double(), torch.zeros_like(bias).double())
    source = torch.Generator().manual_seed(2)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(5):
            step = size * torch.randn(weight.shape, generator=source)
            assert objective((weight + step).double(), bias.double()) > best
            shift = size * torch.randn(bias.shape, generator=source)
            assert objective(weight.double(), (bias + shift).double()) > best


def objective_and_gradient(weight: Tensor, bias: Tensor, penalty: float) -> tuple[float, float]:
    """Of the support vector machine on features that are really made; the largest entry."""
    features, classes = made()
    w, b = (t.detach().double().requires_grad_() for t in (weight, bias))
    loss = slow_loss("svc", features @ w.T + b, classes)
    value = (w.square().sum() + b.square().sum()) / 2 + penalty * loss
    value.backward()
    assert w.grad is not None
    assert b.grad is not None
    return float(value.detach()), max(float(g.abs().max()) for g in (w.grad, b.grad))


def test_the_tolerance_is_relative_to_the_first_gradient() -> None:
    penalty, tolerance = 1e4, 0.1
    zeros = torch.zeros(OLD + NEW, D), torch.zeros(OLD + NEW)
    _, first = objective_and_gradient(*zeros, penalty)
    pseudo = PseudoFeatures(*data(), OLD)
    found = fit_linear(pseudo, squared_hinge, penalty=penalty, tolerance=tolerance)
    _, last = objective_and_gradient(*found, penalty)
    assert 0.01 * first < last <= 1.01 * tolerance * first  # it stopped there, and did not go on


def test_iterations_are_limited() -> None:
    values = []
    for iterations in (1, 3, 1000):
        found = fit_linear(PseudoFeatures(*data(), OLD), squared_hinge, iterations=iterations)
        values.append(objective_and_gradient(*found, 1.0)[0])
    assert values[0] > 1.001 * values[1] > 1.001 * values[2]


def test_scores_are_held_for_some_classes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetril, "BLOCK", 130)
    sizes: list[int] = []

    def noting(scores: Tensor, classes: Tensor) -> Tensor:
        sizes.append(scores.numel())
        return squared_hinge(scores, classes)

    weight = torch.zeros(OLD + NEW, D, requires_grad=True)
    bias = torch.zeros(OLD + NEW, requires_grad=True)
    PseudoFeatures(*data(), OLD).backward(weight, bias, noting)
    assert max(sizes) <= 130  # or one class's at least, 90 here
    assert sum(sizes) == sum(len(rows) for rows in slow().values()) * (OLD + NEW)


def test_a_feature_of_length_zero_stays_zero() -> None:
    """An old class of mean zero, with a single image to lend it features."""
    means = torch.stack([torch.zeros(D), torch.full((D,), torch.nan)])
    pseudo = PseudoFeatures(torch.ones(1, D), torch.tensor([1]), means, 1)
    assert torch.equal(pseudo.of(0), torch.zeros(1, D))
    weight, bias = fit_linear(pseudo, squared_hinge)
    assert torch.isfinite(weight).all()
    assert bias[0] > bias[1]


def test_neighbours_far_from_zero_are_told_apart() -> None:
    """Means that share a large part: distances by way of a product would be rounding."""
    features, columns, means = data()
    far = PseudoFeatures(features + 3e4, columns, means + 3e4, OLD)
    near = PseudoFeatures(features, columns, means, OLD)
    for ours, theirs in zip(far.donors, near.donors, strict=True):
        assert ours.receivers.tolist() == theirs.receivers.tolist()


def test_the_first_task_has_no_old_class() -> None:
    features, columns, means = data()
    pseudo = PseudoFeatures(features, columns - OLD, means[OLD:], 0)
    assert [len(pseudo.of(k)) for k in range(NEW)] == list(SIZES)
    weight, _ = fit_linear(pseudo, squared_hinge)
    assert weight.shape == (NEW, D)
