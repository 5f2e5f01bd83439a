"""What the prompt models share: queries, cosines with keys, and a batch that chooses together."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_vit

from avalanche_care.nn.prompts import PromptedClassifier, batch_majority, cosines, uniform


def test_a_query_is_the_frozen_feature_and_needs_no_gradient() -> None:
    backbone = tiny_vit()
    model = PromptedClassifier(backbone)
    x = torch.randn(3, 3, 16, 16, requires_grad=True)
    query = model.query(x)
    assert torch.equal(query, backbone(x))
    assert not query.requires_grad
    assert [name for name, _ in model.named_parameters() if not name.startswith("backbone.")] == [
        "head.weight",
        "head.bias",
    ]
    assert len(list(model.trainable_parameters())) == 2


def test_cosines() -> None:
    queries, keys = torch.randn(5, 7), 3 * torch.randn(4, 7)
    found = cosines(queries, keys)
    for b, query in enumerate(queries):
        for m, key in enumerate(keys):
            torch.testing.assert_close(found[b, m], query @ key / query.norm() / key.norm())
    assert torch.equal(cosines(torch.zeros(1, 7), keys), torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("chosen", "most"),
    [
        ([[0, 2], [2, 3], [3, 2]], [2, 3]),
        ([[4, 1], [0, 4], [4, 3]], [4, 0]),  # 0, 1 and 3 once each
        ([[3, 1]], [1, 3]),
    ],
)
def test_batch_majority(chosen: list[list[int]], most: list[int]) -> None:
    assert batch_majority(torch.tensor(chosen), 5).tolist() == [most] * len(chosen)


def test_initial_values() -> None:
    wide, small = uniform(50, 40, init="symmetric"), uniform(50, 40, init="small")
    assert -1 <= wide.min() < -0.99 < 0.99 < wide.max() < 1
    assert 0 <= small.min() < 0.0001 < 0.0099 < small.max() < 0.01
    with pytest.raises(ValueError, match="init must be one of"):
        uniform(2, init="normal")
