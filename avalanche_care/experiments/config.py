"""What a run is: a method and its settings, a benchmark, a backbone, a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

from avalanche_care.checked import CheckedConfig, at_least
from avalanche_care.experiments.config_parts import (
    LOCAL,
    BackboneConfig,
    BenchmarkConfig,
    EvaluationConfig,
    local,
)
from avalanche_care.experiments.directory import identity_hash
from avalanche_care.experiments.typed import Problem, build, from_plain, placed, read_toml, refusal
from avalanche_care.strategies.registry import get_method

__all__ = [
    "BackboneConfig",
    "BenchmarkConfig",
    "EvaluationConfig",
    "RunConfig",
    "check_data",
    "check_run",
    "check_settings",
    "read_toml",
    "run_config",
    "run_type",
    "stored_config",
]


@dataclass(frozen=True, kw_only=True)
class RunConfig(CheckedConfig):
    """One run. :func:`run_config` builds it from plain values.

    Attributes:
        method: registered name.
        settings: the method's own configuration.
        benchmark: what to learn.
        backbone: what to learn it on.
        evaluation: when and how to test.
        seed: of everything random but the class order.
        device: such as ``cpu``, ``cuda``, ``cuda:1``.
        num_workers: data loading processes.
        save_every: save the state after every k-th task; 0: never.
        save_every_phase: save it after every phase of a task too.
        tensorboard: write TensorBoard files to ``tensorboard/`` in the run's directory.
        wandb: project of Weights & Biases to log to.
    """

    renamed: ClassVar[Mapping[str, str]] = {
        "eval_every": "evaluation.every",
        "eval_mb_size": "evaluation.batch_size",
    }

    method: str
    settings: Any = None
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 1
    device: str = local("cpu")
    num_workers: int = local(0)
    save_every: int = local(1)
    save_every_phase: bool = local(False)
    tensorboard: bool = local(False)
    wandb: str | None = local(None)

    def _problems(self) -> list[str]:
        """Say what is wrong with the values."""
        return at_least(self, {"seed": 0, "num_workers": 0, "save_every": 0})

    def identity(self) -> dict[str, Any]:
        """All fields that can change a number, as plain values."""
        values = _identity(self)
        # Under the names of run_method's arguments, so that directories keep theirs.
        evaluation = values.pop("evaluation").items()
        return {**values, **{f"eval_{name}": value for name, value in evaluation}}

    @property
    def directory_name(self) -> str:
        """A name for the run's directory that no other configuration has."""
        benchmark = self.benchmark
        parts = [self.method, benchmark.name, benchmark.protocol, f"seed{self.seed}"]
        return "-".join([*(p for p in parts if p), identity_hash(self.identity())[:8]])


def _identity(config: Any) -> dict[str, Any]:
    values = {}
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        if not entry.metadata.get(LOCAL):
            values[entry.name] = _identity(value) if dataclasses.is_dataclass(value) else value
    return values


@cache
def run_type(method: str) -> type[RunConfig]:
    """Return the class of a method's runs, whose ``settings`` are of the method's own type.

    Raises:
        ValueError: if there is no such method.
    """
    kind = get_method(method).config
    settings = ("settings", kind, field(default_factory=kind))
    return dataclasses.make_dataclass(
        f"{kind.__name__.removesuffix('Config')}Run",
        [settings],
        bases=(RunConfig,),
        frozen=True,
        kw_only=True,
        namespace={"__doc__": RunConfig.__doc__},
    )


def run_config(values: Mapping[str, Any], *, where: str = "the run") -> RunConfig:
    """Build a run's configuration from plain values.

    Args:
        values: fields of :class:`RunConfig`. ``settings`` may have ``preset``, the name of one of
            the method's presets; without it, the preset of the benchmark and protocol is used if
            there is one (``preset = "none"``: the method's defaults).
        where: what to call them in messages.

    Returns:
        The configuration, with all defaults filled in.

    Raises:
        ConfigError: listing everything that is wrong.
    """
    config, problems = check_run(values)
    if problems:
        raise refusal(where, problems)
    return config


def check_run(values: Mapping[str, Any]) -> tuple[RunConfig, list[Problem]]:
    """Do what :func:`run_config` does, and return what is wrong.

    Returns:
        The configuration, with defaults in place of what is wrong, and the problems. Settings of a
        method that there is not are not looked at.
    """
    problems: list[Problem] = []
    kind, base = RunConfig, RunConfig(method="")
    name = values.get("method")
    rest = {key: value for key, value in values.items() if key != "settings"}
    if "method" not in values:
        problems.append(Problem("method", "is missing; 'avalanche-care methods' lists them"))
    elif isinstance(name, str):
        try:
            chosen = get_method(name).config
        except ValueError as error:
            problems.append(Problem("method", str(error)))
        else:
            kind, given = run_type(name), values.get("settings", {})
            settings = check_settings(chosen, given, problems, benchmark=values.get("benchmark"))
            base = kind(method=name, settings=settings)
    config = build(kind, rest, problems, base=base) or base
    check_data(config.benchmark, problems)
    return config, problems


def check_settings(
    kind: type[Any],
    values: Any,
    problems: list[Problem],
    *,
    benchmark: Any = None,
    place: str = "settings",
) -> Any:
    """Build the settings of a method.

    Args:
        kind: the method's configuration class.
        values: its fields, and perhaps ``preset``, see :func:`run_config`.
        problems: is extended by what is wrong.
        benchmark: plain values of a :class:`BenchmarkConfig`, which choose the preset.
        place: where ``values`` are.

    Returns:
        The settings, with defaults in place of what is wrong.
    """
    preset, base = "auto", kind()
    if isinstance(values, Mapping):
        preset = values.get("preset", preset)
        values = {key: value for key, value in values.items() if key != "preset"}
    try:
        base = _preset(kind, preset, benchmark if isinstance(benchmark, Mapping) else {})
    except ValueError as error:
        problems.append(Problem(f"{place}.preset", str(error)))
    return build(kind, values, problems, place=place, base=base)


def check_data(
    benchmark: BenchmarkConfig, problems: list[Problem], *, place: str = "benchmark"
) -> None:
    """Note what can be told about a benchmark without its images: that there is none, for example.

    Args:
        benchmark: the benchmark, with defaults in place of what is wrong.
        problems: those of its fields are known already; it is extended.
        place: where the benchmark is.
    """
    if f"{place}.name" in {problem.place for problem in problems}:
        return
    from avalanche_care.benchmarks.loading import check_benchmark  # torch, which reports do without

    found = check_benchmark(benchmark.name, benchmark.protocol, **benchmark.options())
    names = [entry.name for entry in dataclasses.fields(benchmark)]
    problems += [placed(text, names, place) for text in found]


def stored_config(values: Mapping[str, Any], *, where: str) -> RunConfig:
    """Build a configuration again from what :func:`dataclasses.asdict` has made of one.

    Whether the data are here does not matter. Names of older versions are understood.

    Args:
        values: the stored values.
        where: what to call them in messages.

    Raises:
        ValueError: if they cannot be used.
    """
    values = dict(values)
    for old, new in RunConfig.renamed.items():
        if old in values:
            table, name = new.split(".")
            values[table] = {**values.get(table, {}), name: values.pop(old)}
    return from_plain(run_type(str(values.get("method"))), values, where=where)


def _preset(kind: type[Any], name: Any, benchmark: Mapping[str, Any]) -> Any:
    """A method's settings to start from."""
    presets: dict[str, Any] = getattr(kind, "presets", dict)()
    if name == "auto":
        name = f"{benchmark.get('name')}/{benchmark.get('protocol')}"
        return kind.preset(name) if name in presets else kind()
    if name == "none":
        return kind()
    if not isinstance(name, str):
        raise ValueError(f"must be the name of a preset, got {name!r}")
    if not presets:
        raise ValueError(f"{kind.__name__} has no presets, got {name!r}")
    return kind.preset(name)
