"""What a run would do and cost, without running it."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import torch

from avalanche_care.benchmarks.loading import load_benchmark
from avalanche_care.benchmarks.scenario import CILBenchmark
from avalanche_care.experiments.config import RunConfig
from avalanche_care.experiments.directory import RESULT
from avalanche_care.experiments.launch import build_backbone
from avalanche_care.experiments.run import check_device, count_parameters
from avalanche_care.nn.vit import FrozenViT

__all__ = ["Cost", "describe_run", "estimate_cost"]

PROBE = 16  # images of the forward pass that is timed


@dataclasses.dataclass(frozen=True)
class Cost:
    """How much work a run is.

    Attributes:
        train_images: images that training steps see: epochs times training images.
        eval_images: images that evaluations see.
        backbone_parameters: numbers in the frozen backbone.
        seconds_per_image: of a forward pass of the backbone alone, measured here and now.
    """

    train_images: int
    eval_images: int
    backbone_parameters: int
    seconds_per_image: float

    @property
    def least_seconds(self) -> float:
        """A lower bound: a pass of the bare backbone per image, no backward pass, no reading."""
        return (self.train_images + self.eval_images) * self.seconds_per_image


def estimate_cost(config: RunConfig, benchmark: CILBenchmark, backbone: FrozenViT) -> Cost:
    """Count the images of a run, and time a forward pass of its backbone.

    Args:
        config: the run.
        benchmark: its benchmark.
        backbone: its backbone; it is moved to ``config.device``.

    Returns:
        The cost. Methods differ in what they add to the backbone; that is not part of it.
    """
    train, test = (
        [len(part) for part in benchmark.stream_definitions[stream].exps_data]
        for stream in ("train", "test")
    )
    tasks = len(train)
    steps = [t for t in range(tasks) if (t + 1) % config.eval_every == 0 or t == tasks - 1]
    epochs = getattr(config.settings, "epochs", 1)
    return Cost(
        train_images=epochs * sum(train),
        eval_images=sum(sum(test[: step + 1]) for step in steps),
        backbone_parameters=count_parameters(backbone)["total"],
        seconds_per_image=_time_forward(benchmark, backbone, config.device),
    )


def _time_forward(benchmark: CILBenchmark, backbone: FrozenViT, device: str) -> float:
    check_device(device)
    dataset = benchmark.test_stream[0].dataset
    images = torch.stack([dataset[i % len(dataset)][0] for i in range(PROBE)]).to(device)
    backbone = backbone.to(device)
    best = float("inf")
    with torch.no_grad():
        for _ in range(3):  # the first one warms up
            start = time.perf_counter()
            backbone(images).sum().item()  # waits for the device
            best = min(best, time.perf_counter() - start)
    return best / PROBE


def describe_run(config: RunConfig, out: str | os.PathLike[str]) -> str:
    """Everything that a run would be, as text: its settings, data, directory and cost."""
    benchmark = load_benchmark(
        config.benchmark.name, config.benchmark.protocol, **config.benchmark.options()
    )
    cost = estimate_cost(config, benchmark, build_backbone(config.backbone))
    directory = Path(out) / config.directory_name
    if not directory.exists():
        state = "would be made"
    elif (directory / RESULT).exists():
        state = "is there, and the run is complete: its result would be shown"
    else:
        state = "is there: the run would go on"
    least = cost.least_seconds
    time_text = f"{least / 3600:.1f} hours" if least > 7200 else f"{least / 60:.1f} minutes"
    return "\n".join(
        [
            json.dumps(dataclasses.asdict(config), indent=2),
            "",
            str(benchmark),
            "",
            f"directory: {directory} {state}",
            f"backbone: {cost.backbone_parameters:,} parameters",
            f"images: {cost.train_images:,} in training (all epochs), {cost.eval_images:,} in "
            "evaluation",
            f"time: more than {time_text}, which the bare backbone takes for a forward pass of "
            f"each on {config.device} ({1000 * cost.seconds_per_image:.1f} ms an image, measured "
            "now); training takes a multiple",
        ]
    )
