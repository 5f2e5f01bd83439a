"""Tables and figures from result files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from avalanche_care.experiments.results import RunResult

__all__ = ["accuracy_figure", "results_table"]

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart; the pale
# yellow is left out, since it cannot be read on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("solid", "dashed", "dotted")  # for more than seven methods
INK, FAINT = "#333333", "#DDDDDD"
MANY_TASKS = 30  # beyond this, a marker at each task would hide the line
LABEL_GAP = 4.5  # least distance of two labels, in points of accuracy


def results_table(results: Sequence[RunResult]) -> str:
    """The results as an aligned table, which is also a reStructuredText simple table.

    Accuracies and forgetting are in per cent: A_last and A_avg weigh each test image alike within a
    step, forgetting is max minus last. Benchmark, protocol and seed get a column where the results
    differ in them. Where steps were left out, a column says how many tasks were followed by an
    evaluation: A_avg and forgetting are over those only.

    Args:
        results: One row each, in this order.

    Returns:
        The table, without a newline at the end.

    Raises:
        ValueError: If there is no result.
    """
    _check_not_empty(results)
    columns: list[tuple[str, Callable[[RunResult], str], bool]] = [
        ("method", lambda r: r.method, False)
    ]
    for name in ("benchmark", "protocol", "seed"):
        if len({getattr(r, name) for r in results}) > 1:
            columns.append((name, lambda r, name=name: str(getattr(r, name)), False))  # type: ignore[misc]
    if any(len(r.evaluated) < len(r.accuracy) for r in results):
        columns.append(("evaluated", lambda r: f"{len(r.evaluated)} of {len(r.accuracy)}", True))
    columns += [
        ("A_last (%)", lambda r: _per_cent(r.A_last), True),
        ("A_avg (%)", lambda r: _per_cent(r.A_avg), True),
        ("forgetting (%)", lambda r: _per_cent(r.forgetting), True),
        ("seconds", lambda r: f"{r.seconds['total']:.1f}", True),
        ("trainable", lambda r: f"{r.parameters['trainable']:,}", True),
        ("total", lambda r: f"{r.parameters['total']:,}", True),
    ]
    header = [name for name, _, _ in columns]
    rows = [[cell(result) for _, cell, _ in columns] for result in results]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, (_, _, right) in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in (header, *rows)
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def _per_cent(fraction: float | None) -> str:
    return "unknown" if fraction is None else f"{100 * fraction:.2f}"


def accuracy_figure(results: Sequence[RunResult], path: str | Path) -> Path:
    """Draw the accuracy on all classes seen so far over the number of these classes.

    One line per method, in the order and with the colour of its first appearance. Several results
    of a method (seeds) become their mean, with a band from the lowest to the highest. A line joins
    the steps that all results of the method have evaluated.

    Args:
        results: Results of one benchmark and protocol.
        path: Where to write; the ending (.png, .svg, .pdf) decides the format.

    Returns:
        The path.

    Raises:
        ValueError: If there is no result, or the results are of different task sequences.
    """
    _check_not_empty(results)
    splits = {(r.benchmark, r.protocol, tuple(r.task_sizes)) for r in results}
    if len(splits) > 1:
        named = sorted({f"{benchmark} {protocol}" for benchmark, protocol, _ in splits})
        raise ValueError(f"one figure shows one sequence of tasks, got {', '.join(named)}")

    # Figure by itself, and not pyplot: no global state, no display needed.
    figure = Figure(figsize=(7.0, 4.2), dpi=160, layout="constrained", facecolor="white")
    axes = figure.subplots()
    seen = list(accumulate(results[0].task_sizes))
    curves: dict[str, list[NDArray[np.float64]]] = {}
    for result in results:
        curves.setdefault(result.method, []).append(result.curve)
    ends = []
    for index, (method, runs) in enumerate(curves.items()):
        percent = 100 * np.array(runs)  # (seeds, T)
        steps = ~np.isnan(percent).any(axis=0)  # (T,)
        percent, x = percent[:, steps], np.array(seen)[steps]
        colour = COLOURS[index % len(COLOURS)]
        dash = DASHES[index // len(COLOURS) % len(DASHES)]
        marker = "o" if len(x) <= MANY_TASKS else ""
        mean = percent.mean(axis=0)
        axes.plot(
            x,
            mean,
            color=colour,
            linestyle=dash,
            linewidth=2,
            marker=marker,
            markersize=4.5,
            clip_on=False,  # the last marker sits on the edge
            zorder=3 - index / len(curves),  # the first method on top
        )
        if len(runs) > 1:
            axes.fill_between(x, percent.min(0), percent.max(0), color=colour, alpha=0.15, lw=0)
        label = f"{method}  {mean[-1]:.1f}" + (f" ({len(runs)} runs)" if len(runs) > 1 else "")
        ends.append((float(mean[-1]), label, colour))
    _label_lines(axes, seen[-1], ends)
    _style(axes, seen, f"{results[0].benchmark}, {results[0].protocol}: {len(seen)} tasks")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _label_lines(axes: Axes, x: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """Label the ends of the lines, (accuracy, label, colour); labels that collide move apart."""
    heights = _spread([end for end, _, _ in ends], LABEL_GAP)
    for height, (_, label, colour) in zip(heights, ends, strict=True):
        axes.annotate(
            label,
            xy=(x, height),
            xytext=(9, 0),
            textcoords="offset points",
            color=colour,
            fontsize=9,
            fontweight="bold",
            va="center",
            annotation_clip=False,
        )


def _spread(values: Sequence[float], gap: float) -> list[float]:
    """The values, moved as little as needed to lie ``gap`` apart, in the same order."""
    # Sorted and each less its own share of the gaps, the wanted positions must only not decrease;
    # the nearest such sequence is found by averaging neighbours that are out of order.
    order = sorted(range(len(values)), key=lambda i: values[i])
    groups: list[list[float]] = []
    for rank, i in enumerate(order):
        groups.append([values[i] - rank * gap])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    flat = [float(np.mean(group)) for group in groups for _ in group]
    spread = [0.0] * len(values)
    for rank, i in enumerate(order):
        spread[i] = flat[rank] + rank * gap
    return spread


def _style(axes: Axes, seen: Sequence[int], title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK, pad=10)
    axes.set_xlabel("classes seen", color=INK)
    axes.set_ylabel("accuracy on all classes seen (%)", color=INK)
    axes.set_ylim(0, 100)
    axes.set_xlim(0, seen[-1])
    axes.grid(axis="y", color=FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK)


def _check_not_empty(results: Sequence[RunResult]) -> None:
    if not results:
        raise ValueError("no results to show; expected at least one RunResult")
