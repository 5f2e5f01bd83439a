"""CaRE's whole network: growth, storage, and iterative prediction."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from brmoe_reference import randomise
from tiny import tiny_images, tiny_vit
from torch import Tensor

from avalanche_care.nn import BRMoEConfig, CaREModel
from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.heads import LinearHead

SMALL = BRMoEConfig(bottleneck=4, shared_bottleneck=6)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def grown(tasks: int = 4, config: BRMoEConfig = SMALL) -> CaREModel:
    """Random weights everywhere; tasks of 3, 1, 2, 1 ... classes."""
    model = CaREModel(tiny_vit(), config)
    label = 0
    for task in range(tasks):
        classes = range(label, label + (3, 1, 2, 1)[task % 4])
        label = classes.stop
        assert model.expand(task, classes)
        for layer in model.layers():
            for part in (layer.expert, layer.router, layer.perceptron):
                randomise(part)
    with torch.no_grad():
        model.head.weight.normal_()
    return model.eval()


@pytest.fixture
def x() -> Tensor:
    return tiny_images(6, per_class=2).tensors[0]


def outputs(model: CaREModel, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        by_task = [model.features(x, task=task) for task in range(model.tasks)]
        return [model(x), model.features(x), model.iterative_scores(x), *by_task]


@pytest.mark.parametrize(
    "config",
    [SMALL, BRMoEConfig(routing_input="block", perceptron_norm=False, shared_bottleneck=0)],
    ids=["released", "paper"],
)
@pytest.mark.parametrize("start", [0, 2, 6])
def test_state_dict_round_trip(config: BRMoEConfig, start: int, x: Tensor) -> None:
    """Into a model that is fresh, smaller or larger."""
    model = grown(4, config)
    other = grown(start, config) if start else CaREModel(tiny_vit(seed=5), config).eval()
    result = other.load_state_dict(model.state_dict())
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert other.tasks == 4
    for ours, theirs in zip(outputs(other, x), outputs(model, x), strict=True):
        assert torch.equal(ours, theirs)
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in other.named_parameters() if p.requires_grad} == trainable
    for one in (model, other):
        torch.manual_seed(4)
        one.expand(4, [40, 41])
    for ours, theirs in zip(outputs(other, x), outputs(model, x), strict=True):
        assert torch.equal(ours, theirs)


def test_deep_copy(x: Tensor) -> None:
    model = grown()
    model.features_and_logits(x, task=3)  # leaves no graph in the way
    before = outputs(model, x)
    other = copy.deepcopy(model)
    for ours, theirs in zip(outputs(other, x), before, strict=True):
        assert torch.equal(ours, theirs)
    other.expand(4, [20])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    for ours, theirs in zip(outputs(model, x), before, strict=True):
        assert torch.equal(ours, theirs)


def test_expanding_twice_is_expanding_once(x: Tensor) -> None:
    model = grown(2)
    before, count = outputs(model, x), len(model.state_dict())
    assert not model.expand(1, [3])
    assert not model.expand(0, [2, 0, 1])
    for ours, theirs in zip(outputs(model, x), before, strict=True):
        assert torch.equal(ours, theirs)
    assert len(model.state_dict()) == count
    assert [layer.tasks for layer in model.layers()] == [2, 2]
    for wrong, message in (
        ((3, [9]), "expected task 2 next, got task 3"),
        ((1, [9]), "task 1 has classes"),
        ((2, [3]), "learned already, as task 1"),
        ((2, [0, 9]), r"classes \[0\] were learned"),
        ((2, []), "no classes"),
    ):
        with pytest.raises(ValueError, match=message):
            model.expand(*wrong)
    assert model.tasks == 2
    assert [layer.tasks for layer in model.layers()] == [2, 2]


def test_nothing_to_predict_without_a_task(x: Tensor) -> None:
    with pytest.raises(RuntimeError, match="no task yet"):
        CaREModel(tiny_vit(), SMALL)(x)


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_iterative_scores_equal_a_plain_loop(tasks: int, x: Tensor) -> None:
    """Section 6, image by image."""
    model = grown(tasks)
    with torch.no_grad():
        scores = model.iterative_scores(x)
        assert scores.shape == (len(x), model.head.n_classes)
        torch.testing.assert_close(scores.sum(1), torch.ones(len(x)))
        chosen = []
        for i in range(len(x)):
            image = x[i : i + 1]
            passes = []
            for task in range(tasks):
                p = (20.0 * model.head(model.features(image, task=task)))[0].softmax(0).tolist()
                passes.append((-sum(v * math.log(v) for v in p if v > 0), task, p))
            _, task, best = min(passes)
            chosen.append(task)
            single = (20.0 * model.head(model.features(image)))[0].softmax(0)
            expected = (torch.tensor(best) + single) / 2
            torch.testing.assert_close(scores[i], expected, rtol=1e-4, atol=1e-6)
    if tasks == 5:
        assert len(set(chosen)) > 1


def test_forward_is_scaled_cosines_in_label_order(x: Tensor) -> None:
    model = CaREModel(tiny_vit(), SMALL, scale=7.0).eval()
    model.expand(0, [4, 1])
    with torch.no_grad():
        output, cosines = model(x), model.head(model.features(x))
    assert output.shape == (len(x), 5)
    torch.testing.assert_close(output[:, [1, 4]], 7.0 * cosines)
    assert set(output.argmax(1).tolist()) <= {1, 4}


def test_a_fresh_model_has_the_backbones_features(x: Tensor) -> None:
    model = CaREModel(tiny_vit(), SMALL).eval()
    model.expand(0, [0, 1])
    with torch.no_grad():
        expected = tiny_vit()(x)
        torch.testing.assert_close(model.features(x), expected)
        assert (grown().features(x) - expected).abs().max() > 1e-2


def test_what_trains() -> None:
    model = grown(3)
    named = {n for n, p in model.named_parameters() if p.requires_grad}
    parts = ("expert", "router", "perceptron", "shared")
    for name in named:
        assert name == "head.weight" or name.split(".")[2] in parts, name
    assert len(list(model.trainable_parameters())) == len(named) == 2 * (7 + 2 + 4 + 7) + 1
    assert len(list(model.shared_parameters())) == 2 * 7
    assert not list(CaREModel(tiny_vit(), BRMoEConfig(shared_bottleneck=0)).shared_parameters())


def test_backbone_stays_in_eval_mode() -> None:
    model = grown().train()
    assert all(layer.training for layer in model.layers())
    assert not any(module.training for module in model.backbone.modules())


def test_frozen_classifier(x: Tensor) -> None:
    vit = tiny_vit()
    model = FrozenClassifier(vit, LinearHead(vit.embed_dim)).eval()
    assert model.tasks == 0
    assert model.expand(0, [3, 1])
    assert not model.expand(0, [1, 3])
    expected = vit(x) @ model.head.weight.T
    torch.testing.assert_close(model(x)[:, [1, 3]], expected)
    assert torch.equal(model.features(x), vit(x))
