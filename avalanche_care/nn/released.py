"""Reading checkpoints that the authors' released code wrote.

The released code (github.com/LMMMEng/CaRE) saves a state dict with one module per task and split
query, key and value projections. Sizes are read off the tensors; what the tensors do not tell
(number of heads, M, K, scale) has the released defaults.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from avalanche_care.nn.brmoe_config import BRMoEConfig
from avalanche_care.nn.care import CaREModel
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.nn.weight_files import read_state

logger = logging.getLogger(__name__)

ADAPTER_NAMES = {
    "norm": "adapter_layer_norm_before",
    "down": "down_proj",
    "up": "up_proj",
}
UNUSED = ("backbone.head.",)
"""Keys that the released model carries but never uses: the ViT's own classifier."""


class ReleasedCheckpoint(NamedTuple):
    """What :func:`load_released_checkpoint` returns.

    Attributes:
        model: ready for evaluation, or for learning the next task.
        unused: keys of the checkpoint that have no place in the model.
    """

    model: CaREModel
    unused: list[str]


class _Keys:
    """A state dict that remembers which keys were asked for and which were not there."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.used: set[str] = set()
        self.missing: list[str] = []

    def take(self, key: str) -> Tensor:
        if key not in self.tensors:
            self.missing.append(key)
            return torch.zeros(0)
        self.used.add(key)
        return self.tensors[key]

    def count(self, pattern: str) -> int:
        """Return how many consecutive i there are with ``pattern.format(i)`` a key."""
        i = 0
        while pattern.format(i) in self.tensors:
            i += 1
        return i

    def fill(self, module: nn.Module, prefix: str, names: Mapping[str, str] | None = None) -> None:
        """Copy into every tensor of ``module``, whose parts have other names in the checkpoint."""
        for name, target in module.state_dict().items():
            head, _, tail = name.partition(".")
            head = (names or {}).get(head, head)
            key = f"{prefix}.{head}.{tail}" if tail else f"{prefix}.{head}"
            value = self.take(key)
            if key in self.used:
                _copy(target, value, key)


def load_released_checkpoint(
    checkpoint: Mapping[str, Tensor] | str | Path,
    *,
    num_heads: int | None = None,
    norm_eps: float = 1e-6,
    top_m: int = 2,
    top_k: int = 3,
    dropout: float = 0.1,
    scale: float = 20.0,
) -> ReleasedCheckpoint:
    """Turn a checkpoint of the released CaRE code into a :class:`CaREModel`.

    Args:
        checkpoint: the state dict, or a path to one (``.pth``, read with ``weights_only=True``, or
            ``.safetensors``).
        num_heads: attention heads of the ViT; None: width / 64, true of every standard ViT.
        norm_eps: epsilon of the ViT's own LayerNorms.
        top_m: M, number of routers; not in the checkpoint.
        top_k: K, number of experts per router; not in the checkpoint.
        dropout: of the experts, should the model learn more tasks; not in the checkpoint.
        scale: s of the cosine logits; not in the checkpoint.

    Returns:
        The model, in eval mode, and the names of keys that it has no place for. Labels are the
        positions in the class order that the run used.

    Raises:
        ValueError: if keys are missing or a tensor has another shape, each named.
    """
    tensors = checkpoint if isinstance(checkpoint, Mapping) else read_state(Path(checkpoint))
    keys = _Keys(tensors)
    vit = _build_vit(keys, num_heads, norm_eps)
    layer = "backbone.adapter.adapter_layer0"
    config = BRMoEConfig(
        bottleneck=len(keys.take(f"{layer}.adapter.0.down_proj.bias")),
        shared_bottleneck=len(keys.take(f"{layer}.shared_adapter.down_proj.bias")),
        top_m=top_m,
        top_k=top_k,
        dropout=dropout,
    )
    model = CaREModel(FrozenViT(vit), config, scale=scale)
    tasks = keys.count("fc.heads.{}.0.weight")
    rows = [keys.take(f"fc.heads.{task}.0.weight") for task in range(tasks)]
    for task in range(tasks):
        start = model.head.n_classes
        model.expand(task, range(start, start + len(rows[task])))
        for i, block in enumerate(model.layers()):
            prefix = f"backbone.adapter.adapter_layer{i}"
            keys.fill(block.expert, f"{prefix}.adapter.{task}", ADAPTER_NAMES)
            keys.fill(block.router, f"{prefix}.router.{task}")
            keys.fill(
                block.perceptron, f"{prefix}.latent_head.{task}", {"norm": "0", "linear": "1"}
            )
    for i, block in enumerate(model.layers()):
        if block.shared is not None:
            prefix = f"backbone.adapter.adapter_layer{i}.shared_adapter"
            keys.fill(block.shared, prefix, ADAPTER_NAMES)
    _raise_if_missing(keys)
    _copy(model.head.weight.data, torch.cat(rows), "fc.heads")
    unused = [key for key in tensors if key not in keys.used and not key.startswith(UNUSED)]
    if unused:
        logger.warning("%d keys of the checkpoint were not used: %s", len(unused), unused[:10])
    model.eval()
    return ReleasedCheckpoint(model, unused)


def _build_vit(keys: _Keys, num_heads: int | None, norm_eps: float) -> VisionTransformer:
    patches = keys.take("backbone.patch_embed.proj.weight")  # (D, channels, p, p)
    positions = keys.take("backbone.pos_embed")  # (1, N, D)
    depth = keys.count("backbone.blocks.{}.norm1.weight")
    if not depth or "fc.heads.0.0.weight" not in keys.tensors:
        raise ValueError(
            "this is not a checkpoint of the released CaRE code: expected keys such as "
            "'backbone.blocks.0.norm1.weight' and 'fc.heads.0.0.weight', got "
            f"{list(keys.tensors)[:5]}; pass the state dict itself, without a wrapper"
        )
    _raise_if_missing(keys)
    dim, channels, patch = patches.shape[0], patches.shape[1], patches.shape[2]
    vit = VisionTransformer(
        img_size=round((positions.shape[1] - 1) ** 0.5) * patch,
        patch_size=patch,
        in_chans=channels,
        num_classes=0,
        embed_dim=dim,
        depth=depth,
        num_heads=num_heads or max(1, dim // 64),
        mlp_ratio=len(keys.take("backbone.blocks.0.fc1.bias")) / dim,
        norm_layer=partial(nn.LayerNorm, eps=norm_eps),
    )
    for name, target in vit.state_dict().items():
        source = f"backbone.{name}".replace(".mlp.", ".")
        if ".attn.qkv." in source:
            parts = [source.replace(".qkv.", f".{p}_proj.") for p in "qkv"]
            value, source = torch.cat([keys.take(part) for part in parts]), parts[0]
        else:
            value = keys.take(source)
        if source in keys.used:
            _copy(target, value, source)
    return vit


def _copy(target: Tensor, value: Tensor, key: str) -> None:
    if target.shape != value.shape:
        raise ValueError(
            f"{key} has shape {tuple(value.shape)}, expected {tuple(target.shape)} by the sizes "
            "read off the other tensors"
        )
    target.copy_(value)


def _raise_if_missing(keys: _Keys) -> None:
    if keys.missing:
        raise ValueError(
            f"the checkpoint lacks {len(keys.missing)} keys of a released CaRE model, among them "
            f"{keys.missing[:8]}"
        )
