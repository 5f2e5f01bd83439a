"""Formulas of state against real tensors and files, and against published counts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from scripts import script

from avalanche_care.nn import BRMoEConfig

state_sizes = script("state_sizes")
VIT_B = state_sizes.Sizes(dim=768, depth=12)


def test_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, picture = tmp_path / "rows.csv", tmp_path / "rows.png"
    tiny = ["--arch", "vit_tiny_patch16_224", "--tasks", "2,9", "--images-per-class", "20"]
    state_sizes.main([*tiny, "--csv", str(table), "--figure", str(picture)])
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 2 * 10
    for row in rows:
        assert int(row["measured_bytes"]) > 0
        error = float(row["difference_percent"])
        assert 0 < error < 5 if row["kind"] == "checkpoint" else error == 0
        if row["released_counted_bytes"]:
            assert row["released_bytes"] == row["released_counted_bytes"]
    assert picture.stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "T = 9, 124 classes" in shown
    assert "300 task routers at once, 12 blocks" in shown


def test_a_bank_in_16_bits_is_predicted() -> None:
    sizes = state_sizes.Sizes(dim=48, depth=2, first=4, bank=2)
    rows = state_sizes.rows_of([5], sizes, BRMoEConfig(bank_dtype="bfloat16"))
    experts = next(row for row in rows if row["kind"] == "experts")
    assert experts["predicted_bytes"] == 2 * 2 * 5 * (2 * 16 * 48 + 16 + 48)
    assert all(abs(r["difference_percent"]) < 1e-9 for r in rows if r["kind"] != "checkpoint")


def test_released_counts_are_the_published_ones() -> None:
    """100 tasks of 10 classes: 90,869,400 numbers; 301 tasks of the long run: 534 million."""
    kinds = ("experts", "routers", "perceptrons")
    by_ten = state_sizes.Sizes(dim=768, depth=12, first=10, per_task=10)
    sizes = state_sizes.released(100, by_ten)
    assert sum(sizes[kind] for kind in kinds) == 4 * 90_869_400
    sizes = state_sizes.released(301, VIT_B)
    assert round(sum(sizes[kind] for kind in kinds) / 4e6) == 534


def test_the_folded_triplets_of_the_long_run() -> None:
    sizes = state_sizes.predicted(301, VIT_B)
    assert sum(sizes[kind] for kind in ("experts", "routers", "perceptrons")) < 4 * 105e6
    assert sizes["class statistics"] / 1000 < 0.55e6


def test_300_routers(capsys: pytest.CaptureFixture[str]) -> None:
    script("sizes_report").print_routers(VIT_B)
    shown = capsys.readouterr().out
    assert f"{12 * 769 * 300 * 301 // 2:,}" in shown  # 416,644,200
    assert f"{12 * 18 * 300 * 301 // 2:,}" in shown  # 9,752,400
