"""One run: a method learns a benchmark task by task and is evaluated on the way."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from avalanche.logging import BaseLogger
from avalanche.training.determinism.rng_manager import RNGManager
from torch import nn

from avalanche_care import metrics
from avalanche_care.benchmarks.packed import PackedImages
from avalanche_care.benchmarks.scenario import CILBenchmark
from avalanche_care.experiments.config_parts import evaluated_tasks
from avalanche_care.experiments.directory import RunDirectory, identity_hash
from avalanche_care.experiments.environment import hardware
from avalanche_care.experiments.learning import Learning, SavePhases, TrainableParameters
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.routing import ROUTING, batches_of, routing_usage
from avalanche_care.nn.care import CaREModel
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.class_counts import ClassCounts
from avalanche_care.plugins.phase_times import PhaseTimes
from avalanche_care.plugins.progress import ProgressPlugin
from avalanche_care.plugins.silent import silent_evaluator
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
    facts = {**_data_facts(benchmark), "eval_every": eval_every, **(notes or {})}
    identity = _identity(method, config, benchmark, backbone, seed, facts)
    record = None
    if directory is not None:
        classes = {"class_names": benchmark.class_names, "realms": benchmark.realms}
        record = RunDirectory(directory, identity, {**classes, **(details or {})})
        record.open()
    try:
        finished = None if record is None else record.result()
        if finished is not None:
            return finished
        RNGManager.set_random_seeds(seed)
        counts, times, saver = ClassCounts(), PhaseTimes(), SavePhases()
        trained = TrainableParameters()
        tasks = len(benchmark.train_stream)
        strategy = chosen.strategy(
            model=backbone,
            config=config,
            eval_mb_size=eval_mb_size,
            device=device,
            plugins=[times, trained, saver, *([ProgressPlugin(tasks)] if progress else [])],
            evaluator=silent_evaluator(counts, loggers=loggers()),
        )
        learning = Learning(
            strategy,
            benchmark,
            evaluated_tasks(tasks, eval_every),
            counts,
            times,
            trained,
            record=record,
            save_every=save_every,
            num_workers=num_workers,
            progress=progress,
            on_event=on_event,
        )
        saver.learning = learning if save_every_phase else None
        events = learning.run()
        uses = {"exemplars": chosen.exemplars} if chosen.exemplars else {}
        routing = _routing(strategy.model, benchmark, directory, num_workers)
        result = _result(
            events,
            benchmark,
            method=method,
            seed=seed,
            parameters={**count_parameters(strategy.model), "trainable": trained.most},
            config=dataclasses.asdict(config),
            backbone=dataclasses.asdict(backbone.info),
            hardware=hardware(device),
            extra={
                **facts,
                "eval_mb_size": eval_mb_size,
                **uses,
                **routing,
                **({"machines": learning.machines} if len(learning.machines) > 1 else {}),
                "identity_hash": identity_hash(identity),
            },
        )
        if record is not None:
            record.finish(result)
        return result
    finally:
        if record is not None:
            record.close()


def _routing(
    model: nn.Module,
    benchmark: CILBenchmark,
    directory: str | os.PathLike[str] | None,
    num_workers: int,
) -> dict[str, Any]:
    """Which routers the test images of each task select, for a model that has routers."""
    if not isinstance(model, CaREModel) or model.tasks < 2:
        return {}
    datasets = [experience.dataset for experience in benchmark.test_stream]
    usage = routing_usage(model, batches_of(datasets, num_workers=num_workers))
    if directory is not None:
        usage.save(Path(directory) / ROUTING)
    return {"routing": usage.summary()}


def _identity(
    method: str,
    config: Any,
    benchmark: CILBenchmark,
    backbone: FrozenViT,
    seed: int,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Everything that the numbers of a run depend on."""
    return {
        "method": method,
        "config": dataclasses.asdict(config),
        "benchmark": benchmark.name,
        "protocol": benchmark.protocol.name,
        "class_order": list(benchmark.class_order),
        "seed": seed,
        "backbone": dataclasses.asdict(backbone.info),
        **facts,
    }


def _data_facts(benchmark: CILBenchmark) -> dict[str, Any]:
    """What there is to learn, and what was done to the images."""
    train, test = (benchmark.stream_definitions[s].exps_data for s in ("train", "test"))
    facts: dict[str, Any] = {
        "train_images": sum(map(len, train)),
        "test_images": sum(map(len, test)),
    }
    if benchmark.transforms:
        facts["transforms"] = benchmark.transforms
    packs = dict.fromkeys(pack for part in train for pack in _packs(part))
    return facts | ({"packed": "; ".join(packs)} if packs else {})


def _packs(data: Any) -> Iterator[str]:
    """How the images were packed that a data set reads from packed files.

    Not asked of test images: those that ``cache_eval`` keeps are packed too, which changes nothing.
    """
    if isinstance(data, PackedImages):
        settings = data.settings
        crop = f", crop {settings.crop}" if settings.crop else ""
        yield f"size {settings.size}{crop}" if settings.size else "full size"
        return
    inner = [getattr(data, name, None) for name in ("_flat_data", "_dataset", "dataset")]
    for name in ("_datasets", "datasets"):
        inner += list(getattr(data, name, ()))
    for part in inner:
        if part is not None:
            yield from _packs(part)


def _result(
    events: Sequence[dict[str, Any]],
    benchmark: CILBenchmark,
    *,
    extra: dict[str, Any],
    **details: Any,
) -> RunResult:
    """Compute a result from the events of a run."""
    n_classes = benchmark.protocol.n_classes
    correct, total = (
        metrics.stack_counts([event.get(name) for event in events], n_classes)
        for name in ("correct", "total")
    )
    last = events[-1]
    extra["A_last_top5"] = sum(last["correct_top5"]) / sum(last["total"])
    if benchmark.realms:
        realms = metrics.realm_accuracy(last["correct"], last["total"], benchmark.realms)
        extra["realm_accuracy"] = realms
    extra["peak_memory"] = {
        name: max(event["memory"][name] for event in events) for name in last["memory"]
    }
    names = dict.fromkeys(name for event in events for name in event["seconds"])
    seconds = {name: sum(event["seconds"].get(name, 0.0) for event in events) for name in names}
    seconds = {"train": 0.0, "eval": 0.0, **seconds}
    evaluated = sum(sum(event.get("total", ())) for event in events)
    extra["evaluated_images_per_second"] = evaluated / max(seconds["eval"], 1e-9)
    if "state_bytes" in last:
        extra["state_bytes"] = last["state_bytes"]
    return RunResult.from_counts(
        correct,
        total,
        benchmark=benchmark.name,
        protocol=benchmark.protocol,
        seconds={**seconds, "total": seconds["train"] + seconds["eval"]},
        extra=extra,
        **details,
    )


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


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Return how many numbers a model trains now and how many it holds.

    ``trainable`` counts parameters that require gradients. ``total`` counts all parameters and all
    floating-point buffers: everything that has to be stored, the frozen backbone and what a method
    keeps twice included (CaRE's newest experts stand in the bank as well, beside a running sum).
    """
    parameters = list(model.parameters())
    buffers = [b for b in model.buffers() if torch.is_floating_point(b)]
    return {
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "total": sum(t.numel() for t in [*parameters, *buffers]),
    }
