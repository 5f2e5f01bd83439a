"""Class Gaussians in feature space: fit, sample, store."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

COVARIANCES = ("full", "diagonal")


class ClassGaussians:
    """One Gaussian per class, ``N(mu_c, Sigma_c)`` with ``Sigma_c = cov(X_c) + jitter I``.

    The covariance of n features of width D is kept as the triangular factor R of the centred
    features, ``R'R = (n - 1) cov(X)``, at most n rows. A sample is
    ``mu + R' e / sqrt(n - 1) + sqrt(jitter) e'`` with e and e' standard normal: exactly that
    Gaussian, without a D x D matrix or its factorisation when n < D, and without keeping any
    image's feature.

    Args:
        covariance: ``"full"``, or ``"diagonal"`` for variances only.
        jitter: added to the diagonal.

    Raises:
        ValueError: on another value of ``covariance``, or a negative ``jitter``.
    """

    def __init__(self, *, covariance: str = "full", jitter: float = 1e-4) -> None:
        if covariance not in COVARIANCES or jitter < 0:
            raise ValueError(
                f"expected covariance in {COVARIANCES} and jitter >= 0, got {covariance!r} "
                f"and {jitter}"
            )
        self.covariance = covariance
        self.jitter = jitter
        self._means: dict[int, Tensor] = {}  # each (D,)
        self._factors: dict[int, Tensor] = {}  # each (min(n, D), D), or (1, D) if diagonal

    def __len__(self) -> int:
        return len(self._means)

    def __contains__(self, column: int) -> bool:
        return column in self._means

    def fit(self, column: int, features: Tensor) -> None:
        """Set the Gaussian of a class, replacing an earlier one.

        Args:
            column: the class, by its column in the classifier.
            features: (n, D), n >= 1. The covariance is the unbiased one; of a single feature it is
                zero, which leaves the jitter.

        Raises:
            ValueError: if there is no feature.
        """
        if not len(features):
            raise ValueError(
                f"the class in column {column} has no training images: expected at least one"
            )
        features = features.detach()
        self._means[column] = features.mean(0)
        centred = (features - self._means[column]) / max(len(features) - 1, 1) ** 0.5
        if self.covariance == "diagonal":
            self._factors[column] = centred.square().sum(0, keepdim=True).sqrt()
        else:
            self._factors[column] = torch.linalg.qr(centred, mode="r").R

    def mean(self, column: int) -> Tensor:
        """Return mu, (D,)."""
        return self._means[column]

    def matrix(self, column: int) -> Tensor:
        """Return Sigma, (D, D)."""
        factor = self._factors[column]
        eye = torch.eye(factor.shape[1]).to(factor)
        spread = factor.T @ factor if self.covariance == "full" else eye * factor.square()
        return spread + self.jitter * eye

    def sample(
        self,
        column: int,
        n: int,
        *,
        mean_scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw n features of a class from ``N(mean_scale mu, Sigma)``.

        Args:
            column: the class.
            n: how many.
            mean_scale: multiplies the mean only.
            generator: source of randomness; None: PyTorch's global one.

        Returns:
            (n, D).
        """
        mean, factor = self._means[column], self._factors[column]
        noise = torch.empty(n, len(mean)).to(mean).normal_(generator=generator)
        if self.covariance == "diagonal":
            return mean_scale * mean + noise * (factor.square() + self.jitter).sqrt()
        rows = torch.empty(n, len(factor)).to(mean).normal_(generator=generator)
        return mean_scale * mean + rows @ factor + self.jitter**0.5 * noise

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors and plain values."""
        return {
            "covariance": self.covariance,
            "jitter": self.jitter,
            "means": dict(self._means),
            "factors": dict(self._factors),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.covariance, self.jitter = state["covariance"], state["jitter"]
        self._means, self._factors = dict(state["means"]), dict(state["factors"])


def require_finite(features: Tensor, columns: Tensor, labels: Tensor) -> None:
    """Refuse features that would poison a class's statistics.

    Args:
        features: (n, D).
        columns: class of each, (n,).
        labels: the label of every class, (C,), for the message.

    Raises:
        ValueError: naming the classes with NaN or infinite features.
    """
    bad = columns[~torch.isfinite(features).all(1)]
    if len(bad):
        raise ValueError(
            f"{len(bad)} training images of classes {sorted(set(labels[bad].tolist()))} have "
            "features that are not finite. Look for NaN in these images or in the test transform."
        )


def class_means(features: Tensor, columns: Tensor) -> dict[int, Tensor]:
    """Return the mean feature of every class present.

    Args:
        features: (n, D).
        columns: class of each, (n,).
    """
    return {int(c): features[columns == c].mean(0) for c in columns.unique()}
