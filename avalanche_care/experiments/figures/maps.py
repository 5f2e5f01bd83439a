"""Heat maps: the accuracy matrix of each method, and what each task has lost in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from avalanche_care.experiments.figures.data import (
    Floats,
    Panel,
    forgetting_by_task,
    mean_over_runs,
)
from avalanche_care.experiments.figures.style import INK, WIDTH, new_figure, style, text_size

# Lightness of both maps only rises or only falls, so that they are right without colour too.
ACCURACY_MAP, LOSS_MAP = "viridis", "magma_r"
HATCH: dict[str, Any] = {
    "hatch": "/////",
    "facecolor": "white",
    "edgecolor": "#BBBBBB",
    "linewidth": 0,
}
MOST_TICKS = 6
NUMBERED = 0.21  # inches; smaller cells have no room for a number


def draw_matrices(panel: Panel) -> Figure:
    """Draw R[t, j], accuracy of task j after task t, as one map per method, mean over runs."""
    matrices = {
        label: mean_over_runs([100 * r.matrix for r in runs]) for label, runs in panel.runs.items()
    }
    columns = min(len(matrices), 4 if len(matrices) > 4 else 2)
    rows = -(-len(matrices) // columns)
    side = (WIDTH - 0.9) / columns - 0.35
    figure = new_figure(WIDTH if columns > 1 else 5.4, rows * (min(side, 4.2) + 0.62) + 0.35)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.ravel()[len(matrices) :]:
        axes.remove()
    size = 9 if columns <= 2 else 7
    for axes, (label, matrix) in zip(grid.ravel(), matrices.items(), strict=False):
        tasks = len(matrix)
        matrix = thickened(matrix)
        missing = np.isnan(matrix) & np.tri(tasks, dtype=bool)
        image = heat_map(axes, matrix, missing, ACCURACY_MAP, 100.0)
        axes.set_aspect("equal")
        if min(side, 4.2) / tasks >= NUMBERED:
            write_numbers(axes, matrix, ACCURACY_MAP, 100.0, text_size(2 * tasks, side, 7))
        style(axes, title=label, x="", y="", size=size)
        axes.spines[:].set_visible(False)
        task_ticks(axes, tasks, axes.xaxis)
        task_ticks(axes, tasks, axes.yaxis)
    for axes in grid.ravel()[max(len(matrices) - columns, 0) : len(matrices)]:
        axes.tick_params(labelbottom=True)  # also above the gap in the last row
    figure.supxlabel("accuracy of task", fontsize=9, color=INK)
    figure.supylabel("after task", fontsize=9, color=INK)
    if any(np.isnan(matrix[:, 0]).any() for matrix in matrices.values()):  # before thickening
        missing_legend(figure, "not evaluated")
    colour_bar(figure, image, list(grid.ravel()[: len(matrices)]), "accuracy (%)")
    return figure


def thickened(matrix: Floats) -> Floats:
    """Repeat rows of a long sequence upwards into steps without evaluation, so that they are seen.

    At most up to a sixtieth of the height: the rest of those steps stays nan.
    """
    thick = matrix.copy()
    known = ~np.isnan(matrix[:, 0])
    for step in np.flatnonzero(known):
        for above in range(step - 1, step - len(matrix) // 60 - 1, -1):
            if above < 0 or known[above]:
                break
            thick[above] = matrix[step]
    return thick


def loss_rows(panel: Panel) -> dict[str, Floats]:
    """Return max minus last of every task but the newest, in points, of each method that has any.

    Mean over runs, (T - 1,), nan where unknown.
    """
    rows = {
        label: mean_over_runs([100 * forgetting_by_task(r.matrix) for r in runs])
        for label, runs in panel.runs.items()
    }
    return {label: row for label, row in rows.items() if not np.isnan(row).all()}


def draw_losses(panels: Sequence[Panel]) -> Figure | None:
    """Draw max minus last of every task as rows of a map, a row per method; None if unknown."""
    found = []
    for panel in panels:
        rows = loss_rows(panel)
        if rows:
            found.append((panel, rows))
    if not found:
        return None
    heights = [max(0.135 * len(rows), 0.9) + 0.62 for _, rows in found]
    figure = new_figure(WIDTH, sum(heights) + 0.15)
    grid = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights).ravel()
    top = float(max(np.nanmax(row) for _, rows in found for row in rows.values()))
    top = max(top, 1.0)
    for axes, (panel, rows) in zip(grid, found, strict=True):
        table = np.array(list(rows.values()))  # (methods, T - 1)
        image = heat_map(axes, table, np.isnan(table), LOSS_MAP, top, "nearest")
        if (WIDTH - 2.2) / table.shape[1] >= NUMBERED + 0.09:
            write_numbers(axes, table, LOSS_MAP, top, 6)
        style(axes, title=panel.title, x="task", y="", size=7)
        axes.spines[:].set_visible(False)
        axes.set_yticks(range(len(rows)), labels=list(rows))
        axes.tick_params(axis="y", length=0)
        task_ticks(axes, table.shape[1], axes.xaxis)
    if any(np.isnan(row).any() for _, rows in found for row in rows.values()):
        missing_legend(figure, "unknown: evaluated only once")
    colour_bar(figure, image, list(grid), "forgetting (points)")
    return figure


def heat_map(
    axes: Axes,
    table: Floats,
    missing: NDArray[np.bool_],
    colours: str,
    top: float,
    interpolation: str = "auto",
) -> AxesImage:
    """Show numbers from 0 to ``top``; what is missing is hatched, other nan is left empty.

    With ``"auto"`` cells that are smaller than pixels are averaged, so that none is left out.
    """
    for row, cells in enumerate(missing):
        if cells.any():  # hatched first, the map is drawn over it
            edges = np.flatnonzero(np.diff(np.r_[0, cells.astype(int), 0])) - 0.5
            for left, right in edges.reshape(-1, 2):
                axes.fill_between([left, right], row - 0.5, row + 0.5, **HATCH)
    how: dict[str, Any] = {"interpolation": interpolation, "aspect": "auto", "zorder": 2}
    return axes.imshow(table, cmap=colours, vmin=0, vmax=top, **how)


def write_numbers(axes: Axes, table: Floats, colours: str, top: float, size: float) -> None:
    """Write the numbers into the cells, dark on light and light on dark."""
    for (row, column), value in np.ndenumerate(table):
        if not np.isnan(value):
            red, green, blue, _ = colormaps[colours](value / top)
            light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
            colour = "black" if light else "white"
            place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": size, "zorder": 3}
            axes.text(column, row, f"{value:.0f}", color=colour, **place)


def task_ticks(axes: Axes, tasks: int, axis: Any, *, ticks: int = MOST_TICKS) -> None:
    """Count tasks (or blocks) from 1, as people do, with ticks at round numbers."""
    every = tasks <= 10 and ticks == MOST_TICKS
    rounded = _RoundTasks(nbins=ticks, steps=[1, 2, 5, 10], integer=True)
    axis.set_major_locator(FixedLocator(range(tasks)) if every else rounded)
    axis.set_major_formatter(FuncFormatter(lambda place, _: f"{place + 1:.0f}"))
    if axis is axes.xaxis:
        axes.set_xlim(-0.5, tasks - 0.5)
    else:
        axes.set_ylim(tasks - 0.5, -0.5)


class _RoundTasks(MaxNLocator):
    """Puts ticks at tasks 1, 50, 100 ..., which are positions 0, 49, 99 ..."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        low, high = sorted((vmin, vmax))
        ticks = np.unique(np.maximum(super().tick_values(low + 1, high + 1), 1)) - 1
        return ticks[(ticks >= low) & (ticks <= high)]


def missing_legend(figure: Figure, label: str) -> None:
    """Say what hatching means."""
    patch = Patch(label=label, **HATCH)
    figure.legend(handles=[patch], loc="outside upper right", frameon=False, fontsize=8)


def colour_bar(figure: Figure, image: Any, axes: list[Axes], label: str) -> None:
    """Put one bar beside all panels."""
    low = figure.get_figheight() < 4
    bar = figure.colorbar(image, ax=axes, aspect=25, shrink=1.0 if low else 0.6, pad=0.02)
    bar.set_label(label, fontsize=8 if low else 9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
