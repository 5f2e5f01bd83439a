"""Figures of results as files, which tell of which runs they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from avalanche_care.experiments.figures.data import arrange, one_panel
from avalanche_care.experiments.figures.lines import draw_accuracy
from avalanche_care.experiments.figures.sheets import Drawn, draw_sheet, draw_usages
from avalanche_care.experiments.figures.style import save
from avalanche_care.experiments.results import RunResult
from avalanche_care.experiments.routing import RoutingUsage

__all__ = ["FigureFile", "accuracy_figure", "write_figures", "write_routing_figures"]


@dataclass(frozen=True)
class FigureFile:
    """A figure that was written.

    Attributes:
        title: What it shows, in a few words.
        caption: How to read it, and how its numbers were computed.
        path: The file in the first format.
        paths: The files in all formats.
        results: Which of the results that were given are in it, counted from 0.
    """

    title: str
    caption: str
    path: Path
    paths: tuple[Path, ...] = ()
    results: tuple[int, ...] = ()


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
    panel = one_panel(results)
    return save(draw_accuracy([panel]), Path(path), title=panel.title, runs=_names(results))


def write_figures(
    results: Sequence[RunResult],
    out: str | Path,
    *,
    formats: Sequence[str] = ("png", "svg"),
    sources: Sequence[str] | None = None,
) -> list[FigureFile]:
    """Draw everything that the results allow.

    Per benchmark (and backbone): accuracy and forgetting over the classes seen, with a panel for
    each protocol, and what each task has lost. Per protocol: the accuracy matrices, accuracy
    against parameters and seconds, accuracy per realm, CaRE's routing recall. What no result
    knows (forgetting of a single task, realms, routing) is left out. A method looks the same in all
    figures of a benchmark. The metadata of PNG, SVG and PDF files names the runs that are in them,
    and the version of this package; they have no date.

    Args:
        results: Of any benchmarks, protocols, methods and seeds.
        out: Directory; files in it that have the same names are replaced.
        formats: Endings of the files to write.
        sources: What the metadata call the run of each result, such as its directory. Left out:
            method, benchmark, protocol, seed and when it ended.

    Returns:
        One entry per figure.

    Raises:
        ValueError: If there is no result or no format, there are more or fewer sources than
            results, or matplotlib does not know a format.
    """
    _check_not_empty(results)
    sources = _names(results) if sources is None else sources
    if len(sources) != len(results):
        raise ValueError(f"expected a source for each of {len(results)} results, got {sources!r}")
    drawn = (figure for sheet in arrange(results) for figure in draw_sheet(sheet))
    return _write(drawn, Path(out), formats, results, sources)


def write_routing_figures(
    usage: RoutingUsage,
    out: str | Path,
    *,
    title: str = "CaRE",
    recall: bool = True,
    formats: Sequence[str] = ("png", "svg"),
    source: str = "",
) -> list[FigureFile]:
    """Draw which routers and experts a trained CaRE uses.

    Args:
        usage: From :func:`avalanche_care.experiments.routing.routing_usage`.
        out: Directory; files in it that have the same names are replaced.
        title: Of whom, such as the benchmark and protocol; begins the names of the files.
        recall: Draw the recall per block too.
        formats: Endings of the files to write.
        source: What the files' metadata call the run, such as its directory.

    Returns:
        One entry per figure.

    Raises:
        ValueError: If there is no format, or matplotlib does not know one.
    """
    drawn = draw_usages(usage, title, recall)
    return _write(drawn, Path(out), formats, sources=[source] if source else ())


def _write(
    drawn: Iterator[Drawn],
    out: Path,
    formats: Sequence[str],
    results: Sequence[RunResult] = (),
    sources: Sequence[str] = (),
) -> list[FigureFile]:
    if isinstance(formats, str) or not formats:
        raise ValueError(f"formats must be endings such as ('png', 'svg'), got {formats!r}")
    places = {id(result): place for place, result in enumerate(results)}
    files: list[FigureFile] = []
    names: set[str] = set()
    for one in drawn:  # one after the other: only one figure is in memory
        stem = next(
            name
            for name in (one.name, *(f"{one.name}-{i}" for i in range(2, 2 + len(names))))
            if name not in names
        )
        names.add(stem)
        shown = tuple(sorted({places[id(result)] for result in one.results}))
        runs = [sources[place] for place in shown] if results else sources
        paths = tuple(
            save(one.figure, out / f"{stem}.{ending}", title=one.title, runs=runs)
            for ending in formats
        )
        files.append(FigureFile(one.title, one.caption, paths[0], paths, shown))
    return files


def _names(results: Sequence[RunResult]) -> list[str]:
    """What to call runs whose directories are not known."""
    return [
        f"{r.method}-{r.benchmark}-{r.protocol}-seed{r.seed}, ended {r.created}" for r in results
    ]


def _check_not_empty(results: Sequence[RunResult]) -> None:
    if not results:
        raise ValueError("no results to show; expected at least one RunResult")
