"""CODA-Prompt's network against sums and Gram-Schmidt written out slowly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from tiny import tiny_vit
from torch import Tensor

from avalanche_care.nn import CODAPromptModel, FrozenViT
from avalanche_care.nn.coda_prompt import PromptComponents, orthogonal_rows, weighted_sum

IMAGES = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))
OLD = ("old_prompts", "old_keys", "old_attention")
NEW = ("prompts", "keys", "attention")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def coda(tasks: int = 3, **sizes: Any) -> CODAPromptModel:
    """A model whose components have moved as if they had been trained."""
    places = {"blocks": (0, 2), "components_per_task": 2, "length": 4}
    model = CODAPromptModel(tiny_vit(depth=3), **{**places, **sizes})
    for task in range(tasks):
        model.expand(task, [2 * task, 2 * task + 1])
        for name in NEW:
            getattr(model.components, name).data.add_(0.3 * torch.randn(1))
    return model


def all_components(model: CODAPromptModel) -> list[Tensor]:
    """Prompts, keys and attention vectors of all tasks."""
    parts = model.components
    pairs = zip(OLD, NEW, strict=True)
    return [torch.cat([getattr(parts, old), getattr(parts, new)]) for old, new in pairs]


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


def alone(model: CODAPromptModel, image: Tensor) -> Tensor:
    """Features of one image, one component after the other."""
    vit: Any = model.backbone.vit
    x = vit._pos_embed(vit.patch_embed(image[None]))[0]
    query = model.query(image[None])[0]
    prompts, keys, vectors = all_components(model)
    for i, block in enumerate(vit.blocks):
        prefix = torch.zeros(0, 16), torch.zeros(0, 16)
        if i in model.blocks:
            s = model.blocks.index(i)
            prompt = torch.zeros(model.length, 16)
            for p, k, a in zip(prompts[:, s], keys[:, s], vectors[:, s], strict=True):
                weight = torch.cosine_similarity(query * a, k, dim=0)
                prompt = prompt + weight * p.view(model.length, 16)
            prefix = prompt[: model.length // 2], prompt[model.length // 2 :]
        x = x + attention(block.attn, block.norm1(x), *prefix)
        x = x + block.mlp(block.norm2(x))
    return vit.norm(x)[0]


@pytest.mark.parametrize("tasks", [1, 3])
def test_features_equal_a_loop_over_components(tasks: int) -> None:
    model = coda(tasks)
    expected = torch.stack([alone(model, image) for image in IMAGES])
    torch.testing.assert_close(model.features(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, model.backbone(IMAGES), atol=1e-2)
    for size in (1, 2):  # no image sees another one's prompt
        parts = torch.cat([model(part) for part in IMAGES.split(size)])
        torch.testing.assert_close(parts, model(IMAGES), rtol=1e-4, atol=1e-5)


def test_the_weighted_sum_equals_the_plain_form_and_its_gradients() -> None:
    sizes = [(3, 12), (6, 2, 12), (6, 2, 12), (6, 2, 20)]
    leaves = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]
    query, vectors, keys, prompts = leaves
    product = query[:, None, None] * vectors  # (B, n, S, D)
    weights = torch.cosine_similarity(product, keys[None], dim=-1)
    expected = (weights[..., None] * prompts).sum(1)
    got = weighted_sum(query, vectors, keys, prompts)
    torch.testing.assert_close(got, expected)
    toward = torch.randn_like(expected)
    found, right = (torch.autograd.grad(out, leaves, toward) for out in (got, expected))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other)


def test_no_intermediate_has_images_times_components_times_width() -> None:
    batch, n, blocks, dim = 16, 24, 2, 32
    largest = 0

    class Sizes(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    shapes = [(batch, dim), (n, blocks, dim), (n, blocks, dim), (n, blocks, 4 * dim)]
    inputs = [torch.randn(shape) for shape in shapes]
    with Sizes():
        weighted_sum(*inputs)
    assert 0 < largest <= max(t.numel() for t in inputs)
    assert largest < batch * n * blocks * dim / 3


def test_weights_ignore_the_scale_of_a_query() -> None:
    parts = coda().components
    query = torch.randn(4, 16)
    torch.testing.assert_close(parts(10 * query), parts(query))


def test_an_attention_vector_of_zeros_gives_no_nan() -> None:
    leaves = [torch.randn(2, 8), torch.zeros(3, 1, 8), torch.randn(3, 1, 8), torch.randn(3, 1, 8)]
    for leaf in leaves:
        leaf.requires_grad_()
    out = weighted_sum(*leaves)
    assert not out.any()
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), leaves))


def gram_schmidt(earlier: list[Tensor], fresh: list[Tensor]) -> list[Tensor]:
    """The released code's variant for one space, vector by vector."""
    done, new = [*earlier], []
    for vector in fresh:
        projections = [(u @ vector) / (u @ u) * u for u in done]
        new.append(vector - sum(projections, torch.zeros_like(vector)))
        done.append(new[-1])
    return [vector / vector.norm() for vector in new]


@pytest.mark.parametrize("count", [0, 4])
def test_gram_schmidt(count: int) -> None:
    old = torch.randn(count, 2, 9)  # trained ones: neither orthogonal nor of length 1
    torch.manual_seed(7)
    got = orthogonal_rows(old, 3)
    torch.manual_seed(7)
    fresh = torch.randn(2, 3, 9)
    for s in range(2):
        expected = gram_schmidt(list(old[:, s]), list(fresh[s]))
        torch.testing.assert_close(got[:, s], torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_first_components_are_orthonormal() -> None:
    parts = PromptComponents(2, 8, 96)
    parts.append(10)
    for name in NEW:
        for s in range(2):
            rows = getattr(parts, name)[:, s]
            assert (rows @ rows.T - torch.eye(10)).abs().max() < 1e-5
    parts.append(10)
    rows = torch.cat([parts.old_keys, parts.keys])[:, 0]  # untrained ones stay orthogonal
    assert (rows @ rows.T - torch.eye(20)).abs().max() < 1e-5


def test_more_components_than_dimensions() -> None:
    """Beyond the width a vector is random and of unit length; it comes to an end, without NaN."""
    parts = PromptComponents(2, 2, 6)
    for _ in range(5):
        parts.append(4)
    for name, old in zip(NEW, OLD, strict=True):
        rows = torch.cat([getattr(parts, old), getattr(parts, name)])
        torch.testing.assert_close(rows.norm(dim=-1), torch.ones(20, 2))
        assert len(rows.flatten(1).unique(dim=0)) == 20
    keys = torch.cat([parts.old_keys, parts.keys])[:, 0]
    within = (keys[:6] @ keys[:6].T - torch.eye(6)).abs().max()
    assert within < 1e-4
    assert parts.count == 20
    torch.manual_seed(7)
    got = orthogonal_rows(torch.eye(6)[:5, None], 3)[:, 0]  # room for one more
    torch.manual_seed(7)
    fresh = torch.randn(1, 3, 6)[0]
    torch.testing.assert_close(got[0].abs(), torch.eye(6)[5], rtol=0, atol=1e-6)
    torch.testing.assert_close(got[1:], torch.nn.functional.normalize(fresh[1:], dim=-1))
    assert orthogonal_rows(torch.zeros(2, 1, 6), 1).isfinite().all()  # earlier ones that are zero


def test_rows_are_those_of_all_tasks() -> None:
    model = coda()
    parts = model.components
    for name, rows in zip(NEW, parts.rows(), strict=True):
        assert rows.shape[:2] == (2, 6)
        assert torch.equal(rows[:, :4], getattr(parts, f"old_{name}").transpose(0, 1))
        assert torch.equal(rows[:, 4:], getattr(parts, name).transpose(0, 1))
        (grad,) = torch.autograd.grad(rows.square().sum(), [getattr(parts, name)])
        assert grad.any()


def test_prompts_of_zeros_are_not_the_plain_vit() -> None:
    """A key of zero has the logit zero and takes its part of the softmax."""
    model = coda()
    with torch.no_grad():
        for name in ("prompts", "old_prompts"):
            getattr(model.components, name).zero_()
    vit: Any = model.backbone.vit
    x = vit._pos_embed(vit.patch_embed(IMAGES))
    zeros = torch.zeros(2, 16)
    for i, block in enumerate(vit.blocks):
        prefix = (zeros, zeros) if i in model.blocks else (zeros[:0], zeros[:0])
        y = block.norm1(x)
        x = x + torch.stack([attention(block.attn, image, *prefix) for image in y])
        x = x + block.mlp(block.norm2(x))
    expected = vit.norm(x)[:, 0]
    torch.testing.assert_close(model.features(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, model.backbone(IMAGES), atol=1e-2)


def test_number_of_parameters_on_vit_b() -> None:
    sizes = {"img_size": 32, "embed_dim": 768, "depth": 5, "num_heads": 12, "mlp_ratio": 0.1}
    model = CODAPromptModel(FrozenViT(VisionTransformer(**sizes, num_classes=0)))
    for task in range(10):
        model.expand(task, [task])
        trains = sum(p.numel() for p in model.trainable_parameters())
        assert trains == 384_000 + 769 * (task + 1)  # 10 components, the head
    assert sum(part.numel() for part in all_components(model)) == 3_840_000
    assert model.components.count == 100


def test_earlier_components_are_kept_and_give_no_gradient_to_themselves() -> None:
    model = coda(2)
    before = all_components(model)
    assert model.expand(2, [4, 5])
    assert not model.expand(2, [4, 5])  # once
    for earlier, now in zip(before, all_components(model), strict=True):
        assert len(now) == 6
        assert torch.equal(now[:4], earlier)
    model.features(IMAGES).sum().backward()
    grads = [getattr(model.components, name).grad for name in NEW]
    assert all(grad is not None and len(grad) == 2 and grad.any() for grad in grads)
    assert not any(getattr(model.components, name).requires_grad for name in OLD)


def test_from_arguments_and_saved_sizes() -> None:
    model = coda()
    other = CODAPromptModel.from_arguments(model.backbone, model.arguments())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(IMAGES), model(IMAGES))
    assert other.arguments() == model.arguments()
    assert other.components.keys.requires_grad


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"components_per_task": 0}, "without components there are no prompts"),
        ({"length": 3}, "an even length"),
        ({"blocks": (0, 5)}, r"blocks of 0 \.\. 2"),
        ({"blocks": (1, 1)}, "different blocks"),
    ],
)
def test_bad_sizes(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coda(**sizes)
