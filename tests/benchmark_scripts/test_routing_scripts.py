"""The scripts that measure the gathering of experts and iterative prediction, at tiny sizes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from scripts import script


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open() as file:
        return list(csv.DictReader(file))


def test_expert_gathering(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, picture = tmp_path / "rows.csv", tmp_path / "rows.png"
    sizes = ["--dim", "32", "--tokens", "5", "--batch", "2", "--tasks", "8,10", "--repeats", "1"]
    script("expert_gathering").main([*sizes, "--csv", str(table), "--figure", str(picture)])
    rows = rows_of(table)
    assert [(row["tasks"], row["mode"]) for row in rows] == [
        (tasks, mode) for tasks in ("8", "10") for mode in ("train", "infer")
    ]
    for row in rows:
        ratio = float(row["dense_seconds"]) / float(row["sparse_seconds"])
        assert float(row["dense_over_sparse"]) == pytest.approx(ratio)
    assert picture.stat().st_size > 5_000
    assert "dense_over_sparse" in capsys.readouterr().out


def test_both_ways_of_the_measured_layer_agree() -> None:
    import torch

    module = script("expert_gathering")
    torch.manual_seed(0)
    layer = module.EitherWay(32)
    for _ in range(9):
        layer.expand(2)
        torch.nn.init.normal_(layer.expert.scale)
    h = torch.randn(4, 5, 32)
    outputs = []
    for layer.dense in (True, False):
        outputs.append(layer.eval()(h, task=8)[0])
    torch.testing.assert_close(*outputs)


def test_iterative_prediction(tmp_path: Path) -> None:
    table, picture = tmp_path / "rows.csv", tmp_path / "rows.png"
    sizes = ["--arch", "vit_tiny_patch16_224", "--tasks", "3", "--batch", "1", "--repeats", "1"]
    script("iterative_prediction").main([*sizes, "--csv", str(table), "--figure", str(picture)])
    plain, shared = rows_of(table)
    assert (plain["implementation"], shared["implementation"]) == ("plain", "shared")
    # Four passes of twelve blocks, of which three share one block and the embedding.
    assert 0.9 < float(shared["gmac_ratio"]) < 0.96
    assert picture.stat().st_size > 5_000
