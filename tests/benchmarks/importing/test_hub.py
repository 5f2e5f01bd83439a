"""Downloads from the hub, against a server of our own: progress, interruption, refusals."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_hub import COMMIT, REPO, FakeHub, fake_hub, isolate

from avalanche_care.benchmarks.importing import _hub_large, staging
from avalanche_care.benchmarks.importing.hub import HubSnapshot, download_repository

BIG = bytes(range(256)) * 40  # 10,240 bytes, large for the fake hub and for this test
OTHER_BIG = BIG[::-1] + b"."
FILES = {
    ".gitattributes": b"*.tar lfs\n",
    "README.md": b"# Pictures\n",
    "train/cat/a b[1].jpg": b"c" * 300,
    "train/dog/1.jpg": b"d" * 400,
    "train.tar.part0": BIG,
    "test [x]/test.tar": OTHER_BIG,
}
CUT = 4096


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub; files from 1,000 bytes are large, and a KiB is read at once."""
    from huggingface_hub import constants, file_download

    isolate(monkeypatch, str(tmp_path / "home"))
    awake = SimpleNamespace(**vars(time) | {"sleep": lambda _: None})
    monkeypatch.setattr(file_download, "time", awake)  # a second before it tries again
    monkeypatch.setattr(_hub_large, "LARGE", 1000)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    with fake_hub(FILES) as server:
        yield server


def download(hub: FakeHub, directory: Path, **options: object) -> HubSnapshot:
    options = {"endpoint": hub.endpoint, "progress": False, **options}
    return download_repository(REPO, directory, **options)  # type: ignore[arg-type]


def contents(directory: Path) -> dict[str, bytes]:
    """What was downloaded, without the hidden folder of notes."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.relative_to(directory).parts[0] != ".cache"
    }


def test_everything_arrives_once(hub: FakeHub, tmp_path: Path) -> None:
    snapshot = download(hub, tmp_path / "data")
    assert contents(tmp_path / "data") == FILES
    size = sum(len(content) for content in FILES.values())
    assert snapshot == HubSnapshot(tmp_path / "data", REPO, COMMIT, len(FILES), size)
    assert {path: hub.served[path] for path in FILES} == {p: len(c) for p, c in FILES.items()}
    looked_at = {request for request in hub.requests if request.startswith("HEAD")}
    assert len(looked_at) == 4  # small files: those fetched here are not looked at again
    assert not list((tmp_path / "data" / ".cache" / "parts").iterdir())
    assert not (tmp_path / "home").exists()  # nothing is left in the user's cache


def test_a_complete_download_needs_no_hub(hub: FakeHub, tmp_path: Path) -> None:
    first = download(hub, tmp_path / "data")
    asked = len(hub.requests)
    assert download(hub, tmp_path / "data") == first
    assert len(hub.requests) == asked
    (tmp_path / "data" / "train" / "dog" / "1.jpg").unlink()
    (tmp_path / "data" / "train.tar.part0").write_bytes(b"cut")
    served = hub.served.copy()
    assert download(hub, tmp_path / "data") == first
    assert contents(tmp_path / "data") == FILES
    fetched = hub.served - served
    assert {path for path in fetched if path} == {"train/dog/1.jpg", "train.tar.part0"}


def test_a_broken_connection_goes_on_in_the_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after["train.tar.part0"] = CUT
    download(hub, tmp_path / "data")
    assert contents(tmp_path / "data") == FILES
    assert [start for path, start in hub.ranges if path == "train.tar.part0"] == [0, CUT]
    assert hub.served["train.tar.part0"] == len(BIG)  # not a byte twice


def test_a_failed_download_goes_on_in_the_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after["train.tar.part0"] = CUT
    hub.status_after_cut = 503  # what follows the broken connection
    with pytest.raises(ConnectionError, match=r"status 503 .* the same command goes on"):
        download(hub, tmp_path / "data")
    assert "train.tar.part0" not in contents(tmp_path / "data")
    hub.status.clear()
    download(hub, tmp_path / "data")
    assert contents(tmp_path / "data") == FILES
    assert [start for path, start in hub.ranges if path == "train.tar.part0"] == [0, CUT]
    assert hub.served["train.tar.part0"] == len(BIG)
    assert hub.served["test [x]/test.tar"] == len(OTHER_BIG)


KILLED = """
import sys
from huggingface_hub import constants
from avalanche_care.benchmarks.importing import _hub_large, hub
constants.DOWNLOAD_CHUNK_SIZE = 1024
_hub_large.LARGE = 1000
hub.download_repository({repo!r}, sys.argv[1], endpoint=sys.argv[2], progress=False)
"""


def test_a_killed_process_costs_what_it_had_not_written(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["train.tar.part0"] = big = BIG * 10  # beyond the buffers of a file
    hub.stall_after["train.tar.part0"] = stalled = len(big) // 2
    arguments = [sys.executable, "-c", KILLED.format(repo=REPO), str(tmp_path / "data")]
    child = subprocess.Popen([*arguments, hub.endpoint])
    part = tmp_path / "data" / ".cache" / "parts" / f"{hashlib.sha256(big).hexdigest()}.part"
    deadline = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size > stalled // 2):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.kill()
    child.wait()
    there = part.stat().st_size
    hub.stalled.set()
    download(hub, tmp_path / "data")
    assert (tmp_path / "data" / "train.tar.part0").read_bytes() == big
    assert hub.ranges[-1] != ("train.tar.part0", 0)
    assert ("train.tar.part0", there) in hub.ranges


def test_a_damaged_file_is_refused_and_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.hashes["train.tar.part0"] = "0" * 64
    with pytest.raises(OSError, match=r"train.tar.part0 of .* came damaged"):
        download(hub, tmp_path / "data")
    assert "train.tar.part0" not in contents(tmp_path / "data")
    hub.hashes.clear()
    download(hub, tmp_path / "data")
    assert contents(tmp_path / "data") == FILES


def test_a_part_that_is_too_long_is_dropped(hub: FakeHub, tmp_path: Path) -> None:
    parts = tmp_path / "data" / ".cache" / "parts"
    parts.mkdir(parents=True)
    (parts / f"{hub.sha256('train.tar.part0')}.part").write_bytes(BIG + b"more")
    download(hub, tmp_path / "data")
    assert contents(tmp_path / "data") == FILES


def test_a_directory_holds_one_commit(hub: FakeHub, tmp_path: Path) -> None:
    hub.status["train.tar.part0"] = 500
    with pytest.raises(ConnectionError):
        download(hub, tmp_path / "data")
    hub.status.clear()
    hub.commits["main"] = "f" * 40  # somebody pushes meanwhile
    hub.commits["old"] = COMMIT
    assert download(hub, tmp_path / "data").revision == COMMIT
    with pytest.raises(ValueError, match=rf"begun with commit {COMMIT} .* main is commit ffff"):
        download(hub, tmp_path / "data", revision="main")
    assert download(hub, tmp_path / "data", revision="old").revision == COMMIT
    assert download(hub, tmp_path / "new").revision == "f" * 40
    with pytest.raises(ValueError, match="holds files of someone/pictures, not of other/one"):
        download_repository("other/one", tmp_path / "data", endpoint=hub.endpoint)


def test_too_little_room_is_said_first(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(len(content) for content in FILES.values())
    room = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=size - 1), rmtree=None)
    with monkeypatch.context() as patch:
        patch.setattr(staging, "shutil", room)
        with pytest.raises(OSError, match=r"are needed and .* has .* left"):
            download(hub, tmp_path / "data")
    assert contents(tmp_path / "data") == {}
    assert not hub.ranges
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").write_bytes(FILES["README.md"])  # so less is needed
    monkeypatch.setattr(staging, "shutil", room)
    download(hub, tmp_path / "data")


def test_a_full_disk_on_the_way(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_hub_large, "http_get", full)
    with pytest.raises(OSError, match=r"the disk is full .* make room, and the same command"):
        download(hub, tmp_path / "data")


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (404, "RepoNotFound", FileNotFoundError, "there is no data set repository http.*pictures"),
        (401, "RepoNotFound", FileNotFoundError, "or it is private; .* 'hf auth login'"),
        (403, "GatedRepo", PermissionError, "accept them on that page, log in"),
        (403, "", PermissionError, r"refuses access .*\(status 403\)"),
        (404, "RevisionNotFound", FileNotFoundError, "no such revision"),
        (429, "", ConnectionError, "status 429 .* try again later"),
        (500, "", ConnectionError, "status 500 .* try again later"),
    ],
)
def test_what_the_hub_refuses(
    hub: FakeHub, tmp_path: Path, status: int, code: str, kind: type[OSError], message: str
) -> None:
    hub.status[""], hub.error_code = status, code
    with pytest.raises(kind, match=message) as error:
        download(hub, tmp_path / "data")
    assert len(str(error.value).splitlines()) == 1
    assert contents(tmp_path / "data") == {}


def test_a_gated_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.status["train.tar.part0"], hub.error_code = 403, "GatedRepo"  # the listing is open to all
    with pytest.raises(PermissionError, match="accept its conditions"):
        download(hub, tmp_path / "data")


def test_unreachable_and_offline(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"{nobody} cannot be reached.*--from"):
            download(hub, tmp_path / "data", endpoint=nobody)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set; unset it"):
        download(hub, tmp_path / "data")


@pytest.mark.parametrize("repo", ["a/b/c", "no spaces/please", "-x/y--z"])
def test_names_that_are_none(hub: FakeHub, tmp_path: Path, repo: str) -> None:
    with pytest.raises(ValueError, match="is written owner/name, got"):
        download_repository(repo, tmp_path / "data", endpoint=hub.endpoint, progress=False)


@pytest.mark.parametrize("path", ["../outside.tar", "a/../../outside.tar", "/outside.tar"])
def test_files_outside_are_refused(hub: FakeHub, tmp_path: Path, path: str) -> None:
    hub.files[path] = BIG
    with pytest.raises(ValueError, match="which lies outside; refused"):
        download(hub, tmp_path / "data")
    assert not list(tmp_path.rglob("outside.tar"))


def test_an_empty_repository(hub: FakeHub, tmp_path: Path) -> None:
    hub.files.clear()
    with pytest.raises(FileNotFoundError, match="is empty"):
        download(hub, tmp_path / "data")


def test_bars_only_where_wanted(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled

    download(hub, tmp_path / "quiet")
    assert capsys.readouterr().err == ""
    assert not are_progress_bars_disabled()  # the library's switch is as it was
    download(hub, tmp_path / "loud", progress=True)
    assert "Fetching 4 files: 100%" in capsys.readouterr().err  # large ones: on a terminal only
