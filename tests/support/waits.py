"""Counting, on a CPU, where a program would wait for a GPU."""

from __future__ import annotations

import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# A value or the size of a result has to be known to the program (PyTorch's CUDA kernels
# synchronise in these).
READING = {
    "_local_scalar_dense",  # item(), bool(), float(), int(), if tensor
    "_linalg_check_errors",
    "_unique2",
    "allclose",
    "bincount",
    "equal",
    "isin",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}  # with a mask: nonzero()
# No operation runs for these if the tensor is on the CPU, so they are told by their names.
COPYING = {"cpu", "numpy", "tolist", "tensor", "as_tensor", "from_numpy", "new_tensor", "__array__"}


class Waits:
    """While entered, note every operation that makes the program wait for a GPU.

    Attributes:
        found: one line each: the operation, and the line of code that asked for it.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self._entered = ExitStack()

    def __enter__(self) -> Waits:
        self._entered.enter_context(_Operations(self))
        self._entered.enter_context(_Names(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.close()

    def note(self, name: str) -> None:
        ours = [f for f in traceback.extract_stack() if "site-packages" not in f.filename]
        ours = [f for f in ours if Path(f.filename) != Path(__file__)]
        self.found.append(f"{name} {Path(ours[-1].filename).name}:{ours[-1].lineno}")


class _Operations(TorchDispatchMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masks = name in INDEXING and any(
            isinstance(t, Tensor) and t.dtype in (torch.bool, torch.uint8)
            for t in tree_leaves(args[1])
        )
        sizes = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in READING or masks or sizes:
            self.waits.note(name)
        return func(*args, **(kwargs or {}))


class _Names(TorchFunctionMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in COPYING:
            self.waits.note(name)
        return func(*args, **(kwargs or {}))
