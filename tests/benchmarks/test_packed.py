"""Reading a packed file: the same images everywhere, and no damaged one goes unnoticed."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import make_pictures
from scripts import BENCHMARKS
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from avalanche_care.benchmarks import PackedImages, default_eval_transform, pack_folder
from avalanche_care.benchmarks._pack_format import _HEAD, PackSettings, Plan, read_head
from avalanche_care.benchmarks.images import eval_resize


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pack_folder(make_pictures(tmp_path / "pictures"), tmp_path / "train.pack", size=20)
    return tmp_path / "train.pack"


def test_items(path: Path) -> None:
    images, tensors = PackedImages(path), PackedImages(path, output="tensor")
    assert len(images) == len(tensors) == 9
    for index in range(9):
        image, label = images[index]
        tensor, same = tensors[index]
        assert image.mode == "RGB"
        assert min(image.size) == 20
        assert tensor.dtype == torch.uint8
        assert torch.equal(tensor, pil_to_tensor(image))
        assert label == same == index // 3
    assert len({tuple(tensor.flatten().tolist()) for tensor, _ in tensors}) == 9
    with pytest.raises(ValueError, match="output must be one of pil, tensor, got 'numpy'"):
        PackedImages(path, output="numpy")  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        images[9]


def test_the_transform_gets_the_image(path: Path) -> None:
    assert PackedImages(path, transform=lambda image: image.size)[3][0] == (20, 20)
    shapes = PackedImages(path, transform=lambda image: image.shape, output="tensor")
    assert shapes[0][0] == (3, 20, 26)


def test_what_a_transform_does_to_a_tensor_stays_out_of_the_file(path: Path) -> None:
    images = PackedImages(path, output="tensor")
    before = images[0][0].clone()
    images[0][0].zero_()
    assert torch.equal(images[0][0], before)
    assert not images.pixels(0).flags.writeable


def test_a_copy_opens_the_file_itself(path: Path) -> None:
    images = PackedImages(path, output="tensor")
    _ = images[0]
    state = pickle.dumps(images)
    assert len(state) < path.stat().st_size / 2  # the pixels are not in it
    copy = pickle.loads(state)
    assert copy.targets == images.targets
    assert all(torch.equal(copy[i][0], images[i][0]) for i in range(9))


def test_a_copy_refuses_a_file_that_was_replaced(path: Path, tmp_path: Path) -> None:
    images = PackedImages(path)
    expected = np.array(images.image(0))
    state = pickle.dumps(images)
    pack_folder(make_pictures(tmp_path / "others", seed=1), path, size=20, force=True)
    with pytest.raises(ValueError, match=r"train\.pack was replaced after it was opened"):
        pickle.loads(state).image(0)
    np.testing.assert_array_equal(np.array(images.image(0)), expected)  # it holds the old file


def test_data_loader_workers_read_the_same(path: Path) -> None:
    images = PackedImages(path, output="tensor", transform=lambda image: image[:, :20, :20])
    loader = DataLoader(images, batch_size=2, num_workers=2, multiprocessing_context="fork")
    batches = list(loader)
    labels = torch.cat([labels for _, labels in batches])
    pixels = torch.cat([pixels for pixels, _ in batches])  # (9, 3, 20, 20)
    assert labels.tolist() == images.targets
    assert all(torch.equal(pixels[i], images[i][0]) for i in range(9))


def test_evaluation_sees_the_same_numbers_as_from_the_folder(tmp_path: Path) -> None:
    """Packed at the size to which the transform resizes, resizing again changes nothing."""
    folder = make_pictures(tmp_path / "pictures")
    transform = default_eval_transform(28)
    packed = pack_folder(folder, tmp_path / "test.pack", size=eval_resize(28))
    packed.transform = transform
    for (image, label), (expected, original) in zip(
        packed, ImageFolder(str(folder), transform), strict=True
    ):
        assert label == original
        assert torch.equal(image, expected)


def test_verify_names_the_damaged_images(path: Path) -> None:
    images = PackedImages(path)
    assert images.verify() == []
    data = bytearray(path.read_bytes())
    for index, at in ((1, 0), (7, -1)):  # the first byte of one image, the last of another
        start = int(images._table[index]["offset"])
        data[start + (at if at == 0 else images.pixels(index).size - 1)] ^= 0x10
    path.write_bytes(data)
    assert PackedImages(path).verify() == ["ant/1.png", "cat/7.png"]


def test_every_byte_of_the_index_is_guarded(path: Path) -> None:
    data = path.read_bytes()
    with path.open("rb") as file:
        head = read_head(file)
    assert head is not None
    for position in range(head.pixels_offset):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(ValueError, match=r"train\.pack"):
            PackedImages(path)
    path.write_bytes(data)
    PackedImages(path)


def test_a_wrong_checksum_is_called_that(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"cat/7.png")] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"index of .*train\.pack has a wrong checksum; copy it"):
        PackedImages(path)


@pytest.mark.parametrize("missing", [1, 1000, -1])
def test_a_file_of_another_length(path: Path, missing: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-missing] if missing > 0 else data + b"!")
    message = rf"should have {len(data):,} bytes and has {len(data) - missing:,}; it was cut short"
    with pytest.raises(ValueError, match=message):
        PackedImages(path)


def test_a_file_cut_off_in_its_index(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"should have .* bytes and has 300; it was cut short"):
        PackedImages(path)


@pytest.mark.parametrize("content", [b"", b"\x93CAREPAK", b"PK\x03\x04" * 100])
def test_a_file_of_another_kind(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.pack is not a packed image file; make one with"):
        PackedImages(path)


def test_a_file_of_another_version(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:8] + struct.pack("<I", 2) + data[12:])
    with pytest.raises(ValueError, match=r"has version 2 of the .* reads version 1; pack the"):
        PackedImages(path)


def test_an_unfinished_file(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: _HEAD.size - 40] + bytes(40) + data[_HEAD.size :])
    with pytest.raises(ValueError, match=r"train\.pack is not finished; run the same"):
        PackedImages(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.pack"):
        PackedImages(tmp_path / "nothing.pack")


def test_names_that_are_no_unicode_survive() -> None:
    """Linux allows any bytes in a file name; Python shows them as lone surrogates."""
    names = ["a/b\udcff.png", "a/é.png", "a/\u732b.png"]
    plan = Plan(PackSettings(), ["a"], names, [0, 0, 0], [1, 2, 3], [4, 5, 2**62])
    assert Plan.from_bytes(plan.to_bytes()) == plan


def test_settings_of_a_crop() -> None:
    with pytest.raises(ValueError, match="a crop of 33 does not fit in a size of 32"):
        PackSettings(size=32, crop=33)


def test_packing_and_reading_need_no_more_than_torchvision() -> None:
    """The measuring script, which imports them all, has to run where only torch and timm are."""
    code = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import data_throughput; "
        "print({'avalanche', 'matplotlib', 'platformdirs'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
