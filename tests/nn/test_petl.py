"""Every way to tune a frozen ViT, against a ViT written out here."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer
from torch import Tensor, nn

from avalanche_care.nn import BackboneInfo, FrozenViT
from avalanche_care.nn.heads import ProxyHead
from avalanche_care.nn.petl import KINDS, OPERATIONS, ScaleShift, build_petl
from avalanche_care.nn.weights import state_sha256

SOME = BackboneInfo("some ViT", "random", "")
TUNED = ["adapter", "ssf", "vpt-shallow", "vpt-deep", "finetune"]
EFFICIENT = TUNED[:-1]
every_kind = pytest.mark.parametrize("kind", TUNED)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 16, 16, dtype=torch.float64)


def small_vit(**kwargs: Any) -> FrozenViT:
    """Width 24, 3 blocks, 16 patches, every parameter moved; float64."""
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 3}
    vit = VisionTransformer(**{**sizes, "num_classes": 0, **kwargs}).double()
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return FrozenViT(vit, info=SOME)


def moved(kind: str, backbone: FrozenViT, **options: Any) -> nn.Module:
    """What has been tuned for a while: nothing in it is at its start."""
    petl = build_petl(kind, backbone, **options).double()
    with torch.no_grad():
        for parameter in petl.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return petl.eval()


# The reference: a ViT in plain operations, with everything that a kind adds spelled out


def plain_norm(norm: Any, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def plain_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    width = q.shape[-1] // heads
    out = []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        weights = (q[..., part] @ k[..., part].mT / math.sqrt(width)).softmax(-1)
        out.append(weights @ v[..., part])
    return torch.cat(out, -1)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def plain_features(
    vit: Any,
    images: Tensor,
    *,
    adapters: Any = None,
    affine: dict[str, tuple[Tensor, Tensor]] | None = None,
    prompts: list[Tensor] | None = None,
) -> Tensor:
    """CLS row of the last norm. Prompts stand behind the patches, as the release puts them."""

    def ssf(name: str, y: Tensor) -> Tensor:
        if affine is None:
            return y
        scale, shift = affine[name]
        return scale * y + shift

    patches = vit.patch_embed.proj(images).flatten(2).mT
    x = torch.cat([vit.cls_token.expand(len(images), 1, -1), ssf("patch_embed", patches)], 1)
    x = x + vit.pos_embed
    n = x.shape[1]
    for i, block in enumerate(vit.blocks):
        if prompts is not None and i < len(prompts):
            x = torch.cat([x[:, :n], prompts[i].expand(len(images), -1, -1)], 1)
        at, heads = f"blocks.{i}.", block.attn.num_heads
        y = ssf(at + "norm1", plain_norm(block.norm1, x))
        qkv = ssf(at + "attn.qkv", y @ block.attn.qkv.weight.T + block.attn.qkv.bias)
        y = plain_attention(*qkv.chunk(3, -1), heads)
        h = x + ssf(at + "attn.proj", y @ block.attn.proj.weight.T + block.attn.proj.bias)
        y = ssf(at + "norm2", plain_norm(block.norm2, h))
        y = gelu(ssf(at + "mlp.fc1", y @ block.mlp.fc1.weight.T + block.mlp.fc1.bias))
        out = h + ssf(at + "mlp.fc2", y @ block.mlp.fc2.weight.T + block.mlp.fc2.bias)
        if adapters is not None:
            a = adapters[i]  # reads h itself and not LN2(h)
            hidden = (h @ a.down.weight.T + a.down.bias).relu()
            out = out + 0.1 * (hidden @ a.up.weight.T) + 0.1 * a.up.bias
        x = out
    return ssf("norm", plain_norm(vit.norm, x))[:, 0]


def test_the_reference_is_the_vit(images: Tensor) -> None:
    backbone = small_vit()
    torch.testing.assert_close(plain_features(backbone.vit, images), backbone(images))


def test_adapter_equals_the_formula(images: Tensor) -> None:
    backbone = small_vit()
    petl: Any = moved("adapter", backbone, bottleneck=5)
    expected = plain_features(backbone.vit, images, adapters=petl.adapters)
    torch.testing.assert_close(petl(backbone, images), expected, rtol=1e-11, atol=1e-11)
    assert not torch.allclose(expected, backbone(images), rtol=1e-2)


def test_ssf_stands_behind_every_operation(images: Tensor) -> None:
    backbone = small_vit()
    petl: Any = moved("ssf", backbone)
    assert list(petl.places) == [
        "patch_embed",
        *(f"blocks.{i}.{name}" for i in range(3) for name in OPERATIONS[1:-1]),
        "norm",
    ]
    widths = list(petl.places.values())
    pairs = zip(petl.scale.split(widths), petl.shift.split(widths), strict=True)
    affine = dict(zip(petl.places, pairs, strict=True))
    expected = plain_features(backbone.vit, images, affine=affine)
    torch.testing.assert_close(petl(backbone, images), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("kind", "layers"), [("vpt-shallow", 1), ("vpt-deep", 3)])
def test_prompts_equal_tokens_behind_the_patches(kind: str, layers: int, images: Tensor) -> None:
    backbone = small_vit()
    petl: Any = moved(kind, backbone, tokens=4)
    assert petl.tokens.shape == (layers, 4, 24)
    expected = plain_features(backbone.vit, images, prompts=list(petl.tokens))
    torch.testing.assert_close(petl(backbone, images), expected, rtol=1e-11, atol=1e-11)


def test_finetuning_runs_its_own_copy(images: Tensor) -> None:
    backbone = small_vit()
    before = state_sha256(backbone)
    petl: Any = moved("finetune", backbone)
    assert state_sha256(backbone) == before
    torch.testing.assert_close(petl(backbone, images), plain_features(petl.tuned.vit, images))
    assert not torch.allclose(petl(backbone, images), backbone(images), rtol=1e-2)
    held = {value.data_ptr() for value in petl.parameters()}
    assert not held & {value.data_ptr() for value in backbone.parameters()}


# What trains


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("adapter", 1_189_632),
        ("ssf", 205_824),
        ("vpt-shallow", 3_840),
        ("vpt-deep", 46_080),
        ("finetune", 85_798_656),
        ("none", 0),
    ],
)
def test_parameters_of_vit_base(kind: str, expected: int) -> None:
    with torch.device("meta"):
        vit = FrozenViT(VisionTransformer(num_classes=0), info=SOME)
        petl = build_petl(kind, vit)
    assert sum(p.numel() for p in petl.parameters() if p.requires_grad) == expected
    assert not any(p.requires_grad for p in vit.parameters())


@pytest.mark.parametrize("width", [128, 192, 384])
@every_kind
def test_other_widths(kind: str, width: int) -> None:
    heads = width // 64
    vit = VisionTransformer(img_size=32, embed_dim=width, depth=2, num_heads=heads, num_classes=0)
    backbone = FrozenViT(vit, info=SOME)
    petl = build_petl(kind, backbone)
    expected = {
        "adapter": 2 * (2 * width * 64 + 64 + width),
        "ssf": 2 * (2 * 11 * width + 2 * width),
        "vpt-shallow": 5 * width,
        "vpt-deep": 2 * 5 * width,
        "finetune": sum(p.numel() for p in vit.parameters()),
    }
    assert sum(p.numel() for p in petl.parameters()) == expected[kind]
    assert petl(backbone, torch.randn(2, 3, 32, 32)).shape == (2, width)


@every_kind
def test_gradients_reach_what_it_holds_and_nothing_else(kind: str, images: Tensor) -> None:
    backbone = small_vit()
    petl = moved(kind, backbone)
    petl(backbone, images).square().sum().backward()
    for name, parameter in petl.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())


def test_gradients_reach_every_place_of_ssf_and_every_layer_of_vpt(images: Tensor) -> None:
    backbone = small_vit()
    ssf: Any = moved("ssf", backbone)
    deep: Any = moved("vpt-deep", backbone)
    for petl in (ssf, deep):
        petl(backbone, images).square().sum().backward()
    for vector in (ssf.scale, ssf.shift):
        for name, grad in zip(
            ssf.places, vector.grad.split(list(ssf.places.values())), strict=True
        ):
            assert grad.abs().sum() > 1e-9, name
    assert (deep.tokens.grad.flatten(1).norm(dim=1) > 1e-9).all()


# At the start


def test_a_fresh_adapter_changes_nothing_and_its_first_step_leaves_down_alone() -> None:
    backbone = small_vit().float()
    petl: Any = build_petl("adapter", backbone)
    images = torch.randn(3, 3, 16, 16)
    assert torch.equal(petl(backbone, images), backbone(images))
    petl(backbone, images).square().sum().backward()
    for adapter in petl.adapters:
        assert not adapter.down.weight.grad.any()
        assert not adapter.down.bias.grad.any()
        assert adapter.up.weight.grad.any()
        assert adapter.up.bias.grad.any()
        assert adapter.down.weight.any()
        bound = 24**-0.5  # kaiming_uniform(a = sqrt 5) of 24 inputs
        assert 0.9 * bound < adapter.down.weight.abs().max() <= bound


def test_ssf_starts_near_the_identity_and_not_at_it(images: Tensor) -> None:
    with torch.device("meta"):
        wide = FrozenViT(VisionTransformer(num_classes=0), info=SOME)
    petl = ScaleShift(wide)
    assert petl.scale.mean().item() == pytest.approx(1, abs=5e-4)
    assert petl.shift.mean().item() == pytest.approx(0, abs=5e-4)
    assert petl.scale.std().item() == pytest.approx(0.02, rel=0.02)
    assert petl.shift.std().item() == pytest.approx(0.02, rel=0.02)
    backbone = small_vit()
    exact = ScaleShift(backbone, std=0.0).double()
    assert torch.equal(exact(backbone, images), backbone(images))
    assert not torch.allclose(ScaleShift(backbone).double()(backbone, images), backbone(images))


@pytest.mark.parametrize("kind", ["vpt-shallow", "vpt-deep"])
def test_zero_prompts_are_no_identity(kind: str, images: Tensor) -> None:
    backbone = small_vit()
    petl: Any = build_petl(kind, backbone).double()
    assert not petl.tokens.any()
    assert not torch.allclose(petl(backbone, images), backbone(images), rtol=1e-3)
    torch.testing.assert_close(
        petl(backbone, images), plain_features(backbone.vit, images, prompts=list(petl.tokens))
    )


def test_dropout_of_adapters_is_for_training_only(images: Tensor) -> None:
    backbone = small_vit()
    petl = moved("adapter", backbone, dropout=0.5)
    assert torch.equal(petl(backbone, images), petl(backbone, images))
    petl.train()
    assert not torch.equal(petl(backbone, images), petl(backbone, images))


def test_adapters_as_published_unless_told_otherwise() -> None:
    petl: Any = build_petl("adapter", small_vit())
    found = {(a.down.out_features, a.scale, a.dropout) for a in petl.adapters}
    assert found == {(64, 0.1, 0.1)}


def test_nothing_may_be_tuned(images: Tensor) -> None:
    backbone = small_vit()
    petl = build_petl("none", backbone)
    assert torch.equal(petl(backbone, images), backbone(images))
    assert not list(petl.parameters())


# Both networks at once


@every_kind
def test_both_equals_two_passes(kind: str) -> None:
    backbone = small_vit().float()
    petl: Any = moved(kind, backbone).float()
    images = torch.randn(3, 3, 16, 16)
    plain, adapted = petl.both(backbone, images)
    assert torch.equal(plain, backbone(images))
    assert torch.equal(adapted, petl(backbone, images))


def test_the_adapters_two_networks_share_the_embedding_and_block_0(images: Tensor) -> None:
    backbone = small_vit()
    petl: Any = moved("adapter", backbone)
    calls: list[str] = []
    vit: Any = backbone.vit
    for name in ("patch_embed", "blocks.0.mlp", "blocks.1.mlp"):
        module = vit.get_submodule(name)
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    petl.both(backbone, images)
    assert sorted(calls) == ["blocks.0.mlp", "blocks.1.mlp", "blocks.1.mlp", "patch_embed"]


@every_kind
def test_what_is_plugged_in_leaves_no_trace(kind: str, images: Tensor) -> None:
    backbone = small_vit()
    before = backbone(images)
    moved(kind, backbone)(backbone, images)
    assert torch.equal(backbone(images), before)
    assert not any(module._forward_hooks for module in backbone.modules())


# Other ViTs


@pytest.mark.parametrize("kind", EFFICIENT)
@pytest.mark.parametrize(
    "kwargs",
    [
        {"init_values": 0.5, "reg_tokens": 2, "qk_norm": True},
        {"pre_norm": True},
        {"global_pool": "avg"},
        {"global_pool": "avg", "fc_norm": False},
        {"dynamic_img_size": True},
        {"qkv_bias": False},
    ],
    ids=str,
)
def test_families_of_vits(kind: str, kwargs: dict[str, Any], images: Tensor) -> None:
    backbone = small_vit(**kwargs)
    petl: Any = moved(kind, backbone)
    out = petl(backbone, images)
    assert out.shape == (3, 24)
    out.square().sum().backward()
    if kind != "ssf":
        return
    assert len(petl.places) == 2 + 3 * 6
    for name, grad in zip(petl.places, petl.shift.grad.split([*petl.places.values()]), strict=True):
        assert grad.abs().sum() > 1e-9, name


def test_ssf_with_compiled_blocks(images: Tensor) -> None:
    """Its functions are new ones in every pass, and compiling for each would take forever."""
    backbone = small_vit()
    petl = moved("ssf", backbone)
    expected, plain = petl(backbone, images), backbone(images)
    compiled: list[Any] = []

    def backend(module: Any, example: Any) -> Any:
        compiled.append(module)
        return module

    backbone.compile_blocks(backend=backend)
    torch.testing.assert_close(backbone(images), plain)
    count = len(compiled)
    assert count >= 2
    for _ in range(2):
        torch.testing.assert_close(petl(backbone, images), expected)
        torch.testing.assert_close(backbone(images), plain)
    assert len(compiled) == count


def test_film_is_ssf_on_the_norms() -> None:
    petl = ScaleShift(small_vit(), operations=("norm1", "norm2", "norm"), std=0.0)
    assert set(petl.places.values()) == {24}
    assert len(petl.places) == 7


def test_what_cannot_be_tuned() -> None:
    backbone = small_vit(block_fn=ParallelScalingBlock)
    with pytest.raises(ValueError, match=r"this one has no blocks\.0\.norm1: choose another"):
        build_petl("ssf", backbone)
    with pytest.raises(ValueError, match=r"expected one of \['adapter', .*\], got 'lora'"):
        build_petl("lora", backbone)
    assert set(TUNED) | {"none"} == set(KINDS)


# The temporary head


def test_proxy_head() -> None:
    head = ProxyHead(768, 10)
    bound = 768**-0.5
    assert head.weight.shape == (10, 768)
    assert 0.99 * bound < head.weight.abs().max() <= bound
    assert head.scale.item() == 1
    features = torch.randn(4, 768)
    for n, row in enumerate(head(features)):
        for c, logit in enumerate(row):
            w = head.weight[c]
            expected = features[n] @ w / features[n].norm() / w.norm()
            torch.testing.assert_close(logit, expected)
    scaled = ProxyHead(768, 10, scale=16.0)
    scaled.load_state_dict({"weight": head.weight, "scale": torch.tensor(16.0)})
    torch.testing.assert_close(scaled(features), 16 * head(features))
    head(features).logsumexp(1).sum().backward()
    assert head.scale.grad is not None
    assert head.scale.grad != 0
