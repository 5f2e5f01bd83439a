"""Drawing a benchmark from OmniBenchmark V2: a miniature of its files, all 21 realms."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_files import contents, snapshot

from avalanche_care.benchmarks._curation_rule import fair_shares, size_limit
from avalanche_care.benchmarks.curation import NOT_THE_PUBLISHED_LIST, curate
from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.benchmarks.realms import OMNIBENCHMARK_REALMS

Realms = Mapping[str, Sequence[int]]

# The published set scaled down by ten: 100 -> 10 training images, 20 -> 4 test images.
SMALL: dict[str, Any] = {
    "classes": 50,
    "train_per_class": 17,
    "test_per_class": 4,
    "min_images": 10,
}


def write_list(
    source: Path, realm: str, split: str, sizes: Sequence[int], inside: str = "images"
) -> None:
    """The list and the images of one realm; class c has sizes[c] images."""
    folder = source / realm / f"{realm}.{split}"
    (folder / inside).mkdir(parents=True)
    lines = []
    for number, size in enumerate(sizes):
        for image in range(size):
            path = f"{number}_{image}.jpg"
            (folder / inside / path).write_bytes(f"{realm} {split} {number} {image}".encode())
            lines.append(f"{path} {number}")
    random.Random(0).shuffle(lines)
    (folder / "record.txt").write_text("\n".join(lines) + "\n")


def v2_tree(
    source: Path, train: Realms, test: Realms | None = None, val: Realms | None = None
) -> Path:
    """A copy of V2 with these numbers of images by realm and class."""
    for split, realms in (("train", train), ("test", test or {}), ("val", val or {})):
        for realm, sizes in realms.items():
            write_list(source, realm, split, sizes)
    names = {
        realm: {str(number): f"{realm} no. {number}, a synonym" for number in range(len(sizes))}
        for realm, sizes in train.items()
    }
    (source / "trainid2name_v2.json").write_text(json.dumps(names))
    return source


def sizes_of(folder: Path, split: str) -> dict[str, int]:
    return {path.name: len(list(path.iterdir())) for path in (folder / split).iterdir()}


TRAIN = dict.fromkeys(OMNIBENCHMARK_REALMS, (9, 10, 14, 40, 23)) | {"car": (30, 9)}
TEST = dict.fromkeys(OMNIBENCHMARK_REALMS, (5, 4, 6, 4, 4)) | {"car": (4, 4)}


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 realms of five classes, of which four are large enough; one realm has a single one."""
    return v2_tree(tmp_path_factory.mktemp("data") / "v2", TRAIN, TEST)


def test_the_miniature(v2: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = snapshot(v2)
    record = curate(v2, "my-omni", tmp_path, **SMALL)
    folder = tmp_path / "my-omni"
    assert snapshot(v2) == before
    assert record == DatasetRecord.load(folder)
    assert record.classes == 50
    assert record.realms is not None
    assert tuple(record.realms) == OMNIBENCHMARK_REALMS
    # car has one class; the other twenty share 49, and the first nine names have one more.
    counts = {realm: len(names) for realm, names in record.realms.items()}
    others = [realm for realm in OMNIBENCHMARK_REALMS if realm != "car"]
    assert counts == {"car": 1} | dict.fromkeys(others[:9], 3) | dict.fromkeys(others[9:], 2)
    train, test = sizes_of(folder, "train"), sizes_of(folder, "test")
    assert set(train) == set(test) == {name for names in record.realms.values() for name in names}
    assert set(test.values()) == {4}
    assert min(train.values()) == 10
    # As large as can be with an average of at most 17: one more each would be too many.
    limit = record.details["train_limit"]
    assert {name for name, size in train.items() if size > limit} == set()
    assert sum(train.values()) == record.train_images <= 17 * 50
    sizes = [TRAIN[name.split("-")[0]][int(name.split("-")[1])] for name in train]
    assert sorted(train.values()) == sorted(min(size, limit) for size in sizes)
    assert sum(min(size, limit + 1) for size in sizes) > 17 * 50
    few = {name for name in train if "-00000-" in name}  # nine images, except for car
    assert few == {"car-00000-car_no_0"}
    assert record.details["not_published"] == NOT_THE_PUBLISHED_LIST
    assert "no derivatives without permission" in record.details["licence"]
    assert record.details["test_images_from"] == {"test": 200}
    assert record.details["classes_by_realm"]["car"] == {"drawn": 1, "usable": 1, "listed": 2}
    assert record.details["realms_absent"] == []
    assert (folder / "missing_images.txt").read_text() == ""
    assert "not guaranteed to be those of the published" in caplog.text


def test_every_image_is_of_its_class_and_split(v2: Path, tmp_path: Path) -> None:
    curate(v2, "my-omni", tmp_path, **SMALL)
    for split in ("train", "test"):
        found = contents(tmp_path / "my-omni" / split)
        assert len(set(found.values())) == len(found)
        for path, content in found.items():
            realm, number = path.split("/")[0].split("-")[:2]
            assert content.decode().split()[:3] == [realm, split, str(int(number))]


def test_the_seed_decides_and_the_order_of_the_lists_does_not(v2: Path, tmp_path: Path) -> None:
    first = curate(v2, "first", tmp_path, **SMALL)
    lists = sorted(v2.rglob("record.txt"))
    texts = [file.read_text() for file in lists]
    try:
        for file, text in zip(lists, texts, strict=True):
            file.write_text("\n".join(reversed(text.split("\n"))))
        again = curate(v2, "again", tmp_path, **SMALL)
    finally:
        for file, text in zip(lists, texts, strict=True):
            file.write_text(text)
    assert again.details == first.details
    assert again.realms == first.realms
    other = curate(v2, "other", tmp_path, seed=1, **SMALL)
    assert other.realms != first.realms


def test_missing_and_empty_files_do_not_count(tmp_path: Path) -> None:
    source = v2_tree(tmp_path / "v2", {"bird": (12, 12, 12)}, {"bird": (4, 4, 4)})
    images = source / "bird" / "bird.train" / "images"
    (images / "0_3.jpg").unlink()
    (images / "0_4.jpg").write_bytes(b"")
    for image in range(3):
        (images / f"1_{image}.jpg").unlink()
    (source / "bird" / "bird.test" / "images" / "2_0.jpg").unlink()
    small = SMALL | {"classes": 1}
    record = curate(source, "set", tmp_path, **small)
    assert record.realms == {"bird": ["bird-00000-bird_no_0"]}
    assert (record.train_images, record.test_images) == (10, 4)
    assert record.details["files_missing"] == 6
    assert (tmp_path / "set" / "missing_images.txt").read_text().split() == [
        "bird.test/2_0.jpg",
        "bird.train/0_3.jpg",
        "bird.train/0_4.jpg",
        "bird.train/1_0.jpg",
        "bird.train/1_1.jpg",
        "bird.train/1_2.jpg",
    ]
    assert len(record.details["realms_absent"]) == 20
    with pytest.raises(
        ValueError, match="only 1 of 3 classes have 10 training and 4 test"
    ) as error:
        curate(source, "set2", tmp_path, **small | {"classes": 2})
    assert "6 listed files are not there, such as bird.t" in str(error.value)
    assert "By realm: bird 1 of 3" in str(error.value)
    assert not (tmp_path / "set2").exists()


def test_where_test_images_come_from(tmp_path: Path) -> None:
    """From test; where these are too few, from val too; from train if there is neither list."""
    source = v2_tree(
        tmp_path / "v2",
        {"bird": (15,), "food": (15,), "plant": (14,), "region": (13,)},
        {"bird": (6,), "food": (3,)},
        {"bird": (6,), "food": (6,)},
    )
    record = curate(source, "set", tmp_path, **SMALL | {"classes": 3, "train_per_class": None})
    assert record.details["test_images_from"] == {"test": 7, "train": 4, "val": 1}
    found = contents(tmp_path / "set")
    kinds: dict[str, list[str]] = {}
    for path, content in found.items():
        if path.endswith(".jpg"):
            split, name, _ = path.split("/")
            kinds.setdefault(f"{name.split('-')[0]} {split}", []).append(
                content.split()[1].decode()
            )
    assert {key: sorted(value) for key, value in kinds.items()} == {
        "bird train": ["train"] * 15,
        "bird test": ["test"] * 4,
        "food train": ["train"] * 15,
        "food test": ["test"] * 3 + ["val"],
        "plant train": ["train"] * 10,
        "plant test": ["train"] * 4,
    }
    jpgs = [content for path, content in found.items() if path.endswith(".jpg")]
    assert len(set(jpgs)) == len(jpgs)
    assert record.details["classes_by_realm"]["region"]["usable"] == 0  # 13 < 10 + 4


def test_seventeen_of_twenty_test_images_are_enough(tmp_path: Path) -> None:
    source = v2_tree(tmp_path / "v2", {"bird": (10, 10)}, {"bird": (17, 16)})
    record = curate(source, "set", tmp_path, **SMALL | {"classes": 1, "test_per_class": 20})
    assert record.realms == {"bird": ["bird-00000-bird_no_0"]}
    assert record.test_images == 17


@pytest.mark.parametrize("prefix", ["", "images/", "bird.train/images/", "bird/bird.train/images/"])
def test_paths_in_the_lists_may_start_at_several_places(tmp_path: Path, prefix: str) -> None:
    source = v2_tree(tmp_path / "v2", {"bird": (14,)})
    file = source / "bird" / "bird.train" / "record.txt"
    file.write_text("".join(f"{prefix}{line}\n" for line in file.read_text().split("\n") if line))
    record = curate(source, "set", tmp_path, **SMALL | {"classes": 1})
    assert (record.train_images, record.test_images) == (10, 4)
    assert record.details["files_missing"] == 0


def test_an_image_is_never_of_two_classes_nor_of_both_splits(tmp_path: Path) -> None:
    source = v2_tree(tmp_path / "v2", {"bird": (13, 10)}, {"bird": (4, 4)})
    lists = source / "bird" / "bird.train" / "record.txt"
    # Two images with two labels, one image twice, and a test image that is also for training.
    shared = source / "bird" / "shared.jpg"
    shared.write_bytes(b"shared")
    with lists.open("a") as file:
        file.write("1_0.jpg 0\n0_0.jpg 1\n0_1.jpg 0\nshared.jpg 0\n")
    with (source / "bird" / "bird.test" / "record.txt").open("a") as file:
        file.write("shared.jpg 0\n")
    settings = SMALL | {"classes": 1, "test_per_class": 5, "train_per_class": None}
    record = curate(source, "set", tmp_path, **settings)
    assert record.realms == {"bird": ["bird-00000-bird_no_0"]}
    assert record.details["images_of_several_classes"] == 2
    assert (record.train_images, record.test_images) == (12, 5)
    assert b"shared" in contents(tmp_path / "set" / "test").values()
    assert b"shared" not in contents(tmp_path / "set" / "train").values()


@pytest.mark.parametrize(
    "names",
    [
        {"bird": {"0": "jay, blue jay", "1": "wren"}},
        {"bird": {"0": ["n01580077", "jay"], "1": ["n01593028", "wren"]}},
        {"bird": {"0": {"wnid": "n01580077", "name": "jay"}, "1": {"name": "wren"}}},
        {"bird": ["jay", "wren"]},
        {"bird": {"jay": 0, "wren": 1}},
        {"0": "jay", "1": "wren"},
    ],
)
def test_forms_of_the_names(tmp_path: Path, names: object) -> None:
    source = v2_tree(tmp_path / "v2", {"bird": (14, 14)})
    (source / "trainid2name_v2.json").write_text(json.dumps(names))
    record = curate(source, "set", tmp_path, **SMALL | {"classes": 2})
    assert record.realms == {"bird": ["bird-00000-jay", "bird-00001-wren"]}


def test_names_that_are_not_there(tmp_path: Path) -> None:
    source = v2_tree(tmp_path / "v2", {"bird": (14, 14)})
    file = source / "trainid2name_v2.json"
    file.write_text('{"bird": {"0": "jay"}}')
    record = curate(source, "set", tmp_path, **SMALL | {"classes": 2})
    assert record.realms == {"bird": ["bird-00000-jay", "bird-00001"]}
    assert record.details["classes_without_name"] == 1
    for text, message in (
        ('{"birds": {"0": "jay"}}', "names none of the 2 classes; expected"),
        ("[]", "must have names by realm, got a list"),
        ("{", "is not a JSON file"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            curate(source, "set2", tmp_path, **SMALL | {"classes": 2})
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks trainid2name_v2\.json"):
        curate(source, "set2", tmp_path, **SMALL | {"classes": 2})


def test_lists_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = v2_tree(tmp_path / "v2", {"bird": (14,), "food": (14,)}, {"bird": (4,)})
    settings = SMALL | {"classes": 1}
    (source / "bird" / "bird.test" / "record.txt").write_text("0_0.jpg\n")
    record = curate(source, "set", tmp_path, **settings)
    assert record.details["test_images_from"] == {"train": 4}
    assert "expected 'path id', got '0_0.jpg'" in record.details["lists_not_used"][0]
    assert "is not used" in caplog.text
    lines = ("../../secret.jpg 0", "/etc/passwd 0", "0_0.jpg -1", "7")
    (source / "bird" / "bird.train" / "record.txt").write_text("0_0.jpg 0\n" + "\n".join(lines))
    (source / "food" / "food.train" / "record.txt").write_text("\n")
    with pytest.raises(ValueError, match="cannot be read as OmniBenchmark V2") as error:
        curate(source, "set2", tmp_path, **settings)
    for number, line in enumerate(lines, 2):
        assert f"line {number}: expected 'path id', got {line!r}" in str(error.value)
    assert "food.train/record.txt is empty" in str(error.value)
    (tmp_path / "void").mkdir()
    (tmp_path / "void" / "readme").touch()
    with pytest.raises(FileNotFoundError, match=r"has no <realm>/<realm>\.train.*Found: readme"):
        curate(tmp_path / "void", "set2", tmp_path, **settings)
    with pytest.raises(FileNotFoundError, match="no such directory"):
        curate(tmp_path / "nowhere", "set2", tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 0}, "classes must be an integer of at least 1, got 0"),
        ({"test_per_class": 2.5}, "test_per_class must be an integer of at least 1, got 2.5"),
        ({"seed": None}, "seed must be an integer, got None"),
        ({"train_per_class": 99}, "at least min_images=100, got 99"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        curate(tmp_path, "set", tmp_path, **settings)


def test_names_of_published_sets_are_taken(v2: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a known benchmark"):
        curate(v2, "omnibenchmark1k", tmp_path)


@given(
    available=st.dictionaries(
        st.sampled_from(OMNIBENCHMARK_REALMS), st.integers(0, 30), min_size=1
    ),
    wanted=st.floats(0, 1),
)
def test_shares_are_fair(available: dict[str, int], wanted: float) -> None:
    total = int(wanted * sum(available.values()))
    shares = fair_shares(available, total)
    assert sum(shares.values()) == total
    assert shares.keys() == available.keys()
    assert all(shares[realm] <= available[realm] for realm in available)
    most = max(shares.values())
    for realm, share in shares.items():
        assert share in (most, most - 1) or share == available[realm]


def test_shares_of_the_published_numbers() -> None:
    shares = fair_shares(dict.fromkeys(OMNIBENCHMARK_REALMS, 300), 1000)
    assert sorted(shares.values()) == [47] * 8 + [48] * 13


@given(sizes=st.lists(st.integers(10, 500), min_size=1, max_size=50), mean=st.integers(10, 500))
def test_the_limit_is_the_largest_that_keeps_the_mean(sizes: list[int], mean: int) -> None:
    limit = size_limit(sizes, mean)
    budget = mean * len(sizes)
    if limit is None:
        assert sum(sizes) <= budget
    else:
        assert sum(min(size, limit) for size in sizes) <= budget
        assert sum(min(size, limit + 1) for size in sizes) > budget
