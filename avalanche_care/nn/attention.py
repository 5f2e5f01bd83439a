"""timm's standard block with a parallel branch, its attention with a key/value prefix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from avalanche_care.nn.plugs import Branch, Prefix, same_shape


def attention_with_prefix(attn: Any, x: Tensor, prefix: Prefix) -> Tensor:
    """Run a timm attention whose queries also see L extra keys and values.

    The prefix stands where the projected keys and values stand (prefix tuning; DualPrompt and
    CODA-Prompt use it so): it is not projected, and not normalised where the ViT has ``qk_norm``.
    Queries come from ``x`` only, so the number of tokens does not change.

    Args:
        attn: timm's standard ``Attention``, in eval mode (its dropouts are off).
        x: normalised block input, (B, N, D).
        prefix: ``(k, v)``, each (B, L, D); heads are consecutive slices of D.

    Returns:
        attention output, (B, N, D).
    """
    batch, n_tokens, _ = x.shape
    heads = attn.num_heads
    qkv = attn.qkv(x).reshape(batch, n_tokens, 3, heads, -1)  # (B, N, 3, H, D/H)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, D/H)
    q, k = attn.q_norm(q), attn.k_norm(k)
    # (B, L, D) -> (B, H, L, D/H)
    pk, pv = (p.to(k.dtype).unflatten(-1, (heads, -1)).transpose(1, 2) for p in prefix)
    out = functional.scaled_dot_product_attention(
        q, torch.cat([pk, k], dim=2), torch.cat([pv, v], dim=2)
    )
    out = out.transpose(1, 2).flatten(2)  # (B, N, D)
    # Newer timm versions have an optional norm and an optional gate here.
    norm, gate = getattr(attn, "norm", None), getattr(attn, "gate", None)
    if norm is not None:
        out = norm(out)
    if gate is not None:
        out = out * gate(x).sigmoid()
    return attn.proj_drop(attn.proj(out))


def attention_part(block: Any, x: Tensor, prefix: Prefix | None = None) -> Tensor:
    """Run the first half of a block: ``h = x + Attn(LN1 x)``, (B, N, D)."""
    y = block.norm1(x)
    y = block.attn(y) if prefix is None else attention_with_prefix(block.attn, y, prefix)
    return x + block.drop_path1(block.ls1(y))


def mlp_part(block: Any, h: Tensor) -> Tensor:
    """Run the second half of a block: ``h + MLP(LN2 h)``, (B, N, D)."""
    return h + block.drop_path2(block.ls2(block.mlp(block.norm2(h))))


class Halves(NamedTuple):
    """The two halves of a block, as they are or compiled."""

    attention: Callable[[Any, Tensor, Prefix | None], Tensor] = attention_part
    mlp: Callable[[Any, Tensor], Tensor] = mlp_part


PLAIN = Halves()


def run_block(
    block: Any,
    x: Tensor,
    branch: Branch | None = None,
    prefix: Prefix | None = None,
    halves: Halves = PLAIN,
) -> Tensor:
    """Run one block; without a plug it is timm's own forward, bit for bit.

    Args:
        block: timm's standard ``Block`` where something is plugged in, else any block.
        x: block input, (B, N, D).
        branch: a branch beside the MLP, or None; reads ``h = x + Attn(LN1 x)``.
        prefix: ``(k, v)``, each (B, L, D), or None.
        halves: what to run where the block is taken apart.

    Returns:
        ``h + MLP(LN2 h) + branch(h)``, (B, N, D).

    Raises:
        ValueError: the branch changes the shape.
    """
    if branch is None and prefix is None and halves is PLAIN:
        return block(x)
    h = halves.attention(block, x, prefix)
    out = halves.mlp(block, h)
    return out if branch is None else out + same_shape(branch(h), h, "parallel")
