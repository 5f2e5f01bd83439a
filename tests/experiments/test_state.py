"""The state of a run on disk: whole or not there, and refused when it is not what was written."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from avalanche_care.experiments import state as module
from avalanche_care.experiments.state import StateStore

STATE: dict[str, Any] = {"weights": {"a": torch.arange(6.0).view(2, 3)}, "task": 3, "names": ["x"]}


def equal(one: Any, two: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[k], two[k]) for k in one)
    return torch.equal(one, two) if isinstance(one, torch.Tensor) else bool(one == two)


def newest(store: StateStore) -> Path:
    return store.directory / json.loads((store.directory / "latest.json").read_text())["file"]


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state")
    assert store.load() is None
    size = store.save("task003", STATE)
    assert size == newest(store).stat().st_size
    loaded = StateStore(tmp_path / "state").load()
    assert loaded is not None
    assert equal(loaded, STATE)


def test_only_the_newest_is_kept(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    for task in range(4):
        store.save(f"task{task:03}", {**STATE, "task": task})
    store.save("task003", {**STATE, "task": 33})  # the same name again
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".pt"]
    loaded = store.load()
    assert loaded is not None
    assert loaded["task"] == 33


class Stop(Exception):
    """Stands for the death of the process."""


@pytest.mark.parametrize("moment", ["write", "rename", "point"])
def test_death_at_any_moment_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store = StateStore(tmp_path)
    store.save("task003", STATE)

    def die(*args: Any, **kwargs: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        if moment == "write":
            patch.setattr(module, "_sha256", die)
        elif moment == "rename":
            patch.setattr(os, "replace", die)
        else:
            patch.setattr(module, "replace_text", die)
        with pytest.raises(Stop):
            store.save("task003", {**STATE, "task": 4})
    loaded = StateStore(tmp_path).load()
    assert loaded is not None
    assert equal(loaded, STATE)
    store.save("task004", {**STATE, "task": 4})  # and what was left over does not stay
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StateStore(tmp_path)
    store.save("task003", STATE)

    def full(self: Any, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module._Hashing, "write", full)
        with pytest.raises(OSError, match=r"not be saved in .*No space left.*is kept") as info:
            store.save("task004", {**STATE, "task": 4})
    assert info.value.errno == 28
    loaded = store.load()
    assert loaded is not None
    assert equal(loaded, STATE)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_reads_back_differently_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StateStore(tmp_path)
    store.save("task003", STATE)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_sha256", lambda path: "0" * 64)
        with pytest.raises(OSError, match="reads back differently"):
            store.save("task004", STATE)
    assert store.load() is not None


def damage(path: Path, kind: str) -> None:
    data = bytearray(path.read_bytes())
    if kind == "flipped":
        data[len(data) // 2] ^= 1
    elif kind == "truncated":
        del data[-7:]
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("kind", ["flipped", "truncated"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    store = StateStore(tmp_path)
    store.save("task003", STATE)
    damage(newest(store), kind)
    with pytest.raises(ValueError, match=rf"{newest(store).name} is damaged"):
        store.load()


def point_at(directory: Path, target: Path, **changes: Any) -> None:
    values = {
        "format": module.FORMAT,
        "file": target.name,
        "bytes": target.stat().st_size,
        "sha256": module._sha256(target),
    }
    (directory / "latest.json").write_text(json.dumps({**values, **changes}))


class Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch hacked",)


def test_a_hostile_file_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "task003.pt"
    for write in (
        lambda: torch.save({"task": Hostile()}, file),
        lambda: file.write_bytes(pickle.dumps(Hostile(), protocol=2)),
        lambda: file.write_bytes(b"anything else"),
    ):
        write()
        point_at(tmp_path, file)
        with pytest.raises(ValueError, match=r"task003\.pt holds more than tensors"):
            StateStore(tmp_path).load()
    assert not (tmp_path / "hacked").exists()


def test_a_state_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    torch.save([1], tmp_path / "x.pt")
    point_at(tmp_path, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="it holds a list"):
        StateStore(tmp_path).load()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "is of format 99, this version of avalanche_care reads 1"),
        ({"file": "../x.pt"}, "not a file beside it"),
        ({"file": "gone.pt"}, "gone.pt is missing"),
    ],
)
def test_a_pointer_that_cannot_be_followed(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    store = StateStore(tmp_path)
    store.save("x", STATE)
    point_at(tmp_path, newest(store), **changes)
    with pytest.raises(ValueError, match=message):
        store.load()


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", "3"])
def test_a_pointer_of_somebody_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "latest.json").write_text(text)
    with pytest.raises(ValueError, match="is not what this package writes there"):
        StateStore(tmp_path).load()
