"""Which data set is meant: names in the root before paths, and what to do where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.benchmarks.checking.locate import locate
from avalanche_care.benchmarks.dataset_record import DatasetRecord


def make(folder: Path, name: str | None = None) -> Path:
    """A folder with train and test, and perhaps a record."""
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
    if name is not None:
        DatasetRecord(name=name, classes=1, train_images=0, test_images=0).save(folder)
    return folder


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, here = tmp_path / "root", tmp_path / "here"
    cub, mine = make(root / "cub"), make(root / "mine", "mine")
    vtab = make(root / "vtab-cil" / "vtab")
    make(here / "cub")
    make(here / "objectnet")
    make(here / "copy of cub", "cub")
    make(here / "own", "own")
    (here / "imagenet-r").mkdir()
    (here / "cifar-100-python").mkdir()
    (here / "train.pack").write_bytes(b"")
    monkeypatch.chdir(here)
    expected = {
        "cub": (cub, "cub"),  # in the root, and not ./cub
        "./cub": (Path("cub"), "cub"),
        "mine": (mine, None),
        "vtab": (vtab, "vtab"),
        "objectnet": (Path("objectnet"), "objectnet"),  # not in the root
        "copy of cub": (Path("copy of cub"), "cub"),
        "own": (Path("own"), None),
        "imagenet-r": (Path("imagenet-r"), None),  # by its name only: it may be anything
        "cifar-100-python": (Path("cifar-100-python"), "cifar100"),
        "train.pack": (Path("train.pack"), None),
    }
    found = {name: locate(name, root) for name in expected}
    names = {name: (path, card and card.name) for name, (path, card) in found.items()}
    assert names == expected
    monkeypatch.setenv("AVALANCHE_CARE_DATA", str(root))
    assert locate("cub") == (cub, CARDS["cub"])


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "root" / "my-birds", "my-birds")
    with pytest.raises(FileNotFoundError, match=r"run 'avalanche-care data download cifar100 --ro"):
        locate("cifar100", tmp_path / "root")
    with pytest.raises(FileNotFoundError, match=r"--from ARCHIVE'$"):
        locate("imagenet-r", tmp_path / "root")
    with pytest.raises(ValueError, match=r"'my-bird' is no file or folder, .* mean 'my-birds'"):
        locate("my-bird", tmp_path / "root")
