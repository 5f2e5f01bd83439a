"""Ridge regression onto one-hot targets, and the choice of its regulariser on a hold-out."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.nn.moments import ROWS, RunningMoments

logger = logging.getLogger(__name__)

RIDGES = tuple(10.0**exponent for exponent in range(-8, 9))
"""The 17 regularisers that RanPAC chooses from."""

FIT_SHARE = 0.8
"""Share of a task's images that ridge solutions are fitted on when they are compared."""

Lift = Callable[[Tensor], Iterator[Tensor]]
"""Takes features (n, D) and yields what regression is on, (n, M), in blocks of columns."""


def n_fit(n: int) -> int:
    """Return how many of n shuffled images ridge solutions are fitted on; the rest scores them."""
    return int(FIT_SHARE * n)


def ridge_solution(gram: Tensor, sums: Tensor, ridge: float) -> Tensor | None:
    """Return ``(G + ridge I)^-1 Q`` by a Cholesky factorisation, M^3 / 3 multiply-adds.

    The regulariser is added to G in place and taken off again, exactly, so that the only other
    matrix of that size is the factor.

    Args:
        gram: G, (M, M); its lower triangle is read.
        sums: Q', (C, M).
        ridge: the regulariser.

    Returns:
        The transposed solution, (C, M); None if the matrix is singular to working precision.
    """
    diagonal = gram.diagonal().clone()
    gram.diagonal().add_(ridge)
    try:
        factor, info = torch.linalg.cholesky_ex(gram)
    finally:
        gram.diagonal().copy_(diagonal)
    pivots = factor.diagonal().square()
    rounding = len(gram) ** 0.5 * torch.finfo(gram.dtype).eps * pivots.max()
    if info or not pivots.min() > rounding:  # of what is less, all digits are rounding
        return None
    return torch.cholesky_solve(sums.T, factor).T  # (C, M)


def solve_ridge(gram: Tensor, sums: Tensor, ridge: float) -> tuple[Tensor, float]:
    """Return a ridge solution, with more regularisation where the matrix is singular.

    Args:
        gram: G, (M, M).
        sums: Q', (C, M).
        ridge: the regulariser; if rounding has left ``G + ridge I`` without a Cholesky factor, ten
            times as much is tried, again and again, and a warning is logged.

    Returns:
        The transposed solution, (C, M), and the regulariser that it has.

    Raises:
        ValueError: if no regulariser helps, because the sums are not finite.
    """
    used, trace = ridge, float(gram.diagonal().sum())
    while (solution := ridge_solution(gram, sums, used)) is None:
        if not used <= trace < math.inf:  # of that size it always helps
            raise ValueError(
                "no ridge regression on these features: their sums are not finite. Look for NaN "
                "or very large values in the features."
            )
        used *= 10
    if used != ridge:
        logger.warning(
            "ridge %g leaves the Gram matrix singular in %s: using %g", ridge, gram.dtype, used
        )
    return solution, used


def holdout_errors(
    lift: Lift,
    features: Tensor,
    columns: Tensor,
    n_classes: int,
    *,
    dtype: torch.dtype = torch.float64,
    ridges: Sequence[float] = RIDGES,
) -> list[float]:
    """Return every regulariser's error: fitted on the first 80 % of images, scored on the rest.

    One eigendecomposition serves all regularisers: of the n x n matrix of inner products if there
    are no more images than lifted features, else of their M x M Gram matrix. Both give exactly the
    ridge solutions' predictions; the former costs n^3 where M^3 would be many times as much.

    Args:
        lift: from features to what regression is on.
        features: of the images in random order, (n, D) with n >= 2.
        columns: class of each, counted from the first class that occurs, (n,).
        n_classes: of these images. Columns of classes that do not occur have no part in the
            comparison: they are predicted as zero, and are.
        dtype: to compute in.
        ridges: the regularisers.

    Returns:
        The mean squared error per entry of the one-hot targets, infinite where it is no number.
    """
    cut = n_fit(len(features))
    targets = F.one_hot(columns, n_classes).to(features.device, dtype)  # (n, C)
    # Predictions of the held-out are left @ diag(1 / (values + ridge)) @ right.
    values, left, right = _spectral(lift, features, targets, cut, dtype)
    values = values.clamp_min(0)  # what is below zero is rounding
    errors = []
    for ridge in ridges:
        predictions = (left / (values + ridge)) @ right  # (n - cut, C)
        error = float(F.mse_loss(predictions, targets[cut:]))
        errors.append(error if math.isfinite(error) else math.inf)
    return errors


def _spectral(
    lift: Lift, features: Tensor, targets: Tensor, cut: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    width = sum(part.shape[1] for part in lift(features[:1]))
    if cut <= width:  # inner products of the images, K = H H'
        kernel = targets.new_zeros(len(features), cut)
        for part in lift(features):  # (n, block)
            wide = part.to(dtype)
            kernel.addmm_(wide, wide[:cut].T)
        values, vectors = torch.linalg.eigh(kernel[:cut])
        return values, kernel[cut:] @ vectors, vectors.T @ targets[:cut]
    # Rows a thousand at a time: all of H would be larger than its Gram matrix.
    fit = RunningMoments(width, dtype=dtype, device=features.device)
    fit.expand(targets.shape[1])
    rows, labels = features[:cut].split(ROWS), targets[:cut].argmax(1).split(ROWS)
    for some, own in zip(rows, labels, strict=True):
        fit.add(torch.cat([*lift(some)], dim=1), own)
    values, vectors = torch.linalg.eigh(fit.gram)
    held = [torch.cat([*lift(some)], dim=1).to(dtype) for some in features[cut:].split(ROWS)]
    return values, torch.cat(held) @ vectors, vectors.T @ fit.sums.T


def running_errors(
    fit: RunningMoments, held: RunningMoments, ridges: Sequence[float] = RIDGES
) -> list[float]:
    """Return the error of every regulariser on all tasks so far, from running sums alone.

    The squared error of predictions ``W h`` of one-hot targets is a function of the sums of the
    held-out images: ``tr(W G W') - 2 tr(W Q) + n``. So images of earlier tasks have their say, both
    in the fit and in the score, without being kept. It costs a factorisation per regulariser,
    M^3 / 3 multiply-adds each.

    Args:
        fit: of the images to fit on, of all tasks.
        held: of the images to score on, of all tasks.
        ridges: the regularisers.

    Returns:
        The mean squared error per entry of the one-hot targets, infinite where there is no
        solution.
    """
    count = held.counts.sum()
    errors = []
    for ridge in ridges:
        solution = ridge_solution(fit.gram, fit.sums, ridge)
        if solution is None:
            errors.append(math.inf)
            continue
        squares = (solution @ held.gram * solution).sum() - 2 * (solution * held.sums).sum()
        error = float((squares + count) / (count * len(solution)))
        errors.append(error if math.isfinite(error) else math.inf)
    return errors


def best_ridge(errors: Sequence[float], ridges: Sequence[float] = RIDGES) -> float:
    """Return the regulariser of the least error; of equal ones the smallest.

    Raises:
        ValueError: if none has a finite error.
    """
    error, ridge = min(zip(errors, ridges, strict=True))
    if not math.isfinite(error):
        raise ValueError("no regulariser gives a finite error: look for NaN in the features")
    return ridge
