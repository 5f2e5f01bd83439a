"""A benchmark from image folders: what is read, and what is said when it cannot be."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avalanche_care.benchmarks import Protocol, benchmark_from_folders
from avalanche_care.benchmarks.folders import (
    default_eval_transform,
    default_train_transform,
    load_image,
)
from avalanche_care.benchmarks.pack import pack_folder

CLASSES = ["ant", "bee", "cat", "dog", "elk"]
Directories = tuple[Path, Path]


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    """Five classes, three training and two test images each; the red channel is the class."""
    for split, count in (("train", 3), ("test", 2)):
        for index, name in enumerate(CLASSES):
            folder = tmp_path / "zoo" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (20, 12), (index * 40, number, 0)).save(folder / f"{number}.png")
    return tmp_path / "zoo" / "train", tmp_path / "zoo" / "test"


def to_numbers(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image))


def test_images_labels_and_names(directories: Directories) -> None:
    benchmark = benchmark_from_folders(
        *directories, protocol="B0-Inc2", train_transform=to_numbers, eval_transform=to_numbers
    )
    order = Protocol.parse("B0-Inc2", n_classes=5).class_order
    assert benchmark.class_order == order
    assert benchmark.class_names == tuple(CLASSES[c] for c in order)
    assert benchmark.name == "zoo"
    assert benchmark.protocol.sizes == (2, 2, 1)
    for task, experience in enumerate(benchmark.train_stream):
        assert len(experience.dataset) == 3 * benchmark.protocol.sizes[task]
        for image, label, _ in experience.dataset:
            assert image[0, 0, 0] == 40 * order[label]
    assert len(benchmark.seen_stream[2].dataset) == 10


def test_own_protocol_and_natural_order(directories: Directories) -> None:
    natural = benchmark_from_folders(*directories, protocol="B3-Inc2", class_order_seed=None)
    assert natural.class_names == tuple(CLASSES)
    protocol = Protocol(0, 1, 2, total_classes=5)
    short = benchmark_from_folders(*directories, protocol=protocol, name="short")
    assert short.protocol is protocol
    assert short.name == "short"
    with pytest.raises(ValueError, match=r"the protocol is for 4 classes, but .*train has 5"):
        benchmark_from_folders(*directories, protocol=Protocol(0, 2, 4))


def test_default_transforms(directories: Directories) -> None:
    benchmark = benchmark_from_folders(*directories, protocol="B0-Inc5", image_size=16)
    train, test = benchmark.train_stream[0].dataset, benchmark.test_stream[0].dataset
    assert train[0][0].shape == test[0][0].shape == (3, 16, 16)
    # Images of a single colour stay so, whatever is cropped: red r becomes (r / 255 - 0.5) / 0.5.
    for image, label, _ in [*train, *test]:
        red = 40 * benchmark.class_order[label]
        torch.testing.assert_close(image[0], torch.full((16, 16), red / 127.5 - 1))


def test_eval_transform_scales_and_crops_the_centre() -> None:
    # For size 56 the short side becomes 56 * 256 / 224 = 64, of which the crop takes the middle.
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:4] = pixels[-4:] = 255  # just outside the middle 56 rows
    pixels[:, :20] = pixels[:, -20:] = 255  # just outside the middle 56 columns
    image = default_eval_transform(56)(Image.fromarray(pixels))
    torch.testing.assert_close(image, torch.full((3, 56, 56), -1.0))
    half = Image.fromarray(pixels).resize((48, 32), Image.Resampling.NEAREST)
    assert default_eval_transform(56)(half)[:, 4:-4, 4:-4].max() < -0.8


def test_normalisation_can_be_switched_off() -> None:
    image = Image.new("RGB", (8, 8), (255, 0, 51))
    for make in (default_train_transform, default_eval_transform):
        pixel = make(8, mean=(0, 0, 0), std=(1, 1, 1))(image)[:, 4, 4]
        torch.testing.assert_close(pixel, torch.tensor([1.0, 0.0, 0.2]))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK"])
def test_other_image_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new("L", (4, 4), 255).convert("RGB").convert(mode).save(path)
    image = load_image(str(path))
    assert image.mode == "RGB"
    assert np.array(image).min() == 255


def cut(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("broken.png", lambda path: path.write_bytes(b"not an image")),
        ("broken.png", lambda path: path.write_bytes(b"")),
        ("broken.png", cut),
        ("broken.jpg", cut),
    ],
    ids=["text", "empty", "cut png", "cut jpg"],
)
def test_a_corrupt_image_is_named(
    directories: Directories, name: str, damage: Callable[[Path], Any]
) -> None:
    path = directories[0] / "cat" / name
    damage(path)
    benchmark = benchmark_from_folders(*directories, protocol="B0-Inc5", image_size=8)
    loader = torch.utils.data.DataLoader(benchmark.train_stream[0].dataset, batch_size=4)
    with pytest.raises(ValueError, match="cannot read the image") as error:
        list(loader)
    assert str(path) in str(error.value)


def test_a_file_that_went_away_is_not_called_corrupt(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        load_image(str(tmp_path / "gone.png"))


def test_missing_directories_are_named(directories: Directories) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such directory or packed file: \S+/nowhere$"):
        benchmark_from_folders(directories[0], directories[1] / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"/no, .*/nowhere"):
        benchmark_from_folders(directories[0] / "no", directories[1] / "nowhere")


def test_different_classes_are_named(directories: Directories) -> None:
    train, test = directories
    (test / "bee").rename(test / "fox")
    with pytest.raises(ValueError, match="cannot be used") as error:
        benchmark_from_folders(train, test)
    assert f"1 classes are in {train} but not in {test}: bee" in str(error.value)
    assert f"1 classes are in {test} but not in {train}: fox" in str(error.value)


def test_directories_without_classes_or_images(directories: Directories, tmp_path: Path) -> None:
    train, test = directories
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match=r"bare has no class folders; expected .*<class>/<image>"):
        benchmark_from_folders(tmp_path / "bare", test)
    for name in CLASSES:
        (tmp_path / "hollow" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match="hollow has class folders but no image in them"):
        benchmark_from_folders(train, tmp_path / "hollow", protocol="B0-Inc5")


def test_a_class_without_images_is_named(directories: Directories) -> None:
    train, test = directories
    for image in (train / "dog").iterdir():
        image.unlink()
    with pytest.raises(ValueError, match=r"classes without a training image: 3 \(dog\)"):
        benchmark_from_folders(train, test, protocol="B0-Inc5")


@pytest.fixture
def packs(directories: Directories) -> Directories:
    for directory in directories:
        pack_folder(directory, directory.with_suffix(".pack"), size=32)
    return directories[0].with_suffix(".pack"), directories[1].with_suffix(".pack")


@pytest.mark.parametrize("which", [(1, 1), (0, 1), (1, 0)])
def test_packed_files_in_place_of_directories(
    directories: Directories, packs: Directories, which: tuple[int, int]
) -> None:
    mixed = [(directories, packs)[packed][i] for i, packed in enumerate(which)]
    settings: dict[str, Any] = {"protocol": "B0-Inc2", "image_size": 28}
    expected = benchmark_from_folders(*directories, **settings)
    found = benchmark_from_folders(*mixed, **settings)
    assert found.name == expected.name == "zoo"
    assert found.class_names == expected.class_names
    for task in range(3):
        for stream in ("train_stream", "test_stream"):
            pair = [getattr(b, stream)[task].dataset.eval() for b in (found, expected)]
            assert len(pair[0]) == len(pair[1])
            for (image, *labels), (original, *others) in zip(*pair, strict=True):
                assert labels == others
                assert torch.equal(image, original)
        shapes = {tuple(image.shape) for image, _, _ in found.train_stream[task].dataset}
        assert shapes == {(3, 28, 28)}


def test_bad_input_with_packed_files(directories: Directories, packs: Directories) -> None:
    train, test = packs
    with pytest.raises(FileNotFoundError, match=r"no such directory or packed file: \S+/no\.pack$"):
        benchmark_from_folders(train, test.with_name("no.pack"))
    (directories[1] / "bee").rename(directories[1] / "fox")
    with pytest.raises(ValueError, match="cannot be used") as error:
        benchmark_from_folders(train, directories[1])
    assert f"1 classes are in {train} but not in {directories[1]}: bee" in str(error.value)
    pack_folder(directories[1], test, force=True)
    with pytest.raises(ValueError, match=f"1 classes are in {test} but not in {train}: fox"):
        benchmark_from_folders(train, test)
    test.write_bytes(test.read_bytes()[:-1])
    with pytest.raises(ValueError, match="it was cut short"):
        benchmark_from_folders(train, test)
    with pytest.raises(ValueError, match="is not a packed image file"):
        benchmark_from_folders(train, directories[1] / "fox" / "0.png")


def test_a_class_without_images_in_a_packed_file_is_named(directories: Directories) -> None:
    train, test = directories
    for image in (train / "dog").iterdir():
        image.unlink()
    pack_folder(train, train.with_suffix(".pack"))
    with pytest.raises(ValueError, match=r"classes without a training image: 3 \(dog\)"):
        benchmark_from_folders(train.with_suffix(".pack"), test, protocol="B0-Inc5")


@pytest.mark.parametrize(("image_size", "warned"), [(28, False), (29, True)])
def test_a_warning_if_packed_images_are_enlarged(
    packs: Directories, caplog: pytest.LogCaptureFixture, image_size: int, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        benchmark_from_folders(*packs, protocol="B0-Inc5", image_size=image_size)
    assert ("was packed at 32 pixels, and evaluation at 29 enlarges" in caplog.text) == warned
    assert ("better pack them with --size 33" in caplog.text) == warned


def test_folders_that_must_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = tmp_path / "train", tmp_path / "test"
    for folder in (train / "ant", train / "bee", test / "ant", test / "bee"):
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "0.png")
    closed, access = str(train / "bee"), os.access  # chmod would not stop the superuser
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    message = r"train has class folders .* not read: bee; change"
    with pytest.raises(PermissionError, match=message):
        benchmark_from_folders(train, test, protocol="B0-Inc1")
    with pytest.raises(PermissionError, match=message):
        pack_folder(train, tmp_path / "train.pack")
    assert not (tmp_path / "train.pack").exists()
