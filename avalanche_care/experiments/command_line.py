"""Settings of a run from the words of a command line, over those of a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from avalanche_care.experiments.config import RunConfig, check_run, read_toml, run_config, run_type
from avalanche_care.experiments.typed import Problem, refusal
from avalanche_care.strategies.registry import available_methods

__all__ = ["SHORT", "configure", "show_settings"]

SHORT = {
    "--benchmark": "--benchmark.name",
    "--protocol": "--benchmark.protocol",
    "--class-order": "--benchmark.class-order",
    "--n-classes": "--benchmark.n-classes",
    "--transforms": "--benchmark.transforms",
    "--root": "--benchmark.root",
    "--backbone": "--backbone.name",
    "--weights": "--backbone.weights",
    "--img-size": "--backbone.img-size",
}
"""Options with a short name."""


def configure(words: Sequence[str], file: str | None = None) -> RunConfig:
    """Build the configuration of a run.

    Args:
        words: perhaps a method, then options: ``--settings.lr 0.1``, ``--settings.lr=0.1``, or, of
            what is on or off, ``--settings.two-phases`` and ``--settings.no-two-phases``.
        file: a TOML file; options go before what is in it.

    Returns:
        The configuration.

    Raises:
        ValueError: listing everything that is wrong, in the file and in the words.
        OSError: if the file cannot be read.
    """
    values, problems = _values(words, file)
    config, found = check_run(values)
    if problems or found:
        line = "the command line"
        where = line if file is None else f"{line} with {file}" if words else file
        raise refusal(where, [*problems, *found])
    return config


def show_settings(words: Sequence[str], file: str | None = None) -> None:
    """Print all options of a method, with the values that they would have, and exit.

    Raises:
        ValueError: if there is no such method.
        SystemExit: after printing.
    """
    import tyro

    values, _ = _values(words, file)
    config, problems = check_run(values)
    if problems:  # they are for when it is run
        config = run_config({"method": values["method"]})
    tyro.cli(
        tyro.conf.configure(tyro.conf.AvoidSubcommands)(type(config)),
        default=config,
        args=["--help"],
        prog=f"avalanche-care run {config.method}",
        description="Settings of a run. --config, --out, --dry-run, --quiet and --log-format: see "
        "avalanche-care run --help.",
    )


def _values(words: Sequence[str], file: str | None) -> tuple[dict[str, Any], list[Problem]]:
    """All that was given, as plain values, and what is wrong with how it was."""
    problems: list[Problem] = []
    stored = read_toml(file) if file else {}
    first = {"method": words[0]} if words and not words[0].startswith("-") else {}
    options = _options(words[len(first) :], problems)
    texts = options.get("method")
    named = {"method": texts[-1]} if texts and isinstance(texts, list) else {}
    line = "on the command line"
    places = ((first, line), (named, line), (stored, f"in {file}"))
    methods = [(part["method"], place) for part, place in places if "method" in part]
    method = methods[0][0] if methods else None
    kind = run_type(method) if isinstance(method, str) and method in available_methods() else None
    values = _merged(stored, {**_plain(kind or RunConfig, options), **named, **first})
    if any(other != method for other, _ in methods):
        text = " and ".join(f"{name!r} {place}" for name, place in methods)
        problems.append(Problem("method", f"is {text}; name one"))
        values.pop("settings", None)  # of which one?
    return values, problems


def _options(words: Sequence[str], problems: list[Problem]) -> dict[str, Any]:
    """The texts after each option; a table for all options that begin alike."""
    tree: dict[str, Any] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            problems.append(Problem("", f"{word!r} is no option; options begin with --"))
            continue
        option, equals, text = word.partition("=")
        texts = [text] if equals else []
        while left and not left[0].startswith("--"):
            texts.append(left.pop(0))
        *tables, name = SHORT.get(option, option)[2:].replace("-", "_").split(".")
        table = tree
        for key in tables:
            if not isinstance(table.get(key), dict):
                table[key] = {}
            table = table[key]
        table[name] = texts
    return tree


def _plain(kind: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Texts as values of the types of a dataclass's fields, where they can be."""
    hints = get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
    values: dict[str, Any] = {}
    for name, texts in options.items():
        hint, positive = hints.get(name), name.removeprefix("no_")
        if isinstance(texts, dict):
            values[name] = _plain(hint, texts)
        elif not texts:
            off = name not in hints and positive in hints
            values[positive if off else name] = not off
        else:
            read = [_value(hint, text) for text in texts]
            several = len(read) > 1 or get_origin(hint) in (tuple, list)
            values[name] = read if several else read[0]
    return values


def _value(hint: Any, text: str) -> Any:
    """A text as a value of a type, or of the items of one; itself if it is of no such type."""
    members = get_args(hint) or (hint,)
    words = {"None": (NoneType, None), "true": (bool, True), "false": (bool, False)}
    if text in words and words[text][0] in members:
        return words[text][1]
    for number in (int, float):
        if number in members:
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The base with the values written over it, at every depth."""
    out = dict(base)
    for key, value in values.items():
        nested = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        out[key] = _merged(base[key], value) if nested else value
    return out
