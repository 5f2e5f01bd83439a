"""The page on a data set: nothing that it must say is missing, for any card."""

from __future__ import annotations

from pathlib import Path

import pytest

from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.benchmarks.checking.info import dataset_info, dataset_table
from avalanche_care.benchmarks.dataset_record import DatasetRecord


@pytest.mark.parametrize("name", CARDS)
def test_a_page_says_it_all(name: str, tmp_path: Path) -> None:
    card, page = CARDS[name], dataset_info(name, tmp_path)
    words = " ".join(page.split())
    for part in (card.title, card.licence, card.citation, card.notes, f"{card.train_images:,} for"):
        assert " ".join(part.split()) in words
    for protocol in card.protocols:
        assert f"{protocol} ({card.tasks(protocol)} tasks)" in words
    for seed in card.class_orders:
        assert str(seed) in words
    assert card.source.url in words
    assert f"avalanche-care data download {name} --root {tmp_path}" in words
    assert f'{card.generator}(protocol="{card.protocols[0]}", root="{tmp_path}")' in words
    assert f"on disk not in {tmp_path}" in words
    copied = ("get it", "use it", "on disk")
    lines = [line for line in page.splitlines() if not line.startswith(copied)]
    assert max(map(len, lines)) <= 100


def test_what_only_some_have(tmp_path: Path) -> None:
    page = " ".join(dataset_info("omnibenchmark1k").split())
    assert "realms 21: activity, aircraft," in page
    assert "allows no derivatives without permission, which the authors" in page
    assert "B100-Inc3 (301 tasks)" in page
    assert 'OmniBenchmark1K(protocol="B0-Inc10") ' in page
    assert "under the transforms of pilot in the sorted order" in dataset_info("vtab")
    assert "realms" not in dataset_info("vtab")
    families = "care, pilot, l2p, coda, ranpac, slca, normalized, plain"
    assert f"transforms    {families}\n" in dataset_info("vtab")
    assert "transforms    its own\n" in dataset_info("omniglot")


def test_what_is_on_the_disk(tmp_path: Path) -> None:
    realms = {"bird": ["jay"], "fish": ["cod"]}
    record = DatasetRecord(
        name="omnibenchmark1k", classes=2, train_images=3, test_images=2, source="hub:x"
    )
    folder = tmp_path / "omnibenchmark1k"
    for part in ("train/jay", "test/cod"):
        (folder / part).mkdir(parents=True)
    (folder / "train" / "jay" / "1.jpg").write_bytes(bytes(10_000_000))
    record.save(folder)
    page = dataset_info("omnibenchmark1k", tmp_path)
    assert f"on disk       {folder}, 2 files, 0.01 GB" in page
    assert "its record    2 classes, 3 training and 2 test images, from hub:x" in page
    assert "this copy does not say which classes they have" in " ".join(page.split())
    DatasetRecord(**{**record.__dict__, "realms": realms}).save(folder)
    assert "realms        2: bird, fish\n" in dataset_info("omnibenchmark1k", tmp_path)
    assert dataset_table(tmp_path).splitlines()[1].split()[-1] == "omnibenchmark1k"


def test_imported_data(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    details = {"split": "20 % for testing", "numbers": {"a": 1}}
    DatasetRecord(
        name="mine", classes=5, train_images=1000, test_images=20, details=details, source="photos"
    ).save(tmp_path / "mine")
    assert dataset_info("mine", tmp_path).splitlines() == [
        "mine (imported)",
        "classes       5",
        "images        1,000 for training, 20 for testing",
        "split         20 % for testing",
        f'use it        load_benchmark("mine", "B0-Inc10", root="{tmp_path}")',
        f"on disk       {tmp_path}/mine, 1 files, 0.00 GB",
        "its record    5 classes, 1,000 training and 20 test images, from photos",
    ]
    assert dataset_table(tmp_path).splitlines()[-1].split() == [
        "mine",
        "5",
        "1,000",
        "20",
        "mine",
        "(imported)",
    ]
    with pytest.raises(ValueError, match="no data set is called 'mime', did you mean 'mine'"):
        dataset_info("mime", tmp_path)


def test_a_table_of_nothing(tmp_path: Path) -> None:
    lines = dataset_table(tmp_path / "nowhere").splitlines()
    assert lines[0].split() == ["name", "classes", "training", "test", "in", f"{tmp_path}/nowhere"]
    assert [line.split()[0] for line in lines[1:]] == list(CARDS)
