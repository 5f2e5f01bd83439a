"""APER's model: two networks side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_vit

import avalanche_care
from avalanche_care.experiments.exported import save_exported
from avalanche_care.nn import APERModel, CosineHead, FrozenClassifier, FrozenViT
from avalanche_care.nn.model_state import load_model_state, model_state

KINDS = ["adapter", "ssf", "vpt-shallow", "vpt-deep", "finetune"]
every_kind = pytest.mark.parametrize("kind", KINDS)
OPTIONS: dict[str, dict[str, Any]] = {
    "adapter": {"bottleneck": 3, "scale": 0.2, "dropout": 0.5},
    "ssf": {"std": 0.1},
    "vpt-shallow": {"tokens": 2},
    "vpt-deep": {"tokens": 3},
    "finetune": {},
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def adapted_model(kind: str, backbone: FrozenViT | None = None) -> APERModel:
    """A model as after some training, with two tasks."""
    model = APERModel(backbone or tiny_vit(), kind, **OPTIONS[kind])
    with torch.no_grad():
        for parameter in model.petl.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model.petl.requires_grad_(False)
    model.expand(0, [0, 1, 2])
    model.expand(1, [3, 4])
    return model.eval()


def images(n: int = 6) -> torch.Tensor:
    return torch.randn(n, 3, 16, 16)


@every_kind
def test_features_are_those_of_both_networks_as_they_are(kind: str) -> None:
    model, x = adapted_model(kind), images()
    features = model.features(x)
    assert features.shape == (6, 32)
    assert torch.equal(features[:, :16], model.backbone(x))  # SimpleCIL's
    assert torch.equal(features[:, 16:], model.adapted_features(x))
    assert not torch.allclose(features[:, :16], features[:, 16:], rtol=1e-2)


@every_kind
def test_scores_are_cosines_to_the_rows(kind: str) -> None:
    model, x = adapted_model(kind), images()
    with torch.no_grad():
        scores = model.predict(x)
        features = torch.cat([model.backbone(x), model.petl(model.backbone, x)], 1)
    for n, feature in enumerate(features):
        for c, row in enumerate(model.head.weight):
            expected = feature @ row / feature.norm() / row.norm()
            torch.testing.assert_close(scores[n, c], expected, rtol=1e-5, atol=1e-6)


def test_fresh_adapters_predict_what_simplecil_predicts() -> None:
    backbone, x = tiny_vit(), images(20)
    simple = FrozenClassifier(backbone, CosineHead(16)).eval()
    model = APERModel(backbone).eval()
    labels = torch.arange(20) % 5
    for one in (simple, model):
        one.expand(0, range(5))
        with torch.no_grad():
            features = one.features(x)
            means = [features[labels == c].mean(0) for c in range(5)]
            one.head.weight.copy_(torch.stack(means))
    test = images(50)
    with torch.no_grad():
        torch.testing.assert_close(model.predict(test), simple.predict(test), rtol=1e-5, atol=1e-6)
        assert torch.equal(model.predict(test).argmax(1), simple.predict(test).argmax(1))


@every_kind
def test_an_equal_model_takes_the_state(kind: str) -> None:
    model, x = adapted_model(kind), images()
    state = model_state(model)
    assert not [name for name in state["tensors"] if name.startswith("backbone")]
    other = APERModel.from_arguments(tiny_vit(), model.arguments()).eval()
    load_model_state(other, state)
    with torch.no_grad():
        assert torch.equal(other.predict(x), model.predict(x))
    assert not any(p.requires_grad for p in other.petl.parameters())
    assert other.tasks == 2


def test_only_finetuning_has_a_second_network_in_its_state() -> None:
    backbone = tiny_vit()
    weights = sum(p.numel() for p in backbone.parameters())
    for kind in KINDS:
        held = model_state(adapted_model(kind))["tensors"]
        learned = sum(t.numel() for name, t in held.items() if name.startswith("petl."))
        assert (learned >= weights) == (kind == "finetune")


@every_kind
def test_it_can_be_exported(kind: str, tmp_path: Path) -> None:
    model = adapted_model(kind, FrozenViT.create("glyph_vit_micro"))
    save_exported(model, tmp_path / "out", prediction={})
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.predict(x)
    assert torch.equal(avalanche_care.load(tmp_path / "out").scores(x), expected)


@every_kind
def test_nothing_but_rows_grows(kind: str) -> None:
    model = APERModel(tiny_vit(), kind)
    sizes = []
    for task in range(301):
        model.expand(task, [task])
        if task in (0, 300):
            state = model.state_dict()
            besides = [t.shape for name, t in state.items() if not name.startswith("head.")]
            sizes.append((len(list(model.modules())), len(state), besides))
    assert sizes[0] == sizes[1]
    assert model.head.weight.shape == (301, 32)
    with torch.no_grad():
        scores = model.eval().predict(images(2))
    assert scores.shape == (2, 301)
