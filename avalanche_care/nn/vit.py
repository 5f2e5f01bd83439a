"""The one vision transformer of the package: a frozen timm ViT with named insertion points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from avalanche_care.nn.attention import run_block
from avalanche_care.nn.plugs import (
    Branch,
    Prefix,
    check_branches,
    check_prefixes,
    same_shape,
    with_batch,
)
from avalanche_care.nn.weights import BackboneInfo, build_vit, state_sha256

__all__ = ["BackboneInfo", "FrozenViT"]


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
        _check_vit(vit)
        self.vit = vit
        self.embed_dim = int(vit.embed_dim)
        self.depth = len(vit.blocks)
        self.num_heads = _num_heads(vit.blocks)
        self.img_size: tuple[int, int] = tuple(vit.patch_embed.img_size)
        self.in_chans = _in_chans(vit.patch_embed)
        self.num_prefix_tokens = int(vit.num_prefix_tokens)
        self.info = info or BackboneInfo(type(vit).__name__, "module", state_sha256(vit))
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
        tokens: Tensor | None = None,
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
                pooling does not read them.

        Returns:
            features, (B, D).

        Raises:
            ValueError: an input or a plug of another shape or type, or a plug that this ViT's
                blocks have no place for.
        """
        out = self.forward_features(x, parallel=parallel, after=after, prefix=prefix, tokens=tokens)
        start = self.num_prefix_tokens
        end = start + (0 if tokens is None else tokens.shape[-2])
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
        tokens: Tensor | None = None,
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
        self._check_images(x)
        vit: Any = self.vit
        parallel = check_branches(parallel, vit.blocks, "parallel")
        after = check_branches(after, vit.blocks, "after")
        prefix = check_prefixes(prefix, vit.blocks, x.shape[0])
        x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(x))))  # (B, N, D)
        if tokens is not None:
            extra = with_batch(tokens, "tokens", x.shape[0], self.embed_dim)
            n = self.num_prefix_tokens
            x = torch.cat([x[:, :n], extra.to(x.dtype), x[:, n:]], dim=1)  # (B, N + L, D)
        for i, block in enumerate(vit.blocks):
            x = run_block(block, x, parallel[i], prefix[i])
            branch = after[i]
            if branch is not None:
                x = x + same_shape(branch(x), x, f"after[{i}]")
        return vit.norm(x)

    def _check_images(self, x: Tensor) -> None:
        shape = tuple(x.shape)
        if x.ndim != 4:
            raise ValueError(
                f"x: expected images (B, {self.in_chans}, height, width), got shape {shape}. "
                "Add a batch dimension to a single image with x[None]."
            )
        if not x.is_floating_point():
            raise ValueError(
                f"x: expected floating point images, got {x.dtype}. Convert uint8 with "
                "x.float() / 255 and normalise as the weights expect."
            )
        if x.shape[1] != self.in_chans:
            hint = (
                f"Turn grey-scale into colour with x.expand(-1, {self.in_chans}, -1, -1)."
                if x.shape[1] == 1
                else "Images must be channels first."
            )
            raise ValueError(f"x: expected {self.in_chans} channels, got shape {shape}. {hint}")
        size = (x.shape[2], x.shape[3])
        vit: Any = self.vit
        if not getattr(vit, "dynamic_img_size", False):
            if size != self.img_size:
                raise ValueError(
                    f"x: expected images of {self.img_size[0]}x{self.img_size[1]} pixels, got "
                    f"{size[0]}x{size[1]}. Resize them, or create the backbone with that img_size."
                )
        elif not getattr(vit.patch_embed, "dynamic_img_pad", False):
            patch = vit.patch_embed.patch_size
            if size[0] % patch[0] or size[1] % patch[1]:
                raise ValueError(
                    f"x: expected sides that are multiples of the patch size {tuple(patch)}, got "
                    f"{size[0]}x{size[1]}. Resize or pad the images."
                )


def _check_vit(vit: object) -> None:
    """Refuse what timm's standard ViT forward pass does not serve."""
    if not isinstance(vit, VisionTransformer):
        raise ValueError(
            f"expected a timm VisionTransformer, got {type(vit).__name__}. "
            "Only plain vision transformers can be the backbone."
        )
    if type(vit).forward_features is not VisionTransformer.forward_features:
        raise ValueError(
            f"{type(vit).__name__} has its own forward_features, which the insertion points do "
            "not follow. Use a ViT that keeps timm's."
        )
    if not vit.global_pool:
        raise ValueError(
            "the ViT has no pooling (global_pool=''), so it gives no feature vector. Build it "
            "with global_pool='token' or 'avg'."
        )


def _num_heads(blocks: nn.Module) -> int:
    """Heads of the first attention found; its place depends on the kind of block."""
    with_heads: list[Any] = [m for m in blocks.modules() if hasattr(m, "num_heads")]
    return int(with_heads[0].num_heads)


def _in_chans(patch_embed: nn.Module) -> int:
    """Input channels of the first convolution (a hybrid ViT has a CNN in front)."""
    return next(m.in_channels for m in patch_embed.modules() if isinstance(m, nn.Conv2d))
