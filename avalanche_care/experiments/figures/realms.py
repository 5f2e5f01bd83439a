"""Accuracy per realm: points for a few methods, a table of numbers on colours for many."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from avalanche_care.experiments.figures.data import Floats, Panel, Runs, mean_over_runs
from avalanche_care.experiments.figures.maps import (
    ACCURACY_MAP,
    colour_bar,
    heat_map,
    missing_legend,
    write_numbers,
)
from avalanche_care.experiments.figures.style import (
    FAINT,
    INK,
    WIDTH,
    Look,
    looks_of,
    new_figure,
    style,
)

FEW = 5  # methods whose points can be told apart in one row


def realm_table(runs: Runs) -> tuple[list[str], dict[str, Floats]]:
    """Return the realms, best ones first, and each method's accuracies in per cent, (realms,)."""
    known = {
        label: [r.extra["realm_accuracy"] for r in group if r.extra.get("realm_accuracy")]
        for label, group in runs.items()
    }
    known = {label: group for label, group in known.items() if group}
    realms = list(dict.fromkeys(name for group in known.values() for run in group for name in run))
    rows = {
        label: 100
        * mean_over_runs([np.array([run.get(name) for name in realms], float) for run in group])
        for label, group in known.items()
    }
    if not rows:
        return [], {}
    table = np.array(list(rows.values()))  # (methods, realms)
    counted = (~np.isnan(table)).sum(0)
    average = np.where(counted > 0, np.nansum(table, axis=0) / np.maximum(counted, 1), -1.0)
    order = np.argsort(-average, kind="stable")
    return [realms[i] for i in order], {label: row[order] for label, row in rows.items()}


def draw_realms(panel: Panel, looks: Mapping[str, Look] | None = None) -> Figure | None:
    """Draw the accuracy in each realm after the last task; None if no result knows it."""
    realms, rows = realm_table(panel.runs)
    if not rows or np.isnan(list(rows.values())).all():
        return None
    names = [realm.replace("_", " ") for realm in realms]
    if len(rows) > FEW:
        return _cells(names, rows)
    return _points(names, rows, looks or looks_of(rows))


def _points(names: list[str], rows: Mapping[str, Floats], looks: Mapping[str, Look]) -> Figure:
    figure = new_figure(5.4, 0.2 * len(names) + 1.1)
    axes = figure.subplots()
    places = np.arange(len(names))
    table = np.array(list(rows.values()))  # (methods, realms)
    shown = ~np.isnan(table).all(axis=0)
    low, high = np.nanmin(table[:, shown], axis=0), np.nanmax(table[:, shown], axis=0)
    axes.hlines(places[shown], low, high, color="#BBBBBB", lw=1.5, zorder=1)
    for label, row in rows.items():
        look = looks[label]
        axes.plot(
            row,
            places,
            color=look.colour,
            marker=look.marker,
            markersize=5.5,
            linestyle="none",
            label=label,
            zorder=3 - 0.01 * look.rank,
            clip_on=False,
        )
    axes.set_yticks(places, labels=names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.grid(axis="both", color=FAINT, lw=0.6)
    style(axes, title="", x="accuracy (%)", y="", size=8)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=len(rows), frameon=False, fontsize=8)
    return figure


def _cells(names: list[str], rows: Mapping[str, Floats]) -> Figure:
    table = np.array(list(rows.values())).T  # (realms, methods)
    figure = new_figure(WIDTH, 0.2 * len(names) + 1.5)
    axes = figure.subplots()
    image = heat_map(axes, table, np.isnan(table), ACCURACY_MAP, 100.0, "nearest")
    write_numbers(axes, table, ACCURACY_MAP, 100.0, 6.5)
    style(axes, title="", x="", y="", size=8)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(rows)), labels=list(rows), rotation=45, ha="left")
    axes.set_yticks(range(len(names)), labels=names)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, colors=INK)
    for edge in np.arange(0.5, len(rows) - 1):
        axes.axvline(edge, color="white", lw=1, zorder=2.5)
    if np.isnan(table).any():
        missing_legend(figure, "no test image")
    colour_bar(figure, image, [axes], "accuracy (%)")
    return figure
