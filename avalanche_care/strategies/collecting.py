"""The features of an experience, for methods that compute a classifier from them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from avalanche_care.statistics import require_finite
from avalanche_care.strategies.template import PTMStrategy


def experience_features(
    strategy: PTMStrategy, extract: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the features of all training images of the experience, with the test transform.

    Args:
        strategy: in a phase of an experience. The model is in eval mode meanwhile.
        extract: from images (B, C, H, W) to features (B, D), without gradients.

    Returns:
        features (n, D) and the head's column of each, (n,), in the data set's order.

    Raises:
        ValueError: if a label is not one of the classes seen, a class of the experience has no
            image, or a feature is not finite.
    """
    head = strategy.model.head
    with strategy.evaluating():
        found = [(extract(x), y) for x, y in strategy.clean_batches()]
    features, labels = (torch.cat(part) for part in zip(*found, strict=True))
    columns = head.columns(labels)  # once, for the device is waited for
    require_images(
        strategy, columns.bincount(minlength=head.n_classes)[head.columns_of(strategy.task)]
    )
    require_finite(features, columns, head.labels)
    return features, columns


def require_images(strategy: PTMStrategy, counts: Tensor) -> None:
    """Refuse an experience that has a class without images: it would have no statistics.

    Args:
        strategy: in a phase of an experience.
        counts: how many images each class of the experience has, in column order.

    Raises:
        ValueError: naming the classes that have none.
    """
    missing = strategy.model.head.classes_of(strategy.task)[counts == 0].tolist()
    if missing:
        raise ValueError(f"classes {missing} have no training images: expected at least one")
