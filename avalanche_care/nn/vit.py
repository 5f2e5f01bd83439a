"""The one vision transformer of the package: a frozen timm ViT with named insertion points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from avalanche_care.nn.attention import PLAIN, Halves, run_block
from avalanche_care.nn.plugs import (
    Branch,
    Outputs,
    Prefix,
    changed_outputs,
    check_block,
    check_branches,
    check_prefixes,
    same_shape,
    tokens_per_block,
)
from avalanche_care.nn.vit_checks import check_images, check_vit, in_chans, num_heads
from avalanche_care.nn.weights import BackboneInfo, build_vit, state_sha256

__all__ = ["BackboneInfo", "Begun", "FrozenViT"]


class Begun(NamedTuple):
    """A forward pass that stands before what block 0 may have plugged in beside its MLP.

    Attributes:
        h: tokens that the branch reads, (B, N, D).
        out: block 0's output without the branch, (B, N, D).
    """

    h: Tensor
    out: Tensor

    def repeat(self, times: int) -> Begun:
        """Return the whole batch several times in a row, (times B, N, D)."""
        return Begun(self.h.repeat(times, 1, 1), self.out.repeat(times, 1, 1))


class FrozenViT(nn.Module):
    """A timm vision transformer that never changes, with places to plug methods into.

    Every method of the package is something plugged into this backbone, so that they differ in
    nothing else. timm's own modules are run; with nothing plugged in the features equal
    ``vit.forward_head(vit.forward_features(x), pre_logits=True)`` bit for bit.

    Frozen means: no parameter requires a gradient, and :meth:`train` keeps eval mode, so dropout
    and drop-path stay off. Gradients still flow through to the input and to what is plugged in.

    Args:
        vit: a timm ``VisionTransformer`` (or a subclass that keeps its ``forward_features``, such
            as DeiT's distilled one). It is frozen in place. A classifier head is left alone and
            not used.
        info: where the weights come from; None records the class's name and a hash of the weights.

    Attributes:
        embed_dim: width D of tokens and features.
        depth: number of blocks.
        num_heads: attention heads of a block.
        img_size: expected (height, width) in pixels.
        in_chans: expected number of input channels.
        num_prefix_tokens: tokens in front of the patches (CLS, distillation, registers).
        info: name, weights and SHA-256.

    Raises:
        ValueError: not a ViT that timm's standard forward pass serves, or one without pooling.

    Example:
        >>> import torch
        >>> from timm.models.vision_transformer import VisionTransformer
        >>> vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2)
        >>> FrozenViT(vit)(torch.zeros(5, 3, 32, 32)).shape
        torch.Size([5, 24])
    """

    info: BackboneInfo

    def __init__(self, vit: VisionTransformer, *, info: BackboneInfo | None = None) -> None:
        super().__init__()
        check_vit(vit)
        self.vit = vit
        self.embed_dim = int(vit.embed_dim)
        self.depth = len(vit.blocks)
        self.num_heads = num_heads(vit.blocks)
        self.img_size: tuple[int, int] = tuple(vit.patch_embed.img_size)
        self.in_chans = in_chans(vit.patch_embed)
        self.num_prefix_tokens = int(vit.num_prefix_tokens)
        self.info = info or BackboneInfo(type(vit).__name__, "module", state_sha256(vit))
        self._halves = PLAIN
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def create(
        cls, name: str, *, weights: str | Path | None = None, img_size: int | None = None
    ) -> FrozenViT:
        """Build a backbone by name, with pre-trained weights.

        See :func:`avalanche_care.nn.weights.build_vit` for what a name and a file may be.

        Args:
            name: timm's ``arch.tag``, or an embedded name such as ``"glyph_vit_micro"``.
            weights: a local .safetensors, .npz, .pth, .pt or .bin file; a bare architecture name
                is allowed with it.
            img_size: side of the (square) input in pixels; the position table is resampled by
                timm. None keeps the architecture's own size.

        Returns:
            the frozen backbone, on the CPU, in float32.

        Raises:
            ValueError: unknown name, name without a tag, not a ViT, or a file that does not fit.
            OSError: the weights could not be read or downloaded.
        """
        vit, info = build_vit(name, weights=weights, img_size=img_size)
        return cls(vit, info=info)

    def train(self, mode: bool = True) -> FrozenViT:
        """Stay in eval mode whatever ``mode`` says: a frozen backbone has no training behaviour."""
        return super().train(False)

    def extra_repr(self) -> str:
        """Say which weights these are when the module is printed."""
        return f"name={self.info.name!r}, weights={self.info.weights!r}, img_size={self.img_size}"

    def forward(
        self,
        x: Tensor,
        *,
        parallel: Sequence[Branch | None] | None = None,
        after: Sequence[Branch | None] | None = None,
        prefix: Sequence[Prefix | None] | None = None,
        tokens: Tensor | Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Pooled features of a batch of images.

        All sequences have one entry per block; an entry of None plugs nothing into that block.

        Args:
            x: images, (B, in_chans, height, width), floating point, normalised as the weights
                expect.
            parallel: residual branches beside the MLP. With ``h = x + Attn(LN1 x)``, the block
                gives ``h + MLP(LN2 h) + parallel[i](h)``.
            after: residual branches after the block: ``x + after[i](x)``.
            prefix: ``(k, v)`` per block, each (L, D) or (B, L, D): extra keys and values of the
                attention, in projected space (see
                :func:`avalanche_care.nn.attention.attention_with_prefix`).
            tokens: extra input tokens, (L, D) or (B, L, D), inserted after the prefix tokens and
                without position embedding, right before block 0. They act through attention; the
                pooling does not read them. Or a list with such tokens for every block, which take
                the place of what the block before made of its own (VPT-deep).

        Returns:
            features, (B, D).

        Raises:
            ValueError: an input or a plug of another shape or type, or a plug that this ViT's
                blocks have no place for.
        """
        out = self.forward_features(x, parallel=parallel, after=after, prefix=prefix, tokens=tokens)
        start = self.num_prefix_tokens
        last = tokens if tokens is None or isinstance(tokens, Tensor) else tokens[-1]
        end = start + (0 if last is None else last.shape[-2])
        if end > start:  # drop the extra tokens, an average must be over what timm averages
            out = torch.cat([out[:, :start], out[:, end:]], dim=1)  # (B, N, D)
        return self.vit.forward_head(out, pre_logits=True)

    def forward_features(
        self,
        x: Tensor,
        *,
        parallel: Sequence[Branch | None] | None = None,
        after: Sequence[Branch | None] | None = None,
        prefix: Sequence[Prefix | None] | None = None,
        tokens: Tensor | Sequence[Tensor] | None = None,
    ) -> Tensor:
        """All tokens after the last block and norm, for methods that pool in their own way.

        Args:
            x: as in :meth:`forward`.
            parallel: as in :meth:`forward`.
            after: as in :meth:`forward`.
            prefix: as in :meth:`forward`.
            tokens: as in :meth:`forward`.

        Returns:
            (B, N + L, D): prefix tokens, the L extra tokens (if any), patch tokens.

        Raises:
            ValueError: as in :meth:`forward`.
        """
        check_images(x, self.vit, self.in_chans, self.img_size)
        vit: Any = self.vit
        parallel = check_branches(parallel, vit.blocks, "parallel")
        after = check_branches(after, vit.blocks, "after")
        prefix = check_prefixes(prefix, vit.blocks, x.shape[0])
        extra = tokens_per_block(tokens, self.depth, x.shape[0], self.embed_dim)
        x = self._embed(x)
        start = end = self.num_prefix_tokens
        for i, block in enumerate(vit.blocks):
            new = extra[i]
            if new is not None:
                x = torch.cat([x[:, :start], new.to(x.dtype), x[:, end:]], dim=1)  # (B, N + L, D)
                end = start + new.shape[1]
            x = run_block(block, x, parallel[i], prefix[i], self._halves)
            branch = after[i]
            if branch is not None:
                x = x + same_shape(branch(x), x, f"after[{i}]")
        return vit.norm(x)

    @contextmanager
    def changing(self, outputs: Outputs) -> Iterator[None]:
        """Let functions change what modules inside the ViT return, in all passes of a while.

        This is the insertion point for what stands behind every operation (SSF, FiLM). Blocks that
        were compiled run as they are meanwhile.

        Args:
            outputs: by a module's name in timm's ViT, such as ``"blocks.0.attn.qkv"``, what becomes
                of its output; keeps the shape.

        Raises:
            ValueError: no module of that name, or not a function that keeps the shape.
        """
        halves, self._halves = self._halves, PLAIN
        try:
            with changed_outputs(self.vit, outputs):
                yield
        finally:
            self._halves = halves

    def _embed(self, x: Tensor) -> Tensor:
        """Return the input of block 0, (B, N, D)."""
        vit: Any = self.vit
        return vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(x))))

    def begin(self, x: Tensor) -> Begun:
        """Run what is common to passes that differ in their parallel branches only.

        That is the embedding and all of block 0, to be gone on from with :meth:`finish`.

        Args:
            x: images, as in :meth:`forward`.

        Raises:
            ValueError: an input of another shape or type, or a block that cannot be taken apart.
        """
        check_images(x, self.vit, self.in_chans, self.img_size)
        block = self.vit.blocks[0]
        check_block(block, 0, "parallel")
        h = self._halves.attention(block, self._embed(x), None)
        return Begun(h, self._halves.mlp(block, h))

    def finish(self, begun: Begun, *, parallel: Sequence[Branch | None]) -> Tensor:
        """Return the pooled features of a pass that was begun.

        Args:
            begun: from :meth:`begin`, perhaps repeated.
            parallel: residual branches beside the MLPs, as in :meth:`forward`.

        Returns:
            features, (B, D), the same as :meth:`forward` gives.
        """
        vit: Any = self.vit
        branches = check_branches(parallel, vit.blocks, "parallel")
        x = begun.out
        for i, (block, branch) in enumerate(zip(vit.blocks, branches, strict=True)):
            if i:
                x = run_block(block, x, branch, None, self._halves)
            elif branch is not None:
                x = x + same_shape(branch(begun.h), x, "parallel")
        return vit.forward_head(vit.norm(x), pre_logits=True)

    def compile_blocks(self, **options: Any) -> FrozenViT:
        """Compile the blocks with ``torch.compile``: the same numbers up to rounding, faster.

        Each half of a block is compiled once and serves all blocks. The first passes wait for the
        compiler, and so does the first batch of another size.

        Args:
            options: of ``torch.compile``, such as ``mode="max-autotune-no-cudagraphs"``.

        Returns:
            itself.
        """
        self._halves = Halves(*(torch.compile(half, **options) for half in PLAIN))
        return self
