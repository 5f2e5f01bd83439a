"""Short runs of any method in a directory, which can be broken off and go on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from tiny import quick_settings, tiny_benchmark, tiny_images, tiny_vit

from avalanche_care.experiments import RunResult, run_method
from avalanche_care.strategies.registry import get_method

MEASURED = (
    "seconds",
    "created",
    "hardware",
    "extra.peak_memory",
    "extra.evaluated_images_per_second",
    "extra.state_bytes",  # the state holds times and sizes of memory
)
"""Parts of a result that no two runs share."""


def short_config(method: str) -> Any:
    """Settings that train in no time."""
    quick = quick_settings(method)
    return get_method(method).config(**{**quick, **({"epochs": 2} if "epochs" in quick else {})})


def short_run(
    method: str, directory: Path | None = None, *, config: Any = None, **kwargs: Any
) -> RunResult:
    """Three tasks of two classes on the tiny ViT, with test images that are not all easy."""
    train, test = tiny_images(6), tiny_images(6, split=1)
    test.tensors[0].add_(torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0)))
    return run_method(
        method,
        tiny_benchmark(train=train, test=test),
        tiny_vit(),
        config=config or short_config(method),
        directory=directory,
        progress=False,
        **kwargs,
    )


def comparable(result: RunResult) -> dict[str, Any]:
    """A result without what is measured with a clock."""
    values = dataclasses.asdict(result)
    for path in MEASURED:
        *parents, last = path.split(".")
        place = values
        for parent in parents:
            place = place[parent]
        place.pop(last, None)
    return values
