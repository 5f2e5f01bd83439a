"""How often a trained CaRE finds the router and the expert of an image's own task.

Reads what results hold under ``extra["routing"]``, which
:meth:`avalanche_care.experiments.routing.RoutingUsage.summary` has made; for tables and figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avalanche_care.experiments.results import RunResult

__all__ = ["EXPERTS", "ROUTERS", "Recall", "routing_of"]

Summary = Mapping[str, Any]


def routing_of(result: RunResult) -> Summary | None:
    """What a result holds of routing; None if the method has no routers."""
    found: Summary | None = result.extra.get("routing")
    return found or None


class Recall(NamedTuple):
    """A kind of routing recall.

    Attributes:
        entry: where the recall of each block is in a summary.
        limit: where the number of those that are chosen is.
        name: for tables.
        published: how ``assets/published.json`` calls it, of ``{chosen}`` in ``{block}``.
    """

    entry: str
    limit: str
    name: str
    published: str

    def percent(self, summary: Summary) -> NDArray[np.float64]:
        """Recall of each block in per cent, (L,)."""
        return 100 * np.array(summary[self.entry], np.float64)

    def chosen(self, summary: Summary, tasks: int) -> int:
        """How many are chosen: M routers or K experts, or all where there are fewer tasks."""
        return min(int(summary[self.limit]), tasks)

    def chance(self, summary: Summary, tasks: int) -> float:
        """Recall in per cent if they were chosen at random: their number over that of tasks."""
        return 100 * self.chosen(summary, tasks) / tasks


ROUTERS = Recall(
    "router_recall",
    "top_m",
    "router recall (%)",
    "top-{chosen} routers contain the true task, block {block}",
)
EXPERTS = Recall(
    "expert_recall",
    "top_k",
    "own-expert recall (%)",
    "top-{chosen} experts contain the true task, block {block}",
)
