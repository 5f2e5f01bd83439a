"""One run: a method learns a benchmark task by task and is evaluated on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from avalanche.logging import BaseLogger
from avalanche.training.determinism.rng_manager import RNGManager

from avalanche_care.benchmarks.scenario import CILBenchmark
from avalanche_care.experiments.config_parts import evaluated_tasks
from avalanche_care.experiments.directory import RunDirectory, identity_hash
from avalanche_care.experiments.environment import hardware
from avalanche_care.experiments.learning import Learning
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.run_facts import data_facts, run_identity
from avalanche_care.experiments.run_result import run_result
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.strategies.registry import get_method


def run_method(
    method: str,
    benchmark: CILBenchmark,
    backbone: FrozenViT,
    *,
    config: Any = None,
    seed: int = 1,
    device: str = "cpu",
    eval_every: int = 1,
    eval_mb_size: int = 128,
    num_workers: int = 0,
    progress: bool = True,
    notes: dict[str, Any] | None = None,
    directory: str | os.PathLike[str] | None = None,
    save_every: int = 1,
    save_every_phase: bool = False,
    details: Mapping[str, Any] | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    loggers: Callable[[], Sequence[BaseLogger]] = tuple,
) -> RunResult:
    """Train a method on every experience, evaluate all classes seen, collect the result.

    Args:
        method: a registered name, see :func:`avalanche_care.strategies.available_methods`.
        benchmark: what to learn.
        backbone: the frozen ViT; it is left as it is.
        config: the method's configuration; None: its defaults.
        seed: of Python's, NumPy's and PyTorch's random numbers. The class order has a seed of its
            own in the benchmark's protocol.
        device: where to run.
        eval_every: evaluate after every k-th task, and always after the last. More than 1 saves
            time in a long sequence, but A_avg and forgetting are then over fewer steps, and not
            comparable with those over all; the result and its table say so.
        eval_mb_size: images per evaluation step; no accuracy depends on it.
        num_workers: data loading processes.
        progress: show progress bars.
        notes: facts about the data that the result should carry, such as the image size.
        directory: of this run: its configuration, a log, the state to go on from, the result; see
            :class:`RunDirectory`. If a run of the same configuration is there already, it goes on,
            and ends with the numbers that it would have had without the interruption; if it is
            complete, its result is returned. None: nothing is written.
        save_every: save the state after every k-th task and the last; 0: never.
        save_every_phase: save it after each phase of a task too.
        details: what else to note in the directory, as plain values.
        on_event: called after each task with what happened, see :class:`Learning`.
        loggers: makes Avalanche's loggers once the run begins; they get the accuracy on all classes
            seen, at each evaluation.

    Returns:
        The result, with all settings in force. ``parameters["trainable"]`` is the most that a phase
        of a task has trained; ``seconds["saving"]``, the time of saving states, is no part of
        ``train``. Where there are such, ``extra`` also has
        ``transforms``, in words; ``realm_accuracy``: realm -> accuracy after the last task on the
        test images of its classes; ``exemplars``, what the method uses of earlier images;
        ``packed``, at which size the training images were packed; and ``machines``, versions and
        hardware of all processes that worked on the run, if they were not the same.

    Raises:
        ValueError: if there is no such method, the data does not fit, ``eval_every`` is not a
            positive integer, or ``directory`` holds another run or a state that cannot be used.
        OSError: if ``directory`` cannot be written. What was saved before is kept.
    """
    if not isinstance(eval_every, int) or eval_every < 1:
        raise ValueError(f"eval_every must be an integer of at least 1, got {eval_every!r}")
    check_device(device)
    chosen = get_method(method)
    config = chosen.config() if config is None else config
    facts = {**data_facts(benchmark), "eval_every": eval_every, **(notes or {})}
    identity = run_identity(method, config, benchmark, backbone, seed, facts)
    with contextlib.ExitStack() as stack:
        record = None
        if directory is not None:
            classes = {"class_names": benchmark.class_names, "realms": benchmark.realms}
            record = RunDirectory(directory, identity, {**classes, **(details or {})})
            finished = stack.enter_context(record).result()
            if finished is not None:
                return finished
        RNGManager.set_random_seeds(seed)
        strategy: Callable[..., Any] = chosen.strategy
        learning = Learning(
            functools.partial(
                strategy,
                model=backbone,
                config=config,
                eval_mb_size=eval_mb_size,
                device=device,
            ),
            benchmark,
            evaluated_tasks(len(benchmark.train_stream), eval_every),
            loggers=loggers(),
            record=record,
            save_every=save_every,
            save_every_phase=save_every_phase,
            num_workers=num_workers,
            progress=progress,
            on_event=on_event,
        )
        learning.run()
        uses = {"exemplars": chosen.exemplars} if chosen.exemplars else {}
        result = run_result(
            learning,
            method=method,
            seed=seed,
            config=dataclasses.asdict(config),
            backbone=dataclasses.asdict(backbone.info),
            hardware=hardware(device),
            extra={
                **facts,
                "eval_mb_size": eval_mb_size,
                **uses,
                "identity_hash": identity_hash(identity),
            },
        )
        if record is not None:
            record.finish(result)
        return result


def check_device(name: str) -> None:
    """Find out now, and not after the data is loaded, whether PyTorch can use a device.

    Raises:
        ValueError: if it cannot, with PyTorch's reason.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used: {reason}. Try 'cpu'.") from error
