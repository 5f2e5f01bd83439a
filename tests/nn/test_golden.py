"""Parity with the released BR-MoE, whose outputs were recorded in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import (
    assert_close,
    assert_matches_recording,
    cases,
    config_of,
    load_layer,
    load_model,
    tensors,
    under,
)
from torch import Tensor

from avalanche_care.losses import angular_penalty, perceptron_loss
from avalanche_care.nn import BRMoE

TOLERANCE = 1e-5
PRECISIONS = (torch.float32, torch.float64)


def by_name(case: dict[str, Any]) -> str:
    return f"{case['name']}-T{case['tasks']}-M{case['top_m']}-K{case['top_k']}"


def make(case: dict[str, Any]) -> tuple[BRMoE, dict[str, Tensor]]:
    weights = under(case["name"], tensors("brmoe_golden"))
    return load_layer(BRMoE(case["dim"], config_of(case)), weights, case), weights


@pytest.mark.parametrize("case", cases("moe"), ids=by_name)
def test_outputs_and_perceptron_logits(case: dict[str, Any]) -> None:
    layer, expected = make(case)
    for grad in (False, True):  # the path of evaluation and the differentiable one
        with torch.set_grad_enabled(grad):
            out, logits = layer(expected["x"])
            assert logits is None
            assert_close(out, expected["infer"], relative=TOLERANCE, what="infer")
            tasks = [t for t in range(case["tasks"]) if f"task{t}.out" in expected]
            assert case["tasks"] - 1 in tasks
            for task in tasks:
                out, logits = layer(expected["x"], task=task)
                assert_close(out, expected[f"task{task}.out"], relative=TOLERANCE)
                assert_close(logits, expected[f"task{task}.logits"], relative=TOLERANCE)


@pytest.mark.parametrize("case", cases("moe"), ids=by_name)
def test_gradients(case: dict[str, Any]) -> None:
    layer, weights = make(case)
    expected = under("grad", weights)
    x = weights["x"].clone().requires_grad_()
    out, logits = layer(x, task=case["tasks"] - 1)
    loss = (out * expected.pop("out_cotangent")).sum()
    (loss + (logits * expected.pop("logits_cotangent")).sum()).backward()
    assert x.grad is not None
    assert_close(x.grad, expected.pop("x"), relative=TOLERANCE, what="x")
    assert len(expected) >= 11  # seven of the expert, four of the perceptron, router, shared
    for name, value in expected.items():
        grad = layer.get_parameter(name).grad
        assert_close(
            torch.zeros_like(value) if grad is None else grad, value, relative=TOLERANCE, what=name
        )


@pytest.mark.parametrize("case", cases("vit"), ids=by_name)
def test_whole_network(case: dict[str, Any]) -> None:
    expected = under(case["name"], tensors("brmoe_golden"))
    ours, exact = (network_outputs(case, expected, dtype) for dtype in PRECISIONS)
    assert len(ours) == 2 + case["depth"]
    for name, value in ours.items():
        assert_matches_recording(value, expected[name], exact[name], relative=TOLERANCE, what=name)


def network_outputs(
    case: dict[str, Any], weights: dict[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Features of both paths and all perceptron logits, under their names in the recording."""
    model, x = load_model(case, weights).to(dtype), weights["x"].to(dtype)
    features, logits = model.features_and_logits(x, task=case["tasks"] - 1)
    found = {"infer.features": model.features(x), "train.features": features}
    found |= {f"train.block{i}.logits": own for i, own in enumerate(logits)}
    return {name: value.detach() for name, value in found.items()}


@pytest.mark.parametrize("kind", ["default", "margin"])
@pytest.mark.parametrize("case", cases("vit"), ids=by_name)
def test_losses_and_their_gradients(case: dict[str, Any], kind: str) -> None:
    everything = under(case["name"], tensors("brmoe_golden"))
    expected = under(f"loss.{kind}", everything)
    ours, exact = (losses_and_gradients(case, everything, kind, dtype) for dtype in PRECISIONS)
    assert {"main", "perceptron", "total", "grad.classifier"} < set(expected)
    for name, value in expected.items():
        assert_matches_recording(ours[name], value, exact[name], relative=TOLERANCE, what=name)


def losses_and_gradients(
    case: dict[str, Any], weights: dict[str, Tensor], kind: str, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The three losses and the gradients of all that trains, under their names."""
    model = load_model(case, weights).to(dtype)
    features, logits = model.features_and_logits(weights["x"].to(dtype), task=case["tasks"] - 1)
    current = model.head.columns_of(case["tasks"] - 1)
    cosines = model.head(features)[:, current]
    targets = weights["targets"] - current.start
    plain = kind == "default"
    margin = 0.0 if plain else 0.3
    main = angular_penalty(cosines, targets, margin=margin)
    auxiliary = perceptron_loss(
        logits, cosines, targets, margin=margin, angular=plain, distil=plain
    )
    (main + auxiliary).backward()
    found = {"main": main, "perceptron": auxiliary, "total": main + auxiliary}
    for i, layer in enumerate(model.layers()):
        for name, parameter in layer.named_parameters():
            grad = parameter.grad
            found[f"grad.block{i}.{name}"] = torch.zeros_like(parameter) if grad is None else grad
    assert model.head.weight.grad is not None
    found["grad.classifier"] = model.head.weight.grad
    return {name: value.detach() for name, value in found.items()}
