"""The catalogue of data sets: that it holds together, that the docs agree, where data are kept."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from avalanche_care.benchmarks import CARDS, DatasetCard, Protocol, get_card
from avalanche_care.benchmarks._cache import data_root
from avalanche_care.benchmarks.catalogue import (
    LONG_PROTOCOLS,
    HubSource,
    ManualSource,
    TorchvisionSource,
)

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.rst"
ALL = list(CARDS.values())


@pytest.mark.parametrize("card", ALL, ids=lambda card: card.name)
def test_cards_hold_together(card: DatasetCard) -> None:
    assert CARDS[card.name] is get_card(card.name) is card
    assert card.class_orders[0] == 1993
    assert len(set(card.class_orders)) == len(card.class_orders)
    assert len(set(card.protocols)) == len(card.protocols)
    for protocol in card.protocols:
        tasks = Protocol.parse(protocol, n_classes=card.classes).tasks
        assert card.tasks(protocol) == tasks > 1
    assert card.train_images >= card.classes <= card.test_images
    assert set(card.shuffled) == {"care", "pilot"}
    for folder in (card.folder, *card.other_folders):
        path = PurePosixPath(folder)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert str(path) == folder
    for text in (card.title, card.counts, card.licence, card.citation):
        assert text.strip() == text != ""
        assert "\n" not in text
    assert card.source.url.startswith("https://")


def test_names_folders_and_generators_are_different() -> None:
    for attribute in ("name", "title", "generator", "folder"):
        assert len({getattr(card, attribute) for card in ALL}) == len(ALL)


def test_omnibenchmark_1k_is_that_of_the_paper() -> None:
    card = get_card("omnibenchmark1k")
    assert (card.classes, card.train_images, card.test_images) == (1000, 168_718, 19_849)
    assert [card.tasks(protocol) for protocol in card.protocols] == [100, 151, 200, 301]
    assert card.protocols == LONG_PROTOCOLS
    assert card.class_orders == (1993, 1990, 1996, 1999)
    assert card.source == HubSource("LMMM2025/OmniBenchmark-1K")
    assert card.source.url == "https://huggingface.co/datasets/LMMM2025/OmniBenchmark-1K"
    assert "no derivatives without permission" in card.licence


def test_numbers_of_tasks_in_the_published_tables() -> None:
    published = {
        "cifar100": {"B0-Inc10": 10, "B0-Inc5": 20},
        "imagenet-r": {"B0-Inc20": 10, "B0-Inc10": 20, "B0-Inc5": 40, "B0-Inc4": 50},
        "imagenet-a": {"B0-Inc20": 10, "B0-Inc10": 20, "B0-Inc4": 50},
        "objectnet": {"B0-Inc10": 20, "B0-Inc20": 10, "B0-Inc4": 50},
        "omnibenchmark": {"B0-Inc30": 10, "B0-Inc5": 60},
        "vtab": {"B0-Inc10": 5},
        "cub": {"B0-Inc10": 20, "B0-Inc20": 10},
    }
    for name, protocols in published.items():
        card = get_card(name)
        assert {protocol: card.tasks(protocol) for protocol in card.protocols} == protocols


def test_only_vtab_is_not_shuffled_by_everyone() -> None:
    unshuffled = {card.name: dict(card.shuffled) for card in ALL if not all(card.shuffled.values())}
    assert unshuffled == {"vtab": {"care": True, "pilot": False}}


@pytest.mark.parametrize(
    ("name", "near"), [("ImageNet-R", "imagenet-r"), ("omnibenchmark-1k", "omnibenchmark1k")]
)
def test_a_wrong_name_is_corrected(name: str, near: str) -> None:
    with pytest.raises(
        ValueError, match=f"called '{name}', did you mean '{near}'.; there are omni"
    ):
        get_card(name)
    with pytest.raises(ValueError, match="no data set is called 'xyzzy'; there are"):
        get_card("xyzzy")


def test_the_catalogue_imports_nothing_heavy() -> None:
    code = (
        "from avalanche_care.benchmarks import CARDS, get_card, DatasetCard, DatasetRecord;"
        "from avalanche_care.benchmarks._cache import data_root;"
        "import sys; print(sorted({'torch', 'numpy', 'platformdirs'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_where_the_data_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AVALANCHE_CARE_DATA", raising=False)
    assert data_root() == tmp_path / ".avalanche_care" / "data"
    monkeypatch.setenv("AVALANCHE_CARE_DATA", "")
    assert data_root() == tmp_path / ".avalanche_care" / "data"
    monkeypatch.setenv("AVALANCHE_CARE_DATA", "~/elsewhere")
    assert data_root() == tmp_path / "elsewhere"
    assert data_root("~/here") == tmp_path / "here"
    assert data_root(Path("/there")) == Path("/there")
    assert not list(tmp_path.iterdir())


def table(title: str) -> list[dict[str, str]]:
    """Rows of the list-table of that title in the docs, as column -> text."""
    text = DOCS.read_text(encoding="utf-8")
    body = text.split(f".. list-table:: {title}\n", 1)[1]
    lines = []
    for line in body.splitlines():
        if line and not line.startswith(" "):
            break
        lines.append(line)
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("   * -"):
            rows.append([line[7:].strip()])
        elif line.startswith("     -"):
            rows[-1].append(line[7:].strip())
        elif line.startswith("       ") and rows:
            rows[-1][-1] += " " + line.strip()
    head, *others = rows
    return [dict(zip(head, row, strict=True)) for row in others]


def source_words(card: DatasetCard) -> str:
    if isinstance(card.source, HubSource):
        return f"hub, `{card.source.repo_id} <{card.source.url}>`_"
    if isinstance(card.source, TorchvisionSource):
        return f"torchvision, `{card.source.cls} <{card.source.url}>`_"
    return "by hand, PILOT_"


def test_the_docs_agree_with_the_catalogue() -> None:
    rows = {row["Name"].strip("`"): row for row in table("Data sets")}
    assert list(rows) == [*CARDS, "glyphs"]
    for card in ALL:
        row = rows[card.name]
        assert row["Generator"] == f"``{card.generator}``"
        assert row["Data set"] == card.title
        assert row["Folder"] == f"``{card.folder}``"
        assert row["Classes"] == f"{card.classes:,}"
        assert row["Images"] == f"{card.train_images:,} + {card.test_images:,}"
        assert row["Protocols (tasks)"] == ", ".join(
            f"{protocol} ({card.tasks(protocol)})" for protocol in card.protocols
        )
        assert row["Source"] == source_words(card)


def test_the_docs_have_every_licence_and_link() -> None:
    text = DOCS.read_text(encoding="utf-8")
    rows = {row["Name"].strip("`"): row for row in table("Terms")}
    assert list(rows) == list(CARDS)
    for card in ALL:
        assert rows[card.name]["Licence"] == card.licence
        assert rows[card.name]["Counts from"] == card.counts
        assert rows[card.name]["Notes"] == card.notes
        if isinstance(card.source, ManualSource):
            assert f".. _PILOT: {card.source.url}\n" in text


def test_the_docs_spell_out_the_transforms() -> None:
    from avalanche_care.benchmarks.transforms import available_transform_families, transform_family

    listed: dict[str, dict[str, tuple[str, str]]] = {}
    for row in table("Transforms"):
        words = (row["Training"], row["Evaluation"])
        listed.setdefault(row["Family"].strip("`"), {})[row["Data set"].strip("`")] = words
    assert list(listed) == list(available_transform_families())
    for name, rows in listed.items():
        usual = rows.pop("others" if len(rows) > 1 else "all")
        for card in ALL:
            family = transform_family(name, card.name)
            expected = rows.pop(card.name, usual)
            assert (family.train_words, family.eval_words) == expected
        assert rows == {}


def test_the_docs_name_every_option() -> None:
    from avalanche_care.benchmarks import BenchmarkOptions

    text = DOCS.read_text(encoding="utf-8")
    assert [n for n in BenchmarkOptions.__annotations__ if not re.search(rf"``{n}\b", text)] == []
