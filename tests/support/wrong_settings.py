"""Settings of a run that are wrong in many places, and what is to be said about each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Wrong(NamedTuple):
    """A wrong value, the line about it, and a right value; None: leave the key out."""

    value: Any
    line: str
    right: Any = None


RUN = {
    "settings.lr": Wrong("x", "settings.lr: must be a valid number, got 'x'"),
    "settings.epochs": Wrong(0, "settings.epochs: must be positive, got 0", 3),
    "settings.ema": Wrong("x", "settings.ema: must be one of ('release', 'paper', 'none'), got"),
    "settings.epoch": Wrong(3, "settings.epoch: there is no such setting; did you mean 'epochs'?"),
    "settings.brmoe.top_k": Wrong(0, "settings.brmoe.top_k: must be at least 1, got 0", 2),
    "settings.brmoe.dropout": Wrong("x", "settings.brmoe.dropout: must be a valid number, got"),
    "benchmark.nam": Wrong("x", "benchmark.nam: there is no such setting; did you mean 'name'?"),
    "benchmark.name": Wrong("glyph", "benchmark.name: no benchmark is called 'glyph'", "vtab"),
    "benchmark.protocol": Wrong(
        "10x10", "benchmark.protocol: a protocol is written B{base}-Inc{increment}", "B0-Inc5"
    ),
    "benchmark.class_order": Wrong("x", "benchmark.class_order: must be a seed, 'natural'", 1993),
    "backbone.img_size": Wrong(0, "backbone.img_size: must be at least 1, got 0", 32),
    "evaluation.every": Wrong(0, "evaluation.every: must be at least 1, got 0", 2),
    "eval_every": Wrong(2, "eval_every: there is no such setting; did you mean 'evaluation.every'"),
    "epochs": Wrong(2, "epochs: there is no such setting; did you mean 'settings.epochs'?"),
    "seed": Wrong(-1, "seed: must be at least 0, got -1", 7),
    "num_workers": Wrong("many", "num_workers: must be a valid integer, got 'many'", 0),
}
"""For the method care."""

SUITE = {
    "name": Wrong(3, "name: must be a valid string, got 3", "x"),
    "methods": Wrong(["care", "cara"], "methods: there is no method 'cara'; did you", "care"),
    "seeds": Wrong(-1, "seeds: must be at least 0, got -1", 7),
    "benchmarc": Wrong(1, "benchmarc: there is no such setting; did you mean 'benchmarks'?"),
    "benchmarks.name": Wrong("glyph", "benchmarks.name: no benchmark is called 'glyph'", "vtab"),
    "benchmarks.n_classes": Wrong("x", "benchmarks.n_classes: must be a valid integer, got 'x'"),
    "benchmarks.protocol": Wrong(
        ["B0-Inc5", "10x10"], "benchmarks.protocol: a protocol is written", ["B0-Inc5"]
    ),
    "backbones.img_size": Wrong([32, 0], "backbones.img_size: must be at least 1, got 0", [32]),
    "settings.care.preset": Wrong("vtab", "settings.care.preset: there is no CaRE preset 'vtab'"),
    "settings.care.epochs": Wrong(0, "settings.care.epochs: must be positive, got 0", 3),
    "settings.care.brmoe.top_k": Wrong("x", "settings.care.brmoe.top_k: must be a valid integer"),
    "settings.l2p.epochs": Wrong(1, "settings.l2p: is for a method that the suite does not have"),
    "evaluation.evry": Wrong(1, "evaluation.evry: there is no such setting; did you mean 'every'"),
    "evaluation.batch_size": Wrong(0, "evaluation.batch_size: must be at least 1, got 0", 2),
    "run.seed": Wrong(1, "run.seed: belongs in seeds"),
    "run.eval_every": Wrong(1, "run.eval_every: there is no such setting; did you mean 'evaluatio"),
    "run.save_every": Wrong(-1, "run.save_every: must be at least 0, got -1", 0),
}


def one_right(wrong: Mapping[str, Wrong]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """All wrong values and what is to be said; then with one after the other put right."""
    for right in ("", *wrong):
        values = {path: entry.value for path, entry in wrong.items()}
        if right:
            values[right] = wrong[right].right
        left_out = {path: value for path, value in values.items() if value is not None}
        yield left_out, [entry.line for path, entry in wrong.items() if path != right]


def check(problems: list[str], lines: list[str]) -> None:
    """Check that there is one problem for each line, in any order."""
    for line in lines:
        assert sum(problem.startswith(line) for problem in problems) == 1, (line, problems)
    assert len(problems) == len(lines), problems


def listed(message: str) -> list[str]:
    """The problems in a message."""
    return message.rstrip("\n").split("\n- ")[1:]


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of what has dotted paths."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *tables, name = path.split(".")
        table = tree
        for key in tables:
            table = table.setdefault(key, {})
        table[name] = value
    return tree


def toml(values: Mapping[str, Any]) -> str:
    """A file with dotted keys."""
    return "".join(f"{path} = {json.dumps(value)}\n" for path, value in values.items())


def words(values: Mapping[str, Any]) -> list[str]:
    """A command line."""
    pairs = ((f"--{path}".replace("_", "-"), str(value)) for path, value in values.items())
    return [word for pair in pairs for word in pair]
