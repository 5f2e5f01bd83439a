"""Iterative prediction: the same as one pass per task, with the common part computed once."""

from __future__ import annotations

import pytest
import torch
from brmoe_reference import randomise
from tiny import tiny_images, tiny_vit
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from avalanche_care.nn import BRMoEConfig, CaREModel


def grown(sizes: tuple[int, ...], **config: object) -> CaREModel:
    torch.manual_seed(0)
    settings = {"bottleneck": 4, "shared_bottleneck": 6, **config}
    model = CaREModel(tiny_vit(), BRMoEConfig(**settings)).double()  # type: ignore[arg-type]
    label = 0
    for task, size in enumerate(sizes):
        model.expand(task, range(label, label + size))
        label += size
        for layer in model.layers():
            for part in (layer.expert, layer.router, layer.perceptron):
                randomise(part)
    with torch.no_grad():
        model.head.weight.normal_()
    return model.eval()


def plain(model: CaREModel, x: Tensor) -> Tensor:
    """One pass per task id, from the images on."""
    passes = [
        (model.scale * model.head(model.features(x, task=task))).softmax(1)
        for task in range(model.tasks)
    ]
    scores = []
    for b in range(len(x)):
        certain = min(passes, key=lambda p: -(p[b] * p[b].log()).sum().item())
        scores.append(certain[b])
    single = (model.scale * model.head(model.features(x))).softmax(1)
    return (torch.stack(scores) + single) / 2


@pytest.fixture
def x() -> Tensor:
    return tiny_images(6, per_class=2).tensors[0].double()


@pytest.mark.parametrize("rows", [1, 24, 30, 10**6])
@pytest.mark.parametrize("sizes", [(3,), (3, 1), (3, 1, 2), (2, 1, 3, 1, 2, 1, 1)])
def test_equals_a_pass_per_task(x: Tensor, sizes: tuple[int, ...], rows: int) -> None:
    model = grown(sizes)
    with torch.no_grad():
        torch.testing.assert_close(
            model.iterative_scores(x, rows=rows), plain(model, x), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize(
    "config",
    [
        {"routing_input": "block", "perceptron_norm": False},
        {"top_m": 3, "top_k": 2},
        {"top_m": 1, "top_k": 1, "normalised_entropy": True},
        {"shared_bottleneck": 0},
    ],
    ids=lambda config: "-".join(config),
)
def test_a_task_id_per_sample(x: Tensor, config: dict[str, object]) -> None:
    """A tensor of task ids gives each sample what that task id alone gives it."""
    model = grown((3, 1, 2, 2, 1), **config)
    layer = next(model.layers())
    h = torch.randn(5, 4, layer.dim, dtype=torch.float64)
    with torch.no_grad():
        together, logits = layer(h, task=torch.tensor([4, 0, 2, 1, 3]))
        for row, task in enumerate([4, 0, 2, 1, 3]):
            alone = layer(h[row : row + 1], task=task)[0][0]
            torch.testing.assert_close(together[row], alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(model.iterative_scores(x), plain(model, x), rtol=1e-9, atol=0)
    assert logits is None


def test_the_common_part_is_computed_once(x: Tensor) -> None:
    """Counted: T + 1 passes share the embedding and block 0, one of the tiny ViT's blocks."""
    model = grown((2, 1, 3, 1))
    tasks, depth = model.tasks, model.backbone.depth
    bare = model.backbone

    def flops(run: object) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()  # type: ignore[operator]
        return counter.get_total_flops()

    model(x)  # folds the newest triplets
    embedding_and_first = flops(lambda: bare.begin(x))
    whole = flops(lambda: bare(x))
    first = (whole - flops(lambda: bare._embed(x))) // depth
    assert embedding_and_first == flops(lambda: bare._embed(x)) + first
    saved = flops(lambda: plain(model, x)) - flops(lambda: model.iterative_scores(x))
    # The routing of a batch of task ids looks at all triplets for each, which costs a little back.
    assert 0.9 * tasks * embedding_and_first <= saved <= tasks * embedding_and_first
