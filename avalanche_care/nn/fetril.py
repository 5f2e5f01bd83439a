"""FeTrIL: a linear classifier on features that are moved from new classes to old ones.

Petit, Popescu, Schindler, Picard and Delezoide, "FeTrIL: Feature Translation for Exemplar-Free
Class-Incremental Learning", WACV 2023, arXiv 2211.13131.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.nn.linear import LinearClassifier

BLOCK = 1 << 24
"""Scores that are held at once while the classifier is fitted."""


class FeTrILModel(LinearClassifier):
    """A linear classifier with bias on features of length 1."""

    def features(self, x: Tensor) -> Tensor:
        """Return features (B, D) of length 1, of images (B, C, H, W)."""
        return F.normalize(self.adapted_features(x), dim=1)


class Donor(NamedTuple):
    """A new class, and the classes that get its features.

    Attributes:
        centred: its features minus their mean, (n, D).
        receivers: columns of the classes, its own among them, (P,).
        means: their means, (P, D).
    """

    centred: Tensor
    receivers: Tensor
    means: Tensor


class PseudoFeatures:
    """Features of every class seen: real ones of the newest, and translated ones of all others.

    An old class p has the features of a new class k near to it, moved from one mean to the other:
    ``f(x) - mu_k + mu_p`` (equation 1). A new class is its own donor, which leaves its features as
    they are.

    Args:
        features: of the new classes' images, (n, D).
        columns: class of each, (n,); at least ``first``, and none is without images.
        means: of all classes, (C, D); only those of old classes are read.
        first: column of the first new class.
        neighbour: which new class is the donor: the nearest (1), the second nearest ... in the
            Euclidean distance of the means; the farthest if there are not so many.
    """

    def __init__(
        self,
        features: Tensor,
        columns: Tensor,
        means: Tensor,
        first: int,
        *,
        neighbour: int = 1,
    ) -> None:
        own = [features[columns == c] for c in range(first, len(means))]
        new = torch.stack([rows.mean(0) for rows in own])  # (k, D)
        self.means = torch.cat([means[:first], new])  # (C, D)
        exact = "donot_use_mm_for_euclid_dist"
        distances = torch.cdist(means[:first], new, compute_mode=exact)  # (first, k)
        nearest = distances.argsort(dim=1, stable=True)[:, min(neighbour, len(new)) - 1]
        donor_of = torch.cat([nearest, torch.arange(len(new), device=nearest.device)])
        self.donors = []
        for k, rows in enumerate(own):
            receivers = (donor_of == k).nonzero().flatten()
            self.donors.append(Donor(rows - new[k], receivers, self.means[receivers]))

    def of(self, column: int) -> Tensor:
        """Return the features of a class before they are normalised, (n, D)."""
        for donor in self.donors:
            if (donor.receivers == column).any():
                return donor.centred + self.means[column]
        raise ValueError(f"expected a column below {len(self.means)}, got {column}")

    def backward(self, weight: Tensor, bias: Tensor, loss: Loss) -> Tensor:
        """Return the loss of a linear classifier on all normalised features, and add its gradients.

        The translated features of P classes are never made: with x of length n and m their means,
        ``w'(x + m) = w'x + w'm``, so that scores take (n + P) D multiply-adds per class and not
        n P D.

        Args:
            weight: (C, D), a leaf that requires a gradient.
            bias: (C,), likewise.
            loss: of scores (p, n, C) of features of the classes (p,), summed.
        """
        total = weight.new_zeros(())
        for donor in self.donors:
            rows, shifts = donor.centred @ weight.T, donor.means @ weight.T  # (n, C), (P, C)
            row, shift = rows.detach().requires_grad_(), shifts.detach().requires_grad_()
            for some, lengths in self._lengths(donor, len(weight)):
                scores = (row + shift[some, None]) / lengths[..., None] + bias  # (p, n, C)
                part = loss(scores, donor.receivers[some])
                part.backward()
                total += part.detach()
            torch.autograd.backward([rows, shifts], [row.grad, shift.grad])
        return total

    @staticmethod
    def _lengths(donor: Donor, n_classes: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield some receivers at a time, and the lengths of their features, (p, n)."""
        centred, means = donor.centred, donor.means
        squares = centred.square().sum(1)  # (n,)
        step = max(BLOCK // (len(centred) * n_classes), 1)
        for start in range(0, len(means), step):
            some = means[start : start + step]
            both = some.square().sum(1)[:, None] + 2 * some @ centred.T + squares  # (p, n)
            yield slice(start, start + step), both.clamp_min(1e-24).sqrt()


Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes scores (p, n, C) of n features of each class (p,) and returns the summed loss."""


def squared_hinge(scores: Tensor, classes: Tensor) -> Tensor:
    """Return the loss of one-vs-all support vector machines, of every class against the rest."""
    own = scores.gather(2, classes[:, None, None].expand(-1, scores.shape[1], 1))
    against = F.relu(1 + scores).square().sum() - F.relu(1 + own).square().sum()
    return against + F.relu(1 - own).square().sum()


def cross_entropy(scores: Tensor, classes: Tensor) -> Tensor:
    """Return the summed cross-entropy."""
    targets = classes[:, None].expand(-1, scores.shape[1])
    return F.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="sum")


LOSSES: dict[str, Loss] = {"svc": squared_hinge, "logistic": cross_entropy}


def fit_linear(
    pseudo: PseudoFeatures,
    loss: Loss,
    *,
    penalty: float = 1.0,
    tolerance: float = 1e-4,
    iterations: int = 1000,
) -> tuple[Tensor, Tensor]:
    """Return the linear classifier of least ``|W|^2 / 2 + |b|^2 / 2 + penalty * loss``.

    With the squared hinge loss that is scikit-learn's ``LinearSVC(dual=False)``. The objective is
    strictly convex, so that the way to its minimum does not matter: all classes at once by L-BFGS,
    from zero.

    Args:
        pseudo: the features.
        loss: summed over them.
        penalty: called C there.
        tolerance: stop when no entry of the gradient is larger than this times the largest at the
            start.
        iterations: at most.

    Returns:
        weight (C, D) and bias (C,).
    """
    weight = torch.zeros_like(pseudo.means, requires_grad=True)
    bias = pseudo.means.new_zeros(len(weight)).requires_grad_()

    def closure() -> Tensor:
        optimizer.zero_grad()
        norm = (weight.square().sum() + bias.square().sum()) / 2
        norm.backward()
        return norm.detach() + pseudo.backward(weight, bias, lambda s, c: penalty * loss(s, c))

    parameters = [weight, bias]
    optimizer = torch.optim.LBFGS(parameters, line_search_fn="strong_wolfe", max_iter=iterations)
    with torch.enable_grad():
        closure()
        largest = max(float(p.grad.abs().max()) for p in parameters if p.grad is not None)
        optimizer.param_groups[0]["tolerance_grad"] = tolerance * largest
        optimizer.step(closure)
    return weight.detach(), bias.detach()
