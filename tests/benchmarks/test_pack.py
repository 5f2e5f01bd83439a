"""Packing: what comes out, and that an interruption, a full disk or a rival does no harm."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import shutil
import signal
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import make_pictures
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode

from avalanche_care.benchmarks import PackedImages, _pack_source, pack, pack_folder
from avalanche_care.benchmarks._pack_format import ROW, PackSettings, read_head
from avalanche_care.benchmarks._pack_partial import PartialPack
from avalanche_care.benchmarks.images import image_folder, load_image

fork = multiprocessing.get_context("fork")


class Crash(BaseException):
    """Stands for a killed process: nothing catches it."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "pictures")


@pytest.fixture
def whole(folder: Path, tmp_path: Path) -> bytes:
    """What an undisturbed run writes."""
    pack_folder(folder, tmp_path / "whole.pack", size=16, workers=1)
    return (tmp_path / "whole.pack").read_bytes()


def in_child(call: Callable[[], Any]) -> tuple[int | None, str]:
    """Run a call in a process of its own; return its exit status and its error message."""
    receiver, sender = fork.Pipe(duplex=False)

    def run() -> None:
        try:
            call()
        except (ValueError, OSError) as error:
            sender.send(str(error))
        else:
            sender.send("")

    child = fork.Process(target=run)
    child.start()
    sender.close()
    try:
        message = receiver.recv()
    except EOFError:
        message = "killed"
    child.join()
    return child.exitcode, message


@pytest.mark.parametrize("size", [0, 16, 50])
def test_pixels_labels_and_names_are_those_of_the_folder(
    folder: Path, tmp_path: Path, size: int
) -> None:
    (folder / "dog").mkdir()  # a class without an image stays a class
    packed = pack_folder(folder, tmp_path / "new" / "train.pack", size=size)
    reference = ImageFolder(str(folder), allow_empty=True)
    resize = transforms.Resize(size, InterpolationMode.BICUBIC) if size else lambda image: image
    assert packed.classes == reference.classes == ["ant", "bee", "cat", "dog"]
    assert packed.class_to_idx == reference.class_to_idx
    assert packed.targets == reference.targets
    assert [str(folder / path) for path, _ in packed.samples] == [p for p, _ in reference.samples]
    assert len(packed) == len(reference) == 9
    for (image, label), (original, expected) in zip(packed, reference, strict=True):
        assert label == expected
        np.testing.assert_array_equal(np.array(image), np.array(resize(original)))
    assert packed.settings == PackSettings(size=size)
    assert packed.verify() == packed.skipped == []
    assert not list(tmp_path.rglob("*.part"))


def test_the_index_keeps_size_and_time_of_the_sources(folder: Path, tmp_path: Path) -> None:
    packed = pack_folder(folder, tmp_path / "train.pack")
    for index, (path, _) in enumerate(packed.samples):
        stat = (folder / path).stat()
        assert packed.source_stat(index) == (stat.st_size, stat.st_mtime_ns)


@pytest.mark.parametrize("workers", [2, 5])
def test_the_bytes_do_not_depend_on_the_workers(
    folder: Path, tmp_path: Path, whole: bytes, workers: int
) -> None:
    pack_folder(folder, tmp_path / "other.pack", size=16, workers=workers)
    assert (tmp_path / "other.pack").read_bytes() == whole


def test_only_a_few_images_are_decoded_ahead() -> None:
    started: list[int] = []
    results = pack._in_order(started.append, range(100), workers=2)
    next(results)
    results.close()
    assert len(started) <= 6


def test_an_interruption_at_any_write_costs_nothing(
    folder: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = PartialPack._write
    writes = 0

    def cut_short(self: PartialPack, offset: int, data: bytes | memoryview) -> None:
        nonlocal writes
        writes += 1
        if writes != fatal:
            return write(self, offset, data)
        write(self, offset, bytes(data)[: len(bytes(data)) // 2])
        raise Crash

    target = tmp_path / "target.pack"
    for fatal in range(1, 1 + 1 + 2 * 9 + 1):  # the beginning, pixels and row each, the end
        writes = 0
        with monkeypatch.context() as patch:
            patch.setattr(PartialPack, "_write", cut_short)
            with pytest.raises(Crash):
                pack_folder(folder, target, size=16, workers=2)
        assert not target.exists()
        loaded = count_loads(monkeypatch)
        pack_folder(folder, target, size=16, workers=2)
        assert target.read_bytes() == whole
        # After the first write each image takes two; what was complete is not decoded again.
        assert len(loaded) == 9 - max(0, (fatal - 2) // 2)
        target.unlink()


def count_loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    loaded: list[str] = []

    def load(path: str) -> Image.Image:
        loaded.append(path)
        return load_image(path)

    monkeypatch.setattr(_pack_source, "load_image", load)
    return loaded


def test_an_interruption_just_before_the_rename(
    folder: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise Crash

    target = tmp_path / "target.pack"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(Crash):
            pack_folder(folder, target, size=16)
    loaded = count_loads(monkeypatch)
    pack_folder(folder, target, size=16)
    assert target.read_bytes() == whole
    assert loaded == []


@pytest.mark.parametrize("victim", [0, 4, 8])
def test_a_killed_process_is_continued(
    folder: Path, tmp_path: Path, whole: bytes, victim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target.pack"
    path_of_victim = image_folder(folder).samples[victim][0]

    def die(path: str) -> Image.Image:
        if path == path_of_victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return load_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(_pack_source, "load_image", die)
        status, _ = in_child(lambda: pack_folder(folder, target, size=16, workers=1))
    assert status == -signal.SIGKILL
    assert not target.exists()
    loaded = count_loads(monkeypatch)
    pack_folder(folder, target, size=16)  # the dead process's lock is no obstacle
    assert target.read_bytes() == whole
    assert len(loaded) <= 9 - max(0, victim - 3)  # one worker is up to three images ahead


def test_damage_in_the_unfinished_file_is_packed_again(
    folder: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure can leave a row whose pixels never reached the disk."""
    target, part = tmp_path / "target.pack", tmp_path / "target.pack.part"
    third = PackedImages(tmp_path / "whole.pack")._table[2]["offset"]
    unfinished = bytearray(whole)
    unfinished[third] ^= 1
    part.write_bytes(unfinished + b"and something at the end")
    loaded = count_loads(monkeypatch)
    pack_folder(folder, target, size=16)
    assert target.read_bytes() == whole
    assert len(loaded) == 7


def begin(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Leave an unfinished file behind."""
    last = image_folder(folder).samples[-1][0]

    def interrupt(path: str) -> Image.Image:
        if path == last:
            raise KeyboardInterrupt
        return load_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(_pack_source, "load_image", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pack_folder(folder, target, **settings)


def add_image(folder: Path) -> None:
    shutil.copy(folder / "ant" / "1.png", folder / "ant" / "new.png")


def remove_image(folder: Path) -> None:
    (folder / "ant" / "1.png").unlink()


def touch_image(folder: Path) -> None:
    os.utime(folder / "bee" / "3.png", (1, 1))


def add_class(folder: Path) -> None:
    (folder / "dog").mkdir()


@pytest.mark.parametrize(
    ("change", "size", "message"),
    [
        (lambda folder: None, 20, "size was 16, is 20"),
        (add_image, 16, "1 image files are new: ant/new.png"),
        (remove_image, 16, "1 image files are gone: ant/1.png"),
        (touch_image, 16, "1 image files are changed: bee/3.png"),
        (add_class, 16, "the class folders are others"),
    ],
)
def test_it_does_not_go_on_with_something_else(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], Any],
    size: int,
    message: str,
) -> None:
    target = tmp_path / "target.pack"
    begin(folder, target, monkeypatch, size=16)
    assert not target.exists()
    before = (tmp_path / "target.pack.part").read_bytes()
    change(folder)
    with pytest.raises(ValueError, match="cannot go on with") as error:
        pack_folder(folder, target, size=size)
    assert message in str(error.value)
    assert "--restart (restart=True)" in str(error.value)
    assert (tmp_path / "target.pack.part").read_bytes() == before
    pack_folder(folder, target, size=size, restart=True)
    pack_folder(folder, tmp_path / "fresh.pack", size=size)
    assert target.read_bytes() == (tmp_path / "fresh.pack").read_bytes()


def test_an_unfinished_file_of_another_version_or_kind_is_left_alone(
    folder: Path, tmp_path: Path, whole: bytes
) -> None:
    target, part = tmp_path / "target.pack", tmp_path / "target.pack.part"
    for content, message in (
        (b"my part of the bargain" * 9, "is in the way and is no unfinished packed file"),
        (b"short", "is in the way and is no unfinished packed file"),
        (whole[:8] + b"\x07" + whole[9:], "was begun in version 7 .* this is version 1; --restart"),
    ):
        part.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            pack_folder(folder, target, size=16)
        assert part.read_bytes() == content


def test_a_target_is_replaced_only_on_demand_and_only_at_the_end(
    folder: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target.pack"
    target.write_bytes(b"old")
    with pytest.raises(FileExistsError, match=r"target\.pack is there already; --force"):
        pack_folder(folder, target)
    begin(folder, target, monkeypatch, size=16, force=True)
    assert target.read_bytes() == b"old"
    pack_folder(folder, target, size=16, force=True)
    assert target.read_bytes() == whole


def test_too_little_space_is_said_before_anything_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = sum(image.size[0] * image.size[1] * 3 for image, _ in image_folder(folder))
    usage = namedtuple("usage", "total used free")
    needed = []

    def disk_usage(path: Path) -> Any:
        needed.append(path)
        return usage(0, 0, pixels)  # not enough, the index takes some

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    with pytest.raises(OSError, match=r"0\.00 GB more are needed and .* make room"):
        pack_folder(folder, tmp_path / "target.pack", size=0)
    assert needed == [tmp_path]
    assert {path.suffix for path in tmp_path.iterdir()} <= {"", ".lock"}


@pytest.mark.parametrize("size", [0, 16, 50])
def test_the_estimate_of_the_space_is_exact_for_few_images(
    folder: Path, tmp_path: Path, size: int
) -> None:
    source = _pack_source.folder_source(image_folder(folder), PackSettings(size=size))
    pack_folder(folder, tmp_path / "target.pack", size=size)
    with (tmp_path / "target.pack").open("rb") as file:
        head = read_head(file)
    assert head is not None
    assert source.estimate_bytes(range(9)) == head.file_bytes - head.pixels_offset
    assert source.estimate_bytes([]) == 0


def test_the_estimate_opens_a_thousand_images_of_many() -> None:
    opened = []

    def shape(index: int) -> tuple[int, int]:
        opened.append(index)
        return 10, 20

    plan = _pack_source.Plan(PackSettings(size=0), [], [], [], [], [])
    source = _pack_source.ImageSource(plan, lambda index: Image.new("RGB", (1, 1)), shape)
    assert source.estimate_bytes(range(1_000_000)) == 600 * 1_000_000
    assert len(opened) == 1000


@pytest.mark.parametrize("limit", [300, 5000])
def test_a_full_disk_leaves_something_to_go_on_with(
    folder: Path, tmp_path: Path, whole: bytes, limit: int
) -> None:
    """The system lets no file of the child grow beyond the limit; write() fails as on a full disk.

    300 bytes do not hold the plan, 5000 bytes some of the images.
    """
    target = tmp_path / "target.pack"

    def on_small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        pack_folder(folder, target, size=16, workers=1)

    status, message = in_child(on_small_disk)
    assert status == 0
    assert f"cannot write {target}.part: File too large; " in message
    done = int(message.split("; ")[1].split()[0])
    assert f"{done} of 9 images are packed and kept, so put this right and pack again" in message
    assert (done == 0) == (limit == 300)
    assert done < 9
    assert not target.exists()
    pack_folder(folder, target, size=16)
    assert target.read_bytes() == whole


def test_two_processes_at_once(
    folder: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target.pack"
    started, go_on = fork.Event(), fork.Event()

    def load(path: str) -> Image.Image:
        started.set()
        go_on.wait(60)
        return load_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(_pack_source, "load_image", load)
        first = fork.Process(target=pack_folder, args=(folder, target), kwargs={"size": 16})
        first.start()
    assert started.wait(60)
    with pytest.raises(ValueError, match=r"another process is packing .*target\.pack; wait"):
        pack_folder(folder, target, size=16)
    go_on.set()
    first.join()
    assert first.exitcode == 0
    assert target.read_bytes() == whole


def test_a_target_that_appears_meanwhile_is_not_replaced(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target.pack"

    def source(*arguments: Any) -> Any:
        target.write_bytes(b"of somebody else")
        return _pack_source.folder_source(*arguments)

    monkeypatch.setattr(pack, "folder_source", source)
    with pytest.raises(FileExistsError, match="is there already"):
        pack_folder(folder, target)
    assert target.read_bytes() == b"of somebody else"


def break_images(folder: Path) -> None:
    (folder / "ant" / "1.png").write_bytes(b"not an image")
    cut = folder / "cat" / "7.png"
    cut.write_bytes(cut.read_bytes()[:200])


def test_images_that_cannot_be_read_are_all_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_images(folder)
    target = tmp_path / "target.pack"
    with pytest.raises(ValueError, match="2 of 9 images cannot be read") as error:
        pack_folder(folder, target)
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert str(folder / "ant" / "1.png") in lines[1]
    assert str(folder / "cat" / "7.png") in lines[2]
    assert "--skip-unreadable" in lines[3]
    assert not target.exists()
    loaded = count_loads(monkeypatch)
    with pytest.raises(ValueError, match=r"2 of 9 .*\n- ant/1\.png\n- cat/7\.png\n"):
        pack_folder(folder, target)  # known from the run before
    assert loaded == []


def test_images_that_cannot_be_read_can_be_left_out(
    folder: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_images(folder)
    target = tmp_path / "target.pack"
    with pytest.raises(ValueError, match="cannot be read"):
        pack_folder(folder, target, size=16)
    loaded = count_loads(monkeypatch)
    with caplog.at_level(logging.WARNING):
        packed = pack_folder(folder, target, size=16, skip_unreadable=True)
    assert loaded == []  # it went on with what the first run had packed
    assert packed.skipped == ["ant/1.png", "cat/7.png"]
    assert [record.args[0] for record in caplog.records if record.args] == packed.skipped  # type: ignore[index]
    assert packed.targets == [0, 0, 1, 1, 1, 2, 2]
    names = [path for path, _ in packed.samples]
    assert names == [f"{c}/{n}" for c, n in zip(*NAMES_LEFT, strict=True)]
    resize = transforms.Resize(16, InterpolationMode.BICUBIC)
    for (image, _), name in zip(packed, names, strict=True):
        expected = resize(load_image(str(folder / name)))
        np.testing.assert_array_equal(np.array(image), np.array(expected))
    pack_folder(folder, tmp_path / "again.pack", size=16, skip_unreadable=True)
    assert (tmp_path / "again.pack").read_bytes() == target.read_bytes()


NAMES_LEFT = (
    ["ant", "ant", "bee", "bee", "bee", "cat", "cat"],
    ["0.jpg", "2.jpg", "3.png", "4.jpg", "5.png", "6.jpg", "8.jpg"],
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": -1}, "sizes are in pixels, got size=-1"),
        ({"workers": 0}, "workers is the number of threads, at least 1, got 0"),
    ],
)
def test_bad_settings(folder: Path, tmp_path: Path, settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack_folder(folder, tmp_path / "target.pack", **settings)  # type: ignore[arg-type]


def test_bad_folders_and_targets(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.pack"
    with pytest.raises(FileNotFoundError, match=r"no such directory: .*nowhere"):
        pack_folder(tmp_path / "nowhere", target)
    with pytest.raises(ValueError, match="ant has no class folders; expected"):
        pack_folder(folder / "ant", target)
    (tmp_path / "hollow" / "ant").mkdir(parents=True)
    with pytest.raises(ValueError, match="hollow has class folders but no image in them"):
        pack_folder(tmp_path / "hollow", target)
    with pytest.raises(IsADirectoryError, match="is a directory; name the file to make"):
        pack_folder(folder, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hollow", "pictures"]


def test_a_row_is_as_long_as_the_format_says() -> None:
    assert ROW.itemsize == 24
