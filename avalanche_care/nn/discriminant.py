"""Linear discriminants from running sums."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_care.nn.moments import RunningMoments
from avalanche_care.nn.ridge import solve_ridge

COVARIANCES = ("total", "within")


def linear_discriminants(
    moments: RunningMoments, *, ridge: float = 1.0, covariance: str = "total"
) -> tuple[Tensor, Tensor]:
    """Return the weights and biases of linear discriminant analysis without class priors.

    With ``S = cov + ridge I`` a class's score is ``mu' S^-1 f - mu' S^-1 mu / 2``; FSA (Panos et
    al., ICCV 2023, arXiv 2303.13199), section 3.

    Args:
        moments: of the features, (C, D) and (D, D).
        ridge: what is added to the covariance's diagonal.
        covariance: ``"total"``, of all features around their common mean, or ``"within"``, of all
            features around their class's mean, which is the textbook's.

    Returns:
        weights (C, D) and biases (C,), of the sums' type.

    Raises:
        ValueError: on another value of ``covariance``, or sums that are not finite.
    """
    if covariance not in COVARIANCES:
        raise ValueError(f"covariance must be one of {COVARIANCES}, got {covariance!r}")
    total = covariance == "total"
    spread = moments.total_covariance() if total else moments.within_covariance()
    means = moments.means()
    weight, _ = solve_ridge(spread, means, ridge)
    return weight, -torch.einsum("cd,cd->c", weight, means) / 2
