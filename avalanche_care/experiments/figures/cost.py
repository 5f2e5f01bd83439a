"""Accuracy against what it costs: parameters and seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

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
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter("{x:,g}" if high < 1e5 else "{x:,.0f}")
