"""How all figures look: colours, dashes and markers of methods, axes, labels at the ends of lines.

Figures are made without pyplot: no global state, no display needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from avalanche_care._version import __version__

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart; the pale
# yellow is left out, since it cannot be read on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("solid", "dashed", "dotted", "dashdot")  # for more than seven methods
MARKERS = "osD^vP*X<>phd8H"  # their number has no factor in common with that of the colours
INK, FAINT = "#333333", "#DDDDDD"
MANY_TASKS = 30  # beyond this, a marker at each task would hide the line
WIDTH = 7.0  # inches: the text width of a two-column page
DPI = 160
SMALLEST_TEXT = 5.0  # points
FLUSH = {"shrinkA": 0, "shrinkB": 0}  # arrows from exactly one point to exactly another


class Look(NamedTuple):
    """How one method is drawn, the same in every figure of a report."""

    colour: str
    dash: str
    marker: str
    rank: int  # place in the order of methods; the first is drawn on top


def looks_of(labels: Iterable[str]) -> dict[str, Look]:
    """Give each label its look, in the order of first appearance."""
    return {
        label: Look(
            COLOURS[rank % len(COLOURS)],
            DASHES[rank // len(COLOURS) % len(DASHES)],
            MARKERS[rank % len(MARKERS)],
            rank,
        )
        for rank, label in enumerate(dict.fromkeys(labels))
    }


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def save(figure: Figure, path: Path, *, title: str = "", runs: Sequence[str] = ()) -> Path:
    """Write a figure; the ending decides the format. Text in SVG files stays text.

    The metadata of PNG, SVG and PDF files have the title, the runs that the figure shows, and the
    version of this package, so that a figure that was copied elsewhere can be traced.

    Args:
        figure: what to write.
        path: the file; its directory is made if needed.
        title: what it shows.
        runs: names of the runs that are in it.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lower()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "avalanche_care"}):
        figure.savefig(
            path, dpi=300 if ending == ".svg" else DPI, metadata=_metadata(ending, title, runs)
        )
    return path


def _metadata(ending: str, title: str, runs: Sequence[str]) -> dict[str, str | None] | None:
    """What a file says of itself. Without a date, the same results give the same file."""
    program = f"avalanche_care {__version__}, Matplotlib {mpl.__version__}"
    told = "; ".join(runs) or "not recorded"
    known: dict[str, dict[str, str | None]] = {
        ".png": {"Title": title, "Source": f"Runs: {told}", "Software": program},
        ".svg": {"Title": title, "Source": f"Runs: {told}", "Creator": program, "Date": None},
        ".pdf": {
            "Title": title,
            "Subject": f"Runs: {told}",
            "Creator": program,
            "CreationDate": None,
        },
    }
    return known.get(ending)


def style(axes: Axes, *, title: str, x: str, y: str, size: float = 9) -> None:
    """Title, axis names and colours of a panel."""
    axes.set_title(title, loc="left", fontsize=size + 1, color=INK, pad=8)
    axes.set_xlabel(x, color=INK, fontsize=size)
    axes.set_ylabel(y, color=INK, fontsize=size)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=size)


def text_size(entries: int, inches: float, largest: float) -> float:
    """Return the font size at which so many lines of text fit into a height."""
    return float(np.clip(72 * inches / (1.2 * max(entries, 1)), SMALLEST_TEXT, largest))


def label_lines(
    axes: Axes, ends: Sequence[tuple[float, str, Look]], *, inches: float, size: float
) -> None:
    """Label lines at the right edge of a panel, without a legend that the eye has to go to.

    Labels that would collide move apart, and thin lines lead to them. Each has the line's marker
    beside it, for prints without colour.

    Args:
        axes: the panel; its y limits are final.
        ends: last value, label and look of each line.
        inches: least height that the layout leaves to the axes.
        size: of the text, in points; smaller if there are many.
    """
    low, high = axes.get_ylim()
    size = text_size(len(ends), inches, size)
    gap = 1.2 * size / 72 / inches * (high - low)
    heights = spread([end for end, _, _ in ends], gap, low + gap / 2, high - gap / 2)
    edge = axes.get_yaxis_transform()  # x in shares of the axes, y in data
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure")
    start, stop, sign, beside = (
        edge + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)
        for points in (4, 15, 19, 23.5)
    )
    for height, (end, label, look) in zip(heights, ends, strict=True):
        axes.annotate(
            "",
            xy=(1, end),
            xycoords=start,
            xytext=(1, height),
            textcoords=stop,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": look.colour, "lw": 0.7} | FLUSH,
        )
        mark = Line2D([1], [height], transform=sign, clip_on=False, linestyle="none")
        mark.set(color=look.colour, marker=look.marker, markersize=0.5 * size)
        axes.add_artist(mark)
        text = axes.text(1, height, label, transform=beside, va="center", fontsize=size)
        text.set(color=look.colour, fontweight="bold")


def spread(
    values: Sequence[float], gap: float, low: float = -np.inf, high: float = np.inf
) -> list[float]:
    """The values, moved as little as needed to lie ``gap`` apart, in the same order.

    Args:
        values: where they would be.
        gap: least distance; less where ``low`` and ``high`` leave no room for it.
        low, high: where they may lie.
    """
    # Sorted and each less its own share of the gaps, the wanted positions must only not decrease;
    # the nearest such sequence is found by averaging neighbours that are out of order.
    last = len(values) - 1
    if last > 0:
        gap = min(gap, (high - low) / last)
    order = sorted(range(len(values)), key=lambda i: values[i])
    groups: list[list[float]] = []
    for rank, i in enumerate(order):
        groups.append([values[i] - rank * gap])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    flat = [float(np.mean(group)) for group in groups for _ in group]
    moved = [0.0] * len(values)
    for rank, i in enumerate(order):
        moved[i] = min(max(flat[rank], low), high - last * gap) + rank * gap
    return moved
