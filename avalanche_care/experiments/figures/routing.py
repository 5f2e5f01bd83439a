"""Figures of routing: recall per block, and who is chosen for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from avalanche_care.experiments.figures.data import Floats
from avalanche_care.experiments.figures.maps import (
    ACCURACY_MAP,
    LOSS_MAP,
    colour_bar,
    heat_map,
    missing_legend,
    task_ticks,
)
from avalanche_care.experiments.figures.style import FAINT, WIDTH, looks_of, new_figure, style
from avalanche_care.experiments.routing import RoutingUsage
from avalanche_care.experiments.routing_recall import EXPERTS, ROUTERS

PAPER_BLOCKS = (3, 6, 9, 12)  # counted from 1, those of which the CaRE paper reports recall


def shown_blocks(depth: int) -> list[int]:
    """Return four blocks, counted from 0: the paper's for a ViT of 12, spaced alike for others."""
    return sorted({max((depth * block + 6) // 12, 1) - 1 for block in PAPER_BLOCKS})


def draw_recall(summaries: Sequence[Mapping[str, Any]], *, tasks: int) -> Figure:
    """Draw recall per block: mean over runs, with a band from the lowest to the highest.

    Args:
        summaries: of each run, see :meth:`RoutingUsage.summary`.
        tasks: T; a choice of M routers at random has a recall of M / T, drawn as a line.
    """
    figure = new_figure(4.2, 3.0)
    axes = figure.subplots()
    m, k = (summaries[0][kind.limit] for kind in (ROUTERS, EXPERTS))
    names = {
        ROUTERS: f"own router among the {m} selected",
        EXPERTS: f"own expert among the {k} largest gates",
    }
    for kind, look in zip(names, looks_of(names.values()).values(), strict=True):
        percent = np.array([kind.percent(summary) for summary in summaries])  # (runs, L)
        blocks = np.arange(1, percent.shape[1] + 1)
        axes.plot(
            blocks,
            percent.mean(0),
            color=look.colour,
            linestyle=look.dash,
            marker=look.marker,
            markersize=5,
            lw=1.8,
            label=names[kind],
            clip_on=False,
        )
        if len(summaries) > 1:
            axes.fill_between(
                blocks, percent.min(0), percent.max(0), color=look.colour, alpha=0.15, lw=0
            )
    axes.axhline(
        ROUTERS.chance(summaries[0], tasks),
        color="#777777",
        lw=1,
        ls=(0, (1, 2)),
        label="router by chance",
    )
    axes.set_ylim(0, 100)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
    axes.grid(axis="y", color=FAINT, lw=0.8)
    style(axes, title="", x="block", y="routing recall (%)", size=8)
    figure.legend(loc="outside upper left", frameon=False, fontsize=8)
    return figure


def draw_choices(usage: RoutingUsage, *, experts: bool = False) -> Figure:
    """Draw who is chosen for whom, true task by router or expert, as a map for each of four blocks.

    Args:
        usage: what to show.
        experts: share of gate mass per expert, in place of share of images per router.
    """
    shares = 100 * (usage.expert_share if experts else usage.router_share)
    blocks = shown_blocks(usage.blocks)
    columns = len(blocks) if usage.tasks <= 100 else min(len(blocks), 2)
    rows = -(-len(blocks) // columns)
    figure = new_figure(WIDTH, rows * (6.0 / columns + 0.6) + 0.3)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    panels = grid.ravel()
    for axes in panels[len(blocks) :]:
        axes.remove()
    panels = panels[: len(blocks)]
    for axes, block in zip(panels, blocks, strict=True):
        missing = np.isnan(shares[block])
        image = heat_map(axes, shares[block], missing, LOSS_MAP, 100.0)
        axes.set_aspect("equal")
        kind = "expert" if experts else "selected router"
        style(axes, title=f"block {block + 1}", x=kind, y="", size=8)
        axes.spines[:].set_color("#999999")
        axes.spines[:].set_visible(True)
        task_ticks(axes, usage.tasks, axes.xaxis, ticks=4)
        task_ticks(axes, usage.tasks, axes.yaxis, ticks=4)
    for axes in grid[:, 0]:
        axes.set_ylabel("true task", fontsize=8)
    if missing.any():
        missing_legend(figure, "no image")
    colour_bar(figure, image, list(panels), "gate mass (%)" if experts else "images (%)")
    return figure


def draw_usage(usage: RoutingUsage) -> Figure:
    """Draw, block by task: recall of each task's router, and how much each router and expert does.

    The last two are relative to an even use by all tasks (1), which is what tells favourites and
    idle ones apart whatever the number of tasks.
    """
    tables = [
        (100 * usage.router_recall_by_task, "own router selected, by true task", "images (%)"),
        (_relative(usage.routers), "use of each router", "relative to even use"),
        (_relative(usage.experts), "gate mass of each expert", "relative to even use"),
    ]
    height = max(0.11 * usage.blocks, 1.0) + 0.75
    figure = new_figure(WIDTH, 3 * height + 0.15)
    for axes, (table, title, label) in zip(figure.subplots(3, 1), tables, strict=True):
        recall = label == "images (%)"
        top = 100.0 if recall else max(float(np.ceil(np.nanmax(table))), 2.0)
        colours = ACCURACY_MAP if recall else LOSS_MAP
        image = heat_map(axes, table, np.isnan(table), colours, top, "nearest")
        style(axes, title=title, x="task", y="block", size=8)
        axes.spines[:].set_visible(False)
        task_ticks(axes, usage.tasks, axes.xaxis)
        task_ticks(axes, usage.blocks, axes.yaxis, ticks=4)
        bar = figure.colorbar(image, ax=axes, aspect=10, pad=0.02)
        bar.set_label(label, fontsize=7)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)
    return figure


def _relative(table: NDArray[Any]) -> Floats:
    """Return each router's or expert's part of a block's total, times T: (L, T, T) to (L, T)."""
    used = table.sum(1)  # (L, T)
    return used * used.shape[1] / used.sum(1, keepdims=True)
