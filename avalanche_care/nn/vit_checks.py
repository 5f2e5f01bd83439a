"""Checks of a ViT and of its input, and facts that timm keeps in different places."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


def check_images(x: Tensor, vit: Any, in_chans: int, img_size: tuple[int, int]) -> None:
    """Refuse a batch of images that the ViT cannot take, with what to do about it."""
    shape = tuple(x.shape)
    if x.ndim != 4:
        raise ValueError(
            f"x: expected images (B, {in_chans}, height, width), got shape {shape}. "
            "Add a batch dimension to a single image with x[None]."
        )
    if not x.is_floating_point():
        raise ValueError(
            f"x: expected floating point images, got {x.dtype}. Convert uint8 with "
            "x.float() / 255 and normalise as the weights expect."
        )
    if x.shape[1] != in_chans:
        hint = (
            f"Turn grey-scale into colour with x.expand(-1, {in_chans}, -1, -1)."
            if x.shape[1] == 1
            else "Images must be channels first."
        )
        raise ValueError(f"x: expected {in_chans} channels, got shape {shape}. {hint}")
    size = (x.shape[2], x.shape[3])
    if not getattr(vit, "dynamic_img_size", False):
        if size != img_size:
            raise ValueError(
                f"x: expected images of {img_size[0]}x{img_size[1]} pixels, got "
                f"{size[0]}x{size[1]}. Resize them, or create the backbone with that img_size."
            )
    elif not getattr(vit.patch_embed, "dynamic_img_pad", False):
        patch = vit.patch_embed.patch_size
        if size[0] % patch[0] or size[1] % patch[1]:
            raise ValueError(
                f"x: expected sides that are multiples of the patch size {tuple(patch)}, got "
                f"{size[0]}x{size[1]}. Resize or pad the images."
            )


def check_vit(vit: object) -> None:
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


def num_heads(blocks: nn.Module) -> int:
    """Heads of the first attention found; its place depends on the kind of block."""
    with_heads: list[Any] = [m for m in blocks.modules() if hasattr(m, "num_heads")]
    return int(with_heads[0].num_heads)


def in_chans(patch_embed: nn.Module) -> int:
    """Input channels of the first convolution (a hybrid ViT has a CNN in front)."""
    return next(m.in_channels for m in patch_embed.modules() if isinstance(m, nn.Conv2d))
