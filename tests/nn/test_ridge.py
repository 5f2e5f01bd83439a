"""Running sums, ridge regression and linear discriminants against numpy on all data at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.memory import TensorMemory
from avalanche_care.nn.discriminant import linear_discriminants
from avalanche_care.nn.moments import RunningMoments
from avalanche_care.nn.ridge import (
    RIDGES,
    best_ridge,
    holdout_errors,
    n_fit,
    ridge_solution,
    running_errors,
    solve_ridge,
)

D, CLASSES = 12, 5


def data(n: int = 80, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features with unequal classes, far from zero mean, in random order."""
    source = torch.Generator().manual_seed(seed)
    columns = torch.randint(CLASSES, (n,), generator=source) % torch.randint(
        1, CLASSES + 1, (n,), generator=source
    )
    columns[:CLASSES] = torch.arange(CLASSES)
    centres = torch.randn(CLASSES, D, generator=source)
    features = centres[columns] + 0.5 * torch.randn(n, D, generator=source) + 1
    order = torch.randperm(n, generator=source)
    return features[order], columns[order]


def moments_of(features: Tensor, columns: Tensor, *, size: int = 1000) -> RunningMoments:
    moments = RunningMoments(features.shape[1])
    for some, own in zip(features.split(size), columns.split(size), strict=True):
        moments.expand(int(own.max()) + 1)
        moments.add(some, own)
    return moments


def one_hot(columns: Tensor, n_classes: int = CLASSES) -> np.ndarray:
    return np.eye(n_classes)[columns.numpy()]


@pytest.mark.parametrize("size", [1, 7, 80])
def test_sums_are_those_of_a_single_pass(size: int) -> None:
    features, columns = data()
    x = features.double().numpy()
    moments = moments_of(features, columns, size=size)
    np.testing.assert_allclose(moments.gram.numpy(), x.T @ x, rtol=1e-13)
    for c in range(CLASSES):
        np.testing.assert_allclose(moments.sums[c].numpy(), x[columns == c].sum(0), rtol=1e-12)
        assert moments.counts[c] == (columns == c).sum()


def test_sums_depend_on_no_order() -> None:
    features, columns = data()
    tasks = [columns < 2, columns >= 2]
    expected = moments_of(features, columns)
    for order in (tasks, tasks[::-1]):
        moments = RunningMoments(D)
        moments.expand(CLASSES)
        for part in order:
            moments.add(features[part], columns[part])
        for name, value in moments.state_dict().items():
            torch.testing.assert_close(value, expected.state_dict()[name], rtol=1e-12, atol=1e-12)


def test_covariances() -> None:
    features, columns = data()
    x, moments = features.double().numpy(), moments_of(features, columns)
    np.testing.assert_allclose(moments.total_covariance().numpy(), np.cov(x.T), rtol=1e-10)
    centred = x.copy()
    for c in range(CLASSES):
        centred[columns == c] -= x[columns == c].mean(0)
    within = centred.T @ centred / (len(x) - CLASSES)
    np.testing.assert_allclose(moments.within_covariance().numpy(), within, rtol=1e-9, atol=1e-12)


def test_sums_of_301_tasks() -> None:
    """A hundred classes, then three at a time: those of a single pass, as is the solution."""
    source = torch.Generator().manual_seed(0)
    columns = torch.arange(1000).repeat_interleave(2)
    features = torch.randn(2000, D, generator=source)
    first = [0, *range(100, 1000, 3)]
    moments = RunningMoments(D)
    for start, end in zip(first, [*first[1:], 1000], strict=True):
        own = (columns >= start) & (columns < end)
        moments.expand(end)
        moments.add(features[own], columns[own])
    assert len(first) == 301
    x, targets = features.double().numpy(), one_hot(columns, 1000)
    np.testing.assert_allclose(moments.gram.numpy(), x.T @ x, rtol=1e-10, atol=1e-10)
    solution, _ = solve_ridge(moments.gram, moments.sums, 1.0)
    expected = np.linalg.solve(x.T @ x + np.eye(D), x.T @ targets)
    np.testing.assert_allclose(solution.numpy(), expected.T, rtol=1e-9, atol=1e-12)


def test_a_single_image_has_no_covariance() -> None:
    moments = moments_of(torch.ones(1, D) / 2, torch.tensor([0]))
    assert torch.equal(moments.total_covariance(), torch.zeros(D, D, dtype=torch.float64))
    assert torch.equal(moments.within_covariance(), torch.zeros(D, D, dtype=torch.float64))
    weight, bias = linear_discriminants(moments, ridge=2.0)
    torch.testing.assert_close(weight, torch.full_like(weight, 0.25))
    assert bias.item() == pytest.approx(-0.5 * D * 0.25 * 0.5)


def test_state_of_the_sums() -> None:
    moments = moments_of(*data())
    other = RunningMoments(D)
    other.load_state_dict(moments.state_dict())
    other.expand(2)  # fewer than there are
    for name, value in moments.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
        assert other.state_dict()[name] is not value
    with pytest.raises(ValueError, match="expected sums of features of width 3, got 12"):
        RunningMoments(3).load_state_dict(moments.state_dict())


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 1e4])
def test_the_solution_is_the_least_squares_of_the_augmented_system(ridge: float) -> None:
    features, columns = data()
    moments = moments_of(features, columns)
    before = moments.gram.clone()
    solution = ridge_solution(moments.gram, moments.sums, ridge)
    assert solution is not None
    assert torch.equal(moments.gram, before)  # to the last bit
    rows = np.concatenate([features.double().numpy(), ridge**0.5 * np.eye(D)])
    targets = np.concatenate([one_hot(columns), np.zeros((D, CLASSES))])
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0]
    np.testing.assert_allclose(solution.numpy(), expected.T, rtol=1e-8, atol=1e-12)


def test_a_singular_matrix_gets_more_regularisation(caplog: pytest.LogCaptureFixture) -> None:
    column = torch.full((3, 2), 1e6, dtype=torch.float64)  # rank 1
    gram, sums = column.T @ column, column[:1]
    assert ridge_solution(gram, sums, 1e-8) is None
    with caplog.at_level(logging.WARNING):
        solution, used = solve_ridge(gram, sums, 1e-8)
    assert used > 1e-8
    assert torch.equal(solution, ridge_solution(gram, sums, used))  # type: ignore[arg-type]
    assert ridge_solution(gram, sums, used / 10) is None
    assert "ridge 1e-08 leaves the Gram matrix singular" in caplog.text
    caplog.clear()
    assert solve_ridge(gram, sums, 10.0)[1] == 10.0
    assert not caplog.text


def test_solving_takes_one_more_matrix() -> None:
    """With M = 10,000 each has 800 MB. (LAPACK's scratch space is not counted.)"""
    gram = torch.eye(400).double()
    with TensorMemory() as memory:
        solve_ridge(gram, torch.ones(3, 400).double(), 1.0)
    assert gram.nbytes <= memory.peak < 1.1 * gram.nbytes


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_sums_that_are_not_finite_are_refused(value: float) -> None:
    gram = torch.eye(3).double()
    gram[0, 0] = value
    with pytest.raises(ValueError, match="their sums are not finite"):
        solve_ridge(gram, torch.ones(1, 3).double(), 1.0)


def lift_to(width: int, block: int) -> tuple[Tensor, object]:
    """A random matrix, and what yields relu(f W) in blocks of columns."""
    matrix = torch.randn(D, width, generator=torch.Generator().manual_seed(3))

    def lift(features: Tensor) -> Iterator[Tensor]:
        for part in matrix.split(block, dim=1):
            yield F.relu(features @ part)

    return matrix, lift


def slow_errors(h: np.ndarray, targets: np.ndarray) -> list[float]:
    """As the card says: for each ridge a fit on the first 80 %, scored on the rest."""
    cut, errors = int(0.8 * len(h)), []
    for ridge in RIDGES:
        gram = h[:cut].T @ h[:cut] + ridge * np.eye(h.shape[1])
        solution = np.linalg.solve(gram, h[:cut].T @ targets[:cut])
        errors.append(float(((h[cut:] @ solution - targets[cut:]) ** 2).mean()))
    return errors


@pytest.mark.parametrize(("width", "rows"), [(30, 80), (63, 80), (64, 80), (65, 80), (200, 80)])
def test_errors_of_a_task_in_either_form(width: int, rows: int) -> None:
    features, columns = data(rows)
    matrix, lift = lift_to(width, block=17)
    h = F.relu(features @ matrix).double().numpy()
    errors = holdout_errors(lift, features, columns, CLASSES)  # type: ignore[arg-type]
    expected = slow_errors(h, one_hot(columns))
    sound = slice(3, None) if width <= 64 else slice(6, None)  # smaller ones are ill-conditioned
    np.testing.assert_allclose(errors[sound], expected[sound], rtol=1e-6)
    assert best_ridge(errors) == RIDGES[int(np.argmin(expected))]


def test_columns_of_other_classes_change_no_choice() -> None:
    """The mean is over more columns that are zero, and predicted as zero."""
    features, columns = data()
    _, lift = lift_to(30, block=30)
    few = holdout_errors(lift, features, columns, CLASSES)  # type: ignore[arg-type]
    many = holdout_errors(lift, features, columns, 4 * CLASSES)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.array(many) * 4, few, rtol=1e-10)


def test_the_cut() -> None:
    assert [n_fit(n) for n in (1, 2, 4, 5, 10, 11)] == [0, 1, 3, 4, 8, 8]


def test_there_are_17_regularisers() -> None:
    assert len(RIDGES) == 17
    assert RIDGES[0] == 1e-8
    assert RIDGES[-1] == 1e8


def test_the_best() -> None:
    assert best_ridge([3.0, 1.0, float("inf"), 1.0], [1, 10, 100, 1000]) == 10
    with pytest.raises(ValueError, match="no regulariser gives a finite error"):
        best_ridge([float("inf")] * 2, [1, 10])


@pytest.mark.parametrize("width", [4, 200])
def test_an_error_that_is_no_number_is_the_worst(width: int) -> None:
    """Of features that are zero, nothing over nothing; with a regulariser, zero."""
    features, columns = data(20)
    _, lift = lift_to(width, block=width)
    few: list[float] = [0.0, 1.0]
    errors = holdout_errors(lift, 0 * features, columns, CLASSES, ridges=few)  # type: ignore[arg-type]
    assert errors == [float("inf"), pytest.approx(1 / CLASSES)]
    assert best_ridge(errors, few) == 1.0


@pytest.mark.parametrize(("width", "smaller"), [(63, 63), (64, 64), (65, 64), (200, 64)])
def test_the_smaller_matrix_is_decomposed_and_once(
    width: int, smaller: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 64 images to fit on and so many random features, for all 17 regularisers."""
    sizes: list[int] = []
    original = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda a: sizes.append(len(a)) or original(a))
    features, columns = data(80)
    _, lift = lift_to(width, block=17)
    holdout_errors(lift, features, columns, CLASSES)  # type: ignore[arg-type]
    assert sizes == [smaller]


def test_errors_from_running_sums_are_those_of_all_images() -> None:
    features, columns = data(100)
    held = torch.arange(100) % 5 == 4
    fit = moments_of(features[~held], columns[~held], size=13)
    rest = moments_of(features[held], columns[held], size=3)
    errors = running_errors(fit, rest)
    x, targets = features.double().numpy(), one_hot(columns)
    order = np.argsort(held.numpy(), kind="stable")
    np.testing.assert_allclose(errors, slow_errors(x[order], targets[order]), rtol=1e-8)


def test_running_sums_that_are_no_numbers_give_no_error_that_is_one() -> None:
    fit = moments_of(*data())
    rest = moments_of(*data(seed=1))
    rest.sums[0, 0] = torch.nan
    errors = running_errors(fit, rest)
    assert errors == [float("inf")] * 17
    with pytest.raises(ValueError, match="look for NaN"):
        best_ridge(errors)


def test_a_singular_fit_does_not_win() -> None:
    fit = moments_of(torch.full((4, D), 1e6), torch.zeros(4, dtype=torch.long))
    errors = running_errors(fit, fit)
    assert errors[0] == float("inf")
    assert errors[-1] < float("inf")


@pytest.mark.parametrize("covariance", ["total", "within"])
def test_discriminants(covariance: str) -> None:
    features, columns = data()
    x = features.double().numpy()
    weight, bias = linear_discriminants(
        moments_of(features, columns, size=9), ridge=0.7, covariance=covariance
    )
    means = np.stack([x[columns == c].mean(0) for c in range(CLASSES)])
    around = means[columns] if covariance == "within" else x.mean(0)
    divisor = len(x) - (CLASSES if covariance == "within" else 1)
    spread = (x - around).T @ (x - around) / divisor + 0.7 * np.eye(D)
    inverse = np.linalg.inv(spread)
    expected = x @ inverse @ means.T - np.diag(means @ inverse @ means.T) / 2
    scores = features.double() @ weight.T + bias
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-8, atol=1e-10)


def test_the_two_covariances_are_not_the_same_rule() -> None:
    moments = moments_of(*data())
    total, within = (
        linear_discriminants(moments, covariance=kind)[0] for kind in ("total", "within")
    )
    assert not torch.allclose(total, within, rtol=1e-2)
    with pytest.raises(ValueError, match="covariance must be one of"):
        linear_discriminants(moments, covariance="full")
