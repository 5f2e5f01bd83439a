"""Importing arrays: the PNG files have the very pixels."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import snapshot
from PIL import Image

from avalanche_care.benchmarks.importing import _own_arrays
from avalanche_care.benchmarks.importing.own import import_data

Arrays = dict[str, Any]


def some_arrays(shape: tuple[int, ...] = (5, 4, 3)) -> Arrays:
    random = np.random.RandomState(0)
    return {
        "train_images": random.randint(0, 256, (12, *shape)).astype(np.uint8),
        "train_labels": np.arange(12) % 3,
        "test_images": random.randint(0, 256, (6, *shape)).astype(np.uint8),
        "test_labels": np.repeat([2, 1, 0], 2).astype(np.int16),
        "class_names": np.array(["wren", "ant", "kîte"]),
    }


def saved(folder: Path, arrays: Mapping[str, Any], compressed: bool = True) -> Path:
    (np.savez_compressed if compressed else np.savez)(folder / "arrays.npz", **arrays)
    return folder / "arrays.npz"


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 1), (5, 4)])
@pytest.mark.parametrize("compressed", [True, False])
def test_pixels_and_classes(tmp_path: Path, shape: tuple[int, ...], compressed: bool) -> None:
    arrays = some_arrays(shape)
    file = saved(tmp_path, arrays, compressed)
    before = file.read_bytes()
    record = import_data(file, "zoo", tmp_path)
    assert file.read_bytes() == before
    assert (record.classes, record.train_images, record.test_images) == (3, 12, 6)
    assert record.source == str(file)
    for split in ("train", "test"):
        paths = sorted((tmp_path / "zoo" / split).rglob("*.png"))
        assert len(paths) == len(arrays[f"{split}_images"])
        for path in paths:
            index = int(path.stem)
            label = arrays[f"{split}_labels"][index]
            assert path.parent.name == arrays["class_names"][label]
            with Image.open(path) as image:
                assert image.format == "PNG"
                assert image.mode == ("RGB" if shape[2:] == (3,) else "L")
                expected = arrays[f"{split}_images"][index]
                assert np.array_equal(np.asarray(image).reshape(expected.shape), expected)


def test_without_names_the_order_is_that_of_the_labels(tmp_path: Path) -> None:
    arrays = some_arrays()
    del arrays["class_names"]
    arrays["train_labels"], arrays["test_labels"] = (
        np.array([2, 7, 10])[arrays[f"{split}_labels"]] for split in ("train", "test")
    )
    import_data(saved(tmp_path, arrays), "zoo", tmp_path)
    assert sorted(path.name for path in (tmp_path / "zoo/test").iterdir()) == ["02", "07", "10"]


def changed(**values: Any) -> Arrays:
    arrays = {**some_arrays(), **values}
    return {name: value for name, value in arrays.items() if value is not None}


@pytest.mark.parametrize(
    ("arrays", "messages"),
    [
        (changed(test_labels=None), ["lacks test_labels; expected", "Found: class_names, test_"]),
        (
            changed(
                train_images=np.zeros((12, 5, 4, 3), np.float32),
                test_images=np.zeros((6, 3, 5, 4), np.uint8),
                train_labels=np.zeros(12, np.float64),
                test_labels=np.zeros((6, 1), np.int64),
                class_names=np.arange(3),
            ),
            [
                "train_images must be uint8 (0 to 255), got float32",
                "test_images must be (N, height, width, 3) or (N, height, width), got (6, 3, 5, 4)"
                "; move the channels to the end",
                "train_labels must be integers, got float64",
                "test_labels must have one label per image, (6,), got (6, 1)",
                "class_names must be a list of texts, got int64 of shape (3,)",
            ],
        ),
        (changed(train_labels=np.arange(11)), ["one label per image, (12,), got (11,)"]),
        (changed(test_images=np.zeros((0, 5, 4, 3), np.uint8)), ["got (0, 5, 4, 3)"]),
        (changed(test_labels=np.array([0, 0, 1, 1, 2, -1])), ["must not be negative, got -1"]),
        (
            changed(class_names=np.array(["a/b", "ant", "Ant", "void"])),
            ["'a/b' has '/'", "Ant, ant are one folder", "class_names without images: void"],
        ),
        (changed(class_names=np.array(["a", "b"])), ["2 class_names, but labels up to 2"]),
        (changed(class_names=np.array(["a", "b", "a"])), ["the same name more than once"]),
        (changed(test_labels=np.zeros(6, int)), ["classes without test images: ant, kîte"]),
        (changed(class_names=np.array(["a", 1, None], object)), ["got object of shape (3,)"]),
    ],
)
def test_wrong_arrays(tmp_path: Path, arrays: Arrays, messages: list[str]) -> None:
    file = saved(tmp_path, arrays)
    with pytest.raises(ValueError, match=r"arrays\.npz") as error:
        import_data(file, "zoo", tmp_path / "root")
    for message in messages:
        assert message in str(error.value)
    assert not (tmp_path / "root" / "zoo").exists()


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    file = tmp_path / "arrays.npz"
    file.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"not an \.npz file that can be read.*savez_compressed"):
        import_data(file, "zoo", tmp_path)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("train_images.npy", b"nonsense")
    with pytest.raises(ValueError, match=r"not an \.npz file that can be read"):
        import_data(file, "zoo", tmp_path)
    with pytest.raises(ValueError, match="link is for images that are files"):
        import_data(file, "zoo", tmp_path, link=True)


def test_the_images_are_not_loaded_to_find_that_the_labels_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    real = np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(
        np.lib.npyio.NpzFile,
        "__getitem__",
        lambda self, name: (loaded.append(name), real(self, name))[1],
    )
    file = saved(tmp_path, changed(class_names=np.array(["a", "b"])))
    with pytest.raises(ValueError, match="labels up to 2"):
        import_data(file, "zoo", tmp_path)
    assert loaded == ["train_labels", "test_labels", "class_names"]
    import_data(saved(tmp_path, some_arrays()), "zoo", tmp_path)
    assert loaded[6:] == ["train_images", "test_images"]  # one after the other, each once


def test_space_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(folder: Path, needed: int) -> None:
        assert needed >= 18 * 5 * 4 * 3
        raise OSError("no room")

    monkeypatch.setattr(_own_arrays, "require_space", no_room)
    with pytest.raises(OSError, match="no room"):
        import_data(saved(tmp_path, some_arrays()), "zoo", tmp_path)
    assert not (tmp_path / "zoo").exists()
    assert [path for path in snapshot(tmp_path / "zoo.part") if path.endswith(".png")] == []


def test_one_pixel_type_is_not_taken_for_another(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.eye(2, dtype=np.uint8) * 255).save(stream, "PNG")
    arrays = changed(
        train_images=np.eye(2, dtype=np.uint8)[None].repeat(12, 0) * 255,
        test_images=np.eye(2, dtype=np.uint8)[None].repeat(6, 0) * 255,
    )
    import_data(saved(tmp_path, arrays), "zoo", tmp_path)
    assert next((tmp_path / "zoo").rglob("*.png")).read_bytes() == stream.getvalue()
