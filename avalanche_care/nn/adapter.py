"""Bottleneck adapters, plain and folded onto a shared normalisation.

:class:`ParallelAdapter` is AdaptFormer's, as APER, EASE and RanPAC have it.

An adapter of CaRE (Lou et al., ICML 2026, section 3.2) reads the residual stream ``h`` through a
LayerNorm of its own::

    E(h) = s * (U drop(relu(W LN(h) + b)) + c)

All adapters of a block normalise the same ``h``, so everything but the normalisation itself folds
into two matrices and two vectors: ``E(h) = U' drop(relu(W' n + b')) + c'`` with
``n = (h - mean) / sqrt(var + eps)``. The fold is exact, and lets any number of adapters share
``n``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-5
"""LayerNorm epsilon of adapters and perceptrons; sharing one normalisation needs one value."""


class FoldedAdapter(NamedTuple):
    """An adapter without its LayerNorm and scale: ``up_weight' relu(down_weight n + down_bias)``.

    Both weights are stored with the bottleneck first, (r, D), so that stacks of adapters gather and
    flatten into one matrix product.
    """

    down_weight: Tensor  # (r, D)
    down_bias: Tensor  # (r,)
    up_weight: Tensor  # (r, D)
    up_bias: Tensor  # (D,)


def normalise(h: Tensor) -> Tensor:
    """Return ``h`` with zero mean and unit variance over its last axis (LayerNorm, no affine)."""
    return F.layer_norm(h, h.shape[-1:], eps=EPS)


class Adapter(nn.Module):
    """The bottleneck adapter that serves as expert and as shared expert.

    The per-channel ``scale`` starts at zero, so a fresh adapter returns exactly zero and only its
    scale receives a gradient at the very first step.

    Args:
        dim: width D of the tokens.
        bottleneck: hidden width r.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
    """

    def __init__(self, dim: int, bottleneck: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.down = nn.Linear(dim, bottleneck)
        self.up = nn.Linear(bottleneck, dim)
        self.scale = nn.Parameter(torch.zeros(dim))
        self.dropout = dropout
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.up.weight, a=math.sqrt(5))
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.bias)

    @property
    def bottleneck(self) -> int:
        """Hidden width r."""
        return self.down.out_features

    def forward(self, h: Tensor) -> Tensor:
        """Return the residual that the adapter adds for tokens ``h`` (..., D), same shape."""
        hidden = F.dropout(F.relu(self.down(self.norm(h))), self.dropout, self.training)  # (..., r)
        out: Tensor = self.scale * self.up(hidden)
        return out

    def fold(self) -> FoldedAdapter:
        """Return the equivalent adapter on normalised input; differentiable."""
        with torch.autocast(self.scale.device.type, enabled=False):
            return FoldedAdapter(
                self.down.weight * self.norm.weight,
                self.down.weight @ self.norm.bias + self.down.bias,
                self.up.weight.T * self.scale,
                self.up.bias * self.scale,
            )


class ParallelAdapter(nn.Module):
    """AdaptFormer's bottleneck: ``s (U drop(relu(W h + b)) + c)``, without a LayerNorm.

    U, b and c start at zero, so that a fresh one returns exactly zero and only U and c receive a
    gradient at the very first step.

    Args:
        dim: width D of the tokens.
        bottleneck: hidden width r.
        scale: s, fixed.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
    """

    def __init__(
        self, dim: int, bottleneck: int = 64, *, scale: float = 0.1, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.down = nn.Linear(dim, bottleneck)
        self.up = nn.Linear(bottleneck, dim)
        self.scale = scale
        self.dropout = dropout
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, h: Tensor) -> Tensor:
        """Return the residual that the adapter adds for tokens ``h`` (..., D), same shape."""
        hidden = F.dropout(F.relu(self.down(h)), self.dropout, self.training)  # (..., r)
        return self.scale * self.up(hidden)


class Perceptron(nn.Module):
    """The class perceptron of one task: LayerNorm, then a linear layer over the task's classes.

    The paper calls it a linear layer; the released code puts the LayerNorm before it.
    Initialisation follows the released code: the LayerNorm gain is drawn from a truncated normal of
    standard deviation 0.02, the linear layer keeps PyTorch's default.

    Args:
        dim: width D of its input row.
        n_classes: number of classes of the task.
        norm: False leaves the LayerNorm out.
    """

    def __init__(self, dim: int, n_classes: int, *, norm: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=EPS) if norm else None
        self.linear = nn.Linear(dim, n_classes)
        if self.norm is not None:
            nn.init.trunc_normal_(self.norm.weight, std=0.02)

    def forward(self, row: Tensor) -> Tensor:
        """Return class logits (B, n_classes) for rows (B, D)."""
        logits: Tensor = self.linear(row if self.norm is None else self.norm(row))
        return logits
