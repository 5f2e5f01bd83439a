"""Realms: reading them, matching them with classes, and what they do to a result."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from avalanche_care.benchmarks.realms import OMNIBENCHMARK_REALMS, read_realms, realm_classes

ZOO = {"bird": ["jay", "wren"], "fish": ["cod"]}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_21_realms() -> None:
    assert len(OMNIBENCHMARK_REALMS) == len(set(OMNIBENCHMARK_REALMS)) == 21
    assert list(OMNIBENCHMARK_REALMS) == sorted(OMNIBENCHMARK_REALMS)
    assert {"aquatic_vertebrate", "geological_formation", "bird"} <= set(OMNIBENCHMARK_REALMS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("realms.json", json.dumps(ZOO)),
        ("realms.JSON", json.dumps(ZOO, indent=2)),
        ("realms.csv", "jay,bird\nwren,bird\ncod,fish\n"),
        ("realms.csv", "class,realm\njay,bird\nwren,bird\ncod,fish"),
        ("realms.csv", "Realm,images,Class\r\nbird,3,jay\r\nbird,4,wren\r\nfish,5,cod\r\n"),
        ("realms.csv", "\ufeffclass,realm\njay, bird \n\nwren,bird\ncod,fish\n\n"),
        ("realms.txt", '"jay","bird"\n"wren", "bird"\ncod,fish\n'),
    ],
)
def test_reading(tmp_path: Path, name: str, text: str) -> None:
    assert read_realms(written(tmp_path / name, text)) == ZOO


def test_names_may_have_commas_and_any_letters(tmp_path: Path) -> None:
    path = written(tmp_path / "realms.csv", '"jay, blue",Vögel\n鳥,Vögel\n')
    assert read_realms(path) == {"Vögel": ["jay, blue", "鳥"]}
    assert read_realms(str(path)) == read_realms(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.json", "{", r"r\.json is not a JSON file"),
        ("r.json", '["jay"]', r'expected \{"realm": \["class", \.\.\.\], \.\.\.\}, got a list'),
        ("r.json", '{"bird": "jay"}', "but 'bird' has no list of texts"),
        ("r.json", '{"jay": {"realm": "bird"}}', "but 'jay' has no list of texts"),
        ("r.json", '{"bird": ["jay", 3]}', "but 'bird' has no list of texts"),
        ("r.json", "{}", r"r\.json names no class"),
        ("r.json", '{"bird": []}', r"r\.json names no class"),
        (
            "r.json",
            '{"bird": ["jay"], "fish": ["jay"]}',
            r"r\.json, realm 'fish': the class 'jay' is already in the realm 'bird'",
        ),
        # A dictionary would have lost the first of these.
        ("r.json", '{"bird": ["jay"], "bird": ["wren", "jay"]}', "'jay' is already in the realm"),
        ("r.csv", "", r"r\.csv names no class"),
        ("r.csv", "class,realm\n", r"r\.csv names no class"),
        ("r.csv", "jay,bird\nwren\n", r"r\.csv, line 2: expected a class and a realm, got 'wren'"),
        ("r.csv", "class,realm\njay,\n", r"r\.csv, line 2: expected a class and a realm"),
        ("r.csv", "jay,bird\ncod,fish\njay,bird\n", r"line 3: the class 'jay' is already in"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_realms(written(tmp_path / name, text))


def test_no_text_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "realms.csv").write_bytes(b"\xff\xfe\x00jay")
    with pytest.raises(ValueError, match="is not a text file in UTF-8"):
        read_realms(tmp_path / "realms.csv")
    with pytest.raises(FileNotFoundError, match=r"no such file of realms: .*none\.json"):
        read_realms(tmp_path / "none.json")


def test_two_lists_of_one_realm_are_one(tmp_path: Path) -> None:
    path = written(tmp_path / "r.json", '{"bird": ["jay"], "fish": ["cod"], "bird": ["wren"]}')
    assert read_realms(path) == ZOO


def test_indices_of_the_classes(caplog: pytest.LogCaptureFixture) -> None:
    assert realm_classes(ZOO, ["wren", "cod", "jay"]) == {"bird": [0, 2], "fish": [1]}
    assert caplog.records == []
    with caplog.at_level(logging.WARNING):
        found = realm_classes(ZOO, ["ant", "wren", "bee", "cod", "jay"])
    assert found == {"bird": [1, 4], "fish": [3]}
    assert "2 classes are in no realm: ant, bee" in caplog.text


def test_classes_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="2 classes that the data do not have: jay, wren") as error:
        realm_classes(ZOO, ["cod", "jays"])
    assert str(error.value).endswith("for the first, did you mean 'jays'?")


def test_a_result_has_the_accuracy_of_every_realm_and_the_transforms() -> None:
    # Here, because these take seconds to import and nothing else needs them.
    import torch
    from tiny import tiny_images, tiny_vit

    from avalanche_care.benchmarks import Protocol, class_incremental
    from avalanche_care.experiments import run_method

    # Test images of classes 0 and 4 show other classes, so their realms suffer for it.
    train, test = tiny_images(6), tiny_images(6, per_class=4, split=1)
    images, labels = test.tensors
    shown = torch.tensor([3, 1, 2, 3, 0, 5])[labels]
    images[:] = tiny_images(6, per_class=4, split=2).tensors[0][shown * 4]
    # One image of class 5 as well: the four of it weigh as much as those of any other class.
    images[labels.tolist().index(5)] = train.tensors[0][0]
    realms = {"wrong": [0, 4], "half": [0, 1], "most": [5, 2], "right": [2, 3]}

    def run(**words: Any) -> dict[str, Any]:
        protocol = Protocol.parse("B0-Inc2", n_classes=6)
        benchmark = class_incremental(train, test, protocol, name="tiny", **words)
        return run_method("simplecil", benchmark, tiny_vit(), progress=False).extra  # type: ignore[return-value]

    extra = run(realms=realms, transforms="none at all")
    assert extra["realm_accuracy"] == {"wrong": 0.0, "half": 0.5, "most": 7 / 8, "right": 1.0}
    assert extra["transforms"] == "none at all"
    assert run().keys() == extra.keys() - {"realm_accuracy", "transforms"}
