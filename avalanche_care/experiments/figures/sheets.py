"""Which figures results allow, what they are called, and which results are in each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from avalanche_care.experiments.figures.cost import draw_costs
from avalanche_care.experiments.figures.data import Panel, Sheet, count
from avalanche_care.experiments.figures.lines import (
    draw_accuracy,
    draw_forgetting,
    forgetting_curves,
)
from avalanche_care.experiments.figures.maps import (
    draw_losses,
    draw_matrices,
    loss_rows,
)
from avalanche_care.experiments.figures.realms import draw_realms
from avalanche_care.experiments.figures.routing import draw_choices, draw_recall, draw_usage
from avalanche_care.experiments.figures.style import Look, looks_of
from avalanche_care.experiments.reporting.machines import machines
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.routing import RoutingUsage
from avalanche_care.experiments.routing_recall import routing_of

__all__ = ["Drawn", "draw_sheet", "draw_usages"]

LONGEST_NAME = 40  # characters of a title in the name of a file
OVER_RUNS = "Lines are means over runs, bands reach from the lowest to the highest run."
RECALL = (
    "How often the routers that a block selects contain the one of the test image's own task, and "
    "how often its own expert has one of the largest gates."
)


@dataclass(frozen=True)
class Drawn:
    """A figure that is not written yet.

    Attributes:
        name: beginning of the names of its files.
        title: what it shows, in a few words.
        caption: how to read it, and how its numbers were computed.
        figure: it.
        results: those that are in it.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    results: Sequence[RunResult] = field(default_factory=list)


def draw_sheet(sheet: Sheet) -> Iterator[Drawn]:
    """Draw everything that the results on one benchmark allow, one figure after the other."""
    looks = looks_of(sheet.labels)
    name = _slug(sheet.title)
    yield Drawn(
        f"{name}-accuracy",
        f"Accuracy on {sheet.title}",
        "Accuracy on the test images of all classes seen so far, each image weighing alike. "
        f"{OVER_RUNS} Beside each line: A_last.",
        draw_accuracy(sheet.panels, looks),
        [result for panel in sheet.panels for result in _of(panel)],
    )
    forgetting = draw_forgetting(sheet.panels, looks)
    if forgetting is not None:
        yield Drawn(
            f"{name}-forgetting",
            f"Forgetting on {sheet.title}",
            "Mean over the earlier tasks of the best accuracy so far minus the present one (max "
            f"minus last), after each task. {OVER_RUNS}",
            forgetting,
            [r for panel in sheet.panels for r in _of(panel, forgetting_curves(panel.runs))],
        )
    losses = draw_losses(sheet.panels)
    if losses is not None:
        yield Drawn(
            f"{name}-forgetting-by-task",
            f"What each task lost on {sheet.title}",
            "Best accuracy of each task minus its accuracy after the last one, mean over runs; the "
            "last task is left out. Its mean over tasks is the forgetting in the tables.",
            losses,
            [r for panel in sheet.panels for r in _of(panel, loss_rows(panel))],
        )
    for panel in sheet.panels:
        yield from _draw_panel(f"{name}-{_slug(panel.protocol)}", sheet, panel, looks)


def _draw_panel(
    name: str, sheet: Sheet, panel: Panel, looks: Mapping[str, Look]
) -> Iterator[Drawn]:
    where = f"{sheet.title}, {panel.title}"
    yield Drawn(
        f"{name}-matrix",
        f"Accuracy matrices on {where}",
        "Accuracy of every task (across) after every task (down), mean over runs. Hatched rows "
        "were not evaluated; in long sequences rows that were are drawn thicker than one task.",
        draw_matrices(panel),
        _of(panel),
    )
    yield Drawn(
        f"{name}-cost",
        f"Accuracy against cost on {where}",
        "A_last over all numbers that the model stores in the end, backbone included, and over "
        "seconds of training and evaluation: means over runs, bars from the lowest to the highest. "
        + _hardware(panel),
        draw_costs(panel, looks),
        _of(panel),
    )
    realms = draw_realms(panel, looks)
    if realms is not None:
        yield Drawn(
            f"{name}-realms",
            f"Accuracy per realm on {where}",
            "Accuracy on the test images of each realm after the last task, mean over runs. "
            "Realms are ordered by the mean over methods.",
            realms,
            [result for result in _of(panel) if result.extra.get("realm_accuracy")],
        )
    for label, runs in panel.runs.items():
        routed = [result for result in runs if routing_of(result)]
        if routed:
            yield Drawn(
                f"{name}-{_slug(label)}-recall",
                f"Routing recall of {label} on {where}",
                RECALL + f" Mean and range of {count(len(routed), 'run')}.",
                draw_recall([r.extra["routing"] for r in routed], tasks=len(panel.task_sizes)),
                routed,
            )


def draw_usages(usage: RoutingUsage, title: str, recall: bool) -> Iterator[Drawn]:
    """Draw which routers and experts a trained CaRE uses, one figure after the other."""
    name = _slug(title)
    about = f"{count(int(usage.images.sum()), 'test image')}, {count(usage.tasks, 'task')}."
    if recall:
        yield Drawn(
            f"{name}-routing-recall",
            f"Routing recall, {title}",
            f"{RECALL} {about}",
            draw_recall([usage.summary()], tasks=usage.tasks),
        )
    yield Drawn(
        f"{name}-routers",
        f"Routers selected, {title}",
        "Share of each task's test images for which a router was selected; the diagonal is routing "
        f"recall. {about}",
        draw_choices(usage),
    )
    yield Drawn(
        f"{name}-experts",
        f"Experts used, {title}",
        "Share of the gate mass of each task's test images that an expert got. A router knows the "
        f"experts of its own and of earlier tasks only. {about}",
        draw_choices(usage, experts=True),
    )
    yield Drawn(
        f"{name}-usage",
        f"Routers and experts by block, {title}",
        "Above: share of each task's test images for which its own router was selected. Below: how "
        "often each router was selected and what gate mass each expert got, over all test images; "
        f"1 is what it would be if all were used alike. {about}",
        draw_usage(usage),
    )


def _of(panel: Panel, labels: Iterable[str] | None = None) -> list[RunResult]:
    """The results of a panel, or of some of its methods."""
    chosen = panel.runs if labels is None else labels
    return [result for label in chosen for result in panel.runs[label]]


def _hardware(panel: Panel) -> str:
    """Say on what the seconds were taken; on different machines they cannot be compared."""
    found = machines(_of(panel))
    if len(found) == 1:
        return f"All on: {found[0]}."
    return f"Seconds are of different machines ({'; '.join(found)}), so not comparable."


def _slug(text: str) -> str:
    """The beginning of a text as part of a file name; equal names are told apart by a number."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower())[:LONGEST_NAME]
    return words.strip("-") or "figure"
