"""The engine that needs nothing: one run after the other, here."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from avalanche_care.experiments.engines.job import Job, Outcome, execute

__all__ = ["InProcess"]


@dataclass(frozen=True)
class InProcess:
    """Runs jobs one after the other in this process."""

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Run the jobs, see :class:`avalanche_care.experiments.engines.Engine`."""
        for job in jobs:
            yield execute(job)
