"""What an entry of ``assets/published.json`` is, and how the file is read and checked."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

FILE = "published.json"
FORMAT = 1  # raise it when a key changes its meaning

PROVENANCE = {
    "paper": "printed in the source itself",
    "log": "in a log, README or issue of a repository",
    "code": "read off a repository's code",
    "secondary": "printed in another paper, which quotes it",
    "digitised": "read off a figure",
    "recalled": "from memory, not verified",
}
"""How a number came to us, the most trustworthy first."""

BACKBONES = {
    "in21k": "vit_base_patch16_224.augreg_in21k",
    "in1k-ft": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "orig-in21k": "vit_base_patch16_224.orig_in21k",
    "mocov3": "ViT-B/16, MoCo v3",
    "clip": "CLIP ViT-B/16, image and text",
    "resnet18-scratch": "ResNet-18, trained from scratch on the first task",
    "llava-1.5-7b": "LLaVA-1.5, 7B",
    "unstated": "not recorded",
}
"""What the numbers were made with; the first three are timm names."""

PROTOCOL = re.compile(r"B\d+-Inc\d+|\d+ tasks|half first, T=\d+|joint|unstated")


class Source(NamedTuple):
    """Where numbers are from, and what all of them have in common.

    Attributes:
        citation: Authors, title and year of the paper, or the name of the repository.
        arxiv: arXiv id; empty if there is none, or none was recorded.
        note: What matters for a comparison: inputs, class orders, who ran the baselines.
    """

    citation: str
    arxiv: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    method: str
    benchmark: str
    protocol: str
    backbone: str
    source: str
    provenance: str
    variant: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise ValueError("; ".join(problems))

    def _problems(self) -> list[str]:
        texts = [f.name for f in dataclasses.fields(self) if f.type == "str"]
        found = [
            f"{name} must be a text, got {getattr(self, name)!r}"
            for name in texts
            if not isinstance(getattr(self, name), str)
            or not (getattr(self, name) or name in ("variant", "note"))
        ]
        if found:
            return found
        if not PROTOCOL.fullmatch(self.protocol):
            found.append(
                "protocol must be like 'B0-Inc10', '10 tasks', 'half first, T=5', 'joint' or "
                f"'unstated', got {self.protocol!r}"
            )
        for name, known in (("provenance", PROVENANCE), ("backbone", BACKBONES)):
            if getattr(self, name) not in known:
                expected = ", ".join(known)
                found.append(f"{name} must be one of {expected}, got {getattr(self, name)!r}")
        return found


@dataclass(frozen=True, kw_only=True)
class PublishedNumber(_Entry):
    """Accuracies of one method in one setting, in per cent as published.

    Attributes:
        method: Name of the method as it is registered here, or would be.
        benchmark: Name of the data set.
        protocol: ``"B0-Inc10"`` where the split is given, or follows from the number of tasks; else
            ``"10 tasks"``, ``"half first, T=5"`` or ``"unstated"``. ``"joint"``: all at once.
        backbone: Key of :data:`BACKBONES`.
        source: Key of ``SOURCES``.
        provenance: Key of :data:`PROVENANCE`.
        variant: Empty for the method itself; else what an ablation changed.
        note: What else matters for a comparison, beside the note of the source.
        A_avg, A_last: Accuracies in [0, 100]; None where not given. At least one is there.
        A_avg_std, A_last_std: Spread over runs, in points, where given.
        runs: Number of class orders or seeds behind the number, where given.
        curve: Accuracy after each task, where all of them were given.

    Raises:
        ValueError: If an entry is not what it should be; every problem is listed.
    """

    A_avg: float | None = None
    A_avg_std: float | None = None
    A_last: float | None = None
    A_last_std: float | None = None
    runs: int | None = None
    curve: tuple[float, ...] = ()

    def _problems(self) -> list[str]:
        found = super()._problems()
        for name in ("A_avg", "A_last"):
            value, spread = getattr(self, name), getattr(self, f"{name}_std")
            if value is not None and not _is_percent(value):
                found.append(f"{name} must be in per cent, within 0 and 100, got {value!r}")
            if spread is not None and (value is None or not _is_percent(spread)):
                found.append(f"{name}_std must be the spread of a given {name}, got {spread!r}")
        if self.A_avg is None and self.A_last is None:
            found.append("A_avg or A_last must be given")
        if self.runs is not None and (type(self.runs) is not int or self.runs < 1):
            found.append(f"runs must be a whole number of at least 1, got {self.runs!r}")
        if not isinstance(self.curve, tuple) or not all(map(_is_percent, self.curve)):
            found.append(f"curve must be numbers within 0 and 100, got {self.curve!r}")
        return found


@dataclass(frozen=True, kw_only=True)
class PublishedQuantity(_Entry):
    """A figure that is no A_avg or A_last: forgetting, routing recall, parameters, seconds.

    Attributes:
        quantity: What it is, in words.
        value: Its value, in ``unit``.
        unit: ``"%"``, ``"points"``, ``"million"`` or ``"s"``.
        method, benchmark, protocol, backbone, source, provenance, variant, note: As in
            :class:`PublishedNumber`.

    Raises:
        ValueError: If an entry is not what it should be; every problem is listed.
    """

    quantity: str
    value: float
    unit: str

    def _problems(self) -> list[str]:
        found = super()._problems()
        return found if _is_number(self.value) else [*found, f"value is {self.value!r}"]


_E = TypeVar("_E", Source, PublishedNumber, PublishedQuantity)


class Asset(NamedTuple):
    """The file: sources by key, and what is published."""

    sources: Mapping[str, Source]
    numbers: tuple[PublishedNumber, ...]
    quantities: tuple[PublishedQuantity, ...]


def parse(text: str) -> Asset:
    """Read the file's text.

    Args:
        text: JSON: ``format``, ``sources`` by key, and the rows ``numbers`` and ``quantities``.

    Returns:
        What it holds.

    Raises:
        ValueError: If anything in it is not what it should be; every problem is listed.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{FILE} is not JSON: {error}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"{FILE} must be a JSON object of format {FORMAT}")
    problems: list[str] = []
    sources = _made(Source, values.get("sources", {}).items(), "sources", problems)
    numbers = _made(PublishedNumber, enumerate(values.get("numbers", ())), "numbers", problems)
    rows = enumerate(values.get("quantities", ()))
    quantities = _made(PublishedQuantity, rows, "quantities", problems)
    entries: list[_Entry] = [*numbers.values(), *quantities.values()]
    for key, times in Counter(map(_identity, entries)).items():
        if times > 1:
            problems.append(f"{' | '.join(key)} is there {times} times; give each its own source")
    lacking = {entry.source for entry in entries} - values.get("sources", {}).keys()
    problems += [f"source {key!r} is cited, but not among the sources" for key in sorted(lacking)]
    if problems:
        raise ValueError(f"{FILE} cannot be used:\n- " + "\n- ".join(problems))
    return Asset(sources, tuple(numbers.values()), tuple(quantities.values()))


def _made(kind: type[_E], rows: Any, where: str, problems: list[str]) -> dict[Any, _E]:
    """Key or index -> entry; what cannot be made is told in ``problems``."""
    known = Source._fields if kind is Source else [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    made = {}
    for key, row in rows:
        label = f"{where}[{key!r}]"
        if not isinstance(row, dict):
            problems.append(f"{label} must be an object, got {row!r}")
            continue
        unknown = [_unknown(name, known) for name in row.keys() - set(known)]
        if unknown:
            problems.append(f"{label}: {'; '.join(unknown)}")
            continue
        curve = {"curve": tuple(row["curve"])} if isinstance(row.get("curve"), list) else {}
        try:
            made[key] = kind(**(row | curve))
        except (TypeError, ValueError) as error:  # TypeError: a key is missing
            problems.append(f"{label}, {row.get('method', '')}: {error}")
    return made


def _unknown(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown key {name!r}" + (f", did you mean {close[0]!r}?" if close else "")


def _identity(entry: _Entry) -> tuple[str, ...]:
    what = entry.quantity if isinstance(entry, PublishedQuantity) else "accuracy"
    where = (entry.method, entry.variant, entry.benchmark, entry.protocol, entry.backbone)
    return (*where, entry.source, what)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_percent(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 100  # type: ignore[operator]
