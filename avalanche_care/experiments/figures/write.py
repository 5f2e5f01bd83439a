"""Figures from results: one sheet per benchmark, and everything that its results allow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from avalanche_care.experiments.figures.cost import draw_costs
from avalanche_care.experiments.figures.data import Panel, Sheet, arrange, count, one_panel
from avalanche_care.experiments.figures.lines import draw_accuracy, draw_forgetting
from avalanche_care.experiments.figures.maps import draw_losses, draw_matrices
from avalanche_care.experiments.figures.realms import draw_realms
from avalanche_care.experiments.figures.routing import draw_choices, draw_recall, draw_usage
from avalanche_care.experiments.figures.style import Look, looks_of, save
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.routing import RoutingUsage

__all__ = ["FigureFile", "accuracy_figure", "write_figures", "write_routing_figures"]

LONGEST_NAME = 40  # characters of a title in the name of a file
OVER_RUNS = "Lines are means over runs, bands reach from the lowest to the highest run."


@dataclass(frozen=True)
class FigureFile:
    """A figure that was written.

    Attributes:
        title: What it shows, in a few words.
        caption: How to read it, and how its numbers were computed.
        path: The file in the first format.
        paths: The files in all formats.
    """

    title: str
    caption: str
    path: Path
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Drawn:
    name: str
    title: str
    caption: str
    figure: Figure


def accuracy_figure(results: Sequence[RunResult], path: str | Path) -> Path:
    """Draw the accuracy on all classes seen so far over the number of these classes.

    One line per method, in the order and with the colour of its first appearance. Several results
    of a method (seeds) become their mean, with a band from the lowest to the highest. A line joins
    the steps that all results of the method have evaluated. Results of a method in which a setting
    differs are methods of their own.

    Args:
        results: Results of one benchmark and protocol.
        path: Where to write; the ending (.png, .svg, .pdf) decides the format.

    Returns:
        The path.

    Raises:
        ValueError: If there is no result, or the results are of different task sequences.
    """
    _check_not_empty(results)
    splits = {(r.benchmark, r.protocol, tuple(r.task_sizes)) for r in results}
    if len(splits) > 1:
        named = sorted({f"{benchmark} {protocol}" for benchmark, protocol, _ in splits})
        raise ValueError(f"one figure shows one sequence of tasks, got {', '.join(named)}")
    return save(draw_accuracy([one_panel(results)]), Path(path))


def write_figures(
    results: Sequence[RunResult],
    out: str | Path,
    *,
    formats: Sequence[str] = ("png", "svg"),
) -> list[FigureFile]:
    """Draw everything that the results allow.

    Per benchmark (and backbone): accuracy and forgetting over the classes seen, with a panel for
    each protocol, and what each task has lost. Per protocol: the accuracy matrices, accuracy
    against parameters and seconds, accuracy per realm, CaRE's routing recall. What no result
    knows (forgetting of a single task, realms, routing) is left out. A method looks the same in all
    figures of a benchmark.

    Args:
        results: Of any benchmarks, protocols, methods and seeds.
        out: Directory; files in it that have the same names are replaced.
        formats: Endings of the files to write.

    Returns:
        One entry per figure.

    Raises:
        ValueError: If there is no result or no format, or matplotlib does not know a format.
    """
    _check_not_empty(results)
    drawn = (figure for sheet in arrange(results) for figure in _draw_sheet(sheet))
    return _write(drawn, Path(out), formats)


def write_routing_figures(
    usage: RoutingUsage,
    out: str | Path,
    *,
    title: str = "CaRE",
    recall: bool = True,
    formats: Sequence[str] = ("png", "svg"),
) -> list[FigureFile]:
    """Draw which routers and experts a trained CaRE uses.

    Args:
        usage: From :func:`avalanche_care.experiments.routing.routing_usage`.
        out: Directory; files in it that have the same names are replaced.
        title: Of whom, such as the benchmark and protocol; begins the names of the files.
        recall: Draw the recall per block too.
        formats: Endings of the files to write.

    Returns:
        One entry per figure.

    Raises:
        ValueError: If there is no format, or matplotlib does not know one.
    """
    return _write(_draw_routing(usage, title, recall), Path(out), formats)


def _write(drawn: Iterator[_Drawn], out: Path, formats: Sequence[str]) -> list[FigureFile]:
    if isinstance(formats, str) or not formats:
        raise ValueError(f"formats must be endings such as ('png', 'svg'), got {formats!r}")
    files: list[FigureFile] = []
    names: set[str] = set()
    for one in drawn:  # one after the other: only one figure is in memory
        stem = next(
            name
            for name in (one.name, *(f"{one.name}-{i}" for i in range(2, 2 + len(names))))
            if name not in names
        )
        names.add(stem)
        paths = tuple(save(one.figure, out / f"{stem}.{ending}") for ending in formats)
        files.append(FigureFile(one.title, one.caption, paths[0], paths))
    return files


def _draw_sheet(sheet: Sheet) -> Iterator[_Drawn]:
    looks = looks_of(sheet.labels)
    name = _slug(sheet.title)
    yield _Drawn(
        f"{name}-accuracy",
        f"Accuracy on {sheet.title}",
        "Accuracy on the test images of all classes seen so far, each image weighing alike. "
        f"{OVER_RUNS} Beside each line: A_last.",
        draw_accuracy(sheet.panels, looks),
    )
    forgetting = draw_forgetting(sheet.panels, looks)
    if forgetting is not None:
        yield _Drawn(
            f"{name}-forgetting",
            f"Forgetting on {sheet.title}",
            "Mean over the earlier tasks of the best accuracy so far minus the present one (max "
            f"minus last), after each task. {OVER_RUNS}",
            forgetting,
        )
    losses = draw_losses(sheet.panels)
    if losses is not None:
        yield _Drawn(
            f"{name}-forgetting-by-task",
            f"What each task lost on {sheet.title}",
            "Best accuracy of each task minus its accuracy after the last one, mean over runs; the "
            "last task is left out. Its mean over tasks is the forgetting in the tables.",
            losses,
        )
    for panel in sheet.panels:
        yield from _draw_panel(f"{name}-{_slug(panel.protocol)}", sheet, panel, looks)


def _draw_panel(
    name: str, sheet: Sheet, panel: Panel, looks: Mapping[str, Look]
) -> Iterator[_Drawn]:
    where = f"{sheet.title}, {panel.title}"
    yield _Drawn(
        f"{name}-matrix",
        f"Accuracy matrices on {where}",
        "Accuracy of every task (across) after every task (down), mean over runs. Hatched rows "
        "were not evaluated; in long sequences rows that were are drawn thicker than one task.",
        draw_matrices(panel),
    )
    yield _Drawn(
        f"{name}-cost",
        f"Accuracy against cost on {where}",
        "A_last over all numbers that the model stores in the end, backbone included, and over "
        "seconds of training and evaluation: means over runs, bars from the lowest to the highest. "
        + _hardware(panel),
        draw_costs(panel, looks),
    )
    realms = draw_realms(panel, looks)
    if realms is not None:
        yield _Drawn(
            f"{name}-realms",
            f"Accuracy per realm on {where}",
            "Accuracy on the test images of each realm after the last task, mean over runs. "
            "Realms are ordered by the mean over methods.",
            realms,
        )
    for label, runs in panel.runs.items():
        summaries = [r.extra["routing"] for r in runs if r.extra.get("routing")]
        if summaries:
            yield _Drawn(
                f"{name}-{_slug(label)}-recall",
                f"Routing recall of {label} on {where}",
                _RECALL + f" Mean and range of {count(len(summaries), 'run')}.",
                draw_recall(summaries, tasks=len(panel.task_sizes)),
            )


_RECALL = (
    "How often the routers that a block selects contain the one of the test image's own task, and "
    "how often its own expert has one of the largest gates."
)


def _draw_routing(usage: RoutingUsage, title: str, recall: bool) -> Iterator[_Drawn]:
    name = _slug(title)
    about = f"{count(int(usage.images.sum()), 'test image')}, {count(usage.tasks, 'task')}."
    if recall:
        yield _Drawn(
            f"{name}-routing-recall",
            f"Routing recall, {title}",
            f"{_RECALL} {about}",
            draw_recall([usage.summary()], tasks=usage.tasks),
        )
    yield _Drawn(
        f"{name}-routers",
        f"Routers selected, {title}",
        "Share of each task's test images for which a router was selected; the diagonal is routing "
        f"recall. {about}",
        draw_choices(usage),
    )
    yield _Drawn(
        f"{name}-experts",
        f"Experts used, {title}",
        "Share of the gate mass of each task's test images that an expert got. A router knows the "
        f"experts of its own and of earlier tasks only. {about}",
        draw_choices(usage, experts=True),
    )
    yield _Drawn(
        f"{name}-usage",
        f"Routers and experts by block, {title}",
        "Above: share of each task's test images for which its own router was selected. Below: how "
        "often each router was selected and what gate mass each expert got, over all test images; "
        f"1 is what it would be if all were used alike. {about}",
        draw_usage(usage),
    )


def _hardware(panel: Panel) -> str:
    """Say on what the seconds were taken; on different machines they cannot be compared."""
    found = dict.fromkeys(
        _machine(result.hardware) for runs in panel.runs.values() for result in runs
    )
    if len(found) == 1:
        return f"All on: {next(iter(found))}."
    return f"Seconds are of different machines ({'; '.join(found)}), so not comparable."


def _machine(hardware: Mapping[str, Any]) -> str:
    device = hardware.get("device")
    if device == "cpu":
        return f"{hardware.get('cpu', 'CPU')}, {hardware.get('threads', 'unknown')} threads"
    return str(device or "hardware not recorded")


def _slug(text: str) -> str:
    """The beginning of a text as part of a file name; equal names are told apart by a number."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower())[:LONGEST_NAME]
    return words.strip("-") or "figure"


def _check_not_empty(results: Sequence[RunResult]) -> None:
    if not results:
        raise ValueError("no results to show; expected at least one RunResult")
