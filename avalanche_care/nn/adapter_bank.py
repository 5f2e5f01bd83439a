"""Frozen adapters of many tasks, stacked, of which several run as one product."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_care.nn.adapter import FoldedAdapter, ParallelAdapter
from avalanche_care.nn.bank import ExpertBank


class AdapterBank(ExpertBank):
    """One block's :class:`ParallelAdapter` of every task, as buffers.

    The number of modules and of tensors does not depend on the number of tasks. Where the tensors
    live is :class:`ExpertBank`'s business.
    """

    @torch.no_grad()
    def write(self, index: int, adapter: ParallelAdapter) -> None:
        """Copy an adapter into a row, which is added if it is the next one.

        Args:
            index: of the adapter, at most the number of adapters there are.
            adapter: its constant scale is multiplied into the second layer.

        Raises:
            ValueError: if an adapter was left out, or an earlier one would be written over.
        """
        if index == self.tasks:
            self.append()
        if index != self.tasks - 1:
            raise ValueError(f"expected adapter {self.tasks - 1} or {self.tasks}, got {index}")
        up = adapter.up
        self.write_last(
            FoldedAdapter(
                adapter.down.weight,
                adapter.down.bias,
                up.weight.T * adapter.scale,
                up.bias * adapter.scale,
            )
        )

    def residual(self, h: Tensor, *, first: int, count: int) -> Tensor:
        """Return what adapters ``first`` to ``first + count - 1`` add, each to tokens of its own.

        Args:
            h: the tokens of one adapter after those of the other, (count B, N, D).
            first: index of the first one.
            count: how many.

        Returns:
            (count B, N, D).
        """
        tokens = h.unflatten(0, (count, -1)).flatten(1, 2)  # (count, B N, D)
        down_weight, down_bias, up_weight, up_bias = (
            getattr(self, name)[first : first + count].to(h) for name in FoldedAdapter._fields
        )
        hidden = torch.baddbmm(down_bias[:, None], tokens, down_weight.mT)  # (count, B N, r)
        out = torch.baddbmm(up_bias[:, None], hidden.relu(), up_weight)  # (count, B N, D)
        return out.view_as(h)
