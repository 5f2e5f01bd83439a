"""From a run's configuration to its directory."""

from __future__ import annotations

import dataclasses
import json
import os
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avalanche_care._files import replace_text
from avalanche_care.experiments.config import BackboneConfig, RunConfig, stored_config
from avalanche_care.experiments.directory import (
    CONFIG,
    FAILED,
    OtherRun,
    RunInUse,
    read_config,
    read_result,
)
from avalanche_care.experiments.results import RunResult

if TYPE_CHECKING:
    from avalanche_care.nn.vit import FrozenViT

__all__ = ["FAILED", "build_backbone", "finished", "read_run", "resume", "run"]

OnEvent = Callable[[dict[str, Any]], None] | None


def run(
    config: RunConfig,
    out: str | os.PathLike[str] = "runs",
    *,
    progress: bool = True,
    on_event: OnEvent = None,
) -> RunResult:
    """Run, go on with, or look up a run.

    Args:
        config: what to run, see :func:`avalanche_care.experiments.config.run_config`.
        out: the run's directory is made in it, as ``config.directory_name``. If it is there, the
            run goes on from its newest state; if it is complete, the result is read.
        progress: show progress bars.
        on_event: called after each task, see :func:`avalanche_care.experiments.run_method`.

    Returns:
        The result.

    Raises:
        ValueError, OSError: as :func:`avalanche_care.experiments.run_method`. Whatever ends the run
            is also written to ``failed.json`` in its directory, which goes when it is started
            again.
    """
    return _guarded(config, Path(out) / config.directory_name, progress, on_event)


def _guarded(config: RunConfig, directory: Path, progress: bool, on_event: OnEvent) -> RunResult:
    """Run in a directory, and note there what goes wrong."""
    result = finished(config, directory)
    if result is not None:
        return result
    try:
        return _run(config, directory, progress, on_event)
    except (RunInUse, OtherRun):
        raise  # it is not for us to say how that run ends
    except Exception as error:
        if directory.is_dir():
            note = {
                "error": f"{type(error).__name__}: {error}",
                "traceback": traceback.format_exc(),
                "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "run": dataclasses.asdict(config),
            }
            replace_text(directory / FAILED, json.dumps(note, indent=1) + "\n")
        raise


def finished(config: RunConfig, directory: Path) -> RunResult | None:
    """The result of a complete run, without loading its data and its backbone.

    Args:
        config: what is asked for.
        directory: where it would run.

    Returns:
        The result; None if the run is not complete, or if the files alone cannot tell that it is
        this one: it was made in a script, or with another root of the data or another weight file.
        :func:`run` loads them then, and refuses the directory if it is of another run.

    Raises:
        ValueError, OSError: as :func:`avalanche_care.experiments.directory.read_result`.
    """
    try:
        noted, known = read_run(directory), read_config(directory / CONFIG)["hash"]
    except (ValueError, OSError):
        return None
    sources = [(asked.backbone.weights, asked.benchmark.root) for asked in (noted, config)]
    same = noted.identity() == config.identity() and sources[0] == sources[1]
    return read_result(directory, known) if same else None


def read_run(directory: str | os.PathLike[str]) -> RunConfig:
    """Return the configuration that a run's directory was made with.

    Raises:
        ValueError: if it is no directory of a run, or of one that was not made by :func:`run`.
        OSError: if it cannot be read.
    """
    path = Path(directory) / CONFIG
    if not path.exists():
        raise ValueError(f"{directory} is not the directory of a run: it has no {CONFIG}")
    values = read_config(path)["details"].get("run")
    if values is None:
        raise ValueError(
            f"{directory} was made by run_method() in a script; call it again with "
            "directory= to go on"
        )
    return stored_config(values, where=str(path))


def resume(
    directory: str | os.PathLike[str],
    *,
    progress: bool = True,
    on_event: OnEvent = None,
    **local: Any,
) -> RunResult:
    """Go on with a run.

    Args:
        directory: the run's.
        progress: show progress bars.
        on_event: as in :func:`run`.
        local: fields of the configuration that cannot change a number, such as ``device``.

    Returns:
        The result; read from the file if the run is complete.

    Raises:
        ValueError, OSError: as :func:`run` and :func:`read_run`.
    """
    return _guarded(
        dataclasses.replace(read_run(directory), **local), Path(directory), progress, on_event
    )


def _run(config: RunConfig, directory: Path, progress: bool, on_event: OnEvent) -> RunResult:
    from avalanche_care.benchmarks.loading import load_benchmark
    from avalanche_care.experiments.loggers import loggers_of
    from avalanche_care.experiments.run import run_method

    benchmark = load_benchmark(
        config.benchmark.name, config.benchmark.protocol, **config.benchmark.options()
    )
    return run_method(
        config.method,
        benchmark,
        build_backbone(config.backbone),
        config=config.settings,
        seed=config.seed,
        device=config.device,
        eval_every=config.evaluation.every,
        eval_mb_size=config.evaluation.batch_size,
        num_workers=config.num_workers,
        progress=progress,
        directory=directory,
        save_every=config.save_every,
        save_every_phase=config.save_every_phase,
        details={"run": dataclasses.asdict(config)},
        on_event=on_event,
        loggers=partial(loggers_of, config, directory),
    )


def build_backbone(config: BackboneConfig) -> FrozenViT:
    """Return the frozen vision transformer of a configuration."""
    from avalanche_care.nn.vit import FrozenViT

    backbone = FrozenViT.create(config.name, weights=config.weights, img_size=config.img_size)
    return backbone.compile_blocks() if config.compile else backbone
