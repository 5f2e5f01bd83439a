"""Configuration dataclasses from plain values, as a TOML file or a command line has them."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

__all__ = ["from_plain"]

Config = TypeVar("Config")


def from_plain(
    kind: type[Config], values: Mapping[str, Any], *, where: str, base: Config | None = None
) -> Config:
    """Build a configuration, and report everything that is wrong at once.

    Args:
        kind: a dataclass; its fields may be dataclasses.
        values: field -> value; a mapping for a field that is a dataclass.
        where: what to call ``values`` in messages, such as a file or a section of it.
        base: gives the values of fields that are left out; None: the defaults of the class.

    Returns:
        The configuration.

    Raises:
        ValueError: naming unknown keys, with the nearest known one, values of the wrong type, and
            what the class itself refuses.
    """
    problems = list(_unknown(kind, values, ""))
    whole = dict(values) if base is None else _merged(dataclasses.asdict(base), values)  # type: ignore[call-overload]
    try:
        # As JSON, where strict types still take a mapping for a dataclass, a list for a tuple.
        config = TypeAdapter(kind).validate_json(json.dumps(whole, default=str), strict=True)
    except ValidationError as error:
        problems += [_line(entry) for entry in error.errors(include_url=False)]
    else:
        if not problems:
            return config
    raise ValueError(f"{where} cannot be used:\n- " + "\n- ".join(problems))


def _unknown(kind: type[Any], values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """One line per key that no field has."""
    hints = get_type_hints(kind)
    names = [entry.name for entry in dataclasses.fields(kind)]
    for key, value in values.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected some of {sorted(names)}"
            yield f"there is no setting {prefix + key!r}; {hint}"
        elif dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            yield from _unknown(hints[key], value, f"{prefix}{key}.")


def _merged(base: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The base with the values written over it, at every depth."""
    out = dict(base)
    for key, value in values.items():
        nested = isinstance(value, Mapping) and isinstance(base.get(key), dict)
        out[key] = _merged(base[key], value) if nested else value
    return out


def _line(entry: Any) -> str:
    """One problem of pydantic's, in a line."""
    place = ".".join(str(part) for part in entry["loc"] if not _is_type_name(part))
    message = entry["msg"].removeprefix("Value error, ")
    if entry["type"] == "value_error" or not place:
        return message if not place else f"{place}: {message}"
    return f"{place}: {message[0].lower()}{message[1:]}, got {entry['input']!r}"


def _is_type_name(part: object) -> bool:
    """Whether a part of a place names a member of a union and not a field."""
    return part in ("int", "float", "str", "bool", "none") or str(part).startswith("tuple[")
