"""Where the runs of a suite are run: in this process, in several, or on a cluster.

An engine has one method, ``run``, which takes jobs and yields what became of each as it ends. The
run directories do the rest: whatever an engine breaks off goes on from its saved state.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Generator, Sequence
from typing import Any, Protocol

from avalanche_care.experiments.engines.in_process import InProcess
from avalanche_care.experiments.engines.job import Job, Outcome, execute
from avalanche_care.experiments.engines.processes import Processes
from avalanche_care.experiments.engines.ray_cluster import RayCluster

__all__ = [
    "ENGINES",
    "Engine",
    "InProcess",
    "Job",
    "Outcome",
    "Processes",
    "RayCluster",
    "execute",
    "make_engine",
]


class Engine(Protocol):
    """What :func:`avalanche_care.experiments.suite.run_suite` asks of an engine."""

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Run jobs in any order, and yield what became of each one as it ends.

        Closing the generator stops what is running. An engine may run a job again that it has lost.
        """
        ...


ENGINES: dict[str, type[Any]] = {
    "in-process": InProcess,
    "processes": Processes,
    "ray": RayCluster,
}
"""The engines by the name that the command line has for them."""


def make_engine(name: str, **options: Any) -> Engine:
    """Return an engine.

    Args:
        name: ``"in-process"``, ``"processes"`` or ``"ray"``.
        options: fields of its class; those that are None are left out.

    Raises:
        ValueError: if there is no such engine, or it has no such option.
    """
    if name not in ENGINES:
        near = difflib.get_close_matches(name, ENGINES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {sorted(ENGINES)}"
        raise ValueError(f"there is no engine {name!r}; {hint}")
    given = {option: value for option, value in options.items() if value is not None}
    known = [field.name for field in dataclasses.fields(ENGINES[name])]
    strange = sorted(given.keys() - set(known))
    if strange:
        raise ValueError(
            f"the engine {name!r} has no option {', '.join(strange)}; "
            f"it has {', '.join(known) or 'none'}"
        )
    engine: Engine = ENGINES[name](**given)
    return engine
