"""Telling configurations of one method apart, by the settings in which they differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

Settings = tuple[tuple[str, Any], ...]
"""All settings of a method, sorted by name; ``"brmoe.top_k"`` for a setting in a setting."""

MANY = 3  # a name with more settings in it is no name

_Run = TypeVar("_Run")


def flatten(config: Mapping[str, Any], prefix: str = "") -> Settings:
    """All settings at every depth, as a value that can be a key."""
    flat: list[tuple[str, Any]] = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat += flatten(value, f"{prefix}{name}.")
        else:
            flat.append((prefix + name, _frozen(value)))
    return tuple(sorted(flat))


def deviations(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Where settings differ from the defaults, one text each: ``"lr = 0.05 (default 0.01)"``.

    Args:
        config, defaults: settings by name, nested or flat. A setting that is not in ``config`` was
            not there yet when the run was made, and does not count.
    """
    usual = dict(flatten(defaults))
    found = []
    for name, value in flatten(config):
        if name not in usual:
            found.append(f"{name} = {shown(value)} (no such setting today)")
        elif value != usual[name]:
            found.append(f"{name} = {shown(value)} (default {shown(usual[name])})")
    return found


def merge(
    configs: Mapping[Settings, Sequence[_Run]],
) -> dict[Settings, tuple[list[_Run], list[str]]]:
    """Put configurations together that agree in all settings that both of them have.

    A configuration joins another that has all of its settings and more, unless it could join
    several that contradict each other.

    Args:
        configs: configuration -> its runs.

    Returns:
        Configuration -> its runs, and notes on settings that some of them do not record.
    """
    kept: dict[Settings, tuple[list[_Run], list[str]]] = {}
    widest = sorted(configs, key=len, reverse=True)
    for config in widest:
        wider = [other for other in kept if set(config) < set(other)]
        if len(wider) != 1:
            kept[config] = (list(configs[config]), [])
            continue
        runs, notes = kept[wider[0]]
        runs.extend(configs[config])
        lacking = ", ".join(name for name, _ in wider[0] if name not in dict(config))
        notes.append(f"not recorded in every run: {lacking}")
    return {config: kept[config] for config in configs if config in kept}


def variant_labels(
    groups: Iterable[tuple[str, object, Sequence[Settings]]],
) -> dict[tuple[str, Settings], str]:
    """Names for configurations: the method, and the settings that tell its configurations apart.

    The settings named are those in which configurations differ within one group. Where they differ
    between groups only (settings per data set), the method's name is enough.

    Args:
        groups: method, what is compared (such as a benchmark), and the configurations in it.

    Returns:
        (method, configuration) -> name.
    """
    compared: dict[tuple[str, object], list[Settings]] = {}
    for method, group, configs in groups:
        compared.setdefault((method, group), []).extend(configs)
    differing: dict[str, list[str]] = {}
    for (method, _), configs in compared.items():
        known = [dict(config) for config in configs]
        for name in dict.fromkeys(name for config in known for name in config):
            found = [config.get(name, "not recorded") for config in known]
            if any(value != found[0] for value in found):
                differing.setdefault(method, []).append(name)
    labels: dict[tuple[str, Settings], str] = {}
    numbers: dict[tuple[str, tuple[str, ...]], int] = {}
    for (method, _), configs in compared.items():
        told = dict.fromkeys(differing.get(method, ()))
        for config in configs:
            values = tuple(f"{n}={shown(dict(config).get(n, 'not recorded'))}" for n in told)
            number = numbers.setdefault(
                (method, values), 1 + sum(known == method for known, _ in numbers)
            )
            text = ", ".join(values) if len(values) <= MANY else f"configuration {number}"
            labels[method, config] = f"{method} ({text})" if values else method
    return labels


def shown(value: Any) -> str:
    """A setting's value as text."""
    return value if isinstance(value, str) else json.dumps(value)


def _frozen(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(entry) for entry in value)
    return json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value
