"""The cache of test images: the same numbers, each image decoded once, whoever comes at a time."""

from __future__ import annotations

import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import make_pictures
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor

from avalanche_care.benchmarks import _eval_cache, _pack_source, benchmark_from_folders, pack_folder
from avalanche_care.benchmarks.images import eval_resize, load_image

fork = multiprocessing.get_context("fork")
Directories = tuple[Path, Path]


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    return make_pictures(tmp_path / "train"), make_pictures(tmp_path / "test", seed=1)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def make(directories: Directories, **settings: Any) -> Any:
    return benchmark_from_folders(*directories, protocol="B0-Inc3", image_size=28, **settings)


def tensors(dataset: Any) -> torch.Tensor:
    return torch.stack([item[0] for item in dataset])


@pytest.mark.parametrize("packed", [0, 1, 2], ids=["folder", "packed", "packed larger"])
def test_the_network_sees_the_same(directories: Directories, cache: Path, packed: int) -> None:
    train, test = directories
    if packed:
        test = cache / "test.pack"
        pack_folder(directories[1], test, size=packed * eval_resize(28))
    plain, cached = make((train, test)), make((train, test), cache_eval=cache)
    expected = tensors(plain.test_stream[0].dataset)
    found = tensors(cached.test_stream[0].dataset)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert cached.test_stream[0].dataset[0][0].is_contiguous()
    assert torch.equal(tensors(cached.seen_stream[0].dataset), expected)
    # The training images are not cached, and still get the whole transform in evaluation.
    trained = [benchmark.train_stream[0].dataset.eval() for benchmark in (plain, cached)]
    assert torch.equal(*map(tensors, trained))
    labels = [list(b.test_stream[0].dataset.targets) for b in (plain, cached)]
    assert labels[0] == labels[1]


def test_settings_of_the_normalisation(directories: Directories, cache: Path) -> None:
    settings = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    plain, cached = make(directories, **settings), make(directories, cache_eval=cache, **settings)
    assert torch.equal(*(tensors(b.test_stream[0].dataset) for b in (plain, cached)))


def test_each_image_is_decoded_once(
    directories: Directories, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(path: str) -> Image.Image:
        loaded.append(path)
        return load_image(path)

    monkeypatch.setattr(_pack_source, "load_image", load)
    for _ in range(3):
        benchmark = make(directories, cache_eval=cache)
        tensors(benchmark.test_stream[0].dataset)
    assert len(loaded) == len(set(loaded)) == 9
    for path in directories[1].rglob("*.*"):
        path.write_bytes(b"")  # nothing reads them any more
    tensors(benchmark.test_stream[0].dataset)


def test_data_loader_workers(directories: Directories, cache: Path) -> None:
    dataset = make(directories, cache_eval=cache).test_stream[0].dataset
    loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat([batch[0] for batch in loader]), tensors(dataset))


def test_the_user_cache_is_the_default(
    directories: Directories, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVALANCHE_CARE_CACHE", str(cache))
    make(directories, cache_eval=True)
    assert [path.suffix for path in sorted(cache.iterdir())] == [".pack", ".lock"]


def packs(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("*.pack")}


def test_other_images_and_settings_get_a_file_of_their_own(
    directories: Directories, cache: Path, tmp_path: Path
) -> None:
    make(directories, cache_eval=cache)
    benchmark_from_folders(*directories, protocol="B0-Inc3", image_size=14, cache_eval=cache)
    assert len(packs(cache)) == 2
    image = directories[1] / "ant" / "1.png"
    os.utime(image, (1, 1))
    make(directories, cache_eval=cache)
    assert len(packs(cache)) == 3
    make((directories[1], directories[0]), cache_eval=cache)
    assert len(packs(cache)) == 4


def test_folders_that_differ_in_nothing_but_pixels(cache: Path, tmp_path: Path) -> None:
    """Unpacked from archives, files of the same size can even have the same time."""
    folders = []
    for red in (0, 255):
        path = tmp_path / str(red) / "test" / "ant" / "1.bmp"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (40, 30), (red, 0, 0)).save(path)
        os.utime(path, (1, 1))
        folders.append(path.parents[1])
    first, second = (
        benchmark_from_folders(folder, folder, image_size=28, cache_eval=cache, protocol="B0-Inc1")
        for folder in folders
    )
    assert first.test_stream[0].dataset[0][0][0].max() == -1  # no red
    assert second.test_stream[0].dataset[0][0][0].min() == 1


def test_a_damaged_cache_is_made_again(
    directories: Directories, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = tensors(make(directories, cache_eval=cache).test_stream[0].dataset)
    (path,) = cache.glob("*.pack")
    intact = path.read_bytes()
    path.write_bytes(intact[:-7])
    with caplog.at_level(logging.WARNING):
        again = make(directories, cache_eval=cache)
    assert "cannot be used and is made again" in caplog.text
    assert path.read_bytes() == intact
    assert torch.equal(tensors(again.test_stream[0].dataset), expected)


def test_several_processes_make_it_once(
    directories: Directories, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def load(path: str) -> Image.Image:
        with log.open("a") as file:  # appended lines of processes do not mix
            file.write(f"{path}\n")
        return load_image(path)

    monkeypatch.setattr(_pack_source, "load_image", load)
    processes = [
        fork.Process(target=make, args=(directories,), kwargs={"cache_eval": cache})
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 9
    assert len(packs(cache)) == 1


def test_an_own_transform_cannot_be_cached(directories: Directories, cache: Path) -> None:
    with pytest.raises(ValueError, match="cannot be used with an eval_transform; leave one"):
        make(directories, cache_eval=cache, eval_transform=lambda image: image)
    assert not cache.exists()


def test_broken_images_are_named_at_once(directories: Directories, cache: Path) -> None:
    (directories[1] / "bee" / "3.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 9 images cannot be read:\n- .*bee/3\.png") as error:
        make(directories, cache_eval=cache)
    assert "--skip-unreadable" not in str(error.value)  # there is no such switch here


def test_a_cache_that_cannot_be_written(directories: Directories, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"test images cannot be cached: .* set AVALANCHE_CARE_CACHE"):
        make(directories, cache_eval=tmp_path / "file")


def test_the_transform_takes_both_kinds() -> None:
    image = Image.effect_noise((40, 32), 50).convert("RGB")
    transform = _eval_cache.EvalTransform(28, (0.5,) * 3, (0.5,) * 3)
    crop = image.crop((6, 2, 34, 30))
    assert torch.equal(transform(image), transform(pil_to_tensor(crop)))
