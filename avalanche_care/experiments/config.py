"""What a run is: a method and its settings, a benchmark, a backbone, a seed."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from avalanche_care.experiments.directory import identity_hash
from avalanche_care.experiments.typed import from_plain
from avalanche_care.strategies.registry import get_method

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["BackboneConfig", "BenchmarkConfig", "RunConfig", "read_toml", "run_config", "run_type"]

LOCAL = "local"  # marks a field that says where or how fast, and cannot change a number


def _local(default: Any) -> Any:
    return field(default=default, metadata={LOCAL: True})


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Which classes are learned, in which order.

    Attributes:
        name: a registered benchmark or an imported data set; ``avalanche-care benchmarks``.
        protocol: such as ``"B0-Inc10"``; None: the benchmark's own.
        class_order: seed of the class order, ``"natural"`` for the data set's own order, or
            ``"published"`` for that of the papers, 1993 almost always.
        n_classes: use so many classes, the first in the class order; None: all.
        transforms: a named transform family, which changes accuracies; None: the benchmark's own.
        image_size: side of the network's input in pixels; None: the benchmark's own.
        packed: read packed files, see ``avalanche-care data pack``.
        cache_eval: keep prepared test images.
        root: directory of the data; None: ``AVALANCHE_CARE_DATA``, else the user's.
    """

    name: str = "glyphs"
    protocol: str | None = None
    class_order: int | str = "published"
    n_classes: int | None = None
    transforms: str | None = None
    image_size: int | None = None
    packed: bool = False
    cache_eval: bool = _local(False)
    root: str | None = _local(None)

    def __post_init__(self) -> None:
        if isinstance(self.class_order, str) and self.class_order not in ("natural", "published"):
            raise ValueError(
                f"class_order must be a seed, 'natural' or 'published', got {self.class_order!r}"
            )

    def options(self) -> dict[str, Any]:
        """Arguments of :func:`avalanche_care.benchmarks.load_benchmark` that were set."""
        given = {
            entry.name: getattr(self, entry.name)
            for entry in dataclasses.fields(self)
            if entry.name not in ("name", "protocol", "class_order")
        }
        options = {name: value for name, value in given.items() if value not in (None, False)}
        if self.class_order != "published":
            options["class_order_seed"] = (
                None if self.class_order == "natural" else self.class_order
            )
        return options


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The frozen vision transformer.

    Attributes:
        name: an embedded one, timm's ``arch.tag``, or ``local-dir:FOLDER``.
        img_size: side of the input in pixels; None: the backbone's own.
        weights: a local file; None: timm loads or downloads them.
        compile: compile its blocks.
    """

    name: str = "glyph_vit_micro"
    img_size: int | None = None
    weights: str | None = _local(None)
    compile: bool = _local(False)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run. :func:`run_config` builds it from plain values.

    Attributes:
        method: registered name.
        settings: the method's own configuration.
        benchmark: what to learn.
        backbone: what to learn it on.
        seed: of everything random but the class order.
        eval_every: evaluate after every k-th task, and after the last.
        eval_mb_size: images per evaluation step.
        device: such as ``cpu``, ``cuda``, ``cuda:1``.
        num_workers: data loading processes.
        save_every: save the state after every k-th task; 0: never.
        save_every_phase: save it after every phase of a task too.
        tensorboard: write TensorBoard files to ``tensorboard/`` in the run's directory.
        wandb: project of Weights & Biases to log to.
    """

    method: str
    settings: Any = None
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    seed: int = 1
    eval_every: int = 1
    eval_mb_size: int = _local(128)
    device: str = _local("cpu")
    num_workers: int = _local(0)
    save_every: int = _local(1)
    save_every_phase: bool = _local(False)
    tensorboard: bool = _local(False)
    wandb: str | None = _local(None)

    def __post_init__(self) -> None:
        least = {"seed": 0, "eval_every": 1, "eval_mb_size": 1, "num_workers": 0, "save_every": 0}
        problems = [
            f"{name} must be at least {value}, got {getattr(self, name)}"
            for name, value in least.items()
            if getattr(self, name) < value
        ]
        if problems:
            raise ValueError("; ".join(problems))

    def identity(self) -> dict[str, Any]:
        """All fields that can change a number, as plain values."""
        return _identity(self)

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
        ValueError: listing everything that is wrong.
    """
    if not isinstance(values.get("method"), str):
        raise ValueError(f"{where}: 'method' must name one, got {values.get('method')!r}")
    method = get_method(values["method"])
    tables = ("settings", "benchmark", "backbone")
    problems = [
        f"{name} must be a table, got {values[name]!r}"
        for name in tables
        if not isinstance(values.get(name, {}), Mapping)
    ]
    if problems:
        raise ValueError(f"{where} cannot be used:\n- " + "\n- ".join(problems))
    values = dict(values)
    settings = dict(values.get("settings", {}))
    preset = settings.pop("preset", "auto")
    base = _preset(method.config, preset, values.get("benchmark", {}))
    values["settings"] = settings
    kind = run_type(method.name)
    start = kind(method=method.name, settings=base)
    return from_plain(kind, values, where=where, base=start)


def _preset(kind: type[Any], name: str, benchmark: Mapping[str, Any]) -> Any:
    """A method's settings to start from."""
    presets: dict[str, Any] = getattr(kind, "presets", dict)()
    if name == "auto":
        name = f"{benchmark.get('name')}/{benchmark.get('protocol')}"
        return kind.preset(name) if name in presets else kind()
    if name == "none":
        return kind()
    if not presets:
        raise ValueError(f"{kind.__name__} has no presets, got preset = {name!r}")
    return kind.preset(name)


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ValueError: if it is not one; the message has the line.
        OSError: if it cannot be read.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
