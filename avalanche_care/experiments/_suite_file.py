"""From a suite's file to its runs."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from avalanche_care.benchmarks.catalogue import CARDS, suggestion
from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.benchmarks.registry import available_benchmarks
from avalanche_care.experiments.config import (
    BackboneConfig,
    BenchmarkConfig,
    RunConfig,
    run_config,
)
from avalanche_care.experiments.typed import from_plain
from avalanche_care.strategies.registry import available_methods, get_method

__all__ = ["Suite", "parse_suite"]

ALL = "all"
ELSEWHERE = {
    "method": "methods",
    "settings": "settings.<method>",
    "benchmark": "benchmarks",
    "backbone": "backbones",
    "seed": "seeds",
}
"""Fields of a run that have a place of their own in a suite."""


@dataclass(frozen=True)
class Suite:
    """Runs that belong together. :func:`avalanche_care.experiments.suite.read_suite` reads one.

    Attributes:
        name: what to call it.
        runs: in the order in which they begin. No two are the same.

    Raises:
        ValueError: if there are none, or two are the same.
    """

    name: str
    runs: tuple[RunConfig, ...]

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError(f"the suite {self.name!r} has no runs")
        count = Counter(run.directory_name for run in self.runs)
        twice = [f"{name} is asked for {times} times" for name, times in count.items() if times > 1]
        if twice:
            raise ValueError(f"the suite {self.name!r} cannot be used:\n- " + "\n- ".join(twice))


@dataclass(frozen=True, kw_only=True)
class SuiteFile:
    """Keys of a suite's file, after single values were made lists of one."""

    name: str
    methods: tuple[str, ...]
    benchmarks: tuple[dict[str, Any], ...]
    backbones: tuple[dict[str, Any], ...] = ({},)
    seeds: tuple[int, ...] = (1,)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    run: dict[str, Any] = dataclasses.field(default_factory=dict)


def parse_suite(values: Mapping[str, Any], *, where: str) -> Suite:
    """Expand a suite into its runs.

    Args:
        values: as in the file.
        where: what to call them in messages.

    Returns:
        The suite; seeds are outermost, so that the first runs make a whole table of one seed.

    Raises:
        ValueError: listing everything that is wrong.
    """
    raw = {key: _listed(key, value) for key, value in values.items()}
    problems: list[str] = []
    file = _caught(problems, "", from_plain, SuiteFile, raw, where=where)
    methods = _methods(raw, problems)
    parts = _Parts(
        methods,
        _tables(raw, "benchmarks", BenchmarkConfig, problems),
        _tables(raw, "backbones", BackboneConfig, problems) or [("", {}, BackboneConfig())],
        _settings(raw.get("settings"), methods, problems),
    )
    for place, _, config in parts.benchmarks:
        problems += [place + problem for problem in _benchmark_problems(config)]
    problems += _option_problems(raw.get("run"))
    suite = None
    if file is not None and not problems:
        runs = [
            _caught(problems, place, run_config, run) for place, run in _expand(file, parts)
        ]  # what goes wrong here could not be told before a preset was chosen
        if not problems:
            suite = _caught(problems, "", Suite, file.name, tuple(runs))
    if suite is None:
        lines = dict.fromkeys(problems)  # the same problem in many runs is one problem
        raise ValueError(f"{where} cannot be used:\n- " + "\n- ".join(lines))
    return suite


class _Parts(NamedTuple):
    """What a suite is made of; tables with their place in the file and as a configuration."""

    methods: list[str]
    benchmarks: list[tuple[str, dict[str, Any], Any]]
    backbones: list[tuple[str, dict[str, Any], Any]]
    settings: dict[str, list[dict[str, Any]]]


def _expand(file: SuiteFile, parts: _Parts) -> Iterator[tuple[str, dict[str, Any]]]:
    """The values of each run, and what to call them."""
    for seed in file.seeds:
        for _, benchmark, benchmark_config in parts.benchmarks:
            for _, backbone, _ in parts.backbones:
                for method in parts.methods:
                    for settings in parts.settings.get(method, [{}]):
                        yield (
                            f"{method} on {benchmark_config.name}: ",
                            {
                                **file.run,
                                "method": method,
                                "settings": settings,
                                "benchmark": benchmark,
                                "backbone": backbone,
                                "seed": seed,
                            },
                        )


def _methods(raw: Mapping[str, Any], problems: list[str]) -> list[str]:
    """The methods that are named; also notes what is named twice."""
    methods = [name for name in _list(raw, "methods") if isinstance(name, str)]
    for name in methods:
        _caught(problems, "methods: ", get_method, name)
    for key in ("methods", "seeds"):
        counts = Counter(map(repr, _list(raw, key)))
        problems += [f"{key} has {entry} more than once" for entry, n in counts.items() if n > 1]
    return methods


def _listed(key: str, value: Any) -> Any:
    """A single value as a list of one, and the word for all methods as their names."""
    if key == "methods" and value == ALL:
        return list(available_methods())
    single = {"methods": str, "seeds": int, "benchmarks": Mapping, "backbones": Mapping}
    return [value] if key in single and isinstance(value, single[key]) else value


def _list(raw: Mapping[str, Any], key: str) -> Sequence[Any]:
    """The list at a key; an empty one if something else is there, which is noted elsewhere."""
    value = raw.get(key)
    return value if isinstance(value, list) else []


def _caught(
    problems: list[str], place: str, call: Callable[..., Any], *args: Any, **kw: Any
) -> Any:
    """The value of a call, or None and what it complains about added to the problems."""
    try:
        return call(*args, **kw)
    except ValueError as error:
        head, *lines = str(error).split("\n- ")
        problems += [place + line for line in lines or [head]]
        return None


def _tables(
    raw: Mapping[str, Any], key: str, kind: type[Any], problems: list[str]
) -> list[tuple[str, dict[str, Any], Any]]:
    """Each table that the tables at a key stand for: its place, itself, its configuration."""
    tables = _list(raw, key)
    found = []
    for number, table in enumerate(tables):
        place = f"{key}: " if len(tables) == 1 else f"{key}[{number}]: "
        if not isinstance(table, Mapping):
            continue  # noted elsewhere
        problems += [f"{place}{name} is an empty list" for name, v in table.items() if v == []]
        for single in _each(table):
            config = _caught(problems, place, from_plain, kind, single, where=key)
            found.append((place, single, config))
    return found


def _each(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The tables that one stands for whose values may be lists: every combination."""
    values = [value if isinstance(value, list) else [value] for value in table.values()]
    for combination in itertools.product(*values):
        yield dict(zip(table, combination, strict=True))


def _benchmark_problems(config: BenchmarkConfig | None) -> list[str]:
    """What can be told without the data."""
    if config is None:
        return []
    problems: list[str] = []
    known = available_benchmarks(config.root)
    known.pop("folders")  # two directories, which only a script can name
    if config.name not in known:
        problems.append(
            f"no benchmark is called {config.name!r}{suggestion(config.name, known)}; there are "
            f"{', '.join(known)}"
        )
    if config.protocol is not None:
        card = CARDS.get(config.name)
        classes = config.n_classes or (card.classes if card else 10**9)
        _caught(problems, "", Protocol.parse, config.protocol, n_classes=classes)
    return problems


def _settings(
    given: Any, methods: Sequence[str], problems: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """The variants of each method's settings."""
    variants: dict[str, list[dict[str, Any]]] = {}
    for method, tables in given.items() if isinstance(given, Mapping) else ():
        place = f"settings.{method}"
        tables = [tables] if isinstance(tables, Mapping) else tables
        if method not in methods:
            problems.append(f"{place}: {method!r} is not among the methods of the suite")
        elif not isinstance(tables, list) or not all(isinstance(t, Mapping) for t in tables):
            problems.append(f"{place} must be a table, or several, got {tables!r}")
        elif method in available_methods():
            kind = get_method(method).config
            for table in tables:
                fields = {key: value for key, value in table.items() if key != "preset"}
                _caught(problems, f"{place}: ", from_plain, kind, fields, where=place)
            variants[method] = tables
    return variants


def _option_problems(options: Any) -> list[str]:
    if not isinstance(options, Mapping):
        return []
    problems = [
        f"run: {name!r} belongs in {ELSEWHERE[name]}" for name in options if name in ELSEWHERE
    ]
    rest = {name: value for name, value in options.items() if name not in ELSEWHERE}
    _caught(problems, "run: ", from_plain, RunConfig, {"method": "", **rest}, where="run")
    return problems
