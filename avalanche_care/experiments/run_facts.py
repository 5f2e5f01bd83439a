"""What the numbers of a run depend on: method, settings, data, backbone, seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from avalanche_care.benchmarks.packed import PackedImages
from avalanche_care.benchmarks.scenario import CILBenchmark
from avalanche_care.nn.vit import FrozenViT

__all__ = ["data_facts", "run_identity"]


def run_identity(
    method: str,
    config: Any,
    benchmark: CILBenchmark,
    backbone: FrozenViT,
    seed: int,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Everything that the numbers of a run depend on."""
    return {
        "method": method,
        "config": dataclasses.asdict(config),
        "benchmark": benchmark.name,
        "protocol": benchmark.protocol.name,
        "class_order": list(benchmark.class_order),
        "seed": seed,
        "backbone": dataclasses.asdict(backbone.info),
        **facts,
    }


def data_facts(benchmark: CILBenchmark) -> dict[str, Any]:
    """What there is to learn, and what was done to the images."""
    train, test = (benchmark.stream_definitions[s].exps_data for s in ("train", "test"))
    facts: dict[str, Any] = {
        "train_images": sum(map(len, train)),
        "test_images": sum(map(len, test)),
    }
    if benchmark.transforms:
        facts["transforms"] = benchmark.transforms
    packs = dict.fromkeys(pack for part in train for pack in _packs(part))
    return facts | ({"packed": "; ".join(packs)} if packs else {})


def _packs(data: Any) -> Iterator[str]:
    """How the images were packed that a data set reads from packed files.

    Not asked of test images: those that ``cache_eval`` keeps are packed too, which changes nothing.
    """
    if isinstance(data, PackedImages):
        settings = data.settings
        crop = f", crop {settings.crop}" if settings.crop else ""
        yield f"size {settings.size}{crop}" if settings.size else "full size"
        return
    inner = [getattr(data, name, None) for name in ("_flat_data", "_dataset", "dataset")]
    for name in ("_datasets", "datasets"):
        inner += list(getattr(data, name, ()))
    for part in inner:
        if part is not None:
            yield from _packs(part)
