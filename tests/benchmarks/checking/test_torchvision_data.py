"""Checking what torchvision keeps in a layout of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pictures import make_pictures

from avalanche_care.benchmarks import _omniglot_files
from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.benchmarks.checking.verify import verify_dataset


class FakeCIFAR:
    """Like torchvision's class: it refuses files with another checksum."""

    damaged = False
    classes = ("ant", "bee", "cat")

    def __init__(self, root: Path, *, train: bool, download: bool) -> None:
        assert not download
        assert root.name == "data"
        if self.damaged:
            raise RuntimeError("Dataset not found or corrupted. You can use download=True")
        self.size = 9 if train else 6

    def __len__(self) -> int:
        return self.size


def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", FakeCIFAR)
    folder = tmp_path / "data" / "cifar-100-python"
    card = dataclasses.replace(CARDS["cifar100"], train_images=9, test_images=6)
    report = verify_dataset(folder, card=card)
    assert report.ok
    assert (report.classes, report.images) == (3, {"train": 9, "test": 6})
    report = verify_dataset(folder, card=CARDS["cifar100"])
    assert report.problems["other counts"][0].startswith("9 train images, expected 50,000")
    monkeypatch.setattr(FakeCIFAR, "damaged", True)
    report = verify_dataset(folder, card=card)
    assert report.problems["unreadable files"][0].startswith("cifar-100-python: Dataset not found")


def test_omniglot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "omniglot-py"
    parts = {"images_background": 3, "images_evaluation": 2}
    monkeypatch.setattr(_omniglot_files, "PARTS", parts)
    monkeypatch.setattr(_omniglot_files, "DRAWINGS", 2)
    monkeypatch.setattr("pictures.SIZES", ((10, 10),))
    make_pictures(folder / "images_background" / "Greek", ["a", "b", "c"], count=4)
    make_pictures(folder / "images_evaluation" / "Runic", ["f", "g"], count=4)
    for image in folder.rglob("*.jpg"):
        image.unlink()  # every other one: two drawings of each are left
    card = CARDS["omniglot"]
    report = verify_dataset(folder, card=card)
    assert report.ok
    assert (report.classes, report.images) == (5, {"images_background": 6, "images_evaluation": 4})
    next((folder / "images_evaluation").rglob("*.png")).write_bytes(b"no image")
    assert "unreadable files" in verify_dataset(folder, card=card).problems
    next((folder / "images_background").rglob("*.png")).unlink()
    report = verify_dataset(folder, card=card)
    assert report.problems["other counts"][0].endswith("has 1 drawings and not 2")
    assert len(report.problems["missing images"]) == 1
