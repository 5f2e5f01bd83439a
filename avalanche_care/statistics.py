"""Class Gaussians in feature space: fit, sample, store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from avalanche_care.offload import Offload

COVARIANCES = ("full", "diagonal")
BLOCK = 8192
"""Rows of a stream that are drawn at once. It bounds the memory; changing it changes the samples
of a seed."""


class ClassGaussians:
    """One Gaussian per class, ``N(mu_c, Sigma_c)`` with ``Sigma_c = cov(X_c) + jitter I``.

    The covariance of n features of width D is kept as the triangular factor R of the centred
    features, ``R'R = (n - 1) cov(X)``, at most n rows. A sample is
    ``mu + R' e / sqrt(n - 1) + sqrt(jitter) e'`` with e and e' standard normal: exactly that
    Gaussian, without a D x D matrix when n < D, without a factorisation per draw, and without
    keeping any image's feature. When n >= D, R' is the Cholesky factor up to signs.

    Args:
        covariance: ``"full"``, or ``"diagonal"`` for variances only.
        jitter: added to the diagonal.
        offload: where means and factors live; None: where the features were.

    Raises:
        ValueError: on another value of ``covariance``, or a negative ``jitter``.
    """

    def __init__(
        self,
        *,
        covariance: str = "full",
        jitter: float = 1e-4,
        offload: Offload | None = None,
    ) -> None:
        if covariance not in COVARIANCES or jitter < 0:
            raise ValueError(
                f"expected covariance in {COVARIANCES} and jitter >= 0, got {covariance!r} "
                f"and {jitter}"
            )
        self.covariance = covariance
        self.jitter = jitter
        self.offload = offload
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
        mean = features.mean(0)
        centred = (features - mean) / max(len(features) - 1, 1) ** 0.5
        if self.covariance == "diagonal":
            factor = centred.square().sum(0, keepdim=True).sqrt()
        else:
            factor = torch.linalg.qr(centred, mode="r").R
        self._keep(column, mean, factor)

    def _keep(self, column: int, mean: Tensor, factor: Tensor) -> None:
        if self.offload is not None:
            factor = self.offload.put(f"factor.{column}", factor)
            mean = self.offload.put(f"mean.{column}", mean)
        self._means[column], self._factors[column] = mean, factor

    def mean(self, column: int) -> Tensor:
        """Return mu, (D,)."""
        return self._means[column]

    def matrix(self, column: int) -> Tensor:
        """Return Sigma, (D, D)."""
        factor = self._factors[column]
        eye = torch.eye(factor.shape[1]).to(factor)
        spread = factor.T @ factor if self.covariance == "full" else eye * factor.square()
        return spread + self.jitter * eye

    def bytes_of(self, column: int) -> int:
        """Return how many bytes are kept for a class."""
        return self._means[column].nbytes + self._factors[column].nbytes

    def sample(
        self,
        column: int,
        n: int,
        *,
        mean_scale: float = 1.0,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw n features of one class from ``N(mean_scale mu, Sigma)``.

        Args:
            column: the class.
            n: how many, at least 1.
            mean_scale: multiplies the mean only.
            device: see :meth:`draw`.
            generator: see :meth:`draw`.

        Returns:
            (n, D).
        """
        columns = torch.full((n,), column)
        return next(
            self.draw(columns, n, mean_scale=mean_scale, device=device, generator=generator)
        )

    def draw(
        self,
        columns: Tensor,
        chunk: int,
        *,
        mean_scale: Tensor | float = 1.0,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Draw a feature for each entry of ``columns``, from ``N(mean_scale mu, Sigma)``.

        Memory is that of about three blocks of :data:`BLOCK` samples, however long the stream.
        Random numbers and products are those of whole blocks, so that a seed gives the same samples
        whatever the chunk.

        Args:
            columns: the class of every sample, in the order wanted, (n,).
            chunk: how many to return at a time.
            mean_scale: multiplies the means only; a tensor has one factor per column.
            device: where the samples are wanted; None: where the statistics are.
            generator: source of randomness, on that device; None: PyTorch's global one.

        Yields:
            (chunk, D), the last one maybe less.

        Raises:
            ValueError: if the chunk has no row.
        """
        if chunk < 1:
            raise ValueError(f"expected at least one sample at a time, got {chunk}")
        present, index = columns.cpu().unique(return_inverse=True)
        classes: list[int] = present.tolist()
        means = torch.stack([self._means[c].to(device) for c in classes])  # (classes present, D)
        if isinstance(mean_scale, Tensor):
            mean_scale = mean_scale.to(means)[present.to(means.device), None]
        means = mean_scale * means
        rest = means[:0]
        for block in index.split(BLOCK):
            rest = torch.cat([rest, self._draw_block(block, classes, means, generator)])
            whole = len(rest) - len(rest) % chunk
            if whole:
                yield from rest[:whole].split(chunk)
                rest = rest[whole:]
        if len(rest):
            yield rest

    def _draw_block(
        self,
        index: Tensor,
        classes: list[int],
        means: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Return a sample of ``classes[i]`` around ``means[i]`` for every i of ``index``, (n, D).

        One product per class, on its rows side by side.
        """
        counts = index.bincount(minlength=len(classes)).tolist()
        rows = means.new_empty(len(index), means.shape[1]).normal_(generator=generator)  # e'
        full = self.covariance == "full"
        ranks = [len(self._factors[c]) if full else 0 for c in classes]
        sizes = [n * rank for n, rank in zip(counts, ranks, strict=True)]
        noise = means.new_empty(sum(sizes)).normal_(generator=generator)  # e
        for column, own, e in zip(classes, rows.split(counts), noise.split(sizes), strict=True):
            if len(own):
                factor = self._factors[column].to(means.device)  # (rank, D)
                if full:
                    own.addmm_(e.view(len(own), -1), factor, beta=self.jitter**0.5)
                else:
                    own *= (factor.square() + self.jitter).sqrt()
        samples = means[index.to(means.device)]
        return samples.index_add_(0, index.argsort(stable=True).to(means.device), rows)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors and plain values."""
        return {
            "covariance": self.covariance,
            "jitter": self.jitter,
            "means": dict(self._means),
            "factors": dict(self._factors),
        }

    def load_state_dict(
        self, state: dict[str, Any], *, device: torch.device | str | None = None
    ) -> None:
        """Restore what :meth:`state_dict` returned; the tensors are copied.

        Args:
            state: the state.
            device: where they go, unless they are offloaded; None: where the state has them.
        """
        self.covariance, self.jitter = state["covariance"], state["jitter"]
        self._means, self._factors = {}, {}
        for column, mean in state["means"].items():
            factor = state["factors"][column]
            self._keep(column, mean.to(device, copy=True), factor.to(device, copy=True))


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
