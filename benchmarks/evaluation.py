"""What evaluating all classes seen costs, and whether an experience costs more the later it comes.

    python benchmarks/evaluation.py --csv benchmarks/results/evaluation.csv \\
        --figure benchmarks/results/evaluation.png

After task t all classes seen so far are evaluated, here in two ways:

one pass    strategy.eval(benchmark.seen_stream[t]): one data loader, full batches
per task    strategy.eval(benchmark.test_stream[:t + 1]), as scripts with Avalanche usually do: a
            loader and a last, smaller batch per task. The released code starts as many loaders.

Both read every image once and must count the same right answers. With worker processes each loader
starts its own. Then each method trains on a long sequence, one batch per experience; `calls` counts
the calls of functions in an experience, C functions included. CaRE runs without alignment, which by
its definition takes a step per class seen. The ViT is so small that what remains is the framework.
Needs Avalanche, unlike the other scripts here.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.utils.data import DataLoader, TensorDataset

from avalanche_care import CaREConfig
from avalanche_care.benchmarks import CILBenchmark, Protocol, class_incremental
from avalanche_care.nn import BRMoEConfig, FrozenViT
from avalanche_care.plugins import ClassCounts, silent_evaluator
from avalanche_care.strategies import get_method

PIXELS, WIDTH = 16, 16
CONFIGS = {
    "care": CaREConfig(
        brmoe=BRMoEConfig(bottleneck=2, shared_bottleneck=2),
        two_phases=False,
        alignment_epochs=0,
        iterative_prediction=False,
    )
}
METHODS = ("care", "simplecil", "finetune")  # several phases, none that trains, one that does
WINDOW = 8  # experiences whose median is an experience's time
RELEASED = 301  # tasks of the paper's longest sequence
COLUMNS = (
    *("implementation", "mode", "tasks", "workers", "batch"),
    *("images", "loaders", "calls", "seconds", "ratio"),
)
Row = dict[str, Any]


def images(classes: int, per_class: int) -> TensorDataset:
    """Return random images of one class after another."""
    labels = torch.arange(classes).repeat_interleave(per_class)
    return TensorDataset(torch.randn(len(labels), 3, PIXELS, PIXELS), labels)


def make_benchmark(tasks: int, train: int, test: int) -> CILBenchmark:
    """Return a benchmark with a class per task and so many images per class."""
    return class_incremental(
        images(tasks, train), images(tasks, test), Protocol(0, 1, tasks), name="random"
    )


def make_strategy(method: str, options: argparse.Namespace, counts: ClassCounts) -> Any:
    """Return a method on a ViT of two narrow blocks."""
    vit = VisionTransformer(
        img_size=PIXELS, patch_size=8, embed_dim=WIDTH, depth=2, num_heads=2, num_classes=0
    )
    chosen = get_method(method)
    return chosen.strategy(
        model=FrozenViT(vit),
        config=CONFIGS.get(method, chosen.config()),
        train_epochs=1,
        eval_mb_size=options.batch,
        device=options.device,
        evaluator=silent_evaluator(counts),
    )


@contextmanager
def started_loaders() -> Iterator[list[Any]]:
    """Collect the data loaders that are started."""
    started: list[Any] = []
    iterate = DataLoader.__iter__

    def noting(self: DataLoader[Any]) -> Any:
        started.append(self)
        return iterate(self)

    DataLoader.__iter__ = noting  # type: ignore[method-assign]
    try:
        yield started
    finally:
        DataLoader.__iter__ = iterate  # type: ignore[method-assign]


def count_calls(call: Callable[[], Any]) -> int:
    """Return how many functions are called in a call."""
    calls = 0

    def note(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return calls


def measure_evaluation(
    tasks: int, workers: int, options: argparse.Namespace
) -> list[tuple[Any, ...]]:
    """Return the values of a row for each of the two ways, after the last of so many tasks."""
    benchmark = make_benchmark(tasks, 1, options.images)
    counts = ClassCounts()
    strategy = make_strategy("simplecil", options, counts)
    for task in range(tasks):
        strategy.model.expand(task, [task])
    strategy.model.to(options.device)
    ways = {
        "one pass": lambda: benchmark.seen_stream[tasks - 1],
        "per task": lambda: benchmark.test_stream[:tasks],
    }
    found: dict[str, tuple[Any, int]] = {}

    def evaluate(name: str) -> None:
        with started_loaders() as started:
            strategy.eval(ways[name](), num_workers=workers)
        found[name] = np.stack([counts.correct, counts.total]), len(started)

    seconds = measuring.side_by_side(
        {name: lambda name=name: evaluate(name) for name in ways},
        repeats=options.repeats,
        device=options.device,
    )
    if not np.array_equal(found["one pass"][0], found["per task"][0]):
        raise RuntimeError("the two ways of evaluating disagree")
    rows = []
    for name, (right, loaders) in found.items():
        ratio = seconds[name] / seconds["one pass"]
        done = (options.batch, int(right[1].sum()), loaders, "")
        rows.append((name, "eval", tasks, workers, *done, seconds[name], ratio))
    return rows


def measure_training(
    method: str, tasks: Sequence[int], options: argparse.Namespace
) -> list[tuple[Any, ...]]:
    """Return the values of a row per experience asked for; each ratio is to the first of them."""
    benchmark = make_benchmark(max(tasks), 2, 1)
    strategy = make_strategy(method, options, ClassCounts())
    taken, rows = [], []

    def learn(number: int) -> None:
        strategy.train(benchmark.train_stream[number - 1])

    for number in range(1, max(tasks) + 1):
        start = time.perf_counter()
        if number not in tasks:
            learn(number)
            measuring.synchronize(options.device)
            taken.append(time.perf_counter() - start)
            continue
        with started_loaders() as started:
            calls = count_calls(lambda number=number: learn(number))
        seconds = statistics.median(taken[-WINDOW:])
        ratio = seconds / rows[0][-2] if rows else 1.0
        rows.append((method, "train", number, 0, 2, 2, len(started), calls, seconds, ratio))
    return rows


def print_whole_run(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Print what all evaluations of the longest sequence take together."""
    every = range(1, RELEASED + 1)
    print(f"\nevaluating after each of {RELEASED} tasks:")
    print(f"  data loaders: per task {sum(every):,}, one pass {RELEASED}")
    for workers in options.workers:
        total = {}
        for name in ("per task", "one pass"):
            chosen = [r for r in rows if (r["implementation"], r["workers"]) == (name, workers)]
            points = [
                (0, 0.0),
                *((r["tasks"], r["seconds"]) for r in chosen if r["mode"] == "eval"),
            ]
            if points[-1][0] < RELEASED:
                return  # beyond what was measured
            total[name] = np.interp(every, *zip(*points, strict=True)).sum()
        ratio = total["per task"] / total["one pass"]
        print(
            f"  seconds with {workers} workers, interpolated: per task {total['per task']:.0f}, "
            f"one pass {total['one pass']:.0f}, ratio {ratio:.1f}"
        )


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the seconds of an evaluation and of an experience against the number of tasks."""
    figure, panels = measuring.new_figure(1, 2)
    titles = {"eval": "evaluating all classes seen", "train": "training on experience t, one batch"}
    for panel, (mode, title) in zip(panels, titles.items(), strict=True):
        shown = [r for r in rows if r["mode"] == mode]
        lines: dict[str, list[Row]] = {}
        for row in shown:
            workers = f", {row['workers']} workers" if mode == "eval" else ""
            lines.setdefault(row["implementation"] + workers, []).append(row)
        for index, (label, line) in enumerate(lines.items()):
            style = {"color": measuring.COLOURS[index], "marker": measuring.MARKERS[index]}
            panel.plot(
                [r["tasks"] for r in line], [r["seconds"] for r in line], label=label, **style
            )
        panel.set(xscale="log", yscale="log" if mode == "eval" else "linear")
        if mode == "train":
            panel.set_ylim(bottom=0)
        ticks = sorted({r["tasks"] for r in shown})
        measuring.finish_panel(panel, title=title, x="tasks", y="seconds", ticks=ticks)
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=2, frameon=False)
    measuring.save_figure(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = measuring.parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--tasks", type=measuring.numbers, default=[10, 50, 100, 301], help="comma-separated"
    )
    parser.add_argument("--workers", type=measuring.numbers, default=[0, 2], help="per loader")
    parser.add_argument("--images", type=int, default=66, help="test images per task")
    parser.add_argument("--batch", type=int, default=128, help="images per evaluation step")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of which the median counts")
    options = parser.parse_args(argv)
    if options.quick:
        options.tasks, options.images, options.repeats = [10, 30], min(options.images, 8), 1
    if options.tasks[0] <= WINDOW:
        parser.error(f"--tasks must be more than {WINDOW}, over which a time is the median")
    measuring.prepare(options)
    values: list[tuple[Any, ...]] = []
    for workers, tasks in product(options.workers, options.tasks):
        values += measure_evaluation(tasks, workers, options)
    for method in METHODS:
        values += measure_training(method, options.tasks, options)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in values]
    measuring.print_table(rows)
    print_whole_run(rows, options)
    measuring.keep(rows, options, draw)


if __name__ == "__main__":
    main()
