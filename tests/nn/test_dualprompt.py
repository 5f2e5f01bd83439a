"""DualPrompt's network: whose prefix stands where, and which expert prompt there is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from tiny import tiny_vit
from torch import Tensor

from avalanche_care.nn import DualPromptModel, FrozenViT
from avalanche_care.nn.attention import run_block

IMAGES = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def dualprompt(tasks: int = 3, **sizes: Any) -> DualPromptModel:
    places = {"general_blocks": (0, 3), "expert_blocks": (1, 2), "expert_length": 3}
    model = DualPromptModel(tiny_vit(depth=4), **{**places, "general_length": 2, **sizes})
    for task in range(tasks):
        model.expand(task, [2 * task, 2 * task + 1])
        torch.nn.init.uniform_(model.experts.prompts[task].data, -1, 1)  # as if it had learned
    return model


def attention(attn: Any, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of one image (N, D) with more keys and values (L, D), head by head."""
    width, heads = x.shape[-1], attn.num_heads
    q, k, v = (x @ attn.qkv.weight.T + attn.qkv.bias).split(width, dim=-1)
    k, v = torch.cat([keys, k]), torch.cat([values, v])
    out = []
    for part in torch.arange(width).chunk(heads):
        weights = (q[:, part] @ k[:, part].T / (width / heads) ** 0.5).softmax(-1)
        out.append(weights @ v[:, part])
    return torch.cat(out, -1) @ attn.proj.weight.T + attn.proj.bias


def alone(model: DualPromptModel, image: Tensor, expert: int) -> Tensor:
    """Logits of one image with a given expert prompt."""
    vit: Any = model.backbone.vit
    x = vit._pos_embed(vit.patch_embed(image[None]))[0]
    nothing = torch.zeros(0, x.shape[-1])
    prefix = {0: model.general[0], 3: model.general[1]}
    prefix |= {1: model.experts.prompts[expert, 0], 2: model.experts.prompts[expert, 1]}
    for i, block in enumerate(vit.blocks):
        keys, values = prefix.get(i, (nothing, nothing))
        x = x + attention(block.attn, block.norm1(x), keys, values)
        x = x + block.mlp(block.norm2(x))
    return model.head.weight @ vit.norm(x)[0] + model.head.bias


def nearest(model: DualPromptModel) -> list[int]:
    """The expert prompt of each image."""
    queries = model.query(IMAGES)
    return [
        max(
            range(model.experts.rows),
            key=lambda e: torch.cosine_similarity(query, model.experts.keys[e], dim=0).item(),
        )
        for query in queries
    ]


def different_choices(model: DualPromptModel) -> list[int]:
    """Set the keys so that images choose different expert prompts."""
    with torch.no_grad():
        queries = model.query(IMAGES)
        for e in range(model.experts.rows):
            model.experts.keys[e] = queries[2 * e % 5]
    choices = nearest(model)
    assert len(set(choices)) == model.experts.rows == 3
    return choices


def test_every_image_gets_its_own_prefix() -> None:
    model = dualprompt()
    choices = different_choices(model)
    expected = torch.stack([alone(model, x, e) for x, e in zip(IMAGES, choices, strict=True)])
    torch.testing.assert_close(model(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert model.prompted(IMAGES).chosen.tolist() == choices
    wrong = torch.stack(
        [alone(model, x, (e + 1) % 3) for x, e in zip(IMAGES, choices, strict=True)]
    )
    assert not torch.isclose(expected, wrong, atol=1e-3).all(1).any()
    for task in range(3):  # in training
        expected = torch.stack([alone(model, x, task) for x in IMAGES])
        logits = model.head(model.prompted(IMAGES, task=task).features)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_what_enters_the_attention_is_the_images_own_keys_and_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With keys of value e and values of value 1000 + e, nothing can be mistaken."""
    model = dualprompt()
    choices = different_choices(model)
    with torch.no_grad():
        for e in range(3):
            model.experts.prompts[e, :, 0] = e
            model.experts.prompts[e, :, 1] = 1000 + e
    seen: list[tuple[Tensor, Tensor]] = []
    original = torch.nn.functional.scaled_dot_product_attention

    def noting(q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> Tensor:
        if k.shape[2] == q.shape[2] + 3:
            seen.append((k[:, :, :3], v[:, :, :3]))
        return original(q, k, v, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noting)
    model(IMAGES)
    assert len(seen) == 2  # two blocks
    for keys, values in seen:
        for b, e in enumerate(choices):
            assert (keys[b] == e).all()
            assert (values[b] == 1000 + e).all()


def test_one_images_expert_reaches_no_other_image() -> None:
    model = dualprompt()
    choices = different_choices(model)
    before = model(IMAGES)
    with torch.no_grad():
        model.experts.prompts[choices[0]] += 1.0
    same = (model(IMAGES) == before).all(1).tolist()
    assert same == [e != choices[0] for e in choices]
    for size in (1, 2, 3):
        parts = torch.cat([model(part) for part in IMAGES.split(size)])
        torch.testing.assert_close(parts, model(IMAGES), rtol=1e-4, atol=1e-5)


def test_a_prefix_of_no_keys_changes_nothing() -> None:
    """Block by block: the attention with a prefix is timm's, but for the prefix."""
    vit: Any = tiny_vit().vit
    x = torch.randn(5, 7, 16)
    nothing = torch.zeros(5, 0, 16)
    for block in vit.blocks:
        expected = block(x)
        got = run_block(block, x, prefix=(nothing, nothing))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        one = run_block(block, x, prefix=(torch.zeros(5, 1, 16), torch.zeros(5, 1, 16)))
        assert not torch.allclose(one, expected, atol=1e-2)
        x = expected


def test_a_prefix_that_nobody_looks_at_changes_nothing() -> None:
    """Values 0, and keys whose product with every query is very negative."""
    model = dualprompt()
    vit: Any = model.backbone.vit
    with torch.no_grad():
        for block in vit.blocks:  # queries that are all 1
            block.attn.qkv.weight[:16] = 0.0
            block.attn.qkv.bias[:16] = 1.0
        for prompts in (model.general, model.experts.prompts):
            prompts.select(-3, 0).fill_(-1e4)
            prompts.select(-3, 1).fill_(0.0)
    torch.testing.assert_close(model.features(IMAGES), model.backbone(IMAGES))


def test_number_of_parameters_on_vit_b() -> None:
    sizes = {"img_size": 32, "embed_dim": 768, "depth": 5, "num_heads": 12, "mlp_ratio": 0.1}
    backbone = FrozenViT(VisionTransformer(**sizes, num_classes=0))
    for pool in (None, 10):
        model = DualPromptModel(backbone, pool=pool)
        for task in range(10):
            model.expand(task, [task])
        assert model.general.numel() == 15_360
        assert model.experts.prompts.numel() == 230_400
        assert model.experts.keys.numel() == 7_680
        head = 768 * 10 + 10
        total = sum(p.numel() for p in model.trainable_parameters())
        assert total == 15_360 + 230_400 + 7_680 + head
    assert DualPromptModel(backbone, pool=1, expert_length=20).experts.prompts.numel() == 92_160


@pytest.mark.parametrize("pool", [None, 3])
def test_an_expert_starts_as_the_one_before_it(pool: int | None) -> None:
    model = dualprompt(0, pool=pool)
    assert model.experts.rows == (pool or 0)
    for task in range(3):
        earlier = model.experts.prompts.detach().clone()
        keys = model.experts.keys.detach().clone()
        assert model.expand(task, [task])
        assert not model.expand(task, [task])  # once
        experts = model.experts
        if task:
            assert torch.equal(experts.prompts[task], experts.prompts[task - 1])
            assert torch.equal(experts.prompts[:task], earlier[:task])
            assert not torch.isclose(experts.keys[task], experts.keys[task - 1]).any()
        if pool is None:
            assert experts.rows == task + 1
            assert torch.equal(experts.keys[:task], keys)
        else:
            assert torch.equal(experts.keys, keys)  # made with the model
        torch.nn.init.uniform_(experts.prompts[task].data, -1, 1)


def test_tasks_beyond_the_pool_share_what_there_is() -> None:
    model = dualprompt(3, pool=3)
    choices = different_choices(model)
    before = model.experts.prompts.detach().clone()
    model.expand(3, [6, 7])
    assert torch.equal(model.experts.prompts, before)
    found = model.prompted(IMAGES, task=3)
    assert found.chosen.tolist() == choices
    (grads,) = torch.autograd.grad(found.features.square().sum(), [model.experts.prompts])
    assert all(grads[e].abs().sum() > 0 for e in set(choices))
    (grads,) = torch.autograd.grad(
        model.prompted(IMAGES, task=2).features.square().sum(), [model.experts.prompts]
    )
    assert [bool(g.abs().sum() > 0) for g in grads] == [False, False, True]


@pytest.mark.parametrize("unseen", [True, False])
def test_prompts_of_tasks_not_learned_yet(unseen: bool) -> None:
    model = dualprompt(1, pool=3, match_unseen=unseen)
    with torch.no_grad():
        model.experts.keys[2] = model.query(IMAGES).mean(0)
    assert set(model.prompted(IMAGES).chosen.tolist()) == ({2} if unseen else {0})


def test_a_batch_chooses_together_if_told() -> None:
    model = dualprompt()
    choices = different_choices(model)
    most = max(sorted(set(choices)), key=choices.count)
    assert model.prompted(IMAGES, majority=True).chosen.tolist() == [most] * 5
    assert model.prompted(IMAGES, task=1, majority=True).chosen.tolist() == [1] * 5


def test_match_is_the_cosine_with_the_experts_key() -> None:
    model = dualprompt()
    queries, key = model.query(IMAGES), model.experts.keys[1]
    expected = torch.stack([torch.cosine_similarity(q, key, dim=0) for q in queries]).mean()
    found = model.prompted(IMAGES, task=1)
    torch.testing.assert_close(found.match, expected)
    leaves = [model.experts.prompts, model.general]
    assert torch.autograd.grad(found.match, leaves, allow_unused=True) == (None, None)


@pytest.mark.parametrize(("init", "low", "high"), [("symmetric", -1.0, 1.0), ("small", 0.0, 0.01)])
@pytest.mark.parametrize("pool", [None, 10])
def test_all_start_in_the_range(pool: int | None, init: str, low: float, high: float) -> None:
    backbone = tiny_vit(depth=5)
    model = DualPromptModel(backbone, pool=pool, init=init)
    for task in range(10):
        model.expand(task, [task])
    for values in (model.general, model.experts.prompts[0], model.experts.keys):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() < high


def test_a_task_adds_a_prompt_and_a_key() -> None:
    """23,808 numbers on ViT-B, 92,928 with prompts of length 20."""
    vit = VisionTransformer(img_size=32, embed_dim=768, depth=5, num_heads=12, mlp_ratio=0.1)
    for length, count in ((5, 23_808), (20, 92_928)):
        model = DualPromptModel(FrozenViT(vit), expert_length=length)
        sizes = []
        for task in range(3):
            model.expand(task, [task])
            sizes.append(sum(p.numel() for p in model.trainable_parameters()))
        assert sizes[1] - sizes[0] == sizes[2] - sizes[1] == count + 769  # a row of the head


@pytest.mark.parametrize("sizes", [{}, {"pool": 3}, {"pool": 3, "match_unseen": False}], ids=str)
def test_from_arguments_and_saved_sizes(sizes: dict[str, Any]) -> None:
    model = dualprompt(**sizes)
    different_choices(model)
    assert model.arguments() == {
        "pool": None,
        "match_unseen": True,
        **sizes,
        "general_blocks": [0, 3],
        "expert_blocks": [1, 2],
        "general_length": 2,
        "expert_length": 3,
    }
    other = DualPromptModel.from_arguments(model.backbone, model.arguments())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(IMAGES), model(IMAGES))
    assert other.arguments() == model.arguments()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"general_blocks": (0,), "expert_blocks": (3, 4)}, r"of 0 .. 3, got \[0, 3, 4\]"),
        ({"expert_blocks": (0, 1)}, r"different blocks"),
        ({"pool": 0}, "at least 1"),
        ({"expert_length": 0}, "at least 1"),
    ],
)
def test_bad_sizes(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dualprompt(**sizes)
