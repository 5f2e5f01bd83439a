"""Folders that appear complete or not at all."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from layouts import Files, read_tree, write_tree

from avalanche_care.benchmarks.importing import staging
from avalanche_care.benchmarks.importing.staging import exclusive, require_space, staged

fork = multiprocessing.get_context("fork")


def stop(target: Path, files: Files, plan: dict[str, int] | None = None) -> None:
    """Begin a folder and fail."""

    def run() -> None:
        with staged(target, plan=plan) as part:
            write_tree(part, files)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "data"
    with staged(target) as part:
        assert part == tmp_path / "new" / "data.part"
        (part / "a.txt").write_text("a")
        assert not target.exists()
    assert read_tree(target) == {"a.txt": b"a"}
    assert sorted(path.name for path in target.parent.iterdir()) == ["data", "data.lock"]


def test_after_an_error_the_next_call_goes_on(tmp_path: Path) -> None:
    stop(tmp_path / "data", {"a.txt": b"a"})
    assert not (tmp_path / "data").exists()
    with staged(tmp_path / "data") as part:
        assert read_tree(part) == {"a.txt": b"a"}
    assert read_tree(tmp_path / "data") == {"a.txt": b"a"}


def test_after_a_kill_too_and_the_lock_is_free(tmp_path: Path) -> None:
    def run() -> None:
        with staged(tmp_path / "data", plan={"seed": 1}) as part:
            (part / "a.txt").write_text("a")
            os.kill(os.getpid(), signal.SIGKILL)

    child = fork.Process(target=run)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    with staged(tmp_path / "data", wait=False, plan={"seed": 1}):
        pass
    assert read_tree(tmp_path / "data") == {"a.txt": b"a"}


@pytest.mark.parametrize("first", [{"seed": 1}, None])
def test_another_plan_starts_afresh(tmp_path: Path, first: dict[str, int] | None) -> None:
    stop(tmp_path / "data", {"deep/a.txt": b"a"}, first)
    with staged(tmp_path / "data", plan={"seed": 2}) as part:
        assert not (part / "deep").exists()
    assert read_tree(tmp_path / "data") == {}


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    write_tree(tmp_path / "data", {"mine": b"1"})
    with pytest.raises(FileExistsError, match="use it, or move it away"), staged(tmp_path / "data"):
        pytest.fail("must not be reached")
    assert read_tree(tmp_path / "data") == {"mine": b"1"}
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError), staged(tmp_path / "link"):
        pytest.fail("must not be reached")


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_in_the_way_of_the_unfinished_folder(tmp_path: Path, kind: str) -> None:
    """A link would make us write, and later delete, somewhere else."""
    victim = write_tree(tmp_path / "victim", {"mine": b"1"})
    part = tmp_path / "data.part"
    part.write_text("x") if kind == "file" else part.symlink_to(victim)
    with (
        pytest.raises(NotADirectoryError, match="is in the way"),
        staged(tmp_path / "data", plan={}),
    ):
        pytest.fail("must not be reached")
    assert read_tree(victim) == {"mine": b"1"}


def test_a_second_process_waits_or_says_so(tmp_path: Path) -> None:
    order: list[str] = []
    with exclusive(tmp_path / "data"):

        def wait() -> None:
            with exclusive(tmp_path / "data"):
                order.append("second")

        thread = threading.Thread(target=wait)
        thread.start()
        with (
            pytest.raises(TimeoutError, match="another process is making"),
            staged(tmp_path / "data", wait=False),
        ):
            pytest.fail("must not be reached")
        thread.join(0.2)
        assert thread.is_alive()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = shutil.disk_usage(tmp_path)._replace(free=2 * 10**9)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: disk)
    require_space(tmp_path, 2 * 10**9)
    with pytest.raises(OSError, match=r"about 3\.50 GB more .* has 2\.00 GB left; make room"):
        require_space(tmp_path, 35 * 10**8)
