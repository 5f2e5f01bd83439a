"""Names beside points, placed so that they hide neither each other nor the points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Annotation, Text
from numpy.typing import NDArray

from avalanche_care.experiments.figures.data import Floats
from avalanche_care.experiments.figures.style import Look

POINT = 6.0  # size of a marker in points
DISTANCES = (7, 12, 18, 26, 36, 48, 62)  # of a label from its point, in points
ANGLES = np.arange(0, 2 * np.pi, np.pi / 8)
ROUNDS = 2  # of choosing places
STEPS = 24  # at which the line from a point to its label is looked at


def label_points(axes: Axes, looks: Mapping[str, Look]) -> None:
    """Write the label of each error bar of a panel beside its point.

    A label takes the place where it hides least, the nearest of those; if that is not right beside
    the point, a thin line leads to it.

    Args:
        axes: the panel, already laid out; its error bars have one point each.
        looks: of each label.
    """
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure")
    pixels = figure.dpi / 72
    points: dict[str, Floats] = {}
    taken: list[Floats] = []  # boxes that labels must not hide: (left, bottom, right, top)
    for bars in axes.containers:
        if isinstance(bars, ErrorbarContainer):
            middle = axes.transData.transform(bars.lines[0].get_xydata())[0]
            points[str(bars.get_label())] = middle
            taken.append(_box(middle, 0.6 * POINT * pixels))
            for segments in bars.lines[2]:
                ends = axes.transData.transform(segments.get_segments()[0])  # (2, 2)
                taken.append(np.r_[ends.min(0) - pixels, ends.max(0) + pixels])
    inside = np.ravel(axes.get_window_extent().get_points())
    texts: dict[str, Annotation] = {}
    halves: dict[str, Floats] = {}  # half the width and height of each label, in pixels
    # The most crowded choose first: they have the fewest places to go.
    for label in sorted(points, key=lambda name: _nearest(name, points)):
        point = axes.transData.inverted().transform(points[label])
        texts[label] = _label(axes, label, point, looks[label])
        size = Text.get_window_extent(texts[label])  # of the text alone, without the line
        halves[label] = np.array([size.width, size.height]) / 2 + pixels
    places: dict[str, tuple[int, Floats]] = {}
    hidden: dict[str, list[Floats]] = {}  # boxes of each label and its line
    for _ in range(ROUNDS):  # once all have a place, some find a better one
        for label, half in halves.items():
            boxes = taken + [box for name in hidden if name != label for box in hidden[name]]
            reach, middle = _place(points[label], half, np.array(boxes), inside, pixels)
            places[label] = reach, middle
            way = _way(points[label], middle) if reach > DISTANCES[0] else ()
            hidden[label] = [_box(middle, half), *(_box(step, pixels) for step in way)]
    for label, (reach, middle) in places.items():
        text = texts[label]
        text.set_position(tuple((middle - points[label]) / pixels))
        if reach <= DISTANCES[0] and text.arrow_patch is not None:
            text.arrow_patch.set_visible(False)


def _label(axes: Axes, label: str, xy: Floats, look: Look) -> Annotation:
    line = {"arrowstyle": "-", "color": look.colour, "lw": 0.6}
    text = axes.annotate(
        label,
        xy=(float(xy[0]), float(xy[1])),
        xytext=(0, 0),
        textcoords="offset points",
        color=look.colour,
        fontsize=7,
        fontweight="bold",
        ha="center",
        va="center",
        zorder=4,
        arrowprops=line | {"shrinkA": 0, "shrinkB": 0.6 * POINT},
    )
    text.set_in_layout(False)
    return text


def _place(
    point: Floats, half: Floats, taken: Floats, inside: Floats, pixels: float
) -> tuple[int, Floats]:
    """Return how far from its point a label is best put, in points, and its middle, in pixels."""
    best = np.inf, DISTANCES[0], point
    for reach in DISTANCES:
        if reach * pixels >= best[0]:
            break  # none further away can be better
        for angle in ANGLES:
            direction = np.array([np.cos(angle), np.sin(angle)])
            middle = point + (reach * pixels + half) * direction
            cost = reach * pixels + _cost(point, middle, half, taken, inside)
            if cost < best[0]:
                best = cost, reach, middle
    return best[1:]


def _cost(point: Floats, middle: Floats, half: Floats, taken: Floats, inside: Floats) -> float:
    """Say how bad a place is: what label and line hide, how far it sticks out of the axes."""
    box = _box(middle, half)
    outside = 4 * half.prod() - _common(box, inside)
    others = taken[~_contains(taken, point[None])[:, 0]]
    crossed = _contains(others, _way(point, middle)[:-2]).sum()
    return float(10 * (_common(box, taken.T).sum() + outside) + 100 * crossed)


def _way(point: Floats, middle: Floats) -> Floats:
    """Return steps from a point to its label, (STEPS, 2)."""
    return point + np.linspace(0, 1, STEPS)[:, None] * (middle - point)


def _box(middle: Floats, half: Floats | float) -> Floats:
    return np.r_[middle - half, middle + half]


def _common(one: Floats, other: Floats) -> Floats:
    """Return the area that boxes share; their four sides are the first axis."""
    width = np.minimum(one[2], other[2]) - np.maximum(one[0], other[0])
    height = np.minimum(one[3], other[3]) - np.maximum(one[1], other[1])
    return np.maximum(width, 0) * np.maximum(height, 0)


def _contains(boxes: Floats, points: Floats) -> NDArray[np.bool_]:
    """Return which boxes (n, 4) contain which points (k, 2), as (n, k)."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    within: NDArray[np.bool_] = (low <= points) & (points <= high)
    return np.logical_and.reduce(within, axis=2)


def _nearest(name: str, points: Mapping[str, Floats]) -> float:
    return min(
        (float(np.hypot(*(points[name] - other))) for key, other in points.items() if key != name),
        default=0.0,
    )
