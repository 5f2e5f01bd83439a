"""Training steps: to look at them, and to make them by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor


class Steps(SupervisedPlugin[Any], supports_distributed=False):
    """Lets a test look at every step before the optimizer's."""

    def __init__(self, look: Callable[[Any], None]) -> None:
        super().__init__()
        self.look = look

    def before_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.look(strategy)


def descend(
    loss: Tensor,
    parameters: Sequence[Tensor],
    velocities: Sequence[Tensor],
    *,
    rate: float,
    decay: float,
) -> None:
    """Make a step of SGD with momentum 0.9 and weight decay, written out."""
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for p, v, g in zip(parameters, velocities, gradients, strict=True):
            v.mul_(0.9).add_(g + decay * p)
            p.sub_(rate * v)
