"""Class means as the rows of a classifier: what SimpleCIL does, and others after adapting."""

from __future__ import annotations

import torch

from avalanche_care.statistics import class_means
from avalanche_care.strategies.collecting import experience_features
from avalanche_care.strategies.template import PTMStrategy


@torch.no_grad()
def fit_prototypes(strategy: PTMStrategy) -> None:
    """Set the head's rows of the current experience's classes to their mean features.

    The means are of the raw features (not normalised first), of the training images with the test
    transform, in eval mode. The head does not train afterwards.

    Args:
        strategy: in a phase of an experience; its model's head is as wide as its features.

    Raises:
        ValueError: if a label is not one of the experience's classes, one of these has no image, or
            a feature is not finite. No row has changed then.
    """
    head = strategy.model.head
    features, columns = experience_features(strategy, strategy.model.features)
    head.refuse_earlier(columns, head.columns_of(strategy.task))
    for column, mean in class_means(features, columns).items():
        head.weight[column] = mean
    head.weight.requires_grad_(False)
