"""The directory of a run: what was asked for, what happened, what to go on from, the result."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from avalanche_care._files import replace_text
from avalanche_care._version import __version__
from avalanche_care.experiments.results import RunResult

__all__ = [
    "CONFIG",
    "FAILED",
    "RESULT",
    "STATE",
    "OtherRun",
    "RunDirectory",
    "RunInUse",
    "differences",
    "identity_hash",
    "read_config",
    "read_result",
]

FORMAT = 1  # raise it when a key changes its meaning
CONFIG, EVENTS, STATE = "config.json", "events.jsonl", "state"
RESULT, FAILED = "result.json", "failed.json"


class RunInUse(ValueError):
    """Another process is working in the directory of a run."""


class OtherRun(ValueError):
    """The directory, or a file in it, is of another run."""


class RunDirectory:
    """Files of one run.

    ``config.json`` says what was asked for; ``events.jsonl`` has a line per task; ``state/`` is
    what an interrupted run goes on from; ``result.json`` appears at the end.

    Args:
        path: the directory; it is made by :meth:`open`.
        identity: everything that the numbers depend on, as plain values. A directory belongs to one
            identity for good.
        details: what else to note in ``config.json`` when the run begins, as plain values: how it
            was asked for, names of classes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        identity: Mapping[str, Any],
        details: Mapping[str, Any] | None = None,
    ) -> None:
        from avalanche_care.experiments.state import StateStore  # the first to need torch

        self.path = Path(path)
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.hash = identity_hash(self.identity)
        self.details = dict(details or {})
        self.store = StateStore(self.path / STATE)
        self._lock = FileLock(self.path / ".lock", timeout=0)

    def open(self) -> None:
        """Make the directory, or find in it a run of the same identity.

        Raises:
            OtherRun: if it holds another run; the differences are listed.
            RunInUse: if another process is working in it.
            ValueError: if its ``config.json`` cannot be used.
            FileExistsError: if it holds something else.
        """
        path = self.path / CONFIG
        if not path.exists():
            # Hidden files: the lock, and what a process that was killed here may have left behind.
            names = [p.name for p in self.path.iterdir()] if self.path.is_dir() else []
            if any(not name.startswith(".") and name != FAILED for name in names):
                raise FileExistsError(
                    f"{self.path} has files in it, but no run of this package ({CONFIG} is "
                    "missing); choose another directory"
                )
            self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise RunInUse(
                f"another process is running in {self.path}; wait for it, or choose another "
                "directory"
            ) from None
        try:
            self._check_identity(path)
            (self.path / FAILED).unlink(missing_ok=True)  # it is tried again
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes in."""
        self._lock.release()

    def __enter__(self) -> RunDirectory:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _check_identity(self, path: Path) -> None:
        if not path.exists():
            text = {
                "format": FORMAT,
                "hash": self.hash,
                "version": __version__,
                "identity": self.identity,
                "details": self.details,
            }
            replace_text(path, json.dumps(text, indent=1) + "\n")
            return
        changed = differences(read_config(path)["identity"], self.identity)
        if changed:
            raise OtherRun(
                f"{self.path} holds another run; choose another directory, or remove this one. "
                "There -> asked for:\n- " + "\n- ".join(changed)
            )

    def load_state(self) -> dict[str, Any] | None:
        """Return the newest state, see :meth:`StateStore.load`; the log is cut back to it.

        Raises:
            OtherRun: if it is of another run; the log is left alone.
            ValueError: if it cannot be used.
        """
        state = self.store.load()
        if state is not None and state.get("identity_hash") != self.hash:
            raise OtherRun(
                f"the state in {self.store.directory} is of another run: its configuration has the "
                f"hash {state.get('identity_hash')}, that in {self.path / CONFIG} has {self.hash}; "
                "put the right one back, or remove it to start the run afresh"
            )
        events = [] if state is None else state["events"]
        if events or (self.path / EVENTS).exists():
            replace_text(self.path / EVENTS, "".join(json.dumps(e) + "\n" for e in events))
        return state

    def save_state(self, name: str, state: dict[str, Any]) -> int:
        """Save a state with the hash of the configuration, see :meth:`StateStore.save`."""
        return self.store.save(name, {"identity_hash": self.hash, **state})

    def log(self, event: Mapping[str, Any]) -> None:
        """Append a line to the log."""
        with (self.path / EVENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def result(self) -> RunResult | None:
        """Return the result if the run is complete, see :func:`read_result`."""
        return read_result(self.path, self.hash)

    def finish(self, result: RunResult) -> None:
        """Write the result."""
        result.save(self.path / RESULT, overwrite=True)


def read_result(directory: Path, identity: str) -> RunResult | None:
    """Read the result of a run.

    Args:
        directory: the run's.
        identity: hash of the run that it has to be of. Results of scripts may not say.

    Returns:
        The result; None if the run is not complete.

    Raises:
        OtherRun: if it is of another run.
        ValueError: if it cannot be used; the message says what to do.
        OSError: if it cannot be read.
    """
    path = directory / RESULT
    if not path.exists():
        return None
    try:
        result = RunResult.load(path)
    except ValueError as error:
        raise ValueError(
            f"{error}; restore the file from a copy, or remove it and start the run again, which "
            "goes on from its saved state"
        ) from error
    noted = result.extra.get("identity_hash", identity)
    if noted != identity:
        raise OtherRun(
            f"{path} is of another run: it was made by the configuration {noted}, the directory is "
            f"of {identity}; put the right file back, or remove it and start the run again"
        )
    return result


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a run's ``config.json``.

    Returns:
        ``identity``, ``details``, and the ``hash`` and ``version`` of when it was written.

    Raises:
        ValueError: if it is no such file, or its identity was edited.
        OSError: if it cannot be read.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']}, this version reads {FORMAT}")
        if values["hash"] != identity_hash(values["identity"]):
            raise ValueError("it was edited after it was written")
        return {name: values[name] for name in ("identity", "details", "hash", "version")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the configuration of a run: {error}") from error


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that stand for an identity."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(there: Any, asked: Any, name: str = "") -> list[str]:
    """Where two trees of plain values differ, one line each: ``name: old -> new``."""
    if isinstance(there, Mapping) and isinstance(asked, Mapping):
        lines = []
        for key in [*there, *(key for key in asked if key not in there)]:
            inner = f"{name}.{key}" if name else str(key)
            lines += differences(there.get(key, "nothing"), asked.get(key, "nothing"), inner)
        return lines
    if there == asked:
        return []
    return [f"{name}: {_short(there)} -> {_short(asked)}"]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:40]} ... ({len(text)} characters)"
