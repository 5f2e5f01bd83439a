"""From a suite's file to its runs."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from avalanche_care.checked import ConfigError
from avalanche_care.experiments.config import (
    BackboneConfig,
    BenchmarkConfig,
    EvaluationConfig,
    RunConfig,
    check_data,
    check_run,
    check_settings,
)
from avalanche_care.experiments.typed import Problem, build, refusal
from avalanche_care.strategies.registry import available_methods, get_method

__all__ = ["Suite", "parse_suite"]

ALL = "all"
ELSEWHERE = {
    "method": "methods",
    "settings": "settings.<method>",
    "benchmark": "benchmarks",
    "backbone": "backbones",
    "evaluation": "evaluation",
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
        ConfigError: if there are none, or two are the same.
    """

    name: str
    runs: tuple[RunConfig, ...]

    def __post_init__(self) -> None:
        if not self.runs:
            raise ConfigError(f"the suite {self.name!r} cannot be used", ["it has no runs"])
        count = Counter(run.directory_name for run in self.runs)
        twice = [f"{name} is asked for {times} times" for name, times in count.items() if times > 1]
        if twice:
            raise ConfigError(f"the suite {self.name!r} cannot be used", twice)


@dataclass(frozen=True, kw_only=True)
class SuiteFile:
    """Keys of a suite's file, after single values were made lists of one."""

    name: str
    methods: tuple[str, ...]
    benchmarks: tuple[dict[str, Any], ...]
    backbones: tuple[dict[str, Any], ...] = ({},)
    seeds: tuple[int, ...] = (1,)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    evaluation: dict[str, Any] = dataclasses.field(default_factory=dict)
    run: dict[str, Any] = dataclasses.field(default_factory=dict)


def parse_suite(values: Mapping[str, Any], *, where: str) -> Suite:
    """Expand a suite into its runs.

    Args:
        values: as in the file.
        where: what to call them in messages.

    Returns:
        The suite; seeds are outermost, so that the first runs make a whole table of one seed.

    Raises:
        ConfigError: listing everything that is wrong.
    """
    raw = {key: _listed(key, value) for key, value in values.items()}
    problems: list[Problem] = []
    file = build(SuiteFile, raw, problems)
    benchmarks = _tables(raw, "benchmarks", BenchmarkConfig, problems)
    methods = _methods(raw, problems)
    parts = _Parts(
        methods,
        benchmarks,
        _tables(raw, "backbones", BackboneConfig, problems) or [{}],
        _settings(raw.get("settings"), methods, benchmarks or [{}], problems),
    )
    _check_shared(raw, problems)
    if file is None or problems:
        raise refusal(where, problems)
    runs = [check_run(run) for run in _expand(file, parts)]
    problems = [problem for _, found in runs for problem in found]
    if problems:
        raise refusal(where, problems)
    try:
        return Suite(file.name, tuple(run for run, _ in runs))
    except ConfigError as error:
        raise ConfigError(f"{where} cannot be used", error.problems) from None


class _Parts(NamedTuple):
    """What a suite is made of: plain values; variants of settings by method."""

    methods: list[str]
    benchmarks: list[dict[str, Any]]
    backbones: list[dict[str, Any]]
    settings: dict[str, list[dict[str, Any]]]


def _expand(file: SuiteFile, parts: _Parts) -> Iterator[dict[str, Any]]:
    """The values of each run."""
    for seed, benchmark, backbone, method in itertools.product(
        file.seeds, parts.benchmarks, parts.backbones, parts.methods
    ):
        for settings in parts.settings.get(method, [{}]):
            yield {
                **file.run,
                "method": method,
                "settings": settings,
                "benchmark": benchmark,
                "backbone": backbone,
                "evaluation": file.evaluation,
                "seed": seed,
            }


def _methods(raw: Mapping[str, Any], problems: list[Problem]) -> list[str]:
    """The methods that are named; also notes what is named twice."""
    methods = [name for name in _list(raw, "methods") if isinstance(name, str)]
    for name in methods:
        try:
            get_method(name)
        except ValueError as error:
            problems.append(Problem("methods", str(error)))
    for key in ("methods", "seeds"):
        counts = Counter(map(repr, _list(raw, key)))
        problems += [
            Problem(key, f"has {name} more than once") for name, n in counts.items() if n > 1
        ]
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


def _tables(
    raw: Mapping[str, Any], key: str, kind: type[Any], problems: list[Problem]
) -> list[dict[str, Any]]:
    """All tables that the tables at a key stand for; notes what is wrong with them."""
    tables = _list(raw, key)
    found = []
    for number, table in enumerate(tables):
        place = key if len(tables) == 1 else f"{key}[{number}]"
        if not isinstance(table, Mapping):
            continue  # noted elsewhere
        problems += [
            Problem(f"{place}.{name}", "is an empty list") for name, v in table.items() if v == []
        ]
        for single in _each(table):
            noted: list[Problem] = []
            config = build(kind, single, noted, place=place)
            if isinstance(config, BenchmarkConfig):
                check_data(config, noted, place=place)
            problems += noted
            found.append(single)
    return found


def _each(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The tables that one stands for whose values may be lists: every combination."""
    values = [value if isinstance(value, list) else [value] for value in table.values()]
    for combination in itertools.product(*values):
        yield dict(zip(table, combination, strict=True))


def _settings(
    given: Any,
    methods: Sequence[str],
    benchmarks: Sequence[Mapping[str, Any]],
    problems: list[Problem],
) -> dict[str, list[dict[str, Any]]]:
    """The variants of each method's settings; each has to do with the preset of each benchmark."""
    variants: dict[str, list[dict[str, Any]]] = {}
    for method, tables in given.items() if isinstance(given, Mapping) else ():
        place = f"settings.{method}"
        tables = [tables] if isinstance(tables, Mapping) else tables
        if method not in methods:
            problems.append(Problem(place, "is for a method that the suite does not have"))
        elif not isinstance(tables, list) or not all(isinstance(t, Mapping) for t in tables):
            problems.append(Problem(place, f"must be a table, or several, got {tables!r}"))
        elif method in available_methods():
            kind = get_method(method).config
            for table, benchmark in itertools.product(tables, benchmarks):
                check_settings(kind, table, problems, benchmark=benchmark, place=place)
            variants[method] = tables
    return variants


def _check_shared(raw: Mapping[str, Any], problems: list[Problem]) -> None:
    """Note what is wrong with values that are the same for all runs, and with the seeds."""
    any_run = RunConfig(method="")
    for seed in _list(raw, "seeds"):
        found: list[Problem] = []
        if type(seed) is int:  # True is none; noted elsewhere
            build(RunConfig, {"seed": seed}, found, base=any_run)
        problems += [Problem("seeds", problem.text) for problem in found]
    if isinstance(evaluation := raw.get("evaluation", {}), Mapping):
        build(EvaluationConfig, evaluation, problems, place="evaluation")
    if isinstance(options := raw.get("run", {}), Mapping):
        elsewhere = [name for name in options if name in ELSEWHERE]
        problems += [Problem(f"run.{name}", f"belongs in {ELSEWHERE[name]}") for name in elsewhere]
        rest = {name: value for name, value in options.items() if name not in elsewhere}
        build(RunConfig, rest, problems, place="run", base=any_run)
