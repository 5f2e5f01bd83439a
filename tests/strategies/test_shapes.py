"""Every registered method on ViTs of all listed widths, and on tasks of unequal sizes."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from tiny import Predictions, quick_settings, tiny_benchmark, tiny_images, tiny_strategy

from avalanche_care.nn import FrozenViT
from avalanche_care.strategies.registry import available_methods, get_method

WIDTHS = {"micro": 128, "Ti": 192, "S": 384, "B": 768}
every_method = pytest.mark.parametrize("method", sorted(available_methods()))


@every_method
@pytest.mark.parametrize("name", WIDTHS)
def test_widths(method: str, name: str) -> None:
    width = WIDTHS[name]
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=width, depth=2, num_heads=width // 64, num_classes=0
    )
    chosen = get_method(method)
    strategy = chosen.strategy(
        model=FrozenViT(vit),
        config=chosen.config(**quick_settings(method)),
        train_epochs=1,
        evaluator=None,
    )
    data = tiny_images(2, per_class=2)
    strategy.train(tiny_benchmark("B0-Inc2", 2, train=data, test=data).train_stream)
    scores = strategy.model.eval()(data.tensors[0])
    assert scores.shape == (4, 2)
    assert torch.isfinite(scores).all()


@every_method
def test_tasks_of_unequal_sizes(method: str) -> None:
    """One class, then three, and the two that remain."""
    benchmark = tiny_benchmark("B1-Inc3", 6)
    predictions = Predictions()
    strategy = tiny_strategy(method, plugins=[predictions])
    for task, seen in enumerate((1, 4, 6)):
        strategy.train(benchmark.train_stream[task])
        assert strategy.model.head.labels.tolist() == list(range(seen))
        strategy.eval(benchmark.seen_stream[task])
        assert predictions.total == 6 * seen
        outputs = torch.stack(list(predictions.outputs.values()))
        assert outputs.shape == (6 * seen, seen)
        assert torch.isfinite(outputs).all()
        # Chance is 1 / seen; fine-tuning knows the newest classes at least.
        assert predictions.accuracy > 1 / seen or seen == 1
