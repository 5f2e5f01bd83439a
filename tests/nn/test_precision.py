"""Lower precision and compilation: what they may change, and how little."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
import torch._inductor.config
from brmoe_reference import randomise
from tiny import tiny_images, tiny_vit
from torch import Tensor

from avalanche_care.nn import BRMoE, BRMoEConfig, CaREModel, FrozenViT
from avalanche_care.nn.routing import select_routers


def grown_layer(tasks: int = 20) -> BRMoE:
    torch.manual_seed(0)
    layer = BRMoE(64, BRMoEConfig(bottleneck=8, shared_bottleneck=8))
    for _ in range(tasks):
        layer.expand(4)
        for part in (layer.expert, layer.router, layer.perceptron):
            randomise(part, std=1.0)
    return layer.eval()


def entropies(layer: BRMoE, h: Tensor) -> Tensor:
    cls = h[:, 0]
    normalised = torch.nn.functional.layer_norm(cls, cls.shape[-1:], eps=1e-5)
    hidden = layer.bank.cls_hidden(normalised, layer.tasks)
    return layer._entropies(layer.routing.logits(hidden, cls, normalised, layer.tasks), layer.tasks)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_routing_is_decided_in_full_precision(dtype: torch.dtype) -> None:
    """The same tokens are routed alike: bit-equal gates with and without autocast."""
    layer = grown_layer()
    h = torch.randn(256, 3, 64)
    seen: list[Tensor] = []
    route = layer._route

    def spy(*args: object, **kwargs: object) -> object:
        found = route(*args, **kwargs)  # type: ignore[arg-type]
        seen.append(found[0])
        return found

    layer._route = spy  # type: ignore[method-assign]
    with torch.no_grad():
        full = layer(h)[0]
        with torch.autocast("cpu", dtype):
            low = layer(h)[0]
    assert torch.equal(seen[0], seen[1])
    assert seen[1].dtype == torch.float32
    error = (low - full).norm() / full.norm()
    assert 1e-6 < error < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounded_tokens_change_only_near_ties(dtype: torch.dtype) -> None:
    """What is left of autocast is the rounding of the tokens that reach a layer.

    Random tokens, 20 tasks. At least 97 % of the samples keep their two routers, and the others
    have rivals whose entropies differ by less than 1 %.
    """
    layer = grown_layer()
    h = torch.randn(2000, 1, 64)
    with torch.no_grad():
        layer(h)
        exact = entropies(layer, h)
        rounded = entropies(layer, h.to(dtype).float())
    before = select_routers(exact, None, 2)[0].sort(1).values
    after = select_routers(rounded, None, 2)[0].sort(1).values
    changed = (before != after).any(1)
    assert changed.float().mean() <= 0.03
    ranked = exact.sort(1).values
    margin = (ranked[:, 2] - ranked[:, 1]) / ranked[:, 1]
    assert (margin[changed] < 0.01).all()
    assert (margin < 0.01).float().mean() > 0.01  # such near-ties do exist


def test_a_bfloat16_bank_keeps_most_routes() -> None:
    layer = grown_layer()
    half = BRMoE(64, BRMoEConfig(bottleneck=8, shared_bottleneck=8, bank_dtype="bfloat16"))
    half.load_state_dict(layer.state_dict())
    h = torch.randn(2000, 1, 64)
    with torch.no_grad():
        full, low = layer(h)[0], half.eval()(h)[0]
        agree = select_routers(entropies(layer, h), None, 2)[0]
        agree = agree == select_routers(entropies(half, h), None, 2)[0]
    assert 0.97 <= agree.all(1).float().mean() < 1
    same = agree.all(1)
    assert (full - low)[same].norm() / full[same].norm() < 0.02


def test_training_in_bfloat16_follows_full_precision() -> None:
    """Gradients of the whole network under autocast point where those in float32 do."""
    torch.manual_seed(0)
    model = CaREModel(tiny_vit(), BRMoEConfig(bottleneck=4, shared_bottleneck=6, dropout=0.0))
    for task in range(3):
        model.expand(task, [2 * task, 2 * task + 1])
        for layer in model.layers():
            randomise(layer.expert)
    x = tiny_images(6, per_class=2).tensors[0]
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = model.features_and_logits(x, task=2)
        (out.features.float().square().sum() + sum(z.float().sum() for z in out.logits)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.shared_parameters()]))  # type: ignore[union-attr]
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99
    assert not torch.equal(*gradients)


def test_compiled_blocks_give_the_same_numbers() -> None:
    """Features, gradients through the blocks, and iterative prediction."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = CaREModel(tiny_vit(), BRMoEConfig(bottleneck=4, shared_bottleneck=6, dropout=0.0))
    model.expand(0, [0, 1])
    model.expand(1, [2, 3])
    for layer in model.layers():
        randomise(layer.expert)
    x = tiny_images(4, per_class=2).tensors[0]

    def run() -> list[Tensor]:
        model.zero_grad()
        features, logits = model.features_and_logits(x, task=1)
        (features.sum() + torch.stack(logits).sum()).backward()
        gradients = [p.grad for p in model.shared_parameters() if p.grad is not None]
        with torch.no_grad():
            return [features, *gradients, model.backbone(x), model.iterative_scores(x)]

    plain = run()
    model.backbone.compile_blocks(backend="aot_eager")
    compiled = run()
    assert len(plain) == len(compiled) > 3
    for ours, theirs in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not shutil.which("g++"), reason="compiling for the CPU takes a C++ compiler")
def test_the_default_compiler_gives_the_same_features() -> None:
    torch._dynamo.reset()
    vit = tiny_vit(depth=1)
    x = tiny_images(2, per_class=1).tensors[0]
    # No worker processes: there are two small kernels to compile.
    with torch.no_grad(), torch._inductor.config.patch(compile_threads=1):
        expected = vit(x)
        torch.testing.assert_close(vit.compile_blocks()(x), expected, rtol=1e-4, atol=1e-5)


def test_one_compilation_serves_all_blocks() -> None:
    """Twelve blocks must not be twelve compilations: PyTorch gives up after eight."""
    torch._dynamo.reset()
    compiled: list[object] = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> object:
        compiled.append(graph)
        return graph

    vit = tiny_vit(depth=12)
    vit.compile_blocks(backend=count)
    x = tiny_images(2, per_class=1).tensors[0]
    expected = FrozenViT(copy.deepcopy(vit.vit))(x)
    torch.testing.assert_close(vit(x), expected)
    assert len(compiled) == 2  # the attention and the MLP
