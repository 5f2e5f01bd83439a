"""Tables and figures from result files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from avalanche_care.experiments.figures import accuracy_figure
from avalanche_care.experiments.reporting.cells import cells
from avalanche_care.experiments.reporting.collect import collect_runs
from avalanche_care.experiments.reporting.comparison import Comparison
from avalanche_care.experiments.reporting.quantities import MAIN
from avalanche_care.experiments.reporting.rows import Defaults, Presets
from avalanche_care.experiments.reporting.tables import Column, Table, TableCell, to_rst
from avalanche_care.experiments.results import RunResult

__all__ = ["accuracy_figure", "results_table", "write_report"]


def results_table(results: Sequence[RunResult]) -> str:
    """The results as an aligned table, which is also a reStructuredText simple table.

    Accuracies and forgetting are in per cent: A_last and A_avg weigh each test image alike within a
    step, forgetting is max minus last. Benchmark, protocol and seed get a column where the results
    differ in them. Where steps were left out, a column says how many tasks were followed by an
    evaluation: A_avg and forgetting are over those only.

    Args:
        results: One row each, in this order.

    Returns:
        The table, without a newline at the end.

    Raises:
        ValueError: If there is no result.
    """
    _check_not_empty(results)
    columns = [Column("method", number=False)]
    rows = [[TableCell(result.method)] for result in results]

    def add(column: Column, cells: Iterable[TableCell]) -> None:
        columns.append(column)
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)

    for name in ("benchmark", "protocol", "seed"):
        texts = [str(getattr(result, name)) for result in results]
        if len(set(texts)) > 1:
            add(Column(name, number=False), map(TableCell, texts))
    texts = [f"{len(r.evaluated)} of {len(r.accuracy)}" for r in results]
    if any(len(r.evaluated) < len(r.accuracy) for r in results):
        add(Column("evaluated"), map(TableCell, texts))
    for quantity in MAIN:
        add(quantity.column, [TableCell("unknown", quantity.of(result)) for result in results])
    add(Column("seconds"), [TableCell(f"{result.seconds['total']:.1f}") for result in results])
    for name in ("trainable", "total"):
        numbers = [result.parameters[name] for result in results]
        add(Column(name, digits=0), [TableCell(value=number) for number in numbers])
    return to_rst(Table("results", "Results", tuple(columns), tuple(map(tuple, rows))))


def write_report(
    paths: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    figures: bool = True,
    defaults: Defaults | None = None,
    presets: Presets | None = None,
) -> Path:
    """Write tables and figures of all runs in some directories.

    Everything comes from the files of the runs and from ``assets/published.json``. ``index.html``
    is one file that needs nothing else; ``report.md`` has the same tables, as text that can be
    read; ``tables`` has each of them as CSV and as LaTeX (for the package booktabs), ``figures``
    the figures, whose metadata name their runs. Numbers are means and sample standard deviations
    over seeds; each leads to the directories of its runs, relative to the report.

    Runs are put together if they differ in the seed only: benchmark, protocol, class order, data,
    backbone, the method's settings and the evaluated tasks are equal. What was not run, failed or
    is not complete says so. Runs that were evaluated after fewer tasks have rows of their own, and
    their A_avg and forgetting are not ranked with those of the others.

    Args:
        paths: directories with runs at any depth, and result files.
        out: directory to write to; a report that is there is replaced.
        figures: draw figures too.
        defaults: a method's default settings by its name, to show the deviations in force; None in
            place of settings that are not known. Left out: those of the registered methods, for
            which PyTorch and Avalanche are imported.
        presets: a method's settings for benchmarks and protocols by its name, such as
            ``{"imagenet-r/B0-Inc5": {...}}``: where there is one, the difference to a published
            number is shown for its settings only, else for the defaults only. Left out: those of
            the registered methods; none, if ``defaults`` are given.

    Returns:
        The path of ``index.html``.

    Raises:
        FileNotFoundError: if a path does not exist.
        FileExistsError: if ``out`` has files in it that are no report.
        ValueError: if there is no run.
    """
    from avalanche_care.experiments.reporting.files import write_files

    entries = collect_runs(paths)
    if not entries:
        raise ValueError(f"no run was found in {paths}; expected result files or run directories")
    if defaults is None:
        presets = presets or method_presets
    comparison = Comparison(cells(entries), defaults or method_defaults, presets)
    return write_files(comparison, entries, Path(out), figures=figures)


def method_defaults(method: str) -> dict[str, Any] | None:
    """Default settings of a registered method; None for any other."""
    from avalanche_care.strategies.registry import available_methods  # the first to need torch

    found = available_methods().get(method)
    return None if found is None else dataclasses.asdict(found.config())


def method_presets(method: str) -> dict[str, dict[str, Any]]:
    """Settings of a registered method's presets, by name; nothing for any other."""
    from avalanche_care.strategies.registry import available_methods

    found = available_methods().get(method)
    if found is None:
        return {}
    names: dict[str, Any] = getattr(found.config, "presets", dict)()
    return {name: dataclasses.asdict(found.config.preset(name)) for name in names}


def _check_not_empty(results: Sequence[RunResult]) -> None:
    if not results:
        raise ValueError("no results to show; expected at least one RunResult")
