"""Accuracy and forgetting over the classes seen: a line per method, a panel per task sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avalanche_care.experiments.figures.data import (
    Curve,
    Panel,
    Runs,
    count,
    curve_of,
    forgetting_curve,
)
from avalanche_care.experiments.figures.style import (
    FAINT,
    MANY_TASKS,
    WIDTH,
    Look,
    label_lines,
    looks_of,
    new_figure,
    style,
)

MARKED = 8  # markers on a line of many tasks
OVERHEAD = 0.85  # inches of a panel's height that are not axes, at most


def accuracy_curves(runs: Runs) -> dict[str, Curve]:
    """Return accuracy on all classes seen, per cent, of each method."""
    return {
        label: curve_of([100 * r.curve for r in group], group[0].task_sizes)
        for label, group in runs.items()
    }


def forgetting_curves(runs: Runs) -> dict[str, Curve]:
    """Return forgetting (max minus last so far), per cent, of each method that knows of any."""
    curves = {
        label: curve_of([100 * forgetting_curve(r.matrix) for r in group], group[0].task_sizes)
        for label, group in runs.items()
    }
    return {label: curve for label, curve in curves.items() if len(curve.x)}


def draw_accuracy(panels: Sequence[Panel], looks: Mapping[str, Look] | None = None) -> Figure:
    """Draw the accuracy of all methods, 0 to 100 %, one panel for each sequence of tasks."""
    curves = [accuracy_curves(panel.runs) for panel in panels]
    return _draw(panels, curves, looks, "accuracy on all classes seen (%)", whole=True)


def draw_forgetting(
    panels: Sequence[Panel], looks: Mapping[str, Look] | None = None
) -> Figure | None:
    """Draw the forgetting of all methods so far; None if there is nothing to draw."""
    curves = [forgetting_curves(panel.runs) for panel in panels]
    shown = [i for i, found in enumerate(curves) if found]
    if not shown:
        return None
    panels, curves = [panels[i] for i in shown], [curves[i] for i in shown]
    return _draw(panels, curves, looks, "forgetting so far (points)", whole=False)


def _draw(
    panels: Sequence[Panel],
    curves: Sequence[Mapping[str, Curve]],
    looks: Mapping[str, Look] | None,
    y: str,
    *,
    whole: bool,
) -> Figure:
    looks = looks or looks_of(label for found in curves for label in found)
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    size = 9.0 if columns == 1 else 7.0
    height = 4.2 if columns == 1 else 2.9
    figure = new_figure(WIDTH, rows * height)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    top = 100.0 if whole else _top(curves)
    for axes, panel, found in zip(grid, panels, curves, strict=False):
        axes.set_xlim(0, sum(panel.task_sizes))
        axes.set_ylim(0, top)
        for label, curve in found.items():
            _line(axes, curve, looks[label], wide=columns == 1)
        ends = _ends(found, looks)
        label_lines(axes, ends, inches=height - OVERHEAD, size=size)
        axes.grid(axis="y", color=FAINT, lw=0.8)
        style(axes, title=panel.title + _seeds(found), x="classes seen", y=y, size=size)
    return figure


def _line(axes: Axes, curve: Curve, look: Look, *, wide: bool) -> None:
    n = len(curve.x)
    step = 1 if n <= MANY_TASKS else n // MARKED
    # Counted back from the end, so that the last step is marked; other methods start elsewhere.
    marked = list(range(n - 1 - (look.rank * step // 5) % step, -1, -step))
    axes.plot(
        curve.x,
        curve.mean,
        color=look.colour,
        linestyle=look.dash,
        linewidth=2 if wide else 1.3,
        marker=look.marker,
        markersize=4.5 if wide else 3.2,
        markevery=marked,
        clip_on=False,  # the last marker sits on the edge
        zorder=3 - 0.01 * look.rank,  # the first on top
    )
    if curve.runs > 1:
        axes.fill_between(curve.x, curve.low, curve.high, color=look.colour, alpha=0.15, lw=0)


def _ends(found: Mapping[str, Curve], looks: Mapping[str, Look]) -> list[tuple[float, str, Look]]:
    numbers = {curve.runs for curve in found.values()}
    ends = []
    for label, curve in found.items():
        text = f"{label}  {curve.mean[-1]:.1f}"
        if len(numbers) > 1 and curve.runs > 1:
            text += f" ({count(curve.runs, 'run')})"
        ends.append((float(curve.mean[-1]), text, looks[label]))
    return ends


def _seeds(found: Mapping[str, Curve]) -> str:
    numbers = {curve.runs for curve in found.values()}
    return f", mean of {numbers.pop()} runs" if len(numbers) == 1 and numbers != {1} else ""


def _top(curves: Sequence[Mapping[str, Curve]]) -> float:
    """Return a round number above all that is drawn, so that panels can be compared."""
    highest = max(curve.high.max() for found in curves for curve in found.values())
    steps = 5.0 if highest <= 40 else 10.0
    return float(max(steps * np.ceil(1.02 * highest / steps), steps))
