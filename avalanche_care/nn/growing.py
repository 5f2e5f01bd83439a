"""Modules whose tensors have as many rows as there are tasks or classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class GrowingModule(nn.Module):
    """A module whose own tensors grow along their first axis.

    ``load_state_dict`` gives each of them as many rows as the saved one has, so that a new module
    takes the state of one that has grown.
    """

    def append_rows(self, name: str, rows: int) -> None:
        """Add rows of zeros to a buffer."""
        old = getattr(self, name)
        setattr(self, name, torch.cat([old, old.new_zeros(rows, *old.shape[1:])]))

    def sized(self, name: str, old: Tensor, shape: torch.Size) -> Tensor:
        """Return a tensor of that shape to take the place of ``old``; its values do not matter."""
        return old.new_empty(shape)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        own = [*self.named_parameters(recurse=False), *self.named_buffers(recurse=False)]
        for name, tensor in own:
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape[1:] == tensor.shape[1:]:
                empty = self.sized(name, tensor.detach(), saved.shape)
                trains = tensor.requires_grad
                is_parameter = name in self._parameters
                setattr(self, name, nn.Parameter(empty, trains) if is_parameter else empty)
        super()._load_from_state_dict(state_dict, prefix, *args)


def overwrite_tail(buffer: Tensor, rows: Tensor) -> None:
    """Write ``rows`` over the last rows of ``buffer``.

    Through ``.data``, because autograd may have saved views of the earlier rows, which this leaves
    alone; its version check cannot tell and would refuse the backward pass.
    """
    buffer.data[len(buffer) - len(rows) :] = rows
