"""Configuration dataclasses from plain values, as a TOML file or a command line has them."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from avalanche_care.checked import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Problem", "build", "from_plain", "placed", "read_toml", "refusal"]

Config = TypeVar("Config")


class Problem(NamedTuple):
    """Something that is wrong.

    Attributes:
        place: where, as a dotted path such as ``"settings.brmoe.top_k"``; empty: in all of it.
        text: what.
    """

    place: str
    text: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.place}: {self.text}" if self.place else self.text


def from_plain(
    kind: type[Config], values: Mapping[str, Any], *, where: str, base: Config | None = None
) -> Config:
    """Build a configuration, or report everything that is wrong at once.

    Args:
        kind, values, base: as in :func:`build`.
        where: what to call ``values`` in messages, such as a file.

    Raises:
        ConfigError: if anything is wrong.
    """
    problems: list[Problem] = []
    config = build(kind, values, problems, base=base)
    if problems or config is None:
        raise refusal(where, problems)
    return config


def refusal(where: str, problems: Iterable[Problem]) -> ConfigError:
    """Return the error that lists problems, each once."""
    return ConfigError(f"{where} cannot be used", dict.fromkeys(map(str, problems)))


def build(
    kind: type[Config],
    values: Any,
    problems: list[Problem],
    *,
    place: str = "",
    base: Config | None = None,
) -> Config | None:
    """Build a configuration as well as it can be, and note everything that is wrong.

    Args:
        kind: a dataclass; its fields may be dataclasses.
        values: field -> value; a mapping for a field that is a dataclass.
        problems: is extended by unknown keys, values of the wrong type, and what the classes
            themselves refuse.
        place: where ``values`` are.
        base: gives the values of fields that are left out; None: the defaults of the class.

    Returns:
        The configuration. What is wrong has its value from ``base``, so that the rest could be
        checked; None if there is no such value.
    """
    if base is None and not _required(kind):
        base = kind()
    if not isinstance(values, Mapping):
        problems.append(Problem(place, f"must be a table, got {values!r}"))
        return base
    hints = get_type_hints(kind)
    names = [entry.name for entry in dataclasses.fields(kind)]  # type: ignore[arg-type]
    good: dict[str, Any] = {}
    bad = set[str]()
    for key, value in values.items():
        inner, before = _join(place, key), len(problems)
        if key not in names:
            problems.append(Problem(inner, f"there is no such setting; {_hint(kind, key)}"))
            continue
        if dataclasses.is_dataclass(hints[key]):
            part = build(hints[key], value, problems, place=inner, base=getattr(base, key, None))
            good.update({} if part is None else {key: part})
        else:
            try:
                good[key] = _read(hints[key], value)
            except ValidationError as error:
                problems += _type_problems(error, inner)
        if len(problems) > before:
            bad.add(key)
    missing = [] if base is not None else [name for name in _required(kind) if name not in good]
    problems += [Problem(_join(place, n), "is missing") for n in missing if n not in bad]
    return None if missing else _made(kind, good, bad, problems, place, base)


def _made(
    kind: type[Config],
    good: dict[str, Any],
    bad: set[str],
    problems: list[Problem],
    place: str,
    base: Config | None,
) -> Config | None:
    """Make a configuration of values that are of the right types.

    What the class refuses is noted and left out, and so on until it refuses nothing. A problem that
    has to do with a value that was left out before, bad, may be none: there is another one now.
    """
    while True:
        try:
            return kind(**good) if base is None else dataclasses.replace(base, **good)  # type: ignore[type-var]
        except ValueError as error:
            texts = error.problems if isinstance(error, ConfigError) else (str(error),)
            about = {text: set(re.findall(r"\w+", text)) for text in texts}
            problems += [placed(text, good, place) for text in texts if not about[text] & bad]
            refused = good.keys() & set[str]().union(*about.values())
            if base is None or not refused:
                return base
            bad |= refused
            good = {name: value for name, value in good.items() if name not in refused}


def placed(text: str, names: Collection[str], place: str) -> Problem:
    """Return a problem at the field that it begins with, if that one alone is at fault.

    Args:
        text: such as ``"lr must be ..."`` or ``"lr: ..."``.
        names: of the fields.
        place: where the fields are.
    """
    match = re.match(r"(\w+)(?:: | (?=must ))", text)
    if match is None or match[1] not in names:
        return Problem(place, text)
    return Problem(_join(place, match[1]), text[match.end() :])


def _required(kind: Any) -> list[str]:
    """Fields without a default."""
    none = dataclasses.MISSING
    entries = dataclasses.fields(kind)
    return [e.name for e in entries if e.default is none and e.default_factory is none]


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _hint(kind: type[Any], key: str) -> str:
    """What somebody may have meant by a key: one that looks alike, perhaps of an inner table."""
    inner = {path.rpartition(".")[2]: path for path in reversed([*_paths(kind)])}
    own = {path: path for path in _paths(kind) if "." not in path}
    meant = inner | own | getattr(kind, "renamed", {})
    near = difflib.get_close_matches(key, meant, n=1)
    return f"did you mean {meant[near[0]]!r}?" if near else f"expected some of {sorted(own)}"


def _paths(kind: Any) -> Iterator[str]:
    """All keys, at every depth."""
    hints = get_type_hints(kind)
    for entry in dataclasses.fields(kind):
        yield entry.name
        if dataclasses.is_dataclass(hints[entry.name]):
            yield from (f"{entry.name}.{path}" for path in _paths(hints[entry.name]))


def _read(hint: Any, value: Any) -> Any:
    """Read a value as a type, from JSON: there strict types still take a list for a tuple."""
    return TypeAdapter(hint).validate_json(json.dumps(value, default=str), strict=True)


def _type_problems(error: ValidationError, place: str) -> Iterator[Problem]:
    """Problems of pydantic's; those of the members of a union are one."""

    def where(entry: Any) -> str:
        return ".".join([place, *(str(part) for part in entry["loc"] if not _is_type_name(part))])

    for inner, group in itertools.groupby(error.errors(include_url=False), key=where):
        members = list(group)
        texts = [_plain_text(entry["msg"]) for entry in members]
        text = " or ".join(texts).replace(" or must be ", " or ")
        yield Problem(inner, f"{text}, got {members[0]['input']!r}")


def _plain_text(message: str) -> str:
    """A message of pydantic's about JSON, in our words."""
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message


_WORDS = {
    "Input should be": "must be",
    "a valid array": "a list",
    "a valid dictionary": "a table",
    "an object": "a table",
}


def _is_type_name(part: object) -> bool:
    """Whether a part of a place names a member of a union and not a field."""
    return part in ("int", "float", "str", "bool", "none") or str(part).startswith("tuple[")


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
