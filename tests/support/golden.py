"""Reference outputs of the released BR-MoE (``tests/data``, format in its README)."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from avalanche_care.nn import BRMoE, BRMoEConfig, CaREModel, FrozenViT

DATA = Path(__file__).parents[1] / "data"


@cache
def tensors(file: str) -> dict[str, Tensor]:
    return load_file(DATA / f"{file}.safetensors")


def metadata(file: str, key: str) -> Any:
    with safe_open(DATA / f"{file}.safetensors", "pt") as f:
        return json.loads(f.metadata()[key])


def cases(kind: str) -> list[dict[str, Any]]:
    every = metadata("brmoe_golden", "cases")["cases"]
    return [case for case in every if case["kind"] == kind]


def under(prefix: str, source: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries below ``prefix.``, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in source.items() if k.startswith(prefix + ".")}


def config_of(case: dict[str, Any]) -> BRMoEConfig:
    return BRMoEConfig(
        bottleneck=case["expert_dim"],
        shared_bottleneck=case["shared_dim"],
        top_m=case["top_m"],
        top_k=case["top_k"],
        dropout=0.0,
    )


def classes_of(case: dict[str, Any], task: int) -> int:
    return case["init_classes"] if task == 0 else case["increment"]


def load_triplet(layer: BRMoE, weights: dict[str, Tensor], task: int) -> None:
    for part in ("expert", "router", "perceptron"):
        getattr(layer, part).load_state_dict(under(f"{part}.{task}", weights))


def load_layer(layer: BRMoE, weights: dict[str, Tensor], case: dict[str, Any]) -> BRMoE:
    """Expand a layer task by task to the case's size, with the case's weights."""
    assert layer.shared is not None
    layer.shared.load_state_dict(under("shared", weights))
    for task in range(case["tasks"]):
        if layer.tasks == task:
            layer.expand(classes_of(case, task))
        load_triplet(layer, weights, task)
    return layer


def small_vit(case: dict[str, Any], weights: dict[str, Tensor]) -> FrozenViT:
    vit = VisionTransformer(
        img_size=case["img"],
        patch_size=case["patch"],
        embed_dim=case["dim"],
        depth=case["depth"],
        num_heads=case["heads"],
        num_classes=0,
        norm_layer=partial(nn.LayerNorm, eps=case["norm_eps"]),
    )
    vit.load_state_dict(weights)
    return FrozenViT(vit)


def load_model(case: dict[str, Any], weights: dict[str, Tensor]) -> CaREModel:
    """The whole network of a ``vit`` case."""
    model = CaREModel(small_vit(case, under("timm", weights)), config_of(case))
    for task in range(case["tasks"]):
        start = model.head.n_classes
        model.expand(task, range(start, start + classes_of(case, task)))
        for i, layer in enumerate(model.layers()):
            load_triplet(layer, under(f"block{i}", weights), task)
    for i, layer in enumerate(model.layers()):
        assert layer.shared is not None
        layer.shared.load_state_dict(under(f"block{i}.shared", weights))
    model.head.weight.data.copy_(weights["classifier.weight"])
    return model


def assert_close(actual: Tensor, expected: Tensor, *, relative: float, what: str = "") -> None:
    """Compare by the largest difference relative to the largest entry."""
    assert actual.shape == expected.shape, f"{what}: {actual.shape} instead of {expected.shape}"
    scale = expected.abs().max().clamp_min(1e-12)
    error = ((actual - expected).abs().max() / scale).item()
    assert error <= relative, f"{what}: relative error {error:.2e} > {relative:.0e}"
    assert torch.isfinite(actual).all(), what


def assert_matches_recording(
    actual: Tensor, recorded: Tensor, exact: Tensor, *, relative: float, what: str
) -> None:
    """Compare with a float32 recording that has a rounding error of its own.

    A deep network amplifies rounding, and processors round in different orders. Where the recording
    is itself off the float64 value by more than half of ``relative``, ours may be off it by twice
    that; the float64 value has to agree with the recording to 5e-5 in any case.
    """
    scale = exact.abs().max().clamp_min(1e-12)
    own = ((recorded - exact).abs().max() / scale).item()
    assert own <= 5e-5, f"{what}: in float64 {own:.1e} off the recording"
    assert_close(actual, recorded, relative=max(relative, 2 * own), what=what)
