"""The bank of frozen experts: every expert of a block, folded and stacked over tasks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.nn.adapter import FoldedAdapter, token_mask
from avalanche_care.nn.growing import GrowingModule, overwrite_tail


class ExpertBank(GrowingModule):
    """Experts as buffers, of which each sample runs only the few that its gates select.

    Args:
        dim: width D of the tokens.
        bottleneck: hidden width r.
    """

    down_weight: Tensor  # (T, r, D)
    down_bias: Tensor  # (T, r)
    up_weight: Tensor  # (T, r, D)
    up_bias: Tensor  # (T, D)

    def __init__(self, dim: int, bottleneck: int) -> None:
        super().__init__()
        self.register_buffer("down_weight", torch.zeros(0, bottleneck, dim))
        self.register_buffer("down_bias", torch.zeros(0, bottleneck))
        self.register_buffer("up_weight", torch.zeros(0, bottleneck, dim))
        self.register_buffer("up_bias", torch.zeros(0, dim))

    @property
    def tasks(self) -> int:
        """Number of experts T."""
        return self.up_bias.shape[0]

    @property
    def bottleneck(self) -> int:
        """Hidden width r."""
        return self.down_bias.shape[1]

    def append(self) -> None:
        """Make room for one more expert, to be filled by :meth:`write_last`."""
        for name in FoldedAdapter._fields:
            self.append_rows(name, 1)

    @torch.no_grad()
    def write_last(self, expert: FoldedAdapter) -> None:
        """Copy a folded expert into the last row."""
        for name, value in expert._asdict().items():
            overwrite_tail(getattr(self, name), value[None])

    def cls_hidden(self, normalised_cls: Tensor, visible: int) -> Tensor:
        """Return the hidden activations of the first ``visible`` experts on the CLS row.

        Args:
            normalised_cls: (B, D).
            visible: number of experts.

        Returns:
            (B, visible, r), before dropout.
        """
        weight = self.down_weight[:visible].flatten(0, 1)  # (visible * r, D)
        hidden = F.relu(F.linear(normalised_cls, weight, self.down_bias[:visible].flatten()))
        return hidden.unflatten(1, (visible, self.bottleneck))

    def hidden_of(self, normalised_cls: Tensor, experts: Tensor) -> Tensor:
        """Return the CLS activations of chosen experts only.

        Args:
            normalised_cls: (B, D).
            experts: indices, (B, M).

        Returns:
            (B, M, r), before dropout.
        """
        weight = self.down_weight[experts]  # (B, M, r, D)
        product = (weight @ normalised_cls[:, None, :, None])[..., 0]  # (B, M, r)
        return F.relu(product + self.down_bias[experts])

    def mix(
        self,
        normalised: Tensor,
        weights: Tensor,
        *,
        at_most: int,
        cls_mask: Tensor | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Return the weighted sum of expert outputs on all tokens.

        Each sample runs the ``at_most`` experts of largest weight, so the cost does not depend on
        T. When that is all of them, gathering is pointless and one product over the stack is used.

        Args:
            normalised: normalised tokens, (B, N, D).
            weights: gate of every expert, (B, T'), T' <= T.
            at_most: upper bound on the number of gates in a row that are not zero.
            cls_mask: dropout mask of the CLS row, (B, T', r), which routing has used; None: no
                dropout.
            dropout: probability for the other tokens' masks.

        Returns:
            (B, N, D).
        """
        experts = weights.shape[1]
        if experts <= at_most:
            down = self.down_weight[:experts].flatten(0, 1)  # (T' r, D), the same for all samples
            hidden = F.linear(normalised, down, self.down_bias[:experts].flatten())
            up = self.up_weight[:experts].flatten(0, 1)  # (T' r, D)
            bias = weights @ self.up_bias[:experts]  # (B, D)
        else:
            weights, chosen = weights.topk(at_most, dim=1)  # (B, S)
            down = self.down_weight[chosen].flatten(1, 2)  # (B, S r, D)
            down_bias = self.down_bias[chosen].flatten(1)  # (B, S r)
            hidden = torch.baddbmm(down_bias[:, None], normalised, down.mT)  # (B, N, S r)
            up = self.up_weight[chosen].flatten(1, 2)  # (B, S r, D)
            bias = (weights[..., None] * self.up_bias[chosen]).sum(1)  # (B, D)
            if cls_mask is not None:
                cls_mask = cls_mask.gather(1, chosen[..., None].expand(-1, -1, self.bottleneck))
        hidden = F.relu(hidden)  # (B, N, S r)
        if cls_mask is not None:
            hidden = hidden * token_mask(hidden, cls_mask.flatten(1), dropout)
        gates = weights.repeat_interleave(self.bottleneck, dim=1)  # (B, S r)
        return (hidden * gates[:, None]) @ up + bias[:, None]  # (B, N, D)
