"""Parameter-efficient tuning of a frozen ViT, one interface for all kinds.

The kinds are those that APER (Zhou et al., IJCV 2024, arXiv 2303.07338) adapts a
network with on the first task; RanPAC takes the same step. A :class:`PETL` holds what is added and
trained, never the backbone, which is passed to every call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_care.nn.adapter import ParallelAdapter
from avalanche_care.nn.plugs import Outputs
from avalanche_care.nn.vit import FrozenViT

OPERATIONS = (
    "patch_embed",
    "norm1",
    "attn.qkv",
    "attn.proj",
    "norm2",
    "mlp.fc1",
    "mlp.fc2",
    "norm",
)
"""What SSF scales and shifts the outputs of: modules of timm's ViT, or of each of its blocks."""


class PETL(nn.Module):
    """What adapts a frozen ViT.

    Calling it with the backbone and images, (B, C, H, W), gives the adapted features, (B, D).
    """

    def forward(self, backbone: FrozenViT, x: Tensor) -> Tensor:
        """Return the adapted features (B, D) of images (B, C, H, W)."""
        raise NotImplementedError

    def both(self, backbone: FrozenViT, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the backbone's own features and the adapted ones, each (B, D)."""
        return backbone(x), self(backbone, x)


class NoTuning(PETL):
    """The backbone as it is, for methods that may leave the adaptation out.

    Args:
        backbone: not used.
    """

    def __init__(self, backbone: FrozenViT) -> None:
        super().__init__()

    def forward(self, backbone: FrozenViT, x: Tensor) -> Tensor:
        """Return the backbone's features (B, D) of images (B, C, H, W)."""
        features: Tensor = backbone(x)
        return features


class AdapterTuning(PETL):
    """A bottleneck adapter beside the MLP of every block.

    It reads the residual stream ``h = x + Attn(LN1 x)`` itself, before LN2: AdaptFormer's figure
    is often read as if it were LN2's output.

    Args:
        backbone: whose width and depth it has.
        bottleneck: hidden width r.
        scale: s.
        dropout: of the hidden units, in training.
    """

    def __init__(
        self,
        backbone: FrozenViT,
        *,
        bottleneck: int = 64,
        scale: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(
            ParallelAdapter(backbone.embed_dim, bottleneck, scale=scale, dropout=dropout)
            for _ in range(backbone.depth)
        )

    def forward(self, backbone: FrozenViT, x: Tensor) -> Tensor:
        """Return the adapted features (B, D) of images (B, C, H, W)."""
        return backbone(x, parallel=list(self.adapters))

    def both(self, backbone: FrozenViT, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the backbone's own features and the adapted ones, each (B, D).

        The embedding and all of block 0 but its adapter are the same in both passes, and run once.
        """
        begun = backbone.begin(x)
        plain = backbone.finish(begun, parallel=[None] * backbone.depth)
        return plain, backbone.finish(begun, parallel=list(self.adapters))


class ScaleShift(PETL):
    """SSF: ``scale * y + shift`` per channel after every operation of the ViT.

    Lian et al., "Scaling & Shifting Your Features", NeurIPS 2022. As released, the scales are drawn
    from N(1, std²) and the shifts from N(0, std²): it is no identity at the start. With the
    LayerNorms only and ``std=0`` it is FiLM.

    Args:
        backbone: what is tuned.
        operations: whose outputs; names of modules of the ViT, or of each of its blocks.
        std: of the initial values.

    Raises:
        ValueError: if the ViT lacks one of the operations.
    """

    def __init__(
        self,
        backbone: FrozenViT,
        *,
        operations: Sequence[str] = OPERATIONS,
        std: float = 0.02,
    ) -> None:
        super().__init__()
        self.places = _places(backbone, operations)
        total = sum(self.places.values())
        # One vector each for all places, so that the optimizer has two tensors and not 148.
        self.scale = nn.Parameter(torch.empty(total).normal_(1.0, std))
        self.shift = nn.Parameter(torch.empty(total).normal_(0.0, std))

    def outputs(self) -> Outputs:
        """Return what :meth:`FrozenViT.changing` takes."""
        widths = list(self.places.values())
        pairs = zip(self.scale.split(widths), self.shift.split(widths), strict=True)
        return {
            name: partial(_affine, scale, shift)
            for name, (scale, shift) in zip(self.places, pairs, strict=True)
        }

    def forward(self, backbone: FrozenViT, x: Tensor) -> Tensor:
        """Return the adapted features (B, D) of images (B, C, H, W)."""
        with backbone.changing(self.outputs()):
            return backbone(x)


def _affine(scale: Tensor, shift: Tensor, y: Tensor) -> Tensor:
    return y * scale + shift


def _places(backbone: FrozenViT, operations: Sequence[str]) -> dict[str, int]:
    """Return the names of the modules and how many channels each gives, in the ViT's order."""
    vit = backbone.vit
    names = []
    for operation in operations:
        if operation == "norm" and isinstance(vit.norm, nn.Identity):
            names.append("fc_norm")  # where timm has the last LayerNorm of ViTs that average
        elif hasattr(vit, operation):
            names.append(operation)
        else:
            names += [f"blocks.{i}.{operation}" for i in range(backbone.depth)]
    modules = dict(vit.named_modules())
    missing = [name for name in names if name not in modules]
    if missing:
        raise ValueError(
            f"expected a ViT with the operations {list(operations)}, this one has no {missing[0]}: "
            "choose another architecture, or another way to tune it"
        )
    widths = {}
    for name in modules:
        if name in names:
            module: Any = modules[name]
            widths[name] = len(module.proj.weight if name == "patch_embed" else module.weight)
    return widths


class PromptTokens(PETL):
    """VPT: extra input tokens, which start at zero.

    Jia et al., "Visual Prompt Tuning", ECCV 2022. As released with APER they start at zero and not
    at random, which is no identity either: a LayerNorm turns a zero token into its bias, and passes
    a large gradient back to it. The release puts them behind the patches; their place makes no
    difference, for they have no position embedding.

    Args:
        backbone: what is tuned.
        tokens: L, how many.
        deep: every block has its own, which take the place of what the block before made of its
            tokens; False: block 0 only.
    """

    def __init__(self, backbone: FrozenViT, *, tokens: int = 5, deep: bool = False) -> None:
        super().__init__()
        layers = backbone.depth if deep else 1
        self.tokens = nn.Parameter(torch.zeros(layers, tokens, backbone.embed_dim))  # (1|depth,L,D)

    def forward(self, backbone: FrozenViT, x: Tensor) -> Tensor:
        """Return the adapted features (B, D) of images (B, C, H, W)."""
        tokens = list(self.tokens)
        return backbone(x, tokens=tokens if len(tokens) > 1 else tokens[0])


class FullTuning(PETL):
    """Fine-tuning of the whole ViT: of a copy, for the backbone stays as it is.

    The copy's dropout and drop-path stay off, as those of the backbone.

    Args:
        backbone: what is copied.
    """

    def __init__(self, backbone: FrozenViT) -> None:
        super().__init__()
        self.tuned = copy.deepcopy(backbone).requires_grad_(True)

    def forward(self, backbone: FrozenViT, x: Tensor) -> Tensor:
        """Return the adapted features (B, D) of images (B, C, H, W)."""
        return self.tuned(x)


KINDS: dict[str, Callable[..., PETL]] = {
    "none": NoTuning,
    "adapter": AdapterTuning,
    "ssf": ScaleShift,
    "vpt-shallow": partial(PromptTokens, deep=False),
    "vpt-deep": partial(PromptTokens, deep=True),
    "finetune": FullTuning,
}
"""Ways to tune a ViT, by name."""


def build_petl(kind: str, backbone: FrozenViT, **options: Any) -> PETL:
    """Make what tunes a backbone.

    Args:
        kind: a key of :data:`KINDS`.
        backbone: it is not changed.
        options: the kind's own, plain values.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"expected one of {sorted(KINDS)}, got {kind!r}")
    return KINDS[kind](backbone, **options)
