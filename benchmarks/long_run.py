"""An estimate of a whole run of 301 tasks on OmniBenchmark-1K, from measured parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import measuring
import torch

from avalanche_care.alignment import align_head
from avalanche_care.nn import CosineHead
from avalanche_care.statistics import ClassGaussians
from avalanche_care.strategies.care_presets import PRESETS

PRESET = PRESETS["omnibenchmark1k/B100-Inc3"]
TASKS = 301
TRAIN_IMAGES, TEST_IMAGES, CLASSES = 168_718, 19_849, 1000
EXPLANATION = """
Estimate of one run of OmniBenchmark-1K, B100-Inc3, on this machine: {tasks} tasks, {classes}
classes, {train} training and {test} test images, E = {epochs} epochs, E_ca = {alignment_epochs}
alignment epochs, batch size B = {batch_size}. Seconds per image s(T) lie on lines between the T
measured. Sums are over tasks t: n_t images in c_t classes, C_t classes seen by then, T = t + 1.

training     sum of E n_t s_train(T)
statistics   sum of k_t n_t s_infer(T), with k_0 = 1 and k_t = 2: after either phase
evaluation   sum of {test} / {classes} C_t s_infer(T): all seen classes after every task
alignment    sum over t > 0 of 2 E_ca C_t s_align(C_t): C_t steps of 5 B drawn features each
"""
NOT_COUNTED = "Not counted: decoding of images, growth of the model, checkpoints."


def seen(task: int) -> int:
    """Return C_t, the number of classes seen after a task: 100 first, then 3 each."""
    return 100 + 3 * task


def estimate(
    train: Callable[[int], float], infer: Callable[[int], float], step: Callable[[int], float]
) -> dict[str, float]:
    """Return the seconds of every part of the run.

    Args:
        train: seconds per image of a training step at a number of tasks.
        infer: seconds per image of inference at a number of tasks.
        step: seconds of one step of alignment, drawing included, at a number of classes.
    """
    parts = dict.fromkeys(("training", "statistics", "evaluation", "alignment"), 0.0)
    for task in range(TASKS):
        classes = seen(task) - (seen(task - 1) if task else 0)
        images = classes * TRAIN_IMAGES / CLASSES
        passes = 2 if task else 1
        parts["training"] += PRESET["epochs"] * images * train(task + 1)
        parts["statistics"] += passes * images * infer(task + 1)
        parts["evaluation"] += TEST_IMAGES / CLASSES * seen(task) * infer(task + 1)
        if task:
            steps = 2 * PRESET["alignment_epochs"] * seen(task)
            parts["alignment"] += steps * step(seen(task))
    return parts


def on_lines(points: Sequence[tuple[int, float]]) -> Callable[[int], float]:
    """Return the function through sorted points, and along the last two beyond them."""

    def value(x: int) -> float:
        if len(points) == 1:
            return points[0][1]
        right = next((i for i, (at, _) in enumerate(points) if at >= x), len(points) - 1)
        (x0, y0), (x1, y1) = points[max(right, 1) - 1], points[max(right, 1)]
        return y0 + (y1 - y0) * (x - x0) / (x1 - x0)

    return value


def alignment_step(dim: int, device: str) -> Callable[[int], float]:
    """Measure an epoch of alignment with few and with all classes, and return seconds per step.

    A step's time is a constant and a part for every class of the head, so the rest is on a line.
    """
    rows = 5 * PRESET["batch_size"]
    one = ClassGaussians()
    one.fit(0, torch.randn(TRAIN_IMAGES // CLASSES, dim, device=device))
    points = []
    for classes in (seen(0), CLASSES):
        state = one.state_dict()
        for part in ("means", "factors"):
            state[part] = dict.fromkeys(range(classes), state[part][0])
        gaussians = ClassGaussians()
        gaussians.load_state_dict(state)
        head = CosineHead(dim).to(device)
        head.expand(range(classes))
        epoch = partial(align_head, head, gaussians, rates=[1e-9], rows=rows)
        points.append((classes, measuring.seconds_of(epoch, device) / classes))
    return on_lines(points)


def print_estimate(rows: Sequence[dict[str, Any]], *, dim: int, device: str) -> None:
    """Print the hours of every part, for each implementation that was measured.

    Args:
        rows: of brmoe_scaling.py.
        dim: width D of the features.
        device: where alignment is measured.
    """
    step = alignment_step(dim, device)
    sizes = {"tasks": TASKS, "classes": CLASSES, "train": TRAIN_IMAGES, "test": TEST_IMAGES}
    print(EXPLANATION.format(**sizes, **PRESET))
    table = []
    for name in dict.fromkeys(row["implementation"] for row in rows):
        measured = [r for r in rows if r["implementation"] == name and r["seconds"] != ""]
        per_image = {
            mode: [(r["tasks"], r["seconds"] / r["batch"]) for r in measured if r["mode"] == mode]
            for mode in ("train", "infer")
        }
        if all(per_image.values()):
            parts = estimate(on_lines(per_image["train"]), on_lines(per_image["infer"]), step)
            hours = {part: seconds / 3600 for part, seconds in parts.items()}
            largest = min(points[-1][0] for points in per_image.values())
            note = f"extrapolated from T={largest}" if largest < TASKS else ""
            total = sum(hours.values())
            table.append({"hours": name, **hours, "all": total, "note": note})
    measuring.print_table(table)
    first = rows[0]
    print(f"{NOT_COUNTED} Measured: {first['arch']}, batches of {first['batch']}, autocast "
          f"{first['amp']}.")  # fmt: skip
    if first["blocks"] != "all":
        print(f"These are the hours of a network cut to {first['blocks']} blocks.")
