"""The plain layer that ours is timed against computes the same, or the ratio would mean nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from brmoe_reference import randomise
from golden import assert_close
from scripts import script
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from avalanche_care.memory import TensorMemory
from avalanche_care.nn import BRMoE, BRMoEConfig, FrozenViT

dense_brmoe = script("dense_brmoe")
CONFIG = BRMoEConfig(bottleneck=4, shared_bottleneck=6, dropout=0.0)


def both(tasks: int, dim: int = 24) -> tuple[BRMoE, Any]:
    """Ours and the dense layer with the same random weights, in float64."""
    torch.manual_seed(0)
    ours = BRMoE(dim, CONFIG).double()
    dense = dense_brmoe.DenseBRMoE(dim, CONFIG).double()
    assert ours.shared is not None
    randomise(ours.shared)
    dense.shared.load_state_dict(ours.shared.state_dict())
    for task in range(tasks):
        n_classes = 3 if task else 7
        ours.expand(n_classes)
        dense.expand(n_classes)
        dense.double()
        for part, copies in newest(ours, dense):
            randomise(part)
            copies.load_state_dict(part.state_dict())
    return ours, dense


def newest(ours: BRMoE, dense: Any) -> list[tuple[nn.Module, nn.Module]]:
    return [
        (ours.expert, dense.experts[-1]),
        (ours.router, dense.routers[-1]),
        (ours.perceptron, dense.perceptrons[-1]),
    ]


@pytest.mark.parametrize("tasks", [1, 2, 3, 4, 12, 30])
def test_dense_equals_ours(tasks: int) -> None:
    ours, dense = both(tasks)
    h = torch.randn(6, 5, 24, dtype=torch.float64)
    for task in {None, 0, tasks // 2, tasks - 1}:
        expected, expected_logits = ours(h, task=task)
        out, logits = dense(h, task=task)
        assert_close(out, expected, relative=1e-9, what=f"task {task}")
        if task is not None:
            assert_close(logits, expected_logits, relative=1e-9)


@pytest.mark.parametrize("tasks", [2, 12])
def test_the_gradients_are_equal_and_so_is_what_trains(tasks: int) -> None:
    ours, dense = both(tasks)
    h = torch.randn(6, 5, 24, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(6, 5, 24, dtype=torch.float64)

    def gradients(layer: Any) -> list[torch.Tensor]:
        h.grad = None
        out, logits = layer(h, task=tasks - 1)
        ((out * cotangent).sum() + logits.square().sum()).backward()
        assert h.grad is not None
        return [h.grad.clone()]

    for got, expected in zip(gradients(dense), gradients(ours), strict=True):
        assert_close(got, expected, relative=1e-9)
    assert ours.shared is not None
    for part, copies in [*newest(ours, dense), (ours.shared, dense.shared)]:
        for one, other in zip(part.parameters(), copies.parameters(), strict=True):
            assert one.grad is not None
            assert other.grad is not None
            assert_close(other.grad, one.grad, relative=1e-8)
    trained = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (ours, dense)]
    assert trained[0] == trained[1]


@pytest.mark.parametrize(("train", "half"), [(True, False), (False, False), (True, True)])
def test_the_estimated_memory_is_what_is_counted(train: bool, half: bool) -> None:
    """What a task more takes, by the formula and by the bytes of real tensors."""
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=32, patch_size=4, embed_dim=96, depth=3, num_heads=2, num_classes=0
    )
    backbone, config = FrozenViT(vit), BRMoEConfig(bottleneck=2, shared_bottleneck=4)
    images = torch.rand(4, 3, 32, 32)

    def peak(tasks: int) -> int:
        network = dense_brmoe.DenseNetwork(backbone, config).train(train)
        for task in range(tasks):
            network.expand(task, range(2 * task, 2 * task + 2))
        with TensorMemory() as memory, torch.set_grad_enabled(train):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                features, _ = network.features_and_logits(images, task=tasks - 1 if train else None)
            if train:
                features.sum().backward()
        return memory.peak

    def estimate(tasks: int) -> int:
        size: int = dense_brmoe.step_bytes(tasks, 4 * 65, backbone, config, train=train, half=half)
        return size

    few, many = 10, 20
    ratio = (peak(many) - peak(few)) / (estimate(many) - estimate(few))
    assert 0.93 < ratio < 1.07
