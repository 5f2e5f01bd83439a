"""EASE's network: adapters in a bank, their passes as one batch, the common part computed once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ease_reference import looped_prototypes, looped_scores, one_by_one
from timm.models.vision_transformer import VisionTransformer
from tiny import tiny_images, tiny_vit
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from avalanche_care.nn import EASEModel, EnsembleConfig, FrozenViT
from avalanche_care.nn.adapter import ParallelAdapter
from avalanche_care.nn.adapter_bank import AdapterBank


def grown(
    sizes: tuple[int, ...], *, depth: int = 2, zero: bool = False, **config: Any
) -> EASEModel:
    """A model with adapters at random (or as they start), and means of the features of noise."""
    torch.manual_seed(0)
    model = EASEModel(tiny_vit(depth=depth), bottleneck=4, config=EnsembleConfig(**config)).double()
    end = 0
    for task, size in enumerate(sizes):
        start, end = end, end + size
        model.expand(task, range(start, end))
        if not zero:
            for parameter in model.petl.parameters():
                nn.init.normal_(parameter, std=0.5)
        model.keep_adapters()
        features = model.all_features(torch.randn(size, 3, 16, 16, dtype=torch.float64))
        if model.head.config.pretrained:
            model.head.set_means(features[:, :-1], features[:, -1])
        else:
            model.head.set_means(features)
    return model.eval()


@pytest.fixture
def x() -> Tensor:
    return tiny_images(6, per_class=1).tensors[0].double()


@pytest.mark.parametrize("rows", [1, 12, 18, 10**6, None])
@pytest.mark.parametrize("sizes", [(3,), (3, 1, 2), (2, 1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("config", [{}, {"pretrained": True}, {"reweight": False}], ids=str)
def test_equals_a_pass_per_adapter(
    x: Tensor, sizes: tuple[int, ...], rows: int | None, config: dict[str, Any]
) -> None:
    model = grown(sizes, **config)
    config_, head = model.head.config, model.head
    with torch.no_grad():
        features, bare = one_by_one(model, x)
        together = model.all_features(x, rows=rows)  # (B, subspaces, D)
        expected = features.transpose(0, 1)
        if config_.pretrained:
            expected = torch.cat([expected, bare[:, None]], 1)
        torch.testing.assert_close(together, expected, rtol=1e-9, atol=1e-11)
        prototypes = head.prototypes()
        torch.testing.assert_close(prototypes, looped_prototypes(prototypes, sizes, config_))
        scores = looped_scores(
            features,
            bare if config_.pretrained else None,
            prototypes,
            head.bare if config_.pretrained else None,
            sizes,
            config_,
        )
        torch.testing.assert_close(model.predict(x, rows=rows), scores, rtol=1e-9, atol=1e-11)
    assert torch.equal(model(x), model.predict(x))


@pytest.mark.parametrize(("rows", "batches"), [(6, 5), (17, 3), (30, 1), (1, 5)])
def test_passes_of_blocks_are_counted(x: Tensor, rows: int, batches: int) -> None:
    """For T adapters an image goes once through block 0 and T times through each other block."""
    model, tasks, depth = grown((2, 1, 1, 1, 1), depth=3), 5, 3
    images: list[list[int]] = [[] for _ in range(depth)]
    for block, seen in zip(model.backbone.vit.blocks, images, strict=True):
        block.attn.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(len(args[0])))
    with torch.no_grad():
        model.predict(x, rows=rows)
    assert images[0] == [len(x)]
    for seen in images[1:]:
        assert sum(seen) == tasks * len(x)
        assert len(seen) == batches
        assert max(seen) <= max(rows, len(x))
    ours = sum(map(sum, images)) / len(x)
    assert ours == 1 + tasks * (depth - 1)
    assert tasks * depth - ours == tasks - 1  # blocks saved per image


def test_the_saving_in_operations(x: Tensor) -> None:
    """T - 1 times the embedding and block 0, and nothing else, compared with T passes."""
    model, tasks = grown((2, 1, 1, 1), depth=3), 4
    model(x)  # works out what follows from the class means

    def flops(run: Any) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    begin = flops(lambda: model.backbone.begin(x))
    features = torch.randn(tasks, len(x), 16).double()
    classify = flops(lambda: model.head([(0, features)]))
    separate = tasks * flops(lambda: separate_pass(model, x, 0)) + classify
    assert separate - flops(lambda: model.predict(x)) == (tasks - 1) * begin
    assert begin / flops(lambda: model.backbone(x)) > 1 / 3


def separate_pass(model: EASEModel, x: Tensor, task: int) -> Tensor:
    plugs = [
        lambda h, bank=bank: bank.residual(h, first=task, count=1)  # type: ignore[misc]
        for bank in model.banks
    ]
    return model.backbone(x, parallel=plugs)


def test_one_task_is_a_cosine_with_class_means(x: Tensor) -> None:
    model = grown((3,))
    with torch.no_grad():
        features, _ = one_by_one(model, x)
        expected = F.linear(F.normalize(features[0]), F.normalize(model.head.weight))
        torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("sizes", [(3,), (2, 1, 3)], ids=str)
def test_without_adaptation_it_is_simplecil(x: Tensor, sizes: tuple[int, ...]) -> None:
    """Adapters as they start change nothing, so that every subspace is the backbone's."""
    model = grown(sizes, zero=True, alpha=0.0)
    features = model.backbone(x)
    simplecil = F.linear(F.normalize(features), F.normalize(model.head.weight))
    with torch.no_grad():
        torch.testing.assert_close(model(x), simplecil)
        assert torch.equal(model.features(x), features)
        # With its own mean for every synthesised prototype the other subspaces vote alike.
        config = EnsembleConfig()
        real = model.head.weight[:, None].expand(-1, len(sizes), -1)
        same = features.expand(len(sizes), -1, -1)
        voted = looped_scores(same, None, real, None, sizes, config)
    assert torch.equal(voted.argmax(1), simplecil.argmax(1))


def test_one_adapter_and_the_backbone_are_an_aper(x: Tensor) -> None:
    """The released OmniBenchmark settings: one cosine of both features side by side."""
    model = grown((2, 1, 3), max_adapters=1, pretrained=True, reweight=False)
    assert model.adapters == model.head.subspaces == 1
    with torch.no_grad():
        features, bare = one_by_one(model, x)
        means = torch.cat([model.head.bare, model.head.weight], 1)
        expected = F.linear(F.normalize(torch.cat([bare, features[0]], 1)), F.normalize(means))
        torch.testing.assert_close(model(x), expected)


def test_adapters_begin_anew_and_old_ones_stay() -> None:
    model = grown((2, 1), depth=1)
    kept = {name: value.clone() for name, value in model.banks.state_dict().items()}
    old = model.petl.adapters[0].down.weight
    model.expand(2, [3])
    adapter: Any = model.petl.adapters[0]
    assert not torch.equal(adapter.down.weight, old)
    assert adapter.down.weight.abs().max() <= 16**-0.5  # kaiming_uniform with a = sqrt(5)
    for zero in (adapter.down.bias, adapter.up.weight, adapter.up.bias):
        assert not zero.any()
    model.keep_adapters()
    assert model.adapters == 3
    for name, value in model.banks.state_dict().items():
        assert torch.equal(value[:2], kept[name]), name
    with torch.no_grad():
        adapter.up.bias += 1.0
    model.keep_adapters()  # again, after more training
    assert model.adapters == 3
    assert torch.equal(model.banks[0].up_bias[2], 0.1 * adapter.up.bias)


KINDS = ("modules", "parameters", "buffers")


def test_number_of_modules_and_tensors_does_not_grow() -> None:
    model = EASEModel(tiny_vit(), bottleneck=2)
    sizes = []
    for task in range(301):
        model.expand(task, [task])
        model.keep_adapters()
        if task in (1, 300):
            sizes.append([len(list(getattr(model, kind)())) for kind in KINDS])
    assert sizes[0] == sizes[1]
    assert model.adapters == 301


@pytest.mark.parametrize(("bottleneck", "numbers"), [(64, 1_189_632), (16, 304_320)])
def test_size_of_the_adapters_of_a_task(bottleneck: int, numbers: int) -> None:
    """Of a ViT-B: 12 blocks of 768 channels; what is kept is as much as what is trained."""
    adapter, bank = ParallelAdapter(768, bottleneck), AdapterBank(768, bottleneck)
    assert 12 * sum(p.numel() for p in adapter.parameters()) == numbers
    bank.write(0, adapter)
    assert 12 * sum(b.numel() for b in bank.buffers()) == numbers


@pytest.mark.parametrize("width", [128, 192, 384, 768])
def test_other_widths(width: int) -> None:
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=width, depth=2, num_heads=width // 64, num_classes=0
    )
    model = EASEModel(FrozenViT(vit)).eval()
    for task in range(2):
        model.expand(task, [task])
        model.keep_adapters()
        features = model.all_features(torch.randn(1, 3, 16, 16))
        assert features.shape == (1, task + 1, width)
        model.head.set_means(features)
    assert model(torch.randn(2, 3, 16, 16)).isfinite().all()
    assert sum(b.numel() for b in model.banks.buffers()) == 2 * 2 * (2 * 64 * width + 64 + width)


def test_a_bank_of_adapters() -> None:
    torch.manual_seed(0)
    bank, adapters = AdapterBank(6, 3), [ParallelAdapter(6, 3, scale=0.3) for _ in range(3)]
    for index, adapter in enumerate(adapters):
        for parameter in adapter.parameters():
            nn.init.normal_(parameter)
        bank.write(index, adapter.eval())
    h = torch.randn(4, 5, 6)
    for first, count in ((0, 1), (0, 2), (2, 1), (1, 2), (0, 3)):
        together = bank.residual(h.repeat(count, 1, 1), first=first, count=count)
        for place, out in enumerate(together.split(4)):
            torch.testing.assert_close(out, adapters[first + place](h))
    for index in (1, 4):
        with pytest.raises(ValueError, match=f"expected adapter 2 or 3, got {index}"):
            bank.write(index, adapters[0])


@pytest.mark.parametrize("config", [{}, {"pretrained": True}, {"max_adapters": 2}], ids=str)
def test_an_equal_model_from_arguments_and_state(x: Tensor, config: dict[str, Any]) -> None:
    model = grown((2, 1, 3), **config)
    other = EASEModel.from_arguments(tiny_vit(), model.arguments()).double()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(other(x), model(x))
    assert other.arguments() == model.arguments()
