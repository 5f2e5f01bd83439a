"""The table of routing recall."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import IN21K, made_up, save

from avalanche_care.benchmarks import Protocol
from avalanche_care.experiments.report import write_report
from avalanche_care.experiments.results import RunResult

OMNI = {
    "benchmark": "omnibenchmark1k",
    "protocol": Protocol(100, 3, 1000),
    "backbone": {"name": IN21K, "sha256": "a" * 64},
}
CONFIG = {"epochs": 4, "lr": 0.01, "brmoe": {"top_k": 3}}


def routed(seed: int = 1, *, blocks: int = 4, m: int = 2, k: int = 3, **changes: Any) -> RunResult:
    random = np.random.default_rng([seed, blocks])
    routing = {
        "router_recall": random.random(blocks).tolist(),
        "expert_recall": random.random(blocks).tolist(),
        "top_m": m,
        "top_k": k,
        "images": 200,
    }
    return made_up(changes.pop("method", "care"), seed, extra={"routing": routing}, **changes)


def rows(root: Path, name: str = "glyphs-b0-inc2", **options: Any) -> list[dict[str, str]]:
    options = {"figures": False, "defaults": lambda _: CONFIG} | options
    page = write_report(root / "runs", root / "report", **options)
    with (page.parent / "tables" / f"{name}-recall.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_recall_is_the_mean_over_seeds(tmp_path: Path) -> None:
    made = [routed(seed) for seed in (1, 2, 3)]
    for result in made:
        save(tmp_path / "runs", result)
    save(tmp_path / "runs", made_up("simplecil"))  # has no routers
    found = rows(tmp_path)
    assert [(row["method"], row["block"], row["n"]) for row in found] == [
        ("care", str(block), "3") for block in (1, 2, 3, 4)
    ]
    for kind, name in (("router_recall", "router recall"), ("expert_recall", "own-expert recall")):
        table = 100 * np.array([result.extra["routing"][kind] for result in made])  # (3, L)
        for block, row in enumerate(found):
            ours = f"{name} (%): ours"
            assert float(row[ours]) == pytest.approx(table[:, block].mean())
            deviation = float(row[f"{ours}, standard deviation"])
            assert deviation == pytest.approx(table[:, block].std(ddof=1))
    assert {row["router recall (%): by chance"] for row in found} == {"40"}  # 2 of 5 tasks
    assert {row["own-expert recall (%): by chance"] for row in found} == {"60"}
    assert "2 of 5 at random; 3 of 5 at random" in found[0]["notes"]
    assert not any("published" in name for name in found[0])
    for path in (tmp_path / "runs").glob("care*"):
        assert path.name in found[0]["runs"]


def test_chance_is_not_above_one(tmp_path: Path) -> None:
    save(tmp_path / "runs", routed(protocol=Protocol(0, 5, 10)))
    row = rows(tmp_path, "glyphs-b0-inc5")[0]
    assert (row["router recall (%): by chance"], row["own-expert recall (%): by chance"]) == (
        "100",
        "100",
    )
    assert "2 of 2 at random" in row["notes"]


def test_seeds_without_recall_are_told(tmp_path: Path) -> None:
    save(tmp_path / "runs", routed(1))
    save(tmp_path / "runs", made_up(seed=2))
    assert "over 1 of 2 runs; the others do not record it" in rows(tmp_path)[0]["notes"]


def test_there_is_no_table_without_routers(tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up())
    with pytest.raises(FileNotFoundError):
        rows(tmp_path)


PAPER = {3: (27.4, 58.4), 6: (40.3, 66.1), 9: (66.8, 76.2), 12: (80.6, 85.8)}  # arXiv 2602.03473
NAMES = ("router recall (%)", "own-expert recall (%)")


def test_the_papers_numbers_stand_beside_ours(tmp_path: Path) -> None:
    save(tmp_path / "runs", routed(blocks=12, **OMNI))
    found = rows(tmp_path, "omnibenchmark1k-b100-inc3")
    for block, row in enumerate(found, 1):
        theirs = PAPER.get(block)
        for i, name in enumerate(NAMES):
            if theirs is None:
                assert row[f"{name}: published"] == row[f"{name}: difference"] == "–"
                continue
            assert float(row[f"{name}: published"]) == theirs[i]
            ours = float(row[f"{name}: ours"])
            assert float(row[f"{name}: difference"]) == pytest.approx(ours - theirs[i])
    assert "published by lou2026care, arXiv 2602.03473" in found[2]["notes"]
    assert float(found[0]["router recall (%): by chance"]) == pytest.approx(100 * 2 / 301)


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": Protocol(0, 10, 1000)},
        {"benchmark": "glyphs"},
        {"protocol": Protocol(100, 3, 400)},  # a part of the data set
        {"backbone": {"name": "vit_tiny_patch16_224.augreg_in21k", "sha256": "a" * 64}},
        {"method": "other"},
        {"m": 3, "k": 2},
    ],
    ids=str,
)
def test_nothing_is_published_of_other_settings(changes: dict[str, Any], tmp_path: Path) -> None:
    result = routed(blocks=12, **(OMNI | changes))
    save(tmp_path / "runs", result)
    name = f"{result.benchmark}-{result.protocol}".lower()
    assert not any("published" in column for column in rows(tmp_path, name)[0])


def test_no_difference_between_other_settings(tmp_path: Path) -> None:
    save(tmp_path / "runs", routed(blocks=12, **OMNI))
    row = rows(tmp_path, "omnibenchmark1k-b100-inc3", defaults=lambda _: {**CONFIG, "lr": 0.1})[2]
    assert float(row["router recall (%): published"]) == 27.4
    assert row["router recall (%): difference"] == "other settings"
    assert "other settings: lr = 0.01 (default 0.1)" in row["notes"]
