"""Made-up runs on disk: result files from random counts, and directories of runs in any state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avalanche_care.benchmarks import Protocol
from avalanche_care.experiments.directory import FORMAT, identity_hash
from avalanche_care.experiments.results import RunResult

IN21K = "vit_base_patch16_224.augreg_in21k"
SMALL = Protocol(0, 2, 10)
IMAGES = 20  # test images per class
FACTS = ("train_images", "test_images", "eval_every")


def counts(
    protocol: Protocol, *, last: float, forgetting: float, seed: int, every: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts, shape (T, C), of a method that ends near an accuracy and forgets about so much."""
    random = np.random.RandomState(seed)
    tasks, task_of = protocol.tasks, np.repeat(np.arange(protocol.tasks), protocol.sizes)
    steps = np.arange(tasks)[:, None]  # (T, 1)
    lost = forgetting * (steps - task_of) / max(tasks - 1, 1)  # (T, C)
    seen = (task_of <= steps) & (((steps + 1) % every == 0) | (steps == tasks - 1))
    level = np.clip(last + forgetting / 2 - lost + 0.02 * random.randn(), 0.01, 0.99)
    correct = random.binomial(IMAGES, level) * seen
    return correct, IMAGES * seen


def made_up(
    method: str = "care",
    seed: int = 1,
    *,
    last: float = 0.7,
    forgetting: float = 0.1,
    protocol: Protocol = SMALL,
    every: int = 1,
    **changes: Any,
) -> RunResult:
    """A result; seeds and methods differ a little."""
    correct, total = counts(
        protocol,
        last=last,
        forgetting=forgetting,
        seed=1000 * seed + sum(map(ord, method)),
        every=every,
    )
    values: dict[str, Any] = {
        "method": method,
        "benchmark": "glyphs",
        "protocol": protocol,
        "seed": seed,
        "seconds": {"train": 100.0 + seed, "eval": 20.0, "total": 120.0 + seed},
        "parameters": {"trainable": 12_000 if method == "care" else 0, "total": 1_680_000},
        "config": {"epochs": 4, "lr": 0.01, "brmoe": {"top_k": 3}},
        "backbone": {"name": "glyph_vit_micro", "sha256": "2f3aa09f" + 56 * "0"},
        "hardware": {"device": "cpu", "cpu": "Processor", "cores": 2, "threads": 1},
        "versions": {"python": "3.11.7", "avalanche_care": "0.1.0"},
        "created": f"2026-11-22T20:51:{seed % 60:02}+00:00",
    }
    data = {"train_images": 30 * protocol.n_classes, "test_images": IMAGES * protocol.n_classes}
    extra = {**data, "eval_every": every, **changes.pop("extra", {})}
    return RunResult.from_counts(correct, total, **(values | changes), extra=extra)


def save(root: Path, result: RunResult, *, status: str = "complete", error: str = "") -> Path:
    """Write the directory of a run as if it had ended in some way."""
    name = f"{result.method}-{result.benchmark}-{result.protocol}-seed{result.seed}"
    identity = {
        field: getattr(result, field)
        for field in (
            "method",
            "config",
            "benchmark",
            "protocol",
            "class_order",
            "seed",
            "backbone",
        )
    } | {name: result.extra[name] for name in FACTS}
    digest = identity_hash(identity)
    folder = root / f"{name}-{digest[:8]}"
    folder.mkdir(parents=True)
    config = {"format": FORMAT, "hash": digest, "version": "0.1.0", "identity": identity}
    (folder / "config.json").write_text(json.dumps({**config, "details": {}}))
    done = len(result.task_sizes) if status == "complete" else 3
    lines = (json.dumps({"task": task}) + "\n" for task in range(done))
    (folder / "events.jsonl").write_text("".join(lines) + '{"task": ')  # killed while writing
    if status == "complete":
        result.save(folder / "result.json")
    if status == "failed":
        failure = {"error": error, "traceback": "...", "time": "2026-11-22T20:51:41+00:00"}
        (folder / "failed.json").write_text(json.dumps(failure))
    return folder
