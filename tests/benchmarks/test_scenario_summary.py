"""What a benchmark says about itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from avalanche_care.benchmarks import CILBenchmark, Protocol, class_incremental


class Blind(Dataset[Any]):
    """Labels without images: what needs an image fails."""

    def __init__(self, n_classes: int, per_class: int) -> None:
        self.targets = [c for c in range(n_classes) for _ in range(per_class)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("an image was read")


def benchmark(protocol: Protocol, **words: Any) -> CILBenchmark:
    total = protocol.total_classes
    return class_incremental(Blind(total, 30), Blind(total, 2), protocol, name="blind", **words)


def test_all_there_is_to_say() -> None:
    protocol = Protocol.parse("B40-Inc30", n_classes=100, total_classes=1200)
    realms = {"low": range(600), "high": range(600, 1200)}
    made = benchmark(protocol, realms=realms, transforms="pixels in [0, 1]")
    assert made.transforms == "pixels in [0, 1]"
    assert str(made).splitlines() == [
        "blind, B40-Inc30: 100 classes in 3 tasks, class order 1993",
        "images: 3,000 for training, 200 for testing",
        "transforms: pixels in [0, 1]",
        "realms: 2",
    ]


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"class_order_seed": 7}, "class order 7"),
        ({"class_order_seed": 0}, "class order 0"),
        ({"class_order_seed": None}, "natural class order"),
        ({"class_order_seed": None, "fixed_class_order": (2, 0, 1)}, "fixed class order"),
    ],
)
def test_the_class_order_is_named(order: dict[str, Any], words: str) -> None:
    made = benchmark(Protocol(0, 1, 3, **order))
    assert str(made).splitlines()[0] == f"blind, B0-Inc1: 3 classes in 3 tasks, {words}"


def test_what_nobody_said() -> None:
    made = benchmark(Protocol(0, 1, 3))
    assert made.transforms is None
    assert made.realms is None
    assert "transforms: not recorded" in str(made)
    assert "realms" not in str(made)


def test_it_is_avalanches_all_the_same() -> None:
    """The words are in no one's way: data of a benchmark are what they were without them."""
    data = torch.utils.data.TensorDataset(torch.arange(6.0)[:, None], torch.arange(3).repeat(2))
    plain, worded = (
        class_incremental(data, data, Protocol(0, 1, 3), name="toy", transforms=words)
        for words in (None, "nothing")
    )
    for one, other in zip(plain.train_stream, worded.train_stream, strict=True):
        assert [list(map(float, item)) for item in one.dataset] == [
            list(map(float, item)) for item in other.dataset
        ]
