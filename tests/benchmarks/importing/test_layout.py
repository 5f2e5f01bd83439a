"""Reading folders: names of splits and pieces, and the class folders of a directory."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest
from layouts import miniature, moved, picture, write_tree

from avalanche_care.benchmarks.importing.arrangement import arrange, is_shard, split_of
from avalanche_care.benchmarks.importing.contents import (
    IMAGE_SUFFIXES,
    FoundFile,
    kind_of_file,
    listing,
)
from avalanche_care.benchmarks.importing.layout import find_layout


def test_image_suffixes_are_those_of_image_folders() -> None:
    """Read from the source: the import of torch would make this the slowest test here."""
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "datasets" / "folder.py").read_text()
    match = re.search(r"^IMG_EXTENSIONS = (\(.*?\))$", source, re.MULTILINE)
    assert match is not None
    assert ast.literal_eval(match[1]) == IMAGE_SUFFIXES


@pytest.mark.parametrize(
    ("name", "plain", "adorned"),
    [
        ("train", "train", "train"),
        ("TRAINING", "train", "train"),
        ("test", "test", "test"),
        ("val", "val", "val"),
        ("Validation", "val", "val"),
        ("train-00000-of-00012", None, "train"),
        ("imagenet-r_train", None, "train"),
        ("test_images_part2", None, "test"),
        ("val2017", None, "val"),
        ("trainset", None, "train"),
        ("bullet_train", None, "train"),  # so plain names are looked for first
        ("trainer", None, None),
        ("test_tube", None, None),
        ("contest", None, None),
        ("valley", None, None),
        ("data", None, None),
        ("00012", None, None),
    ],
)
def test_names_of_splits(name: str, plain: str | None, adorned: str | None) -> None:
    assert split_of(name, adorned=False) == plain
    assert split_of(name, adorned=True) == adorned


@pytest.mark.parametrize(
    ("name", "shard"),
    [
        ("part_3", True),
        ("data-00000-of-00004", True),
        ("0000", True),
        ("omni.part07", True),
        ("train-00001-of-00002", False),
        ("bird", False),
        ("7up", False),
    ],
)
def test_names_of_pieces(name: str, shard: bool) -> None:
    assert is_shard(name) is shard


def test_the_class_folders_of_a_directory(tmp_path: Path) -> None:
    root = write_tree(tmp_path, moved(miniature(), "a/b/"))
    layout = find_layout(tmp_path)
    assert layout.train == {name: root / "a/b/train" / name for name in ("ant", "bee", "cat")}
    assert layout.test == {name: root / "a/b/test" / name for name in ("ant", "bee", "cat")}
    assert layout.realms is None
    assert layout.remarks == []


def test_realms(tmp_path: Path) -> None:
    files = {}
    for path, data in miniature().items():
        split, rest = path.split("/", 1)
        files[f"{split}/{'mammal' if 'cat' in rest else 'bug'}/{rest}"] = data
    layout = find_layout(write_tree(tmp_path, files))
    assert layout.realms == {"bug": ["ant", "bee"], "mammal": ["cat"]}
    assert layout.train["cat"] == tmp_path / "train/mammal/cat"


def test_a_class_in_two_folders(tmp_path: Path) -> None:
    files = moved(miniature(), "part1/") | moved(miniature(), "part2/")
    with pytest.raises(ValueError, match=r"the class ant is spread over 2 folders .*part1/train"):
        find_layout(write_tree(tmp_path, files))


def test_a_link_in_a_circle(tmp_path: Path) -> None:
    write_tree(tmp_path, miniature())
    (tmp_path / "train" / "ant" / "up").symlink_to(tmp_path)
    assert set(find_layout(tmp_path).train) == {"ant", "bee", "cat"}


def found(*paths: str) -> list[FoundFile]:
    return [FoundFile(tuple(path.split("/")[:-1]), path, ".jpg") for path in paths]


def test_classes_called_like_splits() -> None:
    """CIFAR-100 has the class train."""
    paths = [f"{s}/{c}/{k}.jpg" for s in ("train", "test") for c in ("train", "test") for k in "12"]
    arrangement = arrange(found(*paths), "x")
    assert sorted(arrangement.train) == sorted(arrangement.test) == ["test", "train"]
    assert [file.path for file in arrangement.test["train"]] == paths[4:6]
    classes = ["bullet_train", "train", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    paths = [f"my_{s}/{c}/1.jpg" for s in ("train", "test") for c in classes]
    assert sorted(arrange(found(*paths), "x").train) == sorted(classes)


def test_realms_that_disagree() -> None:
    paths = ["train/a/x/1", "train/b/y/1", "test/b/x/1", "test/a/y/1"]
    with pytest.raises(ValueError, match="into different realms"):
        arrange(found(*paths), "x")


def test_one_class_is_enough() -> None:
    arrangement = arrange(found("d/train/x/1", "d/train/x/2", "d/test/x/1"), "x")
    assert {name: len(images) for name, images in arrangement.train.items()} == {"x": 2}


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("JPEG", ".jpg"), ("PNG", ".png"), ("TIFF", ".tif"), ("WEBP", ".webp"), ("BMP", ".bmp")],
)
def test_images_are_known_by_their_content(tmp_path: Path, kind: str, suffix: str) -> None:
    write_tree(tmp_path, {"x": picture(1, kind), "y.gif": picture(1, "GIF")})
    assert kind_of_file(tmp_path / "x") == suffix
    assert kind_of_file(tmp_path / "y.gif") == ""
    assert FoundFile((), str(tmp_path / "x"), suffix).image_name == f"x{suffix}"


def test_a_listing_stays_short() -> None:
    files = found(*(f"{k // 26}/{k}/deep/er/{k}.x{k % 40}" for k in range(1000)))
    text = listing(files)
    assert len(text.splitlines()) <= 15
    assert "more folders" in text
