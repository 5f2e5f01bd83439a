"""Getting data sets: from the hub, by torchvision, from files at hand; again, and by force."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from fake_hub import COMMIT, REPO, FakeHub, fake_hub, isolate
from pictures import make_pictures

from avalanche_care.benchmarks import catalogue
from avalanche_care.benchmarks.catalogue import CARDS, DatasetCard, HubSource
from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.importing import _hub_large, download, prepare
from avalanche_care.benchmarks.importing.download import download_dataset, find_dataset

MINI = dataclasses.replace(
    CARDS["omnibenchmark1k"],
    name="mini",
    title="Mini",
    folder="mini-folder",
    other_folders=("elsewhere/mini",),
    classes=3,
    train_images=9,
    test_images=6,
    source=HubSource(REPO),
)
BY_HAND = dataclasses.replace(CARDS["cub"], classes=3, train_images=9, test_images=6)


@pytest.fixture(autouse=True)
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue: Mini from the hub, a CUB of three classes, and CIFAR-100."""
    cards = {"mini": MINI, "cub": BY_HAND, "cifar100": CARDS["cifar100"]}
    monkeypatch.setattr(catalogue, "CARDS", cards)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Mini as a directory of images."""
    make_pictures(tmp_path / "files" / "train", count=3)
    make_pictures(tmp_path / "files" / "test", count=2, seed=1)
    return tmp_path / "files"


@pytest.fixture
def hub(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Mini on a hub."""
    isolate(monkeypatch, str(tmp_path / "home"))
    with fake_hub(contents(files) | {"README.md": b"# Mini\n"}) as server:
        yield server


def contents(folder: Path) -> dict[str, bytes]:
    """Images by their paths."""
    images = (path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in images}


def names(root: Path) -> set[str]:
    """What is visible in a directory, without locks."""
    return {path.name for path in root.iterdir() if not path.name.endswith(".lock")}


def test_from_the_hub(hub: FakeHub, files: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    folder = download_dataset("mini", root, endpoint=hub.endpoint, progress=False)
    assert folder == root / "mini-folder" == find_dataset(MINI, root)
    assert contents(folder) == contents(files)
    record = DatasetRecord.load(folder)
    assert record is not None
    assert (record.name, record.classes, record.source) == ("mini", 3, f"hub:{REPO}@{COMMIT}")
    assert not (root / ".downloads" / "mini").exists()
    asked = len(hub.requests)
    assert download_dataset("mini", root, endpoint=hub.endpoint, progress=False) == folder
    assert len(hub.requests) == asked  # it was there


def test_split_archives_from_the_hub(
    hub: FakeHub, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "mini"), "gztar", files)).read_bytes()
    middle = len(archive) // 2
    hub.files = {
        "README.md": b"# Mini\n",
        "data/mini.tar.gz.part00": archive[:middle],
        "data/mini.tar.gz.part01": archive[middle:],
    }
    monkeypatch.setattr(_hub_large, "LARGE", 1000)
    folder = download_dataset("mini", tmp_path / "data", endpoint=hub.endpoint, progress=False)
    assert contents(folder) == contents(files)
    assert hub.served["data/mini.tar.gz.part01"] == len(archive) - middle


def test_what_was_downloaded_is_kept_until_it_is_prepared(
    hub: FakeHub, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    root = tmp_path / "data"
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "prepare_dataset", full)
        with pytest.raises(OSError, match="the disk is full"):
            download_dataset("mini", root, endpoint=hub.endpoint, progress=False)
    kept = root / ".downloads" / "mini" / "files"
    assert contents(kept) == contents(files)
    hub.endpoint = "http://127.0.0.1:9"  # nobody there
    download_dataset("mini", root, endpoint=hub.endpoint, keep=True, progress=False)
    assert contents(root / "mini-folder") == contents(files) == contents(kept)


def test_from_files_at_hand(files: Path, tmp_path: Path) -> None:
    folder = download_dataset("cub", tmp_path / "data", source=files, progress=False)
    assert contents(folder) == contents(files)
    record = DatasetRecord.load(folder)
    assert record is not None
    assert (record.name, record.source) == ("cub", str(files))
    assert names(tmp_path / "data") == {"cub", ".downloads"}
    archive = shutil.make_archive(str(tmp_path / "mini"), "zip", files)
    folder = download_dataset("mini", tmp_path / "data", source=archive, progress=False)
    assert contents(folder) == contents(files)


def test_by_hand_says_where(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"by hand from https://.*PILOT: take .* --from"):
        download_dataset("cub", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such file or directory: .*/nowhere"):
        download_dataset("cub", tmp_path, source=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no data set is called 'cup', did you mean 'cub'"):
        download_dataset("cup", tmp_path)


def test_other_classes_are_refused(files: Path, tmp_path: Path) -> None:
    shutil.rmtree(files / "train" / "bee")
    shutil.rmtree(files / "test" / "bee")
    with pytest.raises(ValueError, match=r"(?s)3.*\(the files are in .*/files\)"):
        download_dataset("cub", tmp_path / "data", source=files, progress=False)
    assert find_dataset(BY_HAND, tmp_path / "data") is None
    shutil.copytree(files, tmp_path / "data" / "cub")  # by hand
    with pytest.raises(ValueError, match=r"has 2 classes, and .* has 3; .*verify cub.* --force"):
        download_dataset("cub", tmp_path / "data")


def test_other_numbers_of_images_are_said(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (files / "test" / "ant" / "0.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        folder = download_dataset("cub", tmp_path / "data", source=files, progress=False)
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder} has 5 test images, expected 6 ({BY_HAND.counts}); "
        "accuracies may not be comparable"
    ]


def test_a_folder_where_the_reference_code_has_it(files: Path, tmp_path: Path) -> None:
    shutil.copytree(files, tmp_path / "data" / "elsewhere" / "mini")
    assert download_dataset("mini", tmp_path / "data") == tmp_path / "data" / "elsewhere" / "mini"


def test_force_replaces_the_folder(files: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    folder = download_dataset("cub", root, source=files, progress=False)
    (folder / "train" / "ant" / "0.jpg").write_bytes(b"broken")
    (folder / "train.pack").write_bytes(b"of the old images")
    assert download_dataset("cub", root, source=files, progress=False) == folder
    assert (folder / "train.pack").exists()
    assert download_dataset("cub", root, source=files, force=True, progress=False) == folder
    assert contents(folder) == contents(files)
    assert not (folder / "train.pack").exists()
    assert names(root) == {"cub", ".downloads"}


@pytest.mark.parametrize("killed", [False, True])
def test_a_failed_replacement_changes_nothing(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    root = tmp_path / "data"
    folder = download_dataset("cub", root, source=files, progress=False)
    before = contents(folder)

    def fail(*_: object, **__: object) -> None:
        assert not folder.exists()
        folder.mkdir()
        (folder / "half").write_bytes(b"")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "prepare_dataset", fail)
        if killed:
            patch.setattr(download, "_put_back", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            download_dataset("cub", root, source=files, force=True)
    assert (contents(folder) == before) is not killed
    assert download_dataset("cub", root) == folder  # undoes what a killed process has left
    assert contents(folder) == before
    assert names(root) == {"cub", ".downloads"}


def test_two_at_once(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    plain = prepare.prepare_dataset
    both = Barrier(2)

    def counted(*arguments: Any, **options: Any) -> DatasetRecord:
        calls.append(arguments)
        return plain(*arguments, **options)

    def get(_: int) -> Path:
        both.wait(10)
        return download_dataset("cub", tmp_path / "data", source=files, progress=False)

    monkeypatch.setattr(prepare, "prepare_dataset", counted)
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(get, range(2))) == {tmp_path / "data" / "cub"}
    assert len(calls) == 1  # the second waited, and found it there


@pytest.mark.parametrize("place", ["data", "data/cub", "data/cub/more"])
def test_a_source_that_would_be_replaced(files: Path, tmp_path: Path, place: str) -> None:
    folder = download_dataset("cub", tmp_path / "data", source=files, progress=False)
    (folder / "more").mkdir()
    with pytest.raises(ValueError, match="one is in the other; move the source"):
        download_dataset("cub", tmp_path / "data", source=tmp_path / place, force=True)
    assert contents(folder) == contents(files)


class FakeCIFAR:
    """What torchvision's class has and does, with two small files in an archive."""

    base_folder = "cifar-100-python"
    filename = "cifar-100-python.tar.gz"
    tgz_md5 = ""  # set by the fixture
    asked: tuple[bool, ...] = ()

    def __init__(self, root: Path, *, train: bool, download: bool) -> None:
        type(self).asked = (*self.asked, download)
        folder, archive = root / self.base_folder, root / self.filename
        if download and not folder.exists():
            if not archive.exists():
                raise RuntimeError("File not found or corrupted.")  # the network, in these tests
            with tarfile.open(archive) as tar:
                tar.extractall(root, filter="data")
        if (folder / "train").read_bytes() != b"training images":
            raise RuntimeError("Dataset not found or corrupted.")


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with CIFAR-100's archive."""
    import torchvision.datasets

    folder = tmp_path / "made" / FakeCIFAR.base_folder
    folder.mkdir(parents=True)
    (folder / "train").write_bytes(b"training images")
    (tmp_path / "archives").mkdir()
    archive = tmp_path / "archives" / FakeCIFAR.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, FakeCIFAR.base_folder)
    monkeypatch.setattr(FakeCIFAR, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(FakeCIFAR, "asked", ())
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", FakeCIFAR)
    return tmp_path / "archives"


@pytest.mark.parametrize("place", ["archives", "archives/cifar-100-python.tar.gz", "made"])
def test_torchvision_from_files_at_hand(cifar: Path, tmp_path: Path, place: str) -> None:
    root = tmp_path / "data"
    folder = download_dataset("cifar100", root, source=tmp_path / place)
    assert folder == root / "cifar-100-python"
    assert (folder / "train").read_bytes() == b"training images"
    assert FakeCIFAR.asked == (place != "made",) * 2  # what is unpacked is only looked at
    assert download_dataset("cifar100", root) == folder


def test_torchvision_refuses(cifar: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="CIFAR100 could not be downloaded or came damaged"):
        download_dataset("cifar100", tmp_path / "data")
    (cifar / FakeCIFAR.filename).write_bytes(b"half")
    with pytest.raises(ValueError, match=r"tar.gz is damaged or another file \(other MD5\)"):
        download_dataset("cifar100", tmp_path / "data", source=cifar)
    (cifar / FakeCIFAR.filename).unlink()
    with pytest.raises(ValueError, match=r"has neither .*tar.gz nor cifar-100-python, unpacked"):
        download_dataset("cifar100", tmp_path / "data", source=cifar)
    (tmp_path / "made" / "cifar-100-python" / "train").write_bytes(b"broken")
    with pytest.raises(OSError, match="came damaged"):
        download_dataset("cifar100", tmp_path / "data", source=tmp_path / "made")


def test_every_card_can_be_got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the hub, by torchvision, or with words; none is forgotten."""
    got: list[str] = []

    def torchvision(card: DatasetCard, *_: Any, **__: Any) -> None:
        got.append(card.name)

    def hub(card: DatasetCard, root: Path, files: Path, origin: str, *_: Any, **__: Any) -> None:
        got.append(f"{card.name} {origin}")

    def repository(repo_id: str, directory: Path, **_: Any) -> Any:
        from avalanche_care.benchmarks.importing.hub import HubSnapshot

        return HubSnapshot(directory, repo_id, COMMIT, 1, 1)

    cards: Mapping[str, DatasetCard] = CARDS
    monkeypatch.setattr(catalogue, "CARDS", cards)
    monkeypatch.setattr(download, "_get_from_torchvision", torchvision)
    monkeypatch.setattr(download, "_prepare", hub)
    monkeypatch.setattr(download, "_check", lambda *_: None)
    monkeypatch.setattr("avalanche_care.benchmarks.importing.hub.download_repository", repository)
    ours = {"cifar100": "cifar100", "omniglot": "omniglot"}
    ours["omnibenchmark1k"] = f"omnibenchmark1k hub:LMMM2025/OmniBenchmark-1K@{COMMIT}"
    for name in cards.keys() & ours.keys():
        download_dataset(name, tmp_path)
    assert sorted(got) == sorted(ours.values())
    for name in cards.keys() - ours.keys():
        with pytest.raises(FileNotFoundError, match="has to be fetched by hand from http"):
            download_dataset(name, tmp_path)
