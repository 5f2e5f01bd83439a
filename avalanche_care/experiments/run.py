"""One run: a method learns a benchmark task by task and is evaluated on the way."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from avalanche.training.determinism.rng_manager import RNGManager
from torch import nn
from tqdm.auto import tqdm

from avalanche_care import metrics
from avalanche_care.benchmarks.scenario import CILBenchmark
from avalanche_care.experiments.environment import hardware
from avalanche_care.experiments.results import RunResult
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.class_counts import ClassCounts
from avalanche_care.plugins.progress import ProgressPlugin
from avalanche_care.plugins.silent import silent_evaluator
from avalanche_care.strategies.registry import get_method


def run_method(
    method: str,
    benchmark: CILBenchmark,
    backbone: FrozenViT,
    *,
    config: Any = None,
    seed: int = 1,
    device: str = "cpu",
    eval_every: int = 1,
    eval_mb_size: int = 128,
    num_workers: int = 0,
    progress: bool = True,
    notes: dict[str, Any] | None = None,
) -> RunResult:
    """Train a method on every experience, evaluate all classes seen, collect the result.

    Args:
        method: a registered name, see :func:`avalanche_care.strategies.available_methods`.
        benchmark: what to learn.
        backbone: the frozen ViT; it is left as it is.
        config: the method's configuration; None: its defaults.
        seed: of Python's, NumPy's and PyTorch's random numbers. The class order has a seed of its
            own in the benchmark's protocol.
        device: where to run.
        eval_every: evaluate after every k-th task, and always after the last. More than 1 saves
            time in a long sequence, but A_avg and forgetting are then over fewer steps, and not
            comparable with those over all; the result and its table say so.
        eval_mb_size: images per evaluation step; no accuracy depends on it.
        num_workers: data loading processes.
        progress: show progress bars.
        notes: facts about the data that the result should carry, such as the image size.

    Returns:
        The result, with all settings in force.

    Raises:
        ValueError: if there is no such method, the data does not fit, or ``eval_every`` is not a
            positive integer.
    """
    if not isinstance(eval_every, int) or eval_every < 1:
        raise ValueError(f"eval_every must be an integer of at least 1, got {eval_every!r}")
    check_device(device)
    RNGManager.set_random_seeds(seed)
    chosen = get_method(method)
    config = chosen.config() if config is None else config
    counts = ClassCounts()
    tasks = len(benchmark.train_stream)
    strategy = chosen.strategy(
        model=backbone,
        config=config,
        eval_mb_size=eval_mb_size,
        device=device,
        plugins=[ProgressPlugin(tasks)] if progress else [],
        evaluator=silent_evaluator(counts),
    )
    steps = [t for t in range(tasks) if (t + 1) % eval_every == 0 or t == tasks - 1]
    correct, total, seconds = _learn(strategy, benchmark, steps, counts, num_workers, progress)
    n_classes = benchmark.protocol.n_classes
    return RunResult.from_counts(
        metrics.stack_counts(correct, n_classes),
        metrics.stack_counts(total, n_classes),
        method=method,
        benchmark=benchmark.name,
        protocol=benchmark.protocol,
        seed=seed,
        seconds={**seconds, "total": sum(seconds.values())},
        parameters=count_parameters(strategy.model),
        config=dataclasses.asdict(config),
        backbone=dataclasses.asdict(backbone.info),
        hardware=hardware(device),
        extra={
            "train_images": int(sum(len(e.dataset) for e in benchmark.train_stream)),
            "test_images": int(np.asarray(total[-1]).sum()),
            "eval_every": eval_every,
            "eval_mb_size": eval_mb_size,
            **(notes or {}),
        },
    )


def _learn(
    strategy: Any,
    benchmark: CILBenchmark,
    steps: Sequence[int],
    counts: ClassCounts,
    num_workers: int,
    progress: bool,
) -> tuple[list[Any], list[Any], dict[str, float]]:
    """Train on every task, evaluate at some steps; return the counts after each, and seconds."""
    seconds = {"train": 0.0, "eval": 0.0}
    correct: list[Any] = [None] * len(benchmark.train_stream)
    total = correct.copy()
    name = strategy.__class__.__name__
    bar = tqdm(benchmark.train_stream, desc=name, unit="task", disable=not progress)
    for step, experience in enumerate(bar):
        start = time.perf_counter()
        strategy.train(experience, num_workers=num_workers)
        trained = time.perf_counter()
        seconds["train"] += trained - start
        if step not in steps:
            continue
        strategy.eval(benchmark.seen_stream[step], num_workers=num_workers)
        seconds["eval"] += time.perf_counter() - trained
        if counts.correct is None or counts.total is None:
            raise RuntimeError("the evaluation counted no image")
        correct[step], total[step] = counts.correct, counts.total
        bar.set_postfix_str(f"accuracy {100 * counts.correct.sum() / counts.total.sum():.1f} %")
    return correct, total, seconds


def check_device(name: str) -> None:
    """Find out now, and not after the data is loaded, whether PyTorch can use a device.

    Raises:
        ValueError: if it cannot, with PyTorch's reason.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used: {reason}. Try 'cpu'.") from error


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Return how many numbers a model trains now and how many it holds.

    ``trainable`` counts parameters that require gradients. ``total`` counts all parameters and all
    floating-point buffers: everything that has to be stored, the frozen backbone and what a method
    keeps twice included (CaRE's newest experts stand in the bank as well, beside a running sum).
    """
    parameters = list(model.parameters())
    buffers = [b for b in model.buffers() if torch.is_floating_point(b)]
    return {
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "total": sum(t.numel() for t in [*parameters, *buffers]),
    }
