"""From a run's directory to a model that can be used elsewhere."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from avalanche_care.experiments.config import BenchmarkConfig
from avalanche_care.experiments.directory import CONFIG, STATE, read_config
from avalanche_care.experiments.exported import save_exported
from avalanche_care.experiments.launch import build_backbone, read_run
from avalanche_care.experiments.state import StateStore
from avalanche_care.strategies.registry import get_method

__all__ = ["export_run"]


def export_run(
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    with_backbone: bool = False,
    weights: str | None = None,
) -> Path:
    """Write the model of a run for :func:`avalanche_care.load`.

    It is the model of the newest state, so that of an unfinished run knows the classes seen so far.

    Args:
        directory: of a run that ``avalanche-care run`` has made.
        out: where to write; it must not hold a model yet.
        with_backbone: write the backbone's weights too.
        weights: local file with the backbone's weights; None: as in the run.

    Returns:
        ``out``.

    Raises:
        ValueError: if it is no such directory, or no state was saved in it.
        FileExistsError: if ``out`` holds a model.
    """
    config = read_run(directory)
    state = StateStore(Path(directory) / STATE).load()
    if state is None:
        raise ValueError(f"{directory} has no saved state; was it run with --save-every 0?")
    method = get_method(config.method)
    backbone = build_backbone(
        dataclasses.replace(
            config.backbone, compile=False, weights=weights or config.backbone.weights
        )
    )
    strategy = method.strategy(model=backbone, config=config.settings, device="cpu", evaluator=None)
    strategy.load_run_state(state["strategy"])
    values = read_config(Path(directory) / CONFIG)
    seen = strategy.model.head.n_classes
    names = values["details"]["class_names"]
    identity = values["identity"]
    about = {name: identity[name] for name in ("method", "config", "benchmark", "protocol", "seed")}
    return save_exported(
        strategy.model,
        out,
        prediction=strategy.prediction(),
        class_names=None if names is None else names[:seen],
        transform=_transform(config.benchmark),
        about={**about, "transforms": identity.get("transforms")},
        with_backbone=with_backbone,
    )


def _transform(benchmark: BenchmarkConfig) -> dict[str, Any]:
    """How the benchmark prepares test images, for :func:`save_exported`."""
    from avalanche_care.benchmarks.catalogue import CARDS

    if benchmark.name == "glyphs":
        return {"size": 32}
    if benchmark.name == "omniglot":
        return {"size": benchmark.image_size or 224}
    return {
        "family": benchmark.transforms or "care",
        "dataset": benchmark.name if benchmark.name in CARDS else "folders",
        "image_size": benchmark.image_size or 224,
    }
