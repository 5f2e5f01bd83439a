"""Parts of a run's configuration that are the same for all methods: data, backbone, evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from avalanche_care.benchmarks.protocol import Protocol
from avalanche_care.checked import CheckedConfig, ConfigError, at_least

__all__ = [
    "LOCAL",
    "BackboneConfig",
    "BenchmarkConfig",
    "EvaluationConfig",
    "evaluated_tasks",
    "local",
]

LOCAL = "local"  # marks such fields in their metadata


def local(default: Any) -> Any:
    """Return a field that says where or how fast, and cannot change a number."""
    return field(default=default, metadata={LOCAL: True})


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(CheckedConfig):
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
    cache_eval: bool = local(False)
    root: str | None = local(None)

    def _problems(self) -> Iterator[str]:
        """Say what is wrong with the values; whether they fit the data, :func:`check_data` says."""
        order = self.class_order
        named = isinstance(order, str) and order in ("natural", "published")
        if not named and not (isinstance(order, int) and 0 <= order < 2**32):
            yield f"class_order must be a seed, 'natural' or 'published', got {order!r}"
        if self.protocol is not None:
            try:
                Protocol.parse(self.protocol, n_classes=10**9)
            except ConfigError as error:
                yield from (f"protocol: {problem}" for problem in error.problems)
            except ValueError as error:
                yield f"protocol: {error}"
        yield from at_least(self, {"n_classes": 1, "image_size": 1})

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
class BackboneConfig(CheckedConfig):
    """The frozen vision transformer.

    Attributes:
        name: an embedded one, timm's ``arch.tag``, or ``local-dir:FOLDER``.
        img_size: side of the input in pixels; None: the backbone's own.
        weights: a local file; None: timm loads or downloads them.
        compile: compile its blocks.
    """

    name: str = "glyph_vit_micro"
    img_size: int | None = None
    weights: str | None = local(None)
    compile: bool = local(False)

    def _problems(self) -> list[str]:
        """Say what is wrong with the values."""
        return at_least(self, {"img_size": 1})


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(CheckedConfig):
    """When and how all classes seen so far are tested.

    Attributes:
        every: evaluate after every k-th task, and after the last.
        batch_size: images per evaluation step; no accuracy depends on it.
    """

    every: int = 1
    batch_size: int = local(128)

    def _problems(self) -> list[str]:
        """Say what is wrong with the values."""
        return at_least(self, {"every": 1, "batch_size": 1})


def evaluated_tasks(tasks: int, every: int) -> list[int]:
    """Return the tasks, counted from 0, that an evaluation follows: every k-th and the last."""
    return [task for task in range(tasks) if (task + 1) % every == 0 or task == tasks - 1]
