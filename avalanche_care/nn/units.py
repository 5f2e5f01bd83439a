"""Hidden units of adapters, side by side: many adapters run in a few matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.nn.adapter import FoldedAdapter


class Units(NamedTuple):
    """The H hidden units of one or more folded adapters, with what each counts for a sample.

    All samples share the weights, (H, D), or each sample has its own, (B, H, D).
    """

    down_weight: Tensor  # (H, D) or (B, H, D)
    down_bias: Tensor  # (H,) or (B, H)
    up_weight: Tensor  # (H, D) or (B, H, D)
    gates: Tensor  # factor on each activation, (B, H)
    bias: Tensor  # what the adapters add whatever their input, gated, (B, D)
    cls_mask: Tensor | None  # dropout mask of row 0, (B, H); None: no dropout

    @classmethod
    def of(cls, adapters: Sequence[tuple[FoldedAdapter, Tensor, Tensor | None]]) -> Units:
        """Put adapters side by side that all samples share.

        Args:
            adapters: each with its gate per sample, (B,), and its dropout mask of row 0, (B, r);
                all or none of them have a mask.
        """
        folded = [adapter for adapter, _, _ in adapters]
        gates = [gate for _, gate, _ in adapters]
        masks = [mask for _, _, mask in adapters if mask is not None]
        return cls(
            torch.cat([adapter.down_weight for adapter in folded]),
            torch.cat([adapter.down_bias for adapter in folded]),
            torch.cat([adapter.up_weight for adapter in folded]),
            torch.cat([g[:, None].expand(-1, len(a.down_bias)) for a, g, _ in adapters], 1),
            torch.stack(gates, 1) @ torch.stack([adapter.up_bias for adapter in folded]),
            torch.cat(masks, 1) if masks else None,
        )


def run_units(normalised: Tensor, parts: Sequence[Units], *, dropout: float = 0.0) -> Tensor:
    """Return the summed, gated output of all units on all tokens.

    The gates are applied to the hidden units, which are few, and not to the outputs.

    Args:
        normalised: normalised tokens, (B, N, D).
        parts: at least one.
        dropout: probability of dropping a unit, where a part has a ``cls_mask``.

    Returns:
        (B, N, D).
    """
    total = torch.stack([units.bias for units in parts]).sum(0)[:, None]  # (B, 1, D)
    for units in parts:
        shared = units.down_weight.ndim == 2
        if shared:
            hidden = F.linear(normalised, units.down_weight, units.down_bias)  # (B, N, H)
        else:
            hidden = torch.baddbmm(units.down_bias[:, None], normalised, units.down_weight.mT)
        hidden = F.relu(hidden) * units.gates[:, None].to(hidden.dtype)
        if units.cls_mask is not None:
            hidden = hidden * token_mask(hidden, units.cls_mask, dropout)
        if shared:
            total = total + hidden @ units.up_weight
        else:
            total = torch.baddbmm(total, hidden, units.up_weight)
    return total


def token_mask(hidden: Tensor, cls_mask: Tensor, dropout: float) -> Tensor:
    """Return a dropout mask for all tokens whose CLS row is given.

    Args:
        hidden: (B, N, H), gives the shape.
        cls_mask: the mask already drawn for row 0, (B, H).
        dropout: probability for the other rows.
    """
    rest = F.dropout(torch.ones_like(hidden[:, 1:]), dropout)  # (B, N - 1, H)
    return torch.cat([cls_mask[:, None].to(rest.dtype), rest], 1)
