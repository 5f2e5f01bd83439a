"""All figures of results, with matplotlib."""

from __future__ import annotations

from avalanche_care.experiments.figures.write import (
    FigureFile,
    accuracy_figure,
    write_figures,
    write_routing_figures,
)

__all__ = ["FigureFile", "accuracy_figure", "write_figures", "write_routing_figures"]
