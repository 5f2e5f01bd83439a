"""Running sums of features: what ridge regression and linear discriminants are functions of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS = 1024
"""Features that are added at once."""


class RunningMoments:
    """Count and sum of every class's features, and the second moment of all of them.

    Adding features in any order, in batches of any size and in any tasks gives the same sums up to
    rounding, so a classifier that is a function of them is what it would be with all data at once.
    Nothing of a single image is kept.

    Sums of squares are large numbers whose differences matter. Of 50,000 images with M = 10,000
    random features the largest eigenvalue of the Gram matrix is of the order of 1e11, so single
    precision leaves errors of about 1e4 in the small ones, more than most regularisers add; double
    precision leaves about 1e-5. The default is therefore float64, at M^2 * 8 bytes (800 MB for
    M = 10,000, where float32 takes 400 MB).

    Args:
        dim: M, width of the features.
        dtype: of the sums.
        device: where they are.

    Attributes:
        gram: sum of h h' over all features, (M, M).
        sums: sum of the features of every class, (C, M).
        counts: number of features of every class, (C,), of the same type.
    """

    def __init__(
        self,
        dim: int,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        self.gram = torch.zeros(dim, dim, dtype=dtype, device=device)
        self.sums = self.gram.new_zeros(0, dim)
        self.counts = self.gram.new_zeros(0)

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return len(self.counts)

    def expand(self, n_classes: int) -> None:
        """Make room for classes up to a number of them in all; fewer than now changes nothing."""
        new = max(n_classes - self.n_classes, 0)
        self.sums = torch.cat([self.sums, self.sums.new_zeros(new, self.sums.shape[1])])
        self.counts = torch.cat([self.counts, self.counts.new_zeros(new)])

    def add(self, features: Tensor, columns: Tensor) -> None:
        """Add features.

        The cost per feature is M^2 multiply-adds, and per thousand features a pass over the Gram
        matrix: give it many features at a time rather than a mini-batch.

        Args:
            features: (n, M).
            columns: class of each, below C, (n,).
        """
        for some, own in zip(features.split(ROWS), columns.split(ROWS), strict=True):
            wide = some.to(self.gram.dtype)
            chosen = F.one_hot(own, self.n_classes).to(wide)  # (n, C)
            self.gram.addmm_(wide.T, wide)
            self.sums.addmm_(chosen.T, wide)  # a product, for sums by index are in no fixed order
            self.counts += chosen.sum(0)

    def without(self, part: RunningMoments) -> RunningMoments:
        """Return new sums, of what was not added to ``part``."""
        rest = RunningMoments(0, dtype=self.gram.dtype, device=self.gram.device)
        for name, value in part.state_dict().items():
            setattr(rest, name, getattr(self, name) - value)
        return rest

    def means(self) -> Tensor:
        """Return the mean feature of every class, (C, M)."""
        return self.sums / self.counts[:, None]

    def total_covariance(self) -> Tensor:
        """Return the unbiased covariance of all features, (M, M); zero of a single one."""
        n = self.counts.sum()
        mean = self.sums.sum(0) / n
        return (self.gram - n * torch.outer(mean, mean)) / (n - 1).clamp_min(1)

    def within_covariance(self) -> Tensor:
        """Return the pooled covariance around the class means, (M, M), divided by n - C."""
        between = self.means().T @ self.sums  # sum of n_c mu_c mu_c'
        return (self.gram - between) / (self.counts.sum() - self.n_classes).clamp_min(1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all sums; they are not copied."""
        return {"gram": self.gram, "sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; the tensors are copied to where ours are.

        Raises:
            ValueError: if the sums are of features of another width.
        """
        if state["gram"].shape != self.gram.shape:
            raise ValueError(
                f"expected sums of features of width {len(self.gram)}, got {len(state['gram'])}"
            )
        for name in ("gram", "sums", "counts"):
            setattr(self, name, state[name].to(self.gram, copy=True))
