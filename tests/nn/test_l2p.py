"""L2P's network against the PyTorch port's way of computing it, written out slowly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from tiny import tiny_vit
from torch import Tensor

from avalanche_care.nn import FrozenViT, L2PModel

IMAGES = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def l2p(**sizes: Any) -> L2PModel:
    model = L2PModel(tiny_vit(), **{"pool": 6, "length": 3, "top_k": 2, **sizes})
    model.expand(0, [0, 1, 2])
    return model


def port(model: L2PModel, image: Tensor) -> Tensor:
    """Logits of one image (3, 16, 16): the enlarged position table, one prompt after the other."""
    vit: Any = model.backbone.vit
    query = vit.forward_head(vit.forward_features(image[None]), pre_logits=True)[0]
    nearness = [torch.cosine_similarity(query, key, dim=0).item() for key in model.keys]
    best = sorted(range(model.pool), key=lambda i: -nearness[i])[: model.top_k]
    patches = vit.patch_embed(image[None])[0]
    prompts = torch.cat([model.prompts[i] for i in best])
    x = torch.cat([vit.cls_token[0], prompts, patches])
    table = vit.pos_embed[0]
    places = [table[:1]] * (1 + len(prompts)) + [table[1:]]
    x = (x + torch.cat(places))[None]
    for block in vit.blocks:
        x = block(x)
    feature = vit.norm(x)[0, 1 : 1 + len(prompts)].mean(0)
    return model.head.weight @ feature + model.head.bias


def test_logits_equal_the_ports() -> None:
    model = l2p()
    expected = torch.stack([port(model, image) for image in IMAGES])
    torch.testing.assert_close(model(IMAGES), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.predict(IMAGES), expected, rtol=1e-5, atol=1e-5)
    assert expected.std(0).min() > 1e-4  # images differ


def test_logits_equal_the_official_ones() -> None:
    """Prompts before CLS without position embedding; the first k L outputs are read."""
    model = l2p(position="none", init="small", length=2)
    vit: Any = model.backbone.vit
    chosen = model.prompted(IMAGES).chosen
    x = vit._pos_embed(vit.patch_embed(IMAGES))
    x = torch.cat([model.prompts[chosen].flatten(1, 2), x], 1)
    for block in vit.blocks:
        x = block(x)
    expected = model.head(vit.norm(x)[:, :4].mean(1))
    torch.testing.assert_close(model(IMAGES), expected, rtol=1e-5, atol=1e-5)
    other = l2p(length=2)
    other.load_state_dict(model.state_dict())
    assert not torch.allclose(other(IMAGES), expected, atol=1e-4)  # the switch does something


@pytest.mark.parametrize(("classes", "count"), [(100, 122_980), (200, 199_880)])
def test_number_of_parameters_on_vit_b(classes: int, count: int) -> None:
    vit = VisionTransformer(img_size=32, embed_dim=768, depth=1, num_heads=12, num_classes=0)
    model = L2PModel(FrozenViT(vit))
    model.expand(0, range(classes))
    trains = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert set(trains) == {"prompts", "keys", "head.weight", "head.bias"}
    assert sum(p.numel() for p in trains.values()) == count
    assert sum(p.numel() for p in model.trainable_parameters()) == count


def test_sequence_length_in_the_first_block() -> None:
    model = l2p()
    lengths: list[int] = []
    vit: Any = model.backbone.vit
    vit.blocks[0].register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    model(IMAGES)
    assert lengths == [5, 5 + 2 * 3]  # 4 patches and CLS, then with k L prompt tokens


def test_what_gets_gradients_from_what() -> None:
    model = l2p()
    found = model.prompted(IMAGES)
    prompts, keys = torch.autograd.grad(
        model.head(found.features).square().sum(),
        [model.prompts, model.keys],
        allow_unused=True,
        retain_graph=True,
    )
    assert keys is None
    chosen = set(found.chosen.flatten().tolist())
    assert len(chosen) < 6
    for i in range(6):
        assert bool(prompts[i].abs().sum() > 0) == (i in chosen)
    prompts, keys = torch.autograd.grad(found.match, [model.prompts, model.keys], allow_unused=True)
    assert prompts is None
    for i in range(6):
        assert bool(keys[i].abs().sum() > 0) == (i in chosen)


def test_the_order_of_the_chosen_prompts_changes_nothing() -> None:
    """All prompt tokens have the same position, so only the set of prompts counts."""
    model = l2p(top_k=6)
    before = model(IMAGES)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        model.prompts.copy_(model.prompts[order].clone())
        model.keys.fill_(1.0)
    torch.testing.assert_close(model(IMAGES), before, rtol=1e-5, atol=1e-5)


def test_match_is_the_sum_of_the_chosen_cosines() -> None:
    model = l2p()
    found = model.prompted(IMAGES)
    queries = model.query(IMAGES)
    keys = model.keys.detach()
    rows = [
        sum(torch.cosine_similarity(queries[b], keys[i], dim=0) for i in found.chosen[b])
        for b in range(5)
    ]
    torch.testing.assert_close(found.match.detach(), torch.stack(rows).mean())  # type: ignore[arg-type]
    with torch.no_grad():
        model.keys.copy_(queries[0].expand(6, -1))
    assert model.prompted(IMAGES[:1]).match.item() == pytest.approx(2.0)  # its largest value is k


def test_images_do_not_choose_for_each_other_unless_told() -> None:
    model = l2p()
    with torch.no_grad():  # the first two images near to keys 0 and 1, the others near to 4 and 5
        queries = model.query(IMAGES)
        model.keys.fill_(0.0)
        model.keys[0:2] = queries[:2].mean(0)
        model.keys[4:6] = queries[2:].mean(0)
    alone = torch.cat([model(image[None]) for image in IMAGES])
    torch.testing.assert_close(model(IMAGES), alone, rtol=1e-5, atol=1e-6)
    together = model.prompted(IMAGES, majority=True)
    assert together.chosen.unique(dim=0).shape[0] == 1
    assert not torch.allclose(model.predict(IMAGES, majority=True)[:2], alone[:2], atol=1e-4)


def test_prompts_of_a_task() -> None:
    model = l2p()  # 6 prompts are enough for 3 tasks of 2
    own = [model.prompted(IMAGES, task=t).chosen.unique(dim=0).tolist() for t in range(3)]
    assert own == [[[0, 1]], [[2, 3]], [[4, 5]]]
    free = model.prompted(IMAGES).chosen
    assert torch.equal(model.prompted(IMAGES, task=3).chosen, free)


AVERAGE: dict[str, Any] = {"class_token": False, "global_pool": "avg"}


def other_vit(**kind: Any) -> VisionTransformer:
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    vit = VisionTransformer(**sizes, num_classes=0, **kind)
    with torch.no_grad():  # no norm is at its usual start
        for parameter in vit.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return vit


@pytest.mark.parametrize("kind", [AVERAGE, {"reg_tokens": 2}])
@pytest.mark.parametrize("no_embed_class", [False, True])
def test_other_vits(kind: dict[str, Any], no_embed_class: bool) -> None:
    vit = other_vit(no_embed_class=no_embed_class, **kind)
    models = [L2PModel(FrozenViT(vit), position=position) for position in ("cls", "none")]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        model.expand(0, [0, 1])
    models[1].head.load_state_dict(models[0].head.state_dict())
    one, other = (model(IMAGES) for model in models)
    assert one.shape == (5, 2)
    has_position = "reg_tokens" in kind and not no_embed_class
    assert torch.allclose(one, other) != has_position


@pytest.mark.parametrize(
    ("kind", "start"),
    [({}, 1), (AVERAGE, 0), ({**AVERAGE, "fc_norm": False}, 0), ({"reg_tokens": 2}, 3)],
    ids=str,
)
def test_features_are_the_mean_of_the_prompts_alone(kind: dict[str, Any], start: int) -> None:
    """They stand behind CLS and registers; the last norm is the one that the ViT itself has."""
    vit: Any = other_vit(**kind)
    model = L2PModel(FrozenViT(vit), length=3, top_k=2)
    last: list[Tensor] = []
    vit.blocks[-1].register_forward_hook(lambda _, args, out: last.append(out.detach()))
    features = model.features(IMAGES)
    assert len(last) == 2  # the query's pass and the prompts'
    assert last[1].shape[1] == start + 6 + 4
    mean = vit.norm(last[1])[:, start : start + 6].mean(1)
    torch.testing.assert_close(features, vit.fc_norm(mean))


@pytest.mark.parametrize(("init", "low", "high"), [("symmetric", -1.0, 1.0), ("small", 0.0, 0.01)])
def test_prompts_and_keys_start_in_the_range(init: str, low: float, high: float) -> None:
    model = l2p(init=init, pool=60)
    for values in (model.prompts, model.keys):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() < high


def test_from_arguments() -> None:
    model = l2p(position="none")
    other = L2PModel.from_arguments(model.backbone, model.arguments())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(IMAGES), model(IMAGES))
    assert other.arguments() == model.arguments()


@pytest.mark.parametrize(
    "sizes", [{"top_k": 7}, {"top_k": 0}, {"length": 0}, {"position": "patch"}, {"init": "zero"}]
)
def test_bad_sizes(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected 1 <= top_k <= pool|init must be one of"):
        l2p(**sizes)
