"""FrozenViT against timm's own forward pass and against loops written out here."""

import copy
import math
from functools import partial

import pytest
import timm
import torch
from timm.models.vision_transformer import (
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
    VisionTransformer,
)
from torch import nn

from avalanche_care.nn.vit import FrozenViT
from avalanche_care.nn.weights import state_sha256

# One architecture of every family, made shallow and small. 28 px for patch 14.
FAMILIES = {
    "augreg tiny": ("vit_tiny_patch16_224.augreg_in21k", 32, {}),
    "augreg small": ("vit_small_patch16_224.augreg_in21k", 32, {}),
    "augreg base": ("vit_base_patch16_224.augreg_in21k", 32, {"depth": 1}),
    "deit": ("deit_tiny_patch16_224.fb_in1k", 32, {}),
    "deit distilled": ("deit_tiny_distilled_patch16_224.fb_in1k", 32, {}),
    "deit3": ("deit3_small_patch16_224.fb_in1k", 32, {}),
    "dinov2": ("vit_small_patch14_dinov2.lvd142m", 28, {}),
    "dinov2 registers": ("vit_small_patch14_reg4_dinov2.lvd142m", 28, {}),
    "clip": ("vit_base_patch16_clip_224.openai", 32, {"depth": 1}),
    "mae": ("vit_base_patch16_224.mae", 32, {"depth": 1}),
    "average pooling": ("vit_tiny_patch16_224", 32, {"global_pool": "avg"}),
    "average, norm before": ("vit_tiny_patch16_224", 32, {"global_pool": "avg", "fc_norm": False}),
    "average with registers": ("vit_tiny_patch16_224", 32, {"global_pool": "avg", "reg_tokens": 2}),
    "siglip, attention pooling": ("vit_base_patch16_siglip_224.webli", 32, {"depth": 1}),
    "dynamic image size": ("vit_tiny_patch16_224", 48, {"dynamic_img_size": True}),
}


def randomise(module: nn.Module) -> None:
    """Move every parameter, so that a forgotten norm, LayerScale or position table shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


def small_vit(**kwargs) -> VisionTransformer:
    """Width 24, 3 blocks, 16 patches; LayerScale, registers and all dropouts."""
    defaults = {
        "img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 3,
        "num_classes": 0, "init_values": 0.5, "reg_tokens": 2,
        "drop_rate": 0.5, "pos_drop_rate": 0.5, "patch_drop_rate": 0.5, "proj_drop_rate": 0.5,
        "attn_drop_rate": 0.5, "drop_path_rate": 0.5,
    }  # fmt: skip
    vit = VisionTransformer(**{**defaults, **kwargs})
    randomise(vit)
    return vit.double()


def branches(depth: int = 3, width: int = 24) -> list[nn.Module]:
    return [nn.Linear(width, width).double() for _ in range(depth)]


def embed(vit, x):
    """Everything before block 0."""
    return vit.norm_pre(vit._pos_embed(vit.patch_embed(x)))


def plain_attention(attn, x, pk=None, pv=None):
    """Attention with optional key/value prefixes (B, L, D), head by head."""
    width = x.shape[-1]
    d = width // attn.num_heads
    q, k, v = (x @ attn.qkv.weight.T + attn.qkv.bias).split(width, dim=-1)
    heads = []
    for h in range(attn.num_heads):
        rows = slice(h * d, (h + 1) * d)
        qh, kh, vh = attn.q_norm(q[..., rows]), attn.k_norm(k[..., rows]), v[..., rows]
        if pk is not None:
            kh, vh = torch.cat([pk[..., rows], kh], 1), torch.cat([pv[..., rows], vh], 1)
        heads.append((qh @ kh.mT / math.sqrt(d)).softmax(-1) @ vh)
    return torch.cat(heads, -1) @ attn.proj.weight.T + attn.proj.bias


def plain_block(block, x, branch=None, pk=None, pv=None):
    h = x + block.ls1(plain_attention(block.attn, block.norm1(x), pk, pv))
    out = h + block.ls2(block.mlp(block.norm2(h)))
    return out if branch is None else out + branch(h)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 16, 16, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_equal_timms_own(family):
    name, side, kwargs = FAMILIES[family]
    built_for = 32 if side == 48 else side
    vit = timm.create_model(name, **{"depth": 2, "img_size": built_for, **kwargs})
    randomise(vit)
    reference = copy.deepcopy(vit).eval()
    x = torch.randn(2, 3, side, side)
    backbone = FrozenViT(vit)
    got = backbone(x)
    with torch.no_grad():
        expected = reference.forward_head(reference.forward_features(x), pre_logits=True)
    assert torch.equal(got, expected)
    assert got.shape == (2, backbone.embed_dim)
    assert torch.equal(backbone(x, parallel=[torch.zeros_like] * backbone.depth), expected)
    changed = backbone(x, parallel=[lambda h: 0.1 * h] * backbone.depth)
    assert not torch.allclose(changed, expected, rtol=1e-3)


def test_attributes():
    backbone = FrozenViT(small_vit(in_chans=2))
    assert (backbone.embed_dim, backbone.depth, backbone.num_heads) == (24, 3, 3)
    assert (backbone.img_size, backbone.in_chans, backbone.num_prefix_tokens) == ((16, 16), 2, 3)
    assert backbone.info.name == "VisionTransformer"
    assert backbone.info.weights == "module"
    assert backbone.info.sha256 == state_sha256(backbone.vit)


def test_parallel_and_after_equal_a_block_loop(images):
    vit = small_vit()
    backbone, beside, behind = FrozenViT(vit), branches(), branches()
    x = embed(vit, images)
    for block, p, a in zip(vit.blocks, beside, behind, strict=True):
        x = plain_block(block, x, p)
        x = x + a(x)
    got = backbone(images, parallel=beside, after=behind)
    torch.testing.assert_close(got, vit.norm(x)[:, 0], rtol=1e-12, atol=1e-12)


def test_none_plugs_nothing_into_a_block(images):
    backbone = FrozenViT(small_vit())
    one = [None, branches()[0], None]
    zero = [torch.zeros_like, one[1], torch.zeros_like]
    for plug in ("parallel", "after"):
        assert torch.equal(backbone(images, **{plug: one}), backbone(images, **{plug: zero}))
    assert torch.equal(backbone(images, prefix=[None] * 3), backbone(images))


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_prefix_equals_attention_with_more_keys(images, qk_norm, shared):
    vit = small_vit(qk_norm=qk_norm)
    backbone, beside = FrozenViT(vit), branches()
    shape = (5, 24) if shared else (4, 5, 24)
    pairs = [(torch.randn(shape).double(), torch.randn(shape).double()) for _ in range(2)]
    x = embed(vit, images)
    for block, p, pair in zip(vit.blocks, beside, [pairs[0], None, pairs[1]], strict=True):
        k, v = (None, None) if pair is None else (t.expand(4, 5, 24) for t in pair)
        x = plain_block(block, x, p, k, v)
    got = backbone(images, parallel=beside, prefix=[pairs[0], None, pairs[1]])
    torch.testing.assert_close(got, vit.norm(x)[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("plug", ["prefix", "tokens"])
def test_a_samples_own_plug_reaches_no_other_sample(images, plug):
    backbone = FrozenViT(small_vit())
    value = torch.randn(4, 5, 24, dtype=torch.float64)
    other = value.clone()
    other[2] += 1.0

    def features(t):
        return backbone(images, **{plug: [(t, t)] * 3 if plug == "prefix" else t})

    same = (features(value) == features(other)).all(dim=1)
    assert same.tolist() == [True, True, False, True]


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("shared", [False, True])
def test_tokens_stand_after_the_prefix_tokens(images, pool, shared):
    vit = small_vit(global_pool=pool)
    tokens = torch.randn((5, 24) if shared else (4, 5, 24), dtype=torch.float64)
    x = embed(vit.eval(), images)  # CLS, 2 registers, 16 patches
    x = torch.cat([x[:, :3], tokens.expand(4, 5, 24), x[:, 3:]], 1)
    for block in vit.blocks:
        x = plain_block(block, x)
    pooled = vit.norm(x)[:, 0] if pool == "token" else vit.fc_norm(vit.norm(x)[:, 8:].mean(1))
    backbone = FrozenViT(vit)
    got = backbone(images, tokens=tokens)
    torch.testing.assert_close(got, pooled, rtol=1e-12, atol=1e-12)
    rows = backbone.forward_features(images, tokens=tokens)
    torch.testing.assert_close(rows, vit.norm(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_tokens_of_every_block_take_each_others_place(images, pool):
    vit = small_vit(global_pool=pool)
    tokens = [torch.randn(shape, dtype=torch.float64) for shape in ((5, 24), (2, 24), (4, 3, 24))]
    x = embed(vit.eval(), images)  # CLS, 2 registers, 16 patches
    for block, own in zip(vit.blocks, tokens, strict=True):
        rows = torch.cat([x[:, :3], own.expand(4, -1, 24), x[:, -16:]], 1)
        x = plain_block(block, rows)
    pooled = vit.norm(x)[:, 0] if pool == "token" else vit.fc_norm(vit.norm(x)[:, 6:].mean(1))
    backbone = FrozenViT(vit)
    torch.testing.assert_close(backbone(images, tokens=tokens), pooled, rtol=1e-12, atol=1e-12)
    rows = backbone.forward_features(images, tokens=tokens)
    torch.testing.assert_close(rows, vit.norm(x), rtol=1e-12, atol=1e-12)


def test_outputs_of_modules_are_changed_for_a_while(images):
    backbone = FrozenViT(small_vit())
    before = backbone(images)
    outputs = {
        "patch_embed": lambda y: 2 * y,
        "blocks.1.attn.qkv": lambda y: y + 1,
        "blocks.2.mlp.fc1": torch.zeros_like,
        "norm": lambda y: -y,
    }
    vit = copy.deepcopy(backbone.vit)
    with torch.no_grad():  # the same, written into the weights
        for parameter in vit.patch_embed.parameters():
            parameter.mul_(2)
        vit.blocks[1].attn.qkv.bias.add_(1)
        for parameter in (*vit.blocks[2].mlp.fc1.parameters(),):
            parameter.zero_()
        for parameter in vit.norm.parameters():
            parameter.neg_()
    expected = FrozenViT(vit)(images)
    beside = branches()
    with backbone.changing(outputs):
        torch.testing.assert_close(backbone(images), expected, rtol=1e-12, atol=1e-12)
        plugged = backbone(images, parallel=beside)
    assert torch.equal(backbone(images), before)
    torch.testing.assert_close(plugged, FrozenViT(vit)(images, parallel=beside))
    with backbone.changing({}):
        assert torch.equal(backbone(images), before)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"blocks.9.attn": torch.zeros_like}, r"names of modules such as .*, got 'blocks.9.attn'"),
        ({"norm": 3}, r"outputs\['norm'\]: expected a callable, got int"),
        ({"norm": lambda y: y[:1]}, r"outputs\['norm'\]: expected an output of the input's shape"),
    ],
)
def test_wrong_outputs_leave_nothing_behind(images, outputs, message):
    backbone = FrozenViT(small_vit())
    before = backbone(images)
    with (
        pytest.raises(ValueError, match=message),
        backbone.changing({"patch_embed": torch.zeros_like, **outputs}),
    ):
        backbone(images)
    assert torch.equal(backbone(images), before)


def test_distilled_keeps_both_class_tokens_with_extra_tokens():
    name = "deit_tiny_distilled_patch16_224"
    backbone = FrozenViT(timm.create_model(name, depth=1, img_size=32, num_classes=0))
    x, tokens = torch.randn(2, 3, 32, 32), torch.randn(3, 192)
    rows = backbone.forward_features(x, tokens=tokens)
    expected = (rows[:, 0] + rows[:, 1]) / 2
    torch.testing.assert_close(backbone(x, tokens=tokens), expected)
    assert backbone.num_prefix_tokens == 2


def test_frozen_in_train_mode_and_after_a_backward(images):
    backbone = FrozenViT(small_vit().train())
    model = nn.ModuleList([backbone, nn.Linear(24, 2).double()])
    beside, before = branches(), backbone(images)
    digest = state_sha256(backbone)
    model.train(True)
    assert model.training
    assert not any(m.training for m in backbone.modules())
    assert torch.equal(backbone(images), before)
    optimizer = torch.optim.SGD([*model.parameters(), *nn.ModuleList(beside).parameters()], lr=0.1)
    model[1](backbone(images, parallel=beside)).square().sum().backward()
    optimizer.step()
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())
    assert state_sha256(backbone) == digest
    assert torch.equal(backbone(images), before)


def test_gradients_reach_the_input_and_every_plug(images):
    backbone, beside, behind = FrozenViT(small_vit()), branches(), branches()
    leaves = [torch.randn(2, 24).double().requires_grad_() for _ in range(3)]
    key, value, tokens = leaves
    x = images.requires_grad_()
    plugs = {"parallel": beside, "after": behind, "prefix": [(key, value)] * 3, "tokens": tokens}
    backbone(x, **plugs).square().sum().backward()
    parameters = [p for m in (*beside, *behind) for p in m.parameters()]
    for leaf in (x, *leaves, *parameters):
        assert leaf.grad is not None
        assert leaf.grad.abs().sum() > 0


def test_nothing_trainable_keeps_no_graph(images):
    assert not FrozenViT(small_vit())(images).requires_grad


@pytest.mark.parametrize("block_fn", [ResPostBlock, ParallelScalingBlock, ParallelThingsBlock])
def test_other_blocks_serve_plain_features_and_refuse_plugs(images, block_fn):
    vit = small_vit(block_fn=block_fn, proj_drop_rate=0.0)
    backbone = FrozenViT(vit)
    expected = vit.forward_head(vit.forward_features(images), pre_logits=True)
    assert torch.equal(backbone(images), expected)
    assert torch.isfinite(backbone(images, after=branches())).all()
    pair = (torch.zeros(1, 24).double(),) * 2
    for plugs in ({"parallel": branches()}, {"prefix": [pair] * 3}):
        with pytest.raises(ValueError, match=f"standard Block.*got {block_fn.__name__}"):
            backbone(images, **plugs)


def test_a_prefix_needs_standard_attention(images):
    vit = small_vit()

    class Other(type(vit.blocks[0].attn)):
        def forward(self, x, **kwargs):
            return super().forward(x, **kwargs) * 2

    vit.blocks[1].attn.__class__ = Other
    pair = (torch.zeros(1, 24).double(),) * 2
    with pytest.raises(ValueError, match="standard Attention in block 1, got Other"):
        FrozenViT(vit)(images, prefix=[pair] * 3)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 16, 16), r"got shape \(3, 16, 16\).*x\[None\]"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "floating point images, got torch.uint8"),
        (torch.zeros(2, 1, 16, 16), "expected 3 channels.*grey-scale.*expand"),
        (torch.zeros(2, 16, 16, 3), "expected 3 channels.*channels first"),
        (torch.zeros(2, 3, 20, 16), "images of 16x16 pixels, got 20x16.*img_size"),
    ],
)
def test_wrong_images(x, message):
    with pytest.raises(ValueError, match=message):
        FrozenViT(small_vit())(x)


def test_dynamic_image_size_needs_whole_patches():
    backbone = FrozenViT(small_vit(dynamic_img_size=True))
    assert backbone(torch.zeros(2, 3, 20, 24).double()).shape == (2, 24)
    with pytest.raises(ValueError, match=r"multiples of the patch size \(4, 4\), got 18x16"):
        backbone(torch.zeros(2, 3, 18, 16).double())


@pytest.mark.parametrize(
    ("plugs", "message"),
    [
        ({"parallel": branches(2)}, r"parallel: expected one entry per block \(3\), got 2"),
        ({"after": branches(4)}, r"after: expected one entry per block \(3\), got 4"),
        ({"prefix": [None]}, r"prefix: expected one entry per block \(3\), got 1"),
        ({"parallel": [1, 2, 3]}, r"parallel\[0\]: expected a callable or None, got int"),
        ({"parallel": [lambda h: h[:, :1]] * 3}, "parallel: expected an output of the input's"),
        ({"after": [lambda h: h.sum()] * 3}, r"after\[0\]: expected an output of the input's"),
        ({"prefix": [torch.zeros(1, 24)] * 3}, r"prefix\[0\]: expected None or a pair"),
        ({"prefix": [(torch.zeros(1, 24), torch.zeros(2, 24))] * 3}, "k and v of one shape"),
        ({"prefix": [(torch.zeros(1, 8), torch.zeros(1, 8))] * 3}, r"\(L, 24\).*got \(1, 8\)"),
        ({"tokens": torch.zeros(3, 1, 24)}, r"tokens: .* \(4, L, 24\), got \(3, 1, 24\)"),
        ({"tokens": "x"}, "tokens: .*got str"),
        ({"tokens": [torch.zeros(1, 24)]}, r"tokens: expected one entry per block \(3\), got 1"),
        ({"tokens": [torch.zeros(1, 8)] * 3}, r"tokens\[0\]: .*got \(1, 8\)"),
    ],
)
def test_wrong_plugs(images, plugs, message):
    with pytest.raises(ValueError, match=message):
        FrozenViT(small_vit())(images, **plugs)


def test_not_a_vit():
    with pytest.raises(ValueError, match="expected a timm VisionTransformer, got Linear"):
        FrozenViT(nn.Linear(1, 1))

    class Own(VisionTransformer):
        def forward_features(self, x):
            return x

    build = partial(VisionTransformer, img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=1)
    vit = build()
    vit.__class__ = Own
    with pytest.raises(ValueError, match="Own has its own forward_features"):
        FrozenViT(vit)
    with pytest.raises(ValueError, match="no pooling"):
        FrozenViT(build(global_pool=""))
