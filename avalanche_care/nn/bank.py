"""The bank of frozen experts: every expert of a block, folded and stacked over tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.nn.adapter import FoldedAdapter
from avalanche_care.nn.growing import GrowingModule, overwrite_tail
from avalanche_care.nn.units import Units
from avalanche_care.offload import Offload


class ExpertBank(GrowingModule):
    """Experts as buffers, of which each sample runs only the few that its gates select.

    Args:
        dim: width D of the tokens.
        bottleneck: hidden width r.
        dtype: what the weights are stored in, whatever the module is converted to; None: like any
            other module. They are converted where they are used.
        offload: where the weights live; None: on the module's device. Only what a forward pass
            needs is brought to the device then.
        name: tells this bank from others in the same store.
    """

    down_weight: Tensor  # (T, r, D)
    down_bias: Tensor  # (T, r)
    up_weight: Tensor  # (T, r, D)
    up_bias: Tensor  # (T, D)

    def __init__(
        self,
        dim: int,
        bottleneck: int,
        *,
        dtype: torch.dtype | None = None,
        offload: Offload | None = None,
        name: str = "bank",
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.offload = offload
        self.name = name
        self.register_buffer("down_weight", torch.zeros(0, bottleneck, dim, dtype=dtype))
        self.register_buffer("down_bias", torch.zeros(0, bottleneck, dtype=dtype))
        self.register_buffer("up_weight", torch.zeros(0, bottleneck, dim, dtype=dtype))
        self.register_buffer("up_bias", torch.zeros(0, dim, dtype=dtype))

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

    def append_rows(self, name: str, rows: int) -> None:
        """Add rows of zeros to a buffer, where it lives."""
        if self.offload is None:
            super().append_rows(name, rows)
        else:
            grown = self.offload.grow(f"{self.name}.{name}", getattr(self, name), rows)
            setattr(self, name, grown)

    def sized(self, name: str, old: Tensor, shape: torch.Size) -> Tensor:
        """Return a tensor of that shape, where the bank lives."""
        if self.offload is None:
            return super().sized(name, old, shape)
        return self.offload.put(f"{self.name}.{name}", torch.zeros(shape, dtype=old.dtype))

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
        weight = self.down_weight[:visible].flatten(0, 1).to(normalised_cls)  # (visible * r, D)
        bias = self.down_bias[:visible].flatten().to(normalised_cls)
        hidden = F.relu(F.linear(normalised_cls, weight, bias))
        return hidden.unflatten(1, (visible, self.bottleneck))

    def hidden_of(self, normalised_cls: Tensor, experts: Tensor) -> Tensor:
        """Return the CLS activations of chosen experts only.

        Args:
            normalised_cls: (B, D).
            experts: indices, (B, M).

        Returns:
            (B, M, r), before dropout.
        """
        weight = self._rows("down_weight", experts).to(normalised_cls)  # (B, M, r, D)
        product = (weight @ normalised_cls[:, None, :, None])[..., 0]  # (B, M, r)
        return F.relu(product + self._rows("down_bias", experts).to(normalised_cls))

    def units(
        self, experts: Tensor | None, gates: Tensor, masks: Tensor | None, like: Tensor
    ) -> Units:
        """Return the hidden units of experts.

        Args:
            experts: the indices that each sample has chosen, (B, S); None: the first S for all.
            gates: gate of each, (B, S).
            masks: dropout masks of the CLS row, (B, S, r), or None.
            like: gives type and device.
        """
        if experts is None:
            tables = [getattr(self, name)[: gates.shape[1]] for name in FoldedAdapter._fields]
        else:
            tables = [self._rows(name, experts) for name in FoldedAdapter._fields]
        folded = FoldedAdapter(*(table.to(like) for table in tables))  # (S, ...) or (B, S, ...)
        bias = (gates[..., None].to(like.dtype) * folded.up_bias).sum(1)  # (B, D)
        return Units(
            folded.down_weight.flatten(-3, -2),  # (S r, D) or (B, S r, D)
            folded.down_bias.flatten(-2),
            folded.up_weight.flatten(-3, -2),
            gates.repeat_interleave(self.bottleneck, dim=1),  # (B, S r)
            bias,
            None if masks is None else masks.flatten(1),
        )

    def _rows(self, name: str, index: Tensor) -> Tensor:
        """Return rows of a table on the device of the index."""
        table: Tensor = getattr(self, name)
        if table.device == index.device:
            return table[index]
        needed, place = index.unique(return_inverse=True)
        return table[needed.to(table.device)].to(index.device)[place]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Convert or move the buffers, except in what ``dtype`` and ``offload`` hold fast."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            moved = self._buffers[name]
            if self.offload is not None:
                self._buffers[name] = buffer
            elif self.dtype is not None and moved is not None:
                self._buffers[name] = moved.to(self.dtype)
        return self
