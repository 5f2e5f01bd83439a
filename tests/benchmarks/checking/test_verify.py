"""Checking a data set: every kind of damage is found and named, and nothing else is."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import make_pictures

from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.benchmarks.checking import images
from avalanche_care.benchmarks.checking.images import verify_images
from avalanche_care.benchmarks.checking.manifest import MANIFEST_FILE, Manifest
from avalanche_care.benchmarks.checking.report import KINDS, SHOWN
from avalanche_care.benchmarks.checking.verify import verify_dataset
from avalanche_care.benchmarks.dataset_record import DatasetRecord

CARD = dataclasses.replace(CARDS["cub"], classes=3, train_images=9, test_images=6, counts="us")
RECORD = DatasetRecord(name="mini", classes=3, train_images=9, test_images=6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine training and six test images of ant, bee and cat."""
    make_pictures(tmp_path / "mini" / "train", count=3)
    make_pictures(tmp_path / "mini" / "test", count=2, seed=1)
    return tmp_path / "mini"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the images that are opened."""
    paths: list[str] = []
    plain = images._unreadable

    def noting(path: str, deep: bool) -> str:
        paths.append(path)
        return plain(path, deep)

    monkeypatch.setattr(images, "_unreadable", noting)
    return paths


def test_all_is_well(folder: Path, opened: list[str]) -> None:
    first = verify_dataset(folder, card=CARD)
    assert first.ok
    assert (first.classes, first.images, first.opened) == (3, {"train": 9, "test": 6}, 15)
    assert len(opened) == 15
    assert "manifest written, 15 files" in first.notes
    again = verify_dataset(folder, card=CARD)
    assert (again.ok, again.opened, again.notes) == (True, 0, ())
    assert len(opened) == 15  # sizes and times were enough
    assert again.fingerprint == first.fingerprint == Manifest.load(folder).fingerprint  # type: ignore[union-attr]
    deep = verify_dataset(folder, card=CARD, deep=True, workers=2)
    assert (deep.ok, deep.opened) == (True, 15)
    assert len(opened) == 30
    assert str(again).splitlines() == [
        f"{folder}: 3 classes, 9 train and 6 test images; 0 opened, 15 as in the manifest",
        f"fingerprint: {first.fingerprint}",
        "all is well",
    ]


def remove(path: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        target = folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return damage


def write(path: str, content: bytes, *, keep_time: bool = False) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        target = folder / path
        times = (s := target.stat()) and (s.st_atime_ns, s.st_mtime_ns) if keep_time else None
        target.parent.mkdir(parents=True, exist_ok=True)
        old = target.read_bytes() if target.exists() else b""
        target.write_bytes(content or old[:30] + bytes([old[30] ^ 1]) + old[31:])
        if times:
            os.utime(target, ns=times)

    return damage


def copy(source: str, target: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / source, folder / target)

    return damage


NOT_AN_IMAGE = b"<html>404</html>"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (remove("test/bee"), {"missing classes": "test/bee", "other counts": "4 test images, exp"}),
        (
            copy("train/ant/0.jpg", "train/dog/0.jpg"),
            {"missing classes": "test/dog", "other counts": "4 classes, expected 3 (us)"},
        ),
        (remove("test"), {"missing folders": "test", "other counts": "0 test images, expected 6"}),
        (remove("train/cat/8.jpg"), {"other counts": "8 training images, expected 9 (us)"}),
        (write("train/bee/3.png", NOT_AN_IMAGE), {"unreadable files": "train/bee/3.png: cannot"}),
        (write("train/bee/3.png", b"\x89PNG\r\n\x1a\n"), {"unreadable files": "train/bee/3.png: "}),
        (
            lambda folder: (folder / "test/ant/x.jpg").symlink_to("nowhere"),
            {"unreadable files": "test/ant/x.jpg: No such file or directory"},
        ),
    ],
)
def test_the_first_look_finds(
    folder: Path, damage: Callable[[Path], None], expected: dict[str, str]
) -> None:
    damage(folder)
    report = verify_dataset(folder, card=CARD)
    assert not report.ok
    assert report.problems.keys() == expected.keys()
    for kind, beginning in expected.items():
        assert report.problems[kind][0].startswith(beginning)
        assert report.problems[kind][0] in str(report)
    assert (folder / MANIFEST_FILE).exists() == ("unreadable files" not in expected)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (remove("train/cat/8.jpg"), {"missing images": "train/cat/8.jpg", "other counts": "8 "}),
        (
            copy("test/ant/1.png", "train/ant/new.png"),
            {"extra images": "train/ant/new.png", "other counts": "10 training images"},
        ),
        (write("train/ant/0.jpg", NOT_AN_IMAGE), {"unreadable files": "train/ant/0.jpg: cannot"}),
        (
            copy("train/ant/2.jpg", "train/ant/0.jpg"),
            {"changed images": "train/ant/0.jpg: "},
        ),
        (
            write("train/ant/0.jpg", b""),  # one bit, in a table of the JPEG
            {"changed images": "train/ant/0.jpg: other content than in the manifest"},
        ),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_a_later_look_finds(
    folder: Path, damage: Callable[[Path], None], expected: dict[str, str], deep: bool
) -> None:
    assert verify_dataset(folder).ok
    before = (folder / MANIFEST_FILE).read_bytes()
    damage(folder)
    for _ in range(2):  # it is not forgotten
        report = verify_dataset(folder, card=CARD, deep=deep)
        assert report.problems.keys() == expected.keys()
        for kind, beginning in expected.items():
            assert report.problems[kind][0].startswith(beginning)
        assert (folder / MANIFEST_FILE).read_bytes() == before
    if "unreadable files" not in expected:
        renewed = verify_dataset(folder, renew=True)
        assert renewed.ok
        assert (folder / MANIFEST_FILE).read_bytes() != before


def test_only_deep_sees_what_times_hide(folder: Path) -> None:
    assert verify_dataset(folder).ok
    write("train/ant/0.jpg", b"", keep_time=True)(folder)
    assert verify_dataset(folder).ok
    report = verify_dataset(folder, deep=True)
    assert report.problems == {
        "changed images": ("train/ant/0.jpg: other content than in the manifest",)
    }


def test_only_deep_decodes(folder: Path) -> None:
    image = folder / "train/ant/0.jpg"
    image.write_bytes(image.read_bytes()[:-200])  # cut short; the header is whole
    assert verify_dataset(folder).ok
    report = verify_dataset(folder, deep=True)
    assert [p.split(":")[0] for p in report.problems["unreadable files"]] == ["train/ant/0.jpg"]
    assert "truncated" in report.problems["unreadable files"][0]


def test_a_copy_with_other_times_is_the_same(folder: Path, opened: list[str]) -> None:
    assert verify_dataset(folder).ok
    for path in folder.rglob("*.jpg"):
        os.utime(path, ns=(1, 1))
    opened.clear()
    report = verify_dataset(folder)
    assert report.ok
    assert len(opened) == report.opened == len(list(folder.rglob("*.jpg")))
    assert verify_dataset(folder).opened == 0  # the new times are in the manifest


def test_the_record_is_compared(folder: Path) -> None:
    RECORD.save(folder)
    assert verify_dataset(folder).ok
    realms = {"insect": ["ant", "bee"], "mammal": ["dog"]}
    dataclasses.replace(RECORD, train_images=10, realms=realms).save(folder)
    report = verify_dataset(folder, card=CARD)
    assert report.problems == {
        "missing classes": ("dog, of the realm mammal",),
        "extra classes": ("cat",),
        "other counts": ("9 training images, expected 10 (dataset.json)",),
    }
    dataclasses.replace(RECORD, realms={"insect": ["ant", "bee"]}).save(folder)
    assert verify_dataset(folder).ok  # a mapping of some of the classes


def test_a_class_without_images_and_files_that_are_none(folder: Path) -> None:
    (folder / "train" / "dog").mkdir()
    (folder / "test" / "dog").mkdir()
    (folder / "test" / "dog" / "Thumbs.db").write_bytes(b"x")
    (folder / "train" / "stray.jpg").write_bytes(b"beside the classes")
    report = verify_dataset(folder)
    assert report.problems == {"empty classes": ("train/dog", "test/dog")}
    assert report.notes[0] == "2 files that are no images are not counted"


def test_images_below_a_class_folder_count(folder: Path) -> None:
    copy("train/ant/0.jpg", "train/ant/more/deeper/0.JPG")(folder)  # as ImageFolder reads them
    assert verify_dataset(folder).images["train"] == 10


def test_test_images_that_were_trained_on(folder: Path) -> None:
    copy("train/ant/0.jpg", "test/bee/same.jpg")(folder)
    report = verify_dataset(folder)
    assert report.ok
    note = "1 test images are training images, too, for example test/bee/same.jpg"
    assert note in report.notes
    assert note in verify_dataset(folder).notes  # from the manifest


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)  # root may write anywhere
        patch.setattr(images, "sha256_of", lambda _: pytest.fail("read for nothing"))
        report = verify_dataset(folder)
    assert report.ok
    assert report.notes == (f"no manifest: {folder} cannot be written",)
    assert not (folder / MANIFEST_FILE).exists()


def test_a_folder_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.scandir

    def refusing(path: str | Path) -> object:
        if str(path).endswith("bee"):
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root may read anything
    report = verify_dataset(folder)
    refused = ("train/bee: Permission denied", "test/bee: Permission denied")
    assert report.problems["unreadable files"] == refused


def test_a_report_stays_short(folder: Path) -> None:
    assert verify_dataset(folder).ok
    for number in range(SHOWN + 5):
        copy("train/ant/0.jpg", f"train/ant/extra{number:02}.jpg")(folder)
    report = verify_dataset(folder)
    assert len(report.problems["extra images"]) == SHOWN + 5
    text = str(report)
    assert "extra images (15):" in text
    assert "extra09.jpg\n- and 5 more\n" in text
    assert "extra10" not in text
    assert "renew the manifest" in text
    assert text.endswith("the data set is not what it should be")


def test_parts_with_other_names(folder: Path) -> None:
    (folder / "train").rename(folder / "images_background")
    write("test/ant/1.png", NOT_AN_IMAGE)(folder)
    report = verify_images(folder, ("images_background", "images_evaluation"))
    assert report.images == {"images_background": 9}
    assert report.problems == {"missing folders": ("images_evaluation",)}


def test_what_is_refused(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such directory"):
        verify_dataset(folder / "nowhere")
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        verify_dataset(folder, workers=0)
    (folder / MANIFEST_FILE).write_text("something", encoding="utf-8")
    with pytest.raises(ValueError, match="is no manifest"):
        verify_dataset(folder)


def test_a_bar(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify_dataset(folder)
    assert capsys.readouterr().err == ""
    verify_dataset(folder, progress=True)
    assert "verifying: 100%" in capsys.readouterr().err


def test_every_problem_has_a_known_kind(folder: Path) -> None:
    """What is not in the table would not be reported."""
    sources = Path(images.__file__).parent.glob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    used = {part.split('"')[0] for part in text.split('problems["')[1:]}
    assert used
    assert used <= set(KINDS)
