"""Checkpoints of the released code, evaluated by our model."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from golden import assert_close, tensors, under
from torch import Tensor

from avalanche_care.nn import load_released_checkpoint


@pytest.fixture
def released() -> dict[str, Tensor]:
    return under("released", tensors("released_checkpoint"))


def load(checkpoint: object) -> object:
    return load_released_checkpoint(checkpoint, num_heads=4)  # type: ignore[arg-type]


def test_single_pass(released: dict[str, Tensor]) -> None:
    expected = tensors("released_checkpoint")
    model, unused = load_released_checkpoint(released, num_heads=4)
    assert unused == []
    assert [len(model.head.classes_of(t)) for t in range(5)] == [6, 3, 3, 3, 3]
    with torch.no_grad():
        features = model.features(expected["x"])
        assert_close(features, expected["single.features"], relative=1e-5)
        assert_close(model.head(features), expected["single.cosines"], relative=1e-5)
        top5 = model(expected["x"]).topk(5).indices
    assert torch.equal(top5, expected["single.top5"])


def test_iterative_prediction(released: dict[str, Tensor]) -> None:
    expected = tensors("released_checkpoint")
    model, _ = load_released_checkpoint(released, num_heads=4)
    with torch.no_grad():
        scores = model.iterative_scores(expected["x"])
    assert torch.equal(scores.topk(5).indices, expected["iterative.top5"])
    torch.testing.assert_close(scores.sum(1), torch.ones(24))


def test_from_a_pth_file_and_on_to_the_next_task(
    released: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "latest_model.pth"
    torch.save(released, path)
    model, _ = load_released_checkpoint(path, num_heads=4)
    layer = next(model.layers())
    mean = torch.stack(
        [released[f"backbone.adapter.adapter_layer0.adapter.{i}.scale"] for i in range(4)]
    ).mean(0)
    model.expand(5, [18, 19])
    assert_close(layer.expert.scale, mean, relative=1e-6)


def test_missing_and_unused_keys_are_named(
    released: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = load_released_checkpoint({**released, "extra.weight": torch.zeros(1)}, num_heads=4)
    assert result.unused == ["extra.weight"]
    assert "extra.weight" in caplog.text
    key = "backbone.adapter.adapter_layer1.router.3.weight"
    with pytest.raises(ValueError, match=rf"lacks 1 keys .*{key}"):
        load({k: v for k, v in released.items() if k != key})
    with pytest.raises(ValueError, match=rf"{key} has shape \(4, 31\), expected \(4, 32\)"):
        load({**released, key: torch.zeros(4, 31)})


def test_something_else(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"not a checkpoint of the released CaRE code.*without a wrapper"
    ):
        load({"state_dict": torch.zeros(1)})
