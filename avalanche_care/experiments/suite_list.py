"""The runs that a suite is to have, kept beside them, so that reports can say which are missing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avalanche_care._files import replace_text

if TYPE_CHECKING:
    from avalanche_care.experiments._suite_file import Suite

__all__ = ["FOLDER", "PlannedRun", "read_suite_lists", "write_suite_list"]

FORMAT = 1  # raise it when a key changes its meaning
FOLDER = ".suites"


@dataclass(frozen=True)
class PlannedRun:
    """A run of a suite, begun or not.

    Attributes:
        suite: name of the suite.
        directory: name of the run's directory.
        method, seed, eval_every, config: as in the identity of a run.
        place: what to learn and on which backbone, as a text: the same for runs of one setting.
    """

    suite: str
    directory: str
    method: str
    seed: int
    eval_every: int
    config: Mapping[str, Any]
    place: str


def write_suite_list(suite: Suite, out: Path) -> Path:
    """Write the runs of a suite to a file of its own in ``out/.suites``; it replaces an older one.

    Args:
        suite: the suite.
        out: directory of its runs.

    Returns:
        The file.

    Raises:
        OSError: if it cannot be written.
    """
    runs = []
    for run in suite.runs:
        asked = run.identity()
        place = {name: asked[name] for name in ("benchmark", "backbone")}
        runs.append(
            {
                "directory": run.directory_name,
                "method": run.method,
                "seed": run.seed,
                "eval_every": run.evaluation.every,
                "config": dataclasses.asdict(run.settings),
                "place": json.dumps(place, sort_keys=True),
            }
        )
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", suite.name)[:60]
    digest = hashlib.sha256(suite.name.encode()).hexdigest()[:8]  # names may look alike
    path = out / FOLDER / f"{readable}-{digest}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {"format": FORMAT, "name": suite.name, "runs": runs}
    replace_text(path, json.dumps(text, indent=1) + "\n")
    return path


def read_suite_lists(out: Path) -> Iterator[PlannedRun]:
    """The runs of all suites of a directory; files of another kind are passed over."""
    for path in sorted((out / FOLDER).glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] == FORMAT:
                yield from [PlannedRun(suite=values["name"], **run) for run in values["runs"]]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # of no use for a report, and no result is lost
