"""The split of a class: decided by names and a seed, by nothing else."""

from __future__ import annotations

import hashlib
import random
import re

import pytest
from own_files import numbered

from avalanche_care.benchmarks.importing._own_split import HeldOut, ranked

CLASSES = {"cat": numbered(10), "dog": numbered(7), "elk": numbered(2)}


def images(classes: dict[str, list[str]]) -> dict[str, dict[str, str]]:
    return {name: {file: f"{name}/{file}" for file in files} for name, files in classes.items()}


def test_the_order_is_that_of_the_documented_digest() -> None:
    """So that another language, or another year, gives the same split."""
    expected = sorted(
        numbered(50), key=lambda file: hashlib.sha256(f"7\0cat\0{file}".encode()).hexdigest()
    )
    assert ranked(7, "cat", numbered(50)) == expected
    assert ranked(0, "cat", numbered(4)) == ["003.jpg", "001.jpg", "002.jpg", "000.jpg"]


def test_a_fraction_of_each_class_and_one_image_on_each_side() -> None:
    train, test = HeldOut(0.2, None).divide(images(CLASSES))
    assert {name: len(files) for name, files in test.items()} == {"cat": 2, "dog": 1, "elk": 1}
    assert {name: len(files) for name, files in train.items()} == {"cat": 8, "dog": 6, "elk": 1}
    for name, files in images(CLASSES).items():
        assert train[name] | test[name] == files
        assert not train[name].keys() & test[name].keys()
    train, test = HeldOut(0.99, None).divide(images(CLASSES))
    assert {len(files) for files in train.values()} == {1}


def test_a_number_of_each_class() -> None:
    classes = {"cat": numbered(10), "dog": numbered(4)}
    train, test = HeldOut(None, 3).divide(images(classes))
    assert {name: len(files) for name, files in test.items()} == {"cat": 3, "dog": 3}
    assert len(train["dog"]) == 1


def test_the_order_of_the_files_and_other_classes_do_not_matter() -> None:
    shuffled = {name: random.Random(1).sample(files, len(files)) for name, files in CLASSES.items()}
    backwards = dict(reversed(shuffled.items()))
    held_out = HeldOut(0.4, None, 5)
    result = held_out.divide(images(CLASSES))
    assert held_out.divide(images(backwards)) == result
    assert [list(files) for files in held_out.divide(images(backwards))[0].values()] == [
        list(files) for files in result[0].values()
    ]
    assert held_out.divide(images({"dog": CLASSES["dog"]}))[1]["dog"] == result[1]["dog"]


def test_the_seed_and_the_class_name_matter() -> None:
    classes = {"cat": numbered(40), "dog": numbered(40)}
    first = HeldOut(0.5, None, 0).divide(images(classes))[1]
    other = HeldOut(0.5, None, 1).divide(images(classes))[1]
    assert first["cat"].keys() != other["cat"].keys()
    assert first["cat"].keys() != first["dog"].keys()


def test_images_that_are_added_do_not_move_the_others() -> None:
    few, many = numbered(20), numbered(25)
    assert [name for name in ranked(3, "cat", many) if name in set(few)] == ranked(3, "cat", few)


def test_accents_are_the_same_however_a_system_encodes_them() -> None:
    composed = [f"caf\u00e9-{number}.jpg" for number in range(30)]
    decomposed = [name.replace("\u00e9", "e\u0301") for name in composed]
    again = [name.replace("e\u0301", "\u00e9") for name in ranked(0, "tasse", decomposed)]
    assert again == ranked(0, "tasse", composed)


def test_classes_that_are_too_small_are_all_named() -> None:
    classes = {"cat": numbered(9), "dog": numbered(3), "elk": numbered(1)}
    with pytest.raises(ValueError, match=r"at least 4 images.*too small: dog \(3\), elk \(1\)\."):
        HeldOut(None, 3).divide(images(classes))
    with pytest.raises(ValueError, match=r"at least 2 images.*too small: elk \(1\)\."):
        HeldOut(0.5, None).divide(images(classes))


@pytest.mark.parametrize(
    ("fraction", "per_class", "seed", "message"),
    [
        (None, None, 0, "either test_fraction or test_per_class"),
        (0.2, 3, 0, "either test_fraction or test_per_class"),
        (0.0, None, 0, "between 0 and 1, got 0.0"),
        (1, None, 0, "between 0 and 1, got 1"),
        (float("nan"), None, 0, "between 0 and 1, got nan"),
        ("0.2", None, 0, "between 0 and 1, got '0.2'"),
        (None, 0, 0, "positive integer, got 0"),
        (None, 2.0, 0, "positive integer, got 2.0"),
        (0.2, None, "a", "split_seed must be an integer, got 'a'"),
    ],
)
def test_settings_out_of_range(
    fraction: object, per_class: object, seed: object, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        HeldOut(fraction, per_class, seed)  # type: ignore[arg-type]
