"""Avalanche's own L2P on a frozen ViT of this package: a shim, not a method of ours.

``LearningToPrompt`` of Avalanche 0.6 cannot be built with a current timm. Whatever the model's
name, and with ``pretrained=False`` too, it ends in ``TypeError: 'PretrainedCfg' object is not
subscriptable``: ``avalanche.models.timm_vit._create_vision_transformer`` reads timm's configuration
as the dictionary that it was before timm 0.8. Behind that, ``training/supervised/l2p.py`` makes a
head of width 768 for every ViT, and its models take images of 224 pixels only.

The shim gives it networks made of a :class:`FrozenViT`'s parts, and a head that fits. All else is
Avalanche's: the strategy class, its forward pass, mask, loss and optimizer, its ViT and prompt
classes, all defaults. From the same initial values it learns what ours learns.

It is no registered method. Its head has all classes from the start and predicts those to come, a
run would have to know their number before it begins, and it takes empty experiences, repeated
classes and labels out of place as they come. ``docs/ledger.rst`` has what differs from ours.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

from avalanche.training.supervised import LearningToPrompt
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from avalanche_care.nn.vit import FrozenViT

with warnings.catch_warnings():  # Avalanche asks for timm's modules by their old names
    warnings.simplefilter("ignore", FutureWarning)
    from avalanche.models import vit as avalanche_models
    from avalanche.models.timm_vit import ViTWithPrompt, checkpoint_filter_fn

__all__ = ["learning_to_prompt"]

NAME = "frozen_vit"
"""What the networks are called while Avalanche looks for them."""


def learning_to_prompt(
    backbone: FrozenViT, *, num_classes: int, **options: Any
) -> LearningToPrompt:
    """Build Avalanche's L2P on a frozen ViT.

    Its batches need task labels, as those of our benchmarks and of ``nc_benchmark`` have.

    Args:
        backbone: a plain ViT: a CLS token and no other in front of the patches, which has a
            position embedding and is the feature. It is copied.
        num_classes: of the whole benchmark.
        options: of ``LearningToPrompt``, except ``model_name`` and ``pretrained``. Left out, ``lr``
            is 0.03 and not scaled by the batch size; ``train_mb_size``, ``eval_mb_size`` and
            ``train_epochs`` are 1.

    Returns:
        Avalanche's strategy. Both its networks share one copy of the backbone's blocks.

    Raises:
        ValueError: for a ViT that Avalanche's would compute something else from, or dropout.

    Example:
        >>> backbone = FrozenViT.create("glyph_vit_micro")
        >>> strategy = learning_to_prompt(backbone, num_classes=50, lr=0.004)
        >>> type(strategy).__name__
        'LearningToPrompt'
    """
    _check(backbone)
    vit = copy.deepcopy(backbone.vit)

    def network(*, pretrained: bool, **arguments: Any) -> ViTWithPrompt:
        return _network(vit, **arguments)

    setattr(avalanche_models, NAME, network)  # create_model() finds models by name in this module
    try:
        strategy = LearningToPrompt(model_name=NAME, num_classes=num_classes, **options)
    finally:
        delattr(avalanche_models, NAME)
    # It makes the optimizer anew for every experience, so that the head may be replaced here.
    strategy.model.head = nn.Linear(backbone.embed_dim, num_classes).to(strategy.device)
    return strategy


def _check(backbone: FrozenViT) -> None:
    """Refuse ViTs that Avalanche's forward pass does not follow."""
    vit: Any = backbone.vit
    plain = (
        vit.cls_token is not None
        and vit.num_prefix_tokens == 1
        and vit.global_pool == "token"
        and vit.pos_embed is not None
        and not vit.no_embed_class
        and isinstance(vit.norm_pre, nn.Identity)
        and isinstance(vit.fc_norm, nn.Identity)
        and len(set(backbone.img_size)) == 1
    )
    if not plain:
        raise ValueError(
            f"Avalanche's L2P needs a plain ViT, and {backbone.info.name} is none: expected a CLS "
            "token with a position embedding that is the feature, no other extra token, no norm "
            "before the blocks or after the pooling, and square images. Our own L2P takes it."
        )


def _network(
    vit: VisionTransformer, *, drop_rate: float, drop_path_rate: float, **arguments: Any
) -> ViTWithPrompt:
    """Avalanche's ViT made of another's parts; ``arguments`` are of its prompts and its head."""
    if drop_rate or drop_path_rate:
        raise ValueError(
            f"the backbone is frozen as it is: expected no dropout, got drop_rate={drop_rate} and "
            f"drop_path_rate={drop_path_rate}"
        )
    parts: Any = vit
    network = ViTWithPrompt(
        img_size=parts.patch_embed.img_size,
        patch_size=parts.patch_embed.patch_size,
        in_chans=parts.patch_embed.proj.in_channels,
        embed_dim=parts.embed_dim,
        depth=0,
        **arguments,
    )
    network.patch_embed, network.blocks, network.norm = parts.patch_embed, parts.blocks, parts.norm
    network.cls_token = parts.cls_token
    # Avalanche's own resizing: the prompts get the position of the CLS token.
    table = checkpoint_filter_fn({"pos_embed": parts.pos_embed}, network)["pos_embed"]  # (1, N, D)
    network.pos_embed = nn.Parameter(table.detach().clone(), requires_grad=False)
    return network
