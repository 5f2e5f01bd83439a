"""Counting the memory of tensors on any device, the CPU included."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["TensorMemory"]


class TensorMemory(TorchDispatchMode):
    """Count the bytes of the tensors that operations make while it is entered.

    A storage counts from the operation that makes it until nothing refers to it any more: what
    autograd keeps for the backward pass counts, views do not count twice. Unlike the size of a
    process the figure is exact, repeatable, and the same on every device. Not counted: scratch
    space inside one operation, and tensors that existed before.

    Attributes:
        live: bytes alive now.
        peak: most bytes that were alive at once.

    Example:
        >>> import torch
        >>> with TensorMemory() as memory:
        ...     x = torch.zeros(1000) + 1
        >>> memory.live, memory.peak
        (4000, 8000)
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}  # storages by identity

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it made."""
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if _has_storage(t)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if _has_storage(tensor) and id(tensor.untyped_storage()) not in given:
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return

        def gone(_: Any) -> None:
            self.live -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def _has_storage(x: Any) -> bool:
    return isinstance(x, Tensor) and x.layout == torch.strided
