"""Parity with the released BR-MoE, whose outputs were recorded in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import assert_close, cases, config_of, load_layer, load_model, tensors, under
from torch import Tensor

from avalanche_care.losses import angular_penalty, perceptron_loss
from avalanche_care.nn import BRMoE

TOLERANCE = 1e-5


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
    model = load_model(case, expected)
    last = case["tasks"] - 1
    assert_close(model.features(expected["x"]), expected["infer.features"], relative=TOLERANCE)
    features, logits = model.features_and_logits(expected["x"], task=last)
    assert_close(features, expected["train.features"], relative=TOLERANCE)
    assert len(logits) == case["depth"]
    for i, own in enumerate(logits):
        assert_close(own, expected[f"train.block{i}.logits"], relative=TOLERANCE, what=f"block {i}")


@pytest.mark.parametrize("kind", ["default", "margin"])
@pytest.mark.parametrize("case", cases("vit"), ids=by_name)
def test_losses_and_their_gradients(case: dict[str, Any], kind: str) -> None:
    everything = under(case["name"], tensors("brmoe_golden"))
    expected = under(f"loss.{kind}", everything)
    model = load_model(case, everything)
    features, logits = model.features_and_logits(everything["x"], task=case["tasks"] - 1)
    current = model.head.columns_of(case["tasks"] - 1)
    cosines = model.head(features)[:, current]
    targets = everything["targets"] - (
        0 if everything["targets"].max() < cosines.shape[1] else current.start
    )
    margin = 0.3 if kind == "margin" else 0.0
    main = angular_penalty(cosines, targets, margin=margin)
    auxiliary = perceptron_loss(
        logits, cosines, targets, margin=margin, angular=kind == "default", distil=kind == "default"
    )
    assert_close(main, expected["main"], relative=TOLERANCE, what="main")
    assert_close(auxiliary, expected["perceptron"], relative=TOLERANCE, what="perceptron")
    assert_close(main + auxiliary, expected["total"], relative=TOLERANCE, what="total")
    (main + auxiliary).backward()
    for name, value in under("grad", expected).items():
        if name == "classifier":
            parameter = model.head.weight
        else:
            block, _, rest = name.partition(".")
            parameter = model.blocks[int(block.removeprefix("block"))].get_parameter(rest)
        grad = torch.zeros_like(value) if parameter.grad is None else parameter.grad
        assert_close(grad, value, relative=TOLERANCE, what=name)
