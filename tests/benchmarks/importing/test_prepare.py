"""Preparing a data set: every form comes out the same, whatever happens on the way."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from layouts import (
    CLASSES,
    Files,
    below,
    miniature,
    moved,
    parquet_of,
    picture,
    read_tree,
    split_bytes,
    tar_bytes,
    write_tree,
    zip_bytes,
)

from avalanche_care.benchmarks.dataset_record import RECORD_FILE, DatasetRecord
from avalanche_care.benchmarks.importing import _placement, prepare, staging
from avalanche_care.benchmarks.importing import extract as extracting
from avalanche_care.benchmarks.importing.archives import UnsafeArchiveError
from avalanche_care.benchmarks.importing.prepare import prepare_dataset

fork = multiprocessing.get_context("fork")
FILES = miniature()
TRAIN, TEST = below(FILES, "train/"), below(FILES, "test/")


def shards(files: Files, prefix: str, count: int, pack: Callable[[Files], bytes]) -> Files:
    """The files in several archives, of which each has images of every class."""
    items = list(files.items())
    return {f"{prefix}{k}": pack(dict(items[k::count])) for k in range(count)}


def class_tars(files: Files, inner: bool = False) -> Files:
    return {
        f"{name}.tar": tar_bytes(
            moved(below(files, f"{name}/"), f"{name}/") if inner else below(files, f"{name}/")
        )
        for name in CLASSES
    }


def parquet(files: Files) -> bytes:
    return parquet_of(files, CLASSES)


def in_realms(files: Files, split_first: bool) -> Files:
    out = {}
    for path, data in files.items():
        split, name, image = path.split("/")
        realm = "mammals" if name == "cat" else "insects"
        folders = (split, realm) if split_first else (realm, split)
        out["/".join((*folders, name, image))] = data
    return out


FORMS: dict[str, Files] = {
    "plain folders": FILES,
    "below single folders": moved(FILES, "OmniBenchmark-1K/data/"),
    "validation for test": {p.replace("test/", "val/"): d for p, d in FILES.items()},
    "upper case": {
        p.replace("test/", "Testing/").replace("train/", "TRAIN/"): d for p, d in FILES.items()
    },
    "images in a folder of their class": {
        "/".join((*p.split("/")[:2], "images", p.split("/")[2])): d for p, d in FILES.items()
    },
    "class above split": {
        "/".join((p.split("/")[1], p.split("/")[0], p.split("/")[2])): d for p, d in FILES.items()
    },
    "hub files beside": FILES
    | {
        "README.md": b"# data",
        ".gitattributes": b"x",
        "meta.json": b"{}",
        ".cache/huggingface/train/a/0.jpg": b"?",
        "__MACOSX/train/ant/._0.jpg": b"?",
        "train/.DS_Store": b"?",
        "train/ant/.hidden.jpg": b"?",
    },
    "one zip": {"data.zip": zip_bytes(FILES)},
    "one zip with its name inside": {"omni.zip": zip_bytes(moved(FILES, "omni/"))},
    "a tar per split": {"train.tar": tar_bytes(TRAIN), "test.tar": tar_bytes(TEST)},
    "splits inside their own tar": {
        "train.tar.gz": tar_bytes(moved(TRAIN, "train/"), "gz"),
        "test.tar.xz": tar_bytes(moved(TEST, "data/test/"), "xz"),
    },
    "split in the file name": {
        "omni1k_train.zip": zip_bytes(TRAIN),
        "omni1k_test.tbz": tar_bytes(TEST, "bz2"),
    },
    "a folder and an archive": moved(TRAIN, "train/") | {"test.zip": zip_bytes(TEST)},
    "a tar per class": moved(class_tars(TRAIN), "train/") | moved(class_tars(TEST), "test/"),
    "a tar per class with its folder": moved(class_tars(TRAIN, True), "train/")
    | moved(class_tars(TEST, True), "test/"),
    "a zip of tars": {
        "all.zip": zip_bytes(moved(class_tars(TRAIN), "train/") | moved(class_tars(TEST), "test/"))
    },
    "a tar of zips of tars": {
        "a.tar": tar_bytes(
            {"train.zip": zip_bytes(class_tars(TRAIN)), "test.zip": zip_bytes(class_tars(TEST))}
        )
    },
    "a split tar": split_bytes(
        tar_bytes(FILES, "gz"), [f"omni.tar.gz.part{k:02}" for k in range(12)]
    ),
    "split tars in letters": split_bytes(tar_bytes(TRAIN), ["train.tar.aa", "train.tar.ab"])
    | split_bytes(tar_bytes(TEST), ["test.tar_aa", "test.tar_ab", "test.tar_ac"]),
    "a split zip": split_bytes(zip_bytes(FILES), ["d.zip.001", "d.zip.002", "d.zip.003"]),
    "parts numbered before the suffix": split_bytes(
        tar_bytes(FILES), ["d.part1.tar", "d.part2.tar"]
    ),
    "an archive beside folders that go on": {p: d for p, d in FILES.items() if "/bee/" not in p}
    | {"more.zip": zip_bytes({p: d for p, d in FILES.items() if "/bee/" in p})},
    "numbered pieces": shards(FILES, "part_", 3, tar_bytes),
    "numbered pieces of each split": moved(shards(TRAIN, "shard-", 2, zip_bytes), "train/")
    | shards(TEST, "test-0000", 2, tar_bytes),
    "names that lie": {"train.jpeg.txt": zip_bytes(moved(FILES, "x/"))},
    "images without suffix": {p.rsplit(".", 1)[0]: d for p, d in FILES.items()},
    "packed and unpacked": FILES | {"train.zip": zip_bytes(TRAIN)},
    "realms below splits": in_realms(FILES, True),
    "realms above splits": in_realms(FILES, False),
    "an archive per realm": {
        f"{realm}.zip": zip_bytes(below(in_realms(FILES, False), f"{realm}/"))
        for realm in ("insects", "mammals")
    },
    "realms in an archive": {"train.tar": tar_bytes(below(in_realms(FILES, True), "train/"))}
    | moved(below(in_realms(FILES, True), "test/"), "test/"),
}


if importlib.util.find_spec("pyarrow"):
    FORMS |= {
        "parquet": shards(TRAIN, "data/train-0000", 2, parquet)
        | {"data/test-00000-of-00001.parquet": parquet(TEST)},
        "parquet by folder": {
            "default/train/0000.parquet": parquet(TRAIN),
            "default/test/0000.parquet": parquet(TEST),
        },
        "parquet in a zip": {"data.zip": zip_bytes({"train.parquet": parquet(TRAIN)})}
        | moved(TEST, "test/"),
    }


def images_of(folder: Path) -> dict[tuple[str, str], list[bytes]]:
    """Split and class -> its images, whatever their names."""
    images: dict[tuple[str, str], list[bytes]] = {}
    for path, data in read_tree(folder).items():
        if path not in (RECORD_FILE, staging.PLAN_FILE):  # the latter: killed at the very end
            split, name, file = path.split("/")
            assert file.lower().endswith((".jpg", ".png"))
            images.setdefault((split, name), []).append(data)
    return {key: sorted(found) for key, found in images.items()}


def expected(files: Files = FILES) -> dict[tuple[str, str], list[bytes]]:
    images: dict[tuple[str, str], list[bytes]] = {}
    for path, data in files.items():
        split, name, _ = path.split("/")
        images.setdefault((split, name), []).append(data)
    return {key: sorted(found) for key, found in images.items()}


@pytest.mark.parametrize("move", [False, True], ids=["link", "move"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_same_folders(tmp_path: Path, form: str, move: bool) -> None:
    source = write_tree(tmp_path / "source", FORMS[form])
    before = read_tree(source)
    record = prepare_dataset(
        source, tmp_path / "root" / "mini", name="mini", expected_classes=3, move=move
    )
    assert images_of(tmp_path / "root" / "mini") == expected()
    assert (record.classes, record.train_images, record.test_images) == (3, 9, 6)
    assert record.source == str(source)
    assert DatasetRecord.load(tmp_path / "root" / "mini") == record
    realms = {"insects": ["ant", "bee"], "mammals": ["cat"]} if "realm" in form else None
    assert record.realms == realms
    left = sorted(path.name for path in (tmp_path / "root").iterdir())
    assert left == ["mini", "mini.lock"]
    if not move:
        assert read_tree(source) == before


def test_images_are_linked_not_copied_where_the_disk_allows(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", FILES)
    prepare_dataset(source, tmp_path / "mini", name="mini")
    for path in FILES:
        assert (source / path).samefile(tmp_path / "mini" / path)


@pytest.mark.parametrize("move", [False, True])
def test_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: bool) -> None:
    def refused(*args: Any, **kwargs: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    source = write_tree(tmp_path / "source", FILES)
    monkeypatch.setattr(_placement.os, "link", refused)
    monkeypatch.setattr(_placement.os, "rename", refused) if move else None
    monkeypatch.setattr(staging.os, "rename", os.replace) if move else None
    prepare_dataset(source, tmp_path / "mini", name="mini", move=move)
    assert images_of(tmp_path / "mini") == expected()
    assert bool(read_tree(source)) is not move


def test_the_hubs_cache_is_made_of_links_which_are_followed(tmp_path: Path) -> None:
    blobs = write_tree(tmp_path / "blobs", {str(k): d for k, d in enumerate(FILES.values())})
    source = write_tree(tmp_path / "snapshot", dict.fromkeys(FILES, b""))
    for number, path in enumerate(FILES):
        (source / path).unlink()
        (source / path).symlink_to(blobs / str(number))
    (source / "loop").symlink_to(source)
    prepare_dataset(source, tmp_path / "mini", name="mini", move=True)
    assert images_of(tmp_path / "mini") == expected()
    assert not any(path.is_symlink() for path in (tmp_path / "mini").rglob("*"))
    assert len(read_tree(blobs)) == len(FILES)
    (blobs / "3").unlink()
    with pytest.raises(FileNotFoundError, match="link that leads nowhere"):
        prepare_dataset(source, tmp_path / "other", name="other")


@pytest.mark.parametrize("name", ["d.tar", "d.tar.ab"])
def test_a_single_file_is_a_source(tmp_path: Path, name: str) -> None:
    data = tar_bytes(FILES)
    parts = {name: data} if name == "d.tar" else split_bytes(data, ["d.tar.aa", "d.tar.ab"])
    source = write_tree(tmp_path / "source", parts | {"other.zip": b"PK\x03\x04 broken"})
    prepare_dataset(source / name, tmp_path / "mini", name="mini")
    assert images_of(tmp_path / "mini") == expected()


def test_names_that_clash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Pieces of the data were numbered from 0 again; one image is the same in both."""
    more = {path: picture(1000 + k) for k, path in enumerate(TRAIN)}
    more["ant/0.jpg"] = TRAIN["ant/0.jpg"]
    more["ant/1.PNG"] = more.pop("ant/1.png")
    forms = {"train/p1.zip": zip_bytes(TRAIN), "train/p2.zip": zip_bytes(more)}
    source = write_tree(tmp_path / "source", forms | moved(TEST, "test/"))
    record = prepare_dataset(source, tmp_path / "mini", name="mini")
    assert record.train_images == 17
    both = [*expected()["train", "ant"], more["ant/1.PNG"], more["ant/2.jpg"]]
    assert images_of(tmp_path / "mini")["train", "ant"] == sorted(both)
    names = sorted(path.name for path in (tmp_path / "mini/train/ant").iterdir())
    assert names == ["0.jpg", "1.png", "1~2.PNG", "2.jpg", "2~2.jpg"]
    assert record.details["remarks"] == [
        "1 images are there twice; one of each is left out",
        "8 images got other names: their classes had them already",
    ]
    assert "twice" in caplog.text


def test_decisions_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extra = {f"val/ant/{k}.jpg": picture(500 + k) for k in range(2)}
    extra |= {"teaser.png": picture(600), "notes.txt": b"", "train/ant/anim.gif": b"GIF89a"}
    files = miniature(train=6)
    source = write_tree(tmp_path / "source", files | extra)
    record = prepare_dataset(source, tmp_path / "mini", name="mini")
    assert images_of(tmp_path / "mini") == expected(files)
    assert record.details == {
        "remarks": [
            "2 validation images are not used",
            "1 images outside the class folders are left out",
        ],
        "other_files": {".txt": 1, ".gif": 1},
    }
    assert "validation images are not used" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there are no images"),
        ({"a.txt": b"", "b.csv": b""}, "there are no images"),
        (moved(TRAIN, "train/"), "called test"),
        (moved(TRAIN, "pictures/"), "called train"),
        ({f"{s}/{k}.jpg": b"" for s in ("train", "test") for k in range(3)}, "not in class"),
        (FILES | {"train/dog/0.jpg": b""}, "1 classes have only training images: dog"),
        (FILES | {"test/dog/0.jpg": b"", "test/elk/0.jpg": b""}, "have only test images: dog, elk"),
        (FILES | moved(TRAIN, "more/"), "9 of 24 images are not in class folders"),
        (FILES | {"train/ant/deep/0.jpg": b""}, "different depths"),
        (moved(FILES, "x/a/b/") | moved(FILES, "x/c/d/"), "too many levels"),
        (
            in_realms(FILES, True) | {"train/mammals/ant/9.jpg": b""},
            "a class ant is both in insects and in mammals",
        ),
    ],
)
def test_what_is_not_recognised_is_refused_with_a_listing(
    tmp_path: Path, files: Files, message: str
) -> None:
    source = write_tree(tmp_path / "source", files)
    source.mkdir(exist_ok=True)
    with pytest.raises(ValueError, match="cannot find training and test") as caught:
        prepare_dataset(source, tmp_path / "mini", name="mini")
    text = str(caught.value)
    assert message in text
    suffixes = {os.path.splitext(path)[1] for path in files}
    found = text.split("Found:")[1]
    assert all(suffix in found for suffix in suffixes)
    assert all("/".join(p.split("/")[:-1][:3]) in found for p in files) or not files
    assert not (tmp_path / "mini").exists()


def test_the_number_of_classes_is_checked(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", {"a.zip": zip_bytes(FILES)})
    with pytest.raises(ValueError, match=r"expected 1000 classes .* got 3 \(such as ant, bee, cat"):
        prepare_dataset(source, tmp_path / "mini", name="mini", expected_classes=1000)
    assert not (tmp_path / "mini").exists()
    assert read_tree(source).keys() == {"a.zip"}


def test_classes_that_differ_only_in_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = miniature(("Crane", "crane"))
    source = write_tree(tmp_path / "source", files)
    assert prepare_dataset(source, tmp_path / "mini", name="mini").classes == 2
    monkeypatch.setattr(prepare, "ignores_case", lambda folder: True)
    with pytest.raises(ValueError, match="differ only in case"):
        prepare_dataset(source, tmp_path / "other", name="other")


def test_wrong_places(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", FILES)
    with pytest.raises(FileNotFoundError, match="no such directory or archive"):
        prepare_dataset(tmp_path / "nowhere", tmp_path / "mini", name="mini")
    for target in (source, source / "mini", source.parent):
        with pytest.raises((ValueError, FileExistsError), match=r"lie inside|is there already"):
            prepare_dataset(source, target, name="mini")
    write_tree(tmp_path / "mini", {"mine.txt": b"precious"})
    with pytest.raises(FileExistsError, match=r"mini is there already; use it, or move it away"):
        prepare_dataset(source, tmp_path / "mini", name="mini")
    assert read_tree(tmp_path / "mini") == {"mine.txt": b"precious"}
    (tmp_path / "empty").mkdir()
    prepare_dataset(source, tmp_path / "empty", name="empty")
    assert images_of(tmp_path / "empty") == expected()


def test_a_full_disk_is_noticed_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_tree(tmp_path / "source", {"a.zip": zip_bytes({"x.jpg": bytes(10**6)})})
    disk = shutil.disk_usage(tmp_path)._replace(free=10**5)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: disk)
    with pytest.raises(OSError, match=r"about 0\.00 GB more are needed") as caught:
        prepare_dataset(source, tmp_path / "mini", name="mini")
    assert "make room" in str(caught.value)
    assert not list((tmp_path / "mini.part").rglob("*.unpacked*"))


def test_an_unreadable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tree(tmp_path / "source", FILES)
    scandir = os.scandir

    def guarded(path: str) -> Any:  # root can read everything, so chmod would prove nothing
        if str(path).endswith("train/bee"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(PermissionError, match="train/bee"):
        prepare_dataset(source, tmp_path / "mini", name="mini")


def test_nested_without_end(tmp_path: Path) -> None:
    data = zip_bytes(FILES)
    for _ in range(6):
        data = zip_bytes({"inner.zip": data})
    source = write_tree(tmp_path / "source", {"a.zip": data})
    with pytest.raises(ValueError, match="an archive inside 4 others"):
        prepare_dataset(source, tmp_path / "mini", name="mini")


def test_a_hostile_archive_inside_another(tmp_path: Path) -> None:
    inner = tar_bytes({"../../../../../escaped.jpg": b"!"})
    source = write_tree(tmp_path / "source", {"a.zip": zip_bytes({"train.tar": inner})})
    with pytest.raises(UnsafeArchiveError, match="leads out of the folder"):
        prepare_dataset(source, tmp_path / "mini", name="mini")
    assert not list(tmp_path.rglob("escaped.jpg"))


# ------------------------------------------------------------------ stopped, and gone on


def in_child(call: Callable[[], Any]) -> int | None:
    child = fork.Process(target=call)
    child.start()
    child.join()
    return child.exitcode


STOPS = {
    "rename": (os, ("rename", "replace", "link", "unlink")),
    "mkdir": (Path, ("mkdir",)),
    "rmtree": (shutil, ("rmtree",)),
    "copy": (extracting._Writer, ("_copy",)),
}


def killed_at(number: int, call: Callable[[], Any]) -> int | None:
    """Run in a process that is killed just before its n-th change of the disk."""

    def run() -> None:
        count = 0

        def guard(function: Callable[..., Any]) -> Callable[..., Any]:
            def guarded(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)

            return guarded

        for owner, names in STOPS.values():
            for name in names:
                setattr(owner, name, guard(getattr(owner, name)))
        call()

    return in_child(run)


@pytest.mark.parametrize("move", [False, True], ids=["link", "move"])
def test_killed_at_any_moment_the_same_call_goes_on(tmp_path: Path, move: bool) -> None:
    """Every run is killed a bit later than the one before, until one gets to the end."""
    small = miniature(("ant", "bee"), train=1, test=1)
    tars = {f"{name}.tar": tar_bytes(below(small, f"test/{name}/")) for name in ("ant", "bee")}
    tars |= split_bytes(tars.pop("bee.tar"), [f"bee.tar.a{letter}" for letter in "abcd"])
    files = moved(below(small, "train/"), "train/") | {"test.zip": zip_bytes(tars)}
    kills = 0
    for number in range(1 + move, 400, 3):
        source = write_tree(tmp_path / f"s{number}", files)
        target = tmp_path / f"mini{number}"

        def call(source: Path = source, target: Path = target) -> None:
            prepare_dataset(source, target, name="mini", move=move)

        ended = killed_at(number, call)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        kills += 1
        if not target.exists():
            assert in_child(call) == 0
        assert images_of(target) == expected(small), number
        assert DatasetRecord.load(target) is not None
        assert not (tmp_path / f"mini{number}.part").exists()
    assert kills > 12


def test_killed_again_and_again_it_still_gets_to_the_end(tmp_path: Path) -> None:
    files = moved(TRAIN, "train/") | {"t.zip": zip_bytes(moved(class_tars(TEST), "test/"))}
    source = write_tree(tmp_path / "source", files)

    def call() -> None:
        prepare_dataset(source, tmp_path / "mini", name="mini", move=True)

    runs = 0
    while not (tmp_path / "mini").exists():
        killed_at(25, call)
        runs += 1
        assert runs < 60
    assert runs >= 3
    assert images_of(tmp_path / "mini") == expected()


def test_finished_archives_are_not_extracted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_tree(tmp_path / "source", FORMS["a tar per class"])
    opened: list[str] = []
    members = extracting.members

    def counting(file: Any, kind: str, what: Any) -> Any:
        opened.append(Path(str(what)).relative_to(source).as_posix())
        if len(opened) == 4:
            raise KeyboardInterrupt
        return members(file, kind, what)

    monkeypatch.setattr(extracting, "members", counting)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(source, tmp_path / "mini", name="mini")
    first, opened[:] = opened[:3], []
    opened.extend([""] * 10)
    prepare_dataset(source, tmp_path / "mini", name="mini")
    assert sorted([*first, *opened[10:]]) == sorted(FORMS["a tar per class"])


def test_what_was_begun_from_other_files_is_not_mixed_in(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", {"a.zip": zip_bytes(FILES)})
    with pytest.raises(ValueError, match="expected 4 classes"):
        prepare_dataset(source, tmp_path / "mini", name="mini", expected_classes=4)
    assert list((tmp_path / "mini.part").rglob("0.jpg"))
    new = {path: picture(2000 + k) for k, path in enumerate(FILES)}
    write_tree(source, {"a.zip": zip_bytes(new)})
    prepare_dataset(source, tmp_path / "mini", name="mini")
    assert images_of(tmp_path / "mini") == {
        key: sorted(d for p, d in new.items() if p.startswith("/".join(key))) for key in expected()
    }


def test_an_image_that_disappears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tree(tmp_path / "source", FILES)
    transfer = prepare.transfer

    def losing(*args: Any, **kwargs: Any) -> None:
        (source / "train/bee/1.png").unlink()
        transfer(*args, **kwargs)

    monkeypatch.setattr(prepare, "transfer", losing)
    with pytest.raises(OSError, match=r"cannot put .*bee/1.png.*what is done is kept"):
        prepare_dataset(source, tmp_path / "mini", name="mini", move=True)
    monkeypatch.undo()
    write_tree(source, {"train/bee/1.png": FILES["train/bee/1.png"]})
    prepare_dataset(source, tmp_path / "mini", name="mini", move=True)
    assert images_of(tmp_path / "mini") == expected()


# ------------------------------------------------------------------ two at once


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both return; only one of them unpacks."""
    source = write_tree(tmp_path / "source", FORMS["a zip of tars"])
    log = tmp_path / "log"

    def run() -> None:
        unpack = prepare.unpack

        def logged(*args: Any, **kwargs: Any) -> Any:
            with log.open("a") as file:
                file.write(f"{os.getpid()}\n")
            return unpack(*args, **kwargs)

        prepare.unpack = logged  # type: ignore[attr-defined]
        assert prepare_dataset(source, tmp_path / "mini", name="mini").train_images == 9

    with staging.exclusive(tmp_path / "mini"):  # so that both of them get as far as the lock
        children = [fork.Process(target=run) for _ in range(3)]
        for child in children:
            child.start()
        threading.Event().wait(0.3)
        assert not (tmp_path / "mini.part").exists()
        assert all(child.is_alive() for child in children)
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(log.read_text().splitlines()) == 1
    assert images_of(tmp_path / "mini") == expected()


def test_two_processes_that_prepare_different_data(tmp_path: Path) -> None:
    sources = [write_tree(tmp_path / name, FILES) for name in ("one", "two")]

    def run(source: Path) -> None:
        logging.disable()
        try:
            prepare_dataset(source, tmp_path / "mini", name="mini")
        except FileExistsError:
            os._exit(7)

    with staging.exclusive(tmp_path / "mini"):
        children = [fork.Process(target=run, args=(source,)) for source in sources]
        for child in children:
            child.start()
        threading.Event().wait(0.2)
    for child in children:
        child.join()
    assert sorted(child.exitcode or 0 for child in children) == [0, 7]
