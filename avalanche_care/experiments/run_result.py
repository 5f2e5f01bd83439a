"""The result of a run, from the events that it left and the model that it made."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from avalanche_care import metrics
from avalanche_care.experiments.learning import Learning
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.routing import ROUTING, batches_of, routing_usage
from avalanche_care.nn.care import CaREModel

__all__ = ["count_parameters", "run_result"]


def run_result(
    learning: Learning,
    *,
    extra: dict[str, Any],
    **details: Any,
) -> RunResult:
    """Compute the result of a run that has learned all.

    Args:
        learning: it, with its events, its model and its record.
        extra: further figures; routing and those that follow from the events are added.
        details: what else :class:`RunResult` has.

    Returns:
        The result. ``parameters["trainable"]`` is the most that a phase of a task has trained.
    """
    events, benchmark, strategy = learning.events, learning.benchmark, learning.strategy
    extra = {**extra, **_routing(learning)}
    if len(learning.machines) > 1:
        extra["machines"] = learning.machines
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
        parameters={**count_parameters(strategy.model), "trainable": learning.trained.most},
        extra=extra,
        **details,
    )


def _routing(learning: Learning) -> dict[str, Any]:
    """Which routers the test images of each task select, for a model that has routers."""
    model = learning.strategy.model
    if not isinstance(model, CaREModel) or model.tasks < 2:
        return {}
    datasets = [experience.dataset for experience in learning.benchmark.test_stream]
    usage = routing_usage(model, batches_of(datasets, num_workers=learning.num_workers))
    if learning.record is not None:
        usage.save(learning.record.path / ROUTING)
    return {"routing": usage.summary()}


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
