"""Importing folders of the user's images: what comes out, and what is said when nothing can."""

from __future__ import annotations

import errno
import os
import re
import shutil
import zipfile
from functools import partial
from pathlib import Path

import pytest
from fake_hub import REPO, fake_hub, isolate
from own_files import contents, numbered, snapshot, write_files

from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.importing import _own_files, hub
from avalanche_care.benchmarks.importing._own_folders import read_class_folders
from avalanche_care.benchmarks.importing._own_split import HeldOut
from avalanche_care.benchmarks.importing.own import import_data

CLASSES = {"cat": numbered(10), "dog": numbered(5, ".PNG")}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """One directory of class folders, with a little of what else lies about."""
    folder = tmp_path / "photos"
    write_files(folder, CLASSES)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "cat" / ".thumb.jpg").write_bytes(b"x")
    (folder / "__MACOSX" / "cat").mkdir(parents=True)
    (folder / "__MACOSX" / "cat" / "0.jpg").write_bytes(b"x")
    return folder


def test_one_directory_is_split(photos: Path, tmp_path: Path) -> None:
    before = snapshot(photos)
    record = import_data(photos, "zoo", tmp_path / "root", test_fraction=0.2, split_seed=4)
    folder = tmp_path / "root" / "zoo"
    assert snapshot(photos) == before
    assert record == DatasetRecord.load(folder)
    assert (record.name, record.classes, record.realms) == ("zoo", 2, None)
    assert (record.train_images, record.test_images) == (12, 3)
    assert record.source == str(photos)
    assert record.details["test_fraction"] == 0.2
    assert record.details["split_seed"] == 4
    train, test = contents(folder / "train"), contents(folder / "test")
    assert (len(train), len(test)) == (12, 3)
    # Every file is under its own name, and has its own content.
    assert train | test == {
        f"{name}/{file}": f"{name}/{file}".encode()
        for name, files in CLASSES.items()
        for file in files
    }
    assert sorted(os.listdir(folder)) == ["dataset.json", "test", "train"]


def test_the_same_everywhere(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = import_data(photos, "zoo", tmp_path / "one", test_per_class=2)
    scan = os.scandir

    def backwards(path: str | Path) -> list[os.DirEntry[str]]:
        return sorted(scan(path), key=lambda entry: entry.name, reverse=True)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", backwards)
        plan = read_class_folders(photos, HeldOut(None, 2), realm_level=False)
    assert list(plan) == list(read_class_folders(photos, HeldOut(None, 2), realm_level=False))
    (photos / "cat").rename(photos / "aside")
    write_files(photos, {"cat": reversed(CLASSES["cat"])})
    shutil.rmtree(photos / "aside")
    two = import_data(photos, "zoo", tmp_path / "two", test_per_class=2)
    assert contents(tmp_path / "one" / "zoo") == contents(tmp_path / "two" / "zoo")
    assert one == two
    other = import_data(photos, "zoo", tmp_path / "three", test_per_class=2, split_seed=1)
    assert other.details["names_sha256"] != one.details["names_sha256"]


def test_hard_links_where_possible(photos: Path, tmp_path: Path) -> None:
    record = import_data(photos, "zoo", tmp_path, test_fraction=0.2)
    assert record.details["files"] == "hard links"
    for path in (tmp_path / "zoo").rglob("*.jpg"):
        assert path.samefile(photos / path.parent.name / path.name)
        assert not path.is_symlink()


def test_copies_where_hard_links_cannot_be(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_disk(source: str, path: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(_own_files.os, "link", other_disk)
    before = snapshot(photos)
    record = import_data(photos, "zoo", tmp_path, test_fraction=0.2)
    assert record.details["files"] == "copies"
    assert snapshot(photos) == before
    for path in (tmp_path / "zoo").rglob("*.jpg"):
        original = photos / path.parent.name / path.name
        assert path.read_bytes() == original.read_bytes()
        assert not path.samefile(original)

    def no_room(folder: Path, needed: int) -> None:
        assert needed == sum(len(f"{name}/{file}") for name in CLASSES for file in CLASSES[name])
        raise OSError("no room")

    monkeypatch.setattr(_own_files, "require_space", no_room)
    with pytest.raises(OSError, match="no room"):
        import_data(photos, "zoo2", tmp_path, test_fraction=0.2)
    assert not (tmp_path / "zoo2").exists()


def test_symbolic_links_if_wanted(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = import_data("photos", "zoo", "root", test_fraction=0.2, link=True)
    assert record.details["files"] == "symbolic links"
    paths = list((tmp_path / "root" / "zoo").rglob("*.jpg"))
    assert len(paths) == 10
    for path in paths:
        assert path.is_symlink()
        assert path.resolve() == photos / path.parent.name / path.name


def test_links_of_the_user_are_followed(photos: Path, tmp_path: Path) -> None:
    (photos / "elk").symlink_to(write_elks(tmp_path))
    (photos / "cat" / "link.jpg").symlink_to(photos / "dog" / "000.PNG")
    import_data(photos, "zoo", tmp_path, test_per_class=1)
    found = contents(tmp_path / "zoo")
    assert sum("/elk/" in path for path in found) == 3
    link = next((tmp_path / "zoo").rglob("link.jpg"))
    assert link.read_bytes() == b"dog/000.PNG"
    assert not link.is_symlink()


def write_elks(folder: Path) -> Path:
    write_files(folder / "elsewhere", {"elks": numbered(3)})
    return folder / "elsewhere" / "elks"


def test_realms(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    write_files(source / "bird", {"jay": numbered(3), "wren": numbered(3)})
    write_files(source / "food", {"pie": numbered(3)})
    record = import_data(source, "set", tmp_path, test_per_class=1, realm_level=True)
    assert record.realms == {"bird": ["jay", "wren"], "food": ["pie"]}
    assert sorted(path.name for path in (tmp_path / "set" / "train").iterdir()) == [
        "jay",
        "pie",
        "wren",
    ]
    write_files(source / "food", {"jay": numbered(3)})
    (source / "void").mkdir()
    with pytest.raises(ValueError, match="jay is in two realms, bird and food") as error:
        import_data(source, "set2", tmp_path, test_per_class=1, realm_level=True)
    assert "the realm void has no class folders" in str(error.value)
    with pytest.raises(
        ValueError,
        match=r"class folders with images in folders of their own: bird, food.*--realm-level",
    ):
        import_data(source, "set2", tmp_path, test_per_class=1)


def test_other_files_are_left_out_and_counted(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "labels.txt").write_text("x")
    (photos / "cat" / "notes.doc").write_text("x")
    record = import_data(photos, "zoo", tmp_path, test_fraction=0.2)
    assert record.details["files_left_out"] == 2
    assert "left out, because they are no images of a class" in caplog.text
    assert "notes.doc" in caplog.text
    assert record.train_images + record.test_images == 15


def test_all_problems_of_a_directory_at_once(photos: Path, tmp_path: Path) -> None:
    write_files(photos, {"Cat": numbered(2), "what?": numbered(2), "empty": []})
    (photos / "cat" / "zero.jpg").touch()
    (photos / "dog" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(ValueError, match="photos cannot be imported") as error:
        import_data(photos, "zoo", tmp_path / "root", test_fraction=0.2)
    message = str(error.value)
    for part in (
        "class folders without an image: empty",
        "zero.jpg",
        "gone.jpg",
        "the class names Cat, cat are one folder",
        "'what?' has '?' in it",
    ):
        assert part in message
    assert not (tmp_path / "root" / "zoo").exists()
    assert not (tmp_path / "root" / "zoo.part").exists()


def test_files_that_differ_only_in_case(photos: Path, tmp_path: Path) -> None:
    write_files(photos, {"dog": ["a.jpg", "A.jpg", "b.jpg", "c.jpg", "d.jpg"]})
    with pytest.raises(ValueError, match=r"images A.jpg, a.jpg of the class dog are one file"):
        import_data(photos, "zoo", tmp_path, test_per_class=1, split_seed=1)  # both for training


def pair(folder: Path, *, val: str = "test", realm: str = "") -> Path:
    """Training and test images of two classes."""
    for split, count in (("train", 3), (val, 2)):
        write_files(folder / split / realm, {"cat": numbered(count), "dog": numbered(count)})
    return folder


@pytest.mark.parametrize("above", ["", "download/data"])
@pytest.mark.parametrize("test", ["test", "val"])
def test_a_directory_that_is_split(tmp_path: Path, above: str, test: str) -> None:
    source = tmp_path / "source"
    pair(source / above, val=test)
    before = snapshot(source)
    record = import_data(source, "zoo", tmp_path)
    assert snapshot(source) == before
    assert (record.train_images, record.test_images, record.realms) == (6, 4, None)
    folder = tmp_path / "zoo"
    assert contents(folder / "train") == contents(source / above / "train")
    assert contents(folder / "test") == contents(source / above / test)
    assert ("remarks" in record.details) is (test == "val")


def test_a_split_directory_with_realms(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for split, count in (("train", 3), ("test", 1)):
        write_files(source / split / "bird", {"jay": numbered(count), "wren": numbered(count)})
        write_files(source / split / "food", {"pie": numbered(count)})
    record = import_data(source, "set", tmp_path, realm_level=True)
    assert record.realms == {"bird": ["jay", "wren"], "food": ["pie"]}
    assert len(contents(tmp_path / "set" / "train")) == 9
    assert import_data(source, "set2", tmp_path).realms == record.realms
    with pytest.raises(ValueError, match="was to have realms, but its training folder holds class"):
        import_data(pair(tmp_path / "plain"), "set3", tmp_path, realm_level=True)


def test_problems_of_a_split_directory(tmp_path: Path) -> None:
    source = pair(tmp_path / "source")
    write_files(source / "train", {"CAT": numbered(2), "void": []})
    write_files(source / "test", {"CAT": numbered(2)})
    (source / "train" / "dog" / "zero.jpg").touch()
    with pytest.raises(ValueError, match="source cannot be imported") as error:
        import_data(source, "zoo", tmp_path / "root")
    message = str(error.value)
    for part in (
        f"class folders without an image: {source / 'train' / 'void'}",
        "the class names CAT, cat are one folder",
        f"empty files: {source / 'train' / 'dog' / 'zero.jpg'}",
    ):
        assert part in message
    with pytest.raises(ValueError, match="is split already: it has the folders test, train"):
        import_data(source, "zoo", tmp_path / "root", test_fraction=0.2)
    write_files(source / "test", {"elk": numbered(1)})
    with pytest.raises(ValueError, match="1 classes have only test images: elk"):
        import_data(source, "zoo", tmp_path / "root")
    assert not (tmp_path / "root" / "zoo").exists()


def test_a_directory_that_is_not_split_says_what_to_do(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"If its folders are classes.*test_fraction=0\.2"
    ) as error:
        import_data(photos, "zoo", tmp_path)
    assert "cat: 10 files" in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        ("a/b", "has '/' in it"),
        ("..", "ends with a dot"),
        (".hidden", "hidden"),
        (" zoo", "space"),
        ("nul.zoo", "device"),
        ("x" * 300, "takes 300 bytes"),
        ("zoo.part", "of this package"),
        ("hub:zoo", "has ':' in it"),
        (7, "is not text"),
        *((name, "a known benchmark") for name in (*CARDS, "glyphs", "folders", "ImageNet-R")),
        *((card.folder, "a known benchmark") for card in CARDS.values()),
    ],
)
def test_names_that_cannot_be(photos: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        import_data(photos, name, tmp_path / "root", test_fraction=0.2)
    assert not (tmp_path / "root").exists()


def test_what_is_there_is_not_replaced(photos: Path, tmp_path: Path) -> None:
    import_data(photos, "zoo", tmp_path, test_fraction=0.2)
    before = snapshot(tmp_path / "zoo")
    with pytest.raises(FileExistsError, match="zoo is there already; choose another name"):
        import_data(photos, "zoo", tmp_path, test_fraction=0.5)
    assert snapshot(tmp_path / "zoo") == before


def test_the_default_root(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVALANCHE_CARE_DATA", str(tmp_path / "data"))
    import_data(photos, "zoo", test_fraction=0.2)
    assert (tmp_path / "data" / "zoo" / "dataset.json").is_file()


def test_sources_that_cannot_be(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file or directory: .*nowhere"):
        import_data(tmp_path / "nowhere", "zoo", tmp_path, test_fraction=0.2)
    (tmp_path / "list.xlsx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"list.xlsx is no source of images; expected a directory"):
        import_data(tmp_path / "list.xlsx", "zoo", tmp_path)
    (tmp_path / "void").mkdir()
    with pytest.raises(ValueError, match="void has no folders; expected one for each class"):
        import_data(tmp_path / "void", "zoo", tmp_path, test_fraction=0.2)
    with pytest.raises(ValueError, match="made inside of its source"):
        import_data(photos, "zoo", photos / "root", test_fraction=0.2)
    assert not (photos / "root").exists()
    with pytest.raises(ValueError, match="test_fraction is for data that are not split yet"):
        import_data("hub:a/b", "zoo", tmp_path, test_fraction=0.2)


def test_an_interrupted_import_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = os.replace, []

    def killed_at_the_seventh(source: str, path: Path) -> None:
        if Path(path).suffix in (".jpg", ".PNG"):
            if len(made) == 6:
                raise KeyboardInterrupt
            made.append(path)
        real(source, path)

    monkeypatch.setattr(os, "replace", killed_at_the_seventh)
    with pytest.raises(KeyboardInterrupt):
        import_data(photos, "zoo", tmp_path / "root", test_fraction=0.2)
    assert not (tmp_path / "root" / "zoo").exists()
    first = list(made)
    monkeypatch.setattr(os, "replace", lambda source, path: (made.append(path), real(source, path)))
    import_data(photos, "zoo", tmp_path / "root", test_fraction=0.2)
    again = [path for path in made[6:] if Path(path).suffix in (".jpg", ".PNG")]
    assert len(again) == 9
    assert not {*first} & {*again}
    assert len(contents(tmp_path / "root" / "zoo" / "train")) == 12
    assert sorted(os.listdir(tmp_path / "root" / "zoo")) == ["dataset.json", "test", "train"]


def test_other_settings_do_not_go_on_with_an_interrupted_import(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DatasetRecord, "save", lambda self, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        import_data(photos, "zoo", tmp_path / "root", test_per_class=1)
    assert (tmp_path / "root" / "zoo.part").is_dir()
    monkeypatch.undo()
    import_data(photos, "zoo", tmp_path / "root", test_per_class=3)
    assert len(contents(tmp_path / "root" / "zoo" / "test")) == 6
    assert len(contents(tmp_path / "root" / "zoo" / "train")) == 9


def zipped(folder: Path, file: Path) -> bytes:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*.jpg")):
            archive.write(path, path.relative_to(folder))
    return file.read_bytes()


def test_archives(tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    content = zipped(pair(tmp_path / "plain"), tmp_path / "packed" / "all.zip")
    for source in (tmp_path / "packed" / "all.zip", tmp_path / "packed"):
        record = import_data(source, f"from-{source.stem}", tmp_path)
        assert (record.train_images, record.test_images) == (6, 4)
        assert record.source == str(source)
        found = contents(tmp_path / record.name / "train")
        assert found == contents(tmp_path / "plain" / "train")
    assert (tmp_path / "packed" / "all.zip").read_bytes() == content
    with pytest.raises(ValueError, match="test_fraction is for data that are not split yet"):
        import_data(tmp_path / "packed" / "all.zip", "zoo", tmp_path, test_fraction=0.2)


def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"all.zip": zipped(pair(tmp_path / "plain"), tmp_path / "all.zip"), "README.md": b"x"}
    isolate(monkeypatch, str(tmp_path / "home"))
    with fake_hub(files) as server:
        local = partial(hub.download_repository, endpoint=server.endpoint)
        monkeypatch.setattr(hub, "download_repository", local)
        record = import_data(f"hub:{REPO}", "zoo", tmp_path / "root")
    assert (record.name, record.train_images, record.test_images) == ("zoo", 6, 4)
    assert record.source == f"hub:{REPO}@{server.commit}"
    assert contents(tmp_path / "root/zoo/train") == contents(tmp_path / "plain/train")
    assert not (tmp_path / "root" / ".downloads" / "zoo").exists()
