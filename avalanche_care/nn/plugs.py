"""What can be plugged into a ViT's blocks, and the checks that it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from timm.models.vision_transformer import Attention, Block  # type: ignore[attr-defined]
from torch import Tensor, nn

# timm moved `Attention` from models.vision_transformer to layers.attention during 1.0.x; the
# module that uses it has the name in every version.

Prefix = tuple[Tensor, Tensor]
"""Extra keys and values of one attention, each (L, D) or (B, L, D)."""

Branch = Callable[[Tensor], Tensor]
"""A residual branch: (B, N, D) -> (B, N, D)."""

Outputs = Mapping[str, Callable[[Tensor], Tensor]]
"""By the name of a module inside the ViT, a function of its output that keeps the shape."""


def check_branches(
    branches: Sequence[Branch | None] | None, blocks: nn.Sequential, name: str
) -> Sequence[Branch | None]:
    """Check residual branches, and fill in None where there are none.

    Args:
        branches: one entry per block, or None.
        blocks: the blocks of the ViT.
        name: the insertion point, ``"parallel"`` (inside the block) or ``"after"`` (outside).

    Returns:
        one entry per block.

    Raises:
        ValueError: another number of entries, one that cannot be called, or a block that has no
            such place.
    """
    if branches is None:
        return [None] * len(blocks)
    _check_length(branches, len(blocks), name)
    for i, branch in enumerate(branches):
        if branch is not None and not callable(branch):
            raise ValueError(
                f"{name}[{i}]: expected a callable or None, got {type(branch).__name__}."
            )
        if branch is not None and name == "parallel":
            check_block(blocks[i], i, name)
    return branches


def check_prefixes(
    prefixes: Sequence[Prefix | None] | None, blocks: nn.Sequential, batch: int
) -> Sequence[Prefix | None]:
    """Check key/value prefixes, and give them a batch dimension.

    Args:
        prefixes: one entry per block, each ``(k, v)`` of (L, D) or (B, L, D); or None.
        blocks: the blocks of the ViT.
        batch: number of samples B.

    Returns:
        one entry per block, each ``(k, v)`` of (B, L, D) or None.

    Raises:
        ValueError: another number of entries, not a pair of tensors of one fitting shape, or an
            attention that is not timm's standard one.
    """
    if prefixes is None:
        return [None] * len(blocks)
    _check_length(prefixes, len(blocks), "prefix")
    checked: list[Prefix | None] = []
    for i, pair in enumerate(prefixes):
        if pair is None:
            checked.append(None)
            continue
        block: Any = blocks[i]
        check_block(block, i, "prefix")
        _check_attention(block.attn, i)
        checked.append(_split_prefix(pair, i, batch, block.attn.qkv.out_features // 3))
    return checked


@contextmanager
def changed_outputs(vit: nn.Module, outputs: Outputs | None) -> Iterator[None]:
    """Let functions change what modules of a ViT return, for a while.

    Args:
        vit: the ViT; it is as before afterwards.
        outputs: by the name of a module, such as ``"blocks.0.attn.qkv"``; None changes nothing.

    Raises:
        ValueError: no module of that name, or a function that cannot be called or that changes the
            shape.
    """
    with ExitStack() as hooks:
        for name, change in (outputs or {}).items():
            try:
                module = vit.get_submodule(name)
            except AttributeError:
                raise ValueError(
                    f"outputs: expected names of modules such as 'blocks.0.attn.qkv', got {name!r}."
                ) from None
            if not callable(change):
                raise ValueError(
                    f"outputs[{name!r}]: expected a callable, got {type(change).__name__}."
                )
            hook = module.register_forward_hook(partial(_change_output, name, change))
            hooks.callback(hook.remove)
        yield


def _change_output(
    name: str, change: Branch, module: nn.Module, args: tuple[Any, ...], out: Tensor
) -> Tensor:
    return same_shape(change(out), out, f"outputs[{name!r}]")


def with_batch(tensor: object, name: str, batch: int, width: int) -> Tensor:
    """Bring (L, D) or (B, L, D) to (B, L, D), without copying.

    Args:
        tensor: the tensor; (L, D) is shared by all samples.
        name: what the caller calls it, for the message.
        batch: number of samples B.
        width: expected D.

    Returns:
        (B, L, D).

    Raises:
        ValueError: any other shape, or not a tensor.
    """
    shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
    if isinstance(tensor, Tensor) and tensor.shape[-1:] == (width,):
        if tensor.ndim == 2:
            return tensor.expand(batch, -1, -1)  # (B, L, D)
        if tensor.ndim == 3 and tensor.shape[0] == batch:
            return tensor
    raise ValueError(
        f"{name}: expected shape (L, {width}) or ({batch}, L, {width}), got {shape}. "
        "The last dimension is the ViT's width, the first one the batch."
    )


def same_shape(out: Tensor, x: Tensor, name: str) -> Tensor:
    """Refuse an output that would be broadcast.

    Args:
        out: the plug's output.
        x: its input, such as (B, N, D).
        name: what the caller calls the plug, for the message.

    Returns:
        ``out``.

    Raises:
        ValueError: the shapes differ.
    """
    if out.shape != x.shape:
        raise ValueError(
            f"{name}: expected an output of the input's shape {tuple(x.shape)}, got "
            f"{tuple(out.shape)}. What is plugged in keeps the shape."
        )
    return out


def tokens_per_block(
    tokens: Tensor | Sequence[Tensor] | None, depth: int, batch: int, width: int
) -> list[Tensor | None]:
    """Check extra tokens, and give them a batch dimension.

    Args:
        tokens: (L, D) or (B, L, D), before block 0; or one of them per block; or None.
        depth: number of blocks.
        batch: number of samples B.
        width: expected D.

    Returns:
        one entry per block, (B, L, D) or None: what is put in, or takes the place of the extra
        tokens of the block before.

    Raises:
        ValueError: another number of entries or another shape.
    """
    none: list[Tensor | None] = [None] * depth
    if tokens is None:
        return none
    if not isinstance(tokens, (tuple, list)):
        return [with_batch(tokens, "tokens", batch, width), *none[1:]]
    _check_length(tokens, depth, "tokens")
    return [with_batch(t, f"tokens[{i}]", batch, width) for i, t in enumerate(tokens)]


def _check_length(plugs: Sequence[object], depth: int, name: str) -> None:
    if len(plugs) != depth:
        raise ValueError(
            f"{name}: expected one entry per block ({depth}), got {len(plugs)}. "
            "Use None for a block that gets nothing."
        )


def _split_prefix(prefix: object, index: int, batch: int, width: int) -> Prefix:
    """Check one block's prefix and give it a batch dimension."""
    if not isinstance(prefix, (tuple, list)) or len(prefix) != 2:
        raise ValueError(
            f"prefix[{index}]: expected None or a pair (k, v), got {type(prefix).__name__}. "
            "Give two tensors of shape (L, D) or (B, L, D)."
        )
    k, v = (with_batch(t, f"prefix[{index}]", batch, width) for t in prefix)
    if k.shape != v.shape:
        raise ValueError(
            f"prefix[{index}]: expected k and v of one shape, got {tuple(k.shape)} and "
            f"{tuple(v.shape)}. Use as many values as keys."
        )
    return k, v


def _check_attention(attn: nn.Module, index: int) -> None:
    """Refuse an attention that computes something else, where a prefix has no defined meaning."""
    if not isinstance(attn, Attention) or type(attn).forward is not Attention.forward:
        raise ValueError(
            f"prefix: expected timm's standard Attention in block {index}, "
            f"got {type(attn).__name__}. Use a ViT with standard attention, or no prefix."
        )


def check_block(block: nn.Module, index: int, plug: str) -> None:
    """Refuse a block that does not compute timm's ``Block.forward``, which ``run_block`` opens."""
    if not isinstance(block, Block) or type(block).forward is not Block.forward:
        raise ValueError(
            f"{plug}: expected timm's standard Block (attention, then MLP), got "
            f"{type(block).__name__} in block {index}. This ViT can only be used without "
            f"{plug}; choose another architecture."
        )
