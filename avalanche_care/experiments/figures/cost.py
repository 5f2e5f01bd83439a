"""Accuracy against what it costs: parameters and seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from avalanche_care.experiments.figures.data import Floats, Panel
from avalanche_care.experiments.figures.point_labels import POINT, label_points
from avalanche_care.experiments.figures.style import (
    FAINT,
    WIDTH,
    Look,
    looks_of,
    new_figure,
    style,
)
from avalanche_care.experiments.results import RunResult

TICK_GAP = 0.6  # between labels of an axis, in heights of a line
WIDE_RANGE = 5.0  # largest over smallest value from which an axis is logarithmic


def draw_costs(panel: Panel, looks: Mapping[str, Look] | None = None) -> Figure:
    """Draw A_last over all numbers that a model stores, and over seconds; a point per method."""
    looks = looks or looks_of(panel.runs)
    figure = new_figure(WIDTH, 3.6)
    FigureCanvasAgg(figure)  # tells how large labels are
    left, right = figure.subplots(1, 2, sharey=True)
    _scatter(left, panel, looks, "parameters", 1e6, "parameters stored (millions)")
    _scatter(right, panel, looks, "seconds", 1.0, "seconds of training and evaluation")
    left.set_ylabel("A_last (%)")
    right.tick_params(labelleft=False)
    figure.draw_without_rendering()  # places the axes, and with them the points
    for axes in (left, right):
        _thin_ticks(axes)
        label_points(axes, looks)
    return figure


def _scatter(
    axes: Axes, panel: Panel, looks: Mapping[str, Look], entry: str, unit: float, name: str
) -> None:
    everything: list[float] = []
    for label, runs in panel.runs.items():
        cost = np.array([getattr(r, entry)["total"] / unit for r in runs])  # (runs,)
        accuracy = np.array([100 * r.A_last for r in runs])
        x, y = cost.mean(), accuracy.mean()
        look = looks[label]
        axes.errorbar(
            x,
            y,
            xerr=_extent(cost),
            yerr=_extent(accuracy),
            color=look.colour,
            marker=look.marker,
            markersize=POINT,
            elinewidth=1,
            linestyle="none",
            label=label,
            zorder=3 - 0.01 * look.rank,
        )
        everything += cost.tolist()
    _range(axes, everything)
    axes.set_ylim(*_limits(panel.runs))
    axes.grid(color=FAINT, lw=0.6)
    style(axes, title="", x=name, y="", size=8)


def _extent(values: Floats) -> Floats:
    """How far the lowest and the highest are from the mean, (2, 1); never less than 0."""
    return np.abs([[values.mean() - values.min()], [values.max() - values.mean()]])


def _limits(runs: Mapping[str, Sequence[RunResult]]) -> tuple[float, float]:
    shown = [100 * r.A_last for group in runs.values() for r in group]
    margin = max(0.12 * (max(shown) - min(shown)), 2.0)
    return max(min(shown) - margin, 0.0), min(max(shown) + margin, 102.0)


def _range(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if low <= 0 or high < WIDE_RANGE * low:
        margin = 0.15 * (high - low) or 0.2 * high or 1.0
        axes.set_xlim(max(low - margin, 0), high + margin)
    else:
        axes.set_xscale("log")
        margin = (high / low) ** 0.12
        axes.set_xlim(low / margin, high * margin)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter("{x:,g}" if high < 1e5 else "{x:,.0f}")


def _thin_ticks(axes: Axes) -> None:
    """Leave out ticks of the x axis until their labels stand apart.

    Args:
        axes: the panel, already laid out.
    """
    fewer: list[Locator]
    if axes.get_xscale() == "log":
        subs: list[tuple[float, ...]] = [(1, 2, 5), (1, 3), (1,)]
        fewer = [LogLocator(subs=sub, numticks=99) for sub in subs]
        fewer += [LogLocator(numticks=n) for n in (4, 3, 2)]
    else:
        fewer = [MaxNLocator(n, steps=[1, 2, 2.5, 5, 10]) for n in range(8, 0, -1)]
    for locator in fewer:
        axes.xaxis.set_major_locator(locator)
        boxes = _tick_boxes(axes)
        if all(left.x1 + TICK_GAP * left.height < right.x0 for left, right in pairwise(boxes)):
            return


def _tick_boxes(axes: Axes) -> list[Bbox]:
    """Where the labels of the x axis that are shown stand, in pixels, from left to right."""
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    axes.xaxis.get_tightbbox()  # brings the labels up to date
    boxes = [tick.label1.get_window_extent() for tick in ticks if tick.label1.get_text()]
    return sorted(boxes, key=lambda box: box.x0)
