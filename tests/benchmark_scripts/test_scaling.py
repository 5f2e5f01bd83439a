"""The script that times the network against the number of tasks, and the estimate of a run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from scripts import script

brmoe_scaling = script("brmoe_scaling")
long_run = script("long_run")
scaling_report = script("scaling_report")
TINY = ["--arch", "vit_tiny_patch16_224", "--blocks", "1", "--batch", "2", "--repeats", "1"]


def test_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, picture = tmp_path / "new" / "rows.csv", tmp_path / "rows.png"
    files = ["--csv", str(table), "--figure", str(picture)]
    brmoe_scaling.main([*TINY, "--tasks", "2,8", "--dense-up-to", "2", *files])
    rows = list(csv.DictReader(table.open()))
    keys = {(r["implementation"], r["tasks"], r["mode"]) for r in rows}
    assert len(rows) == len(keys) == 3 * 2 * 2
    for row in rows:
        beyond = row["implementation"] == "dense" and row["tasks"] == "8"
        assert ("not run: beyond --dense-up-to" in row["note"]) == beyond
        for key in ("seconds", "peak_bytes", "images_per_second", "model_bytes"):
            assert (row[key] == "") == beyond
            assert beyond or float(row[key]) > 0
        saved = row["mode"] == "train" and not beyond
        assert (row["saved_bytes"] != "") == saved
        assert not saved or int(row["saved_bytes"]) < int(row["peak_bytes"])
        if row["implementation"] == "floor":
            assert float(row["seconds_to_floor"]) == float(row["memory_to_floor"]) == 1
        if row["tasks"] == "2":
            assert float(row["seconds_to_fewest"]) == float(row["memory_to_fewest"]) == 1
        assert row["cpu"]
        assert row["torch"]
    assert picture.stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "peak memory, dense / ours, T=2" in shown
    assert "seconds, ours, T=8 / T=2" in shown


def options(*more: str) -> Any:
    return brmoe_scaling.parse([*TINY, *more])


def test_dense_is_refused_where_it_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = brmoe_scaling.setting(options())
    need = shared.dense_bytes(50, "train")
    assert need > shared.dense_bytes(50, "infer") > 0
    for free, fits in ((2 * need, False), (4 * need, True), (None, True)):
        monkeypatch.setattr(brmoe_scaling.measuring, "free_bytes", lambda _, free=free: free)
        note = shared.refusal("dense", 50, "train")
        assert note == ("" if fits else f"not run: does not fit, would take {need / 1e9:.1f} GB")
        assert shared.refusal("ours", 50, "train") == ""


def test_networks_share_the_backbone_and_train_what_they_should() -> None:
    torch.manual_seed(0)
    shared = brmoe_scaling.setting(options())
    cases = {name: shared.case(name, 3) for name in ("ours", "dense", "floor")}
    trained = {
        name: sum(p.numel() for p in case.network.parameters() if p.requires_grad)
        for name, case in cases.items()
    }
    assert trained["ours"] == trained["dense"]
    assert trained["floor"] == 2 * 64 * 192 + 64 + 4 * 192 + 9 * 192  # adapter, head of 9 classes
    for case in cases.values():
        assert case.network.backbone is shared.backbone
        before = [p.detach().clone() for p in case.network.parameters()]
        case.train()
        case.train()
        moved = [
            (p - b).abs().max() for p, b in zip(case.network.parameters(), before, strict=True)
        ]
        assert max(moved) < 1e-5  # timing it more often does not change what is timed


def test_samples_select_different_experts() -> None:
    torch.manual_seed(0)
    shared = brmoe_scaling.setting(options("--batch", "8"))
    layer = shared.case("dense", 24).network.layers[0]
    found = []

    def watch(rows: torch.Tensor, logits: Any, task: Any) -> torch.Tensor:
        found.append(type(layer).gates(layer, rows, logits, task))
        return found[-1]

    layer.gates = watch
    h = shared.backbone.vit._pos_embed(shared.backbone.vit.patch_embed(shared.images))
    layer(h + torch.randn(8, 1, 192))
    used = found[0] > 1e-3
    assert used.sum(1).float().mean() > 4  # M K = 6 unless routers agree
    assert used.any(0).sum() > 8


def test_unknown_implementations_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("--implementations", "ours,fast")
    assert "got ['fast']" in capsys.readouterr().err


def test_parts_of_the_long_run() -> None:
    """With a second per image or step, the parts are the numbers of images and steps."""
    parts = long_run.estimate(lambda _: 1.0, lambda _: 1.0, lambda _: 1.0)
    assert parts["training"] == pytest.approx(20 * 168_718)
    assert parts["statistics"] == pytest.approx(168_718 * (0.1 + 2 * 0.9))
    assert parts["evaluation"] == pytest.approx(19.849 * sum(range(100, 1001, 3)))
    assert parts["alignment"] == 992_700  # 2 * 3 epochs * sum of 103, 106, ..., 1000


def test_seconds_follow_the_measured_points() -> None:
    value = long_run.on_lines([(2, 1.0), (10, 3.0), (100, 3.0)])
    assert [value(t) for t in (2, 6, 10, 55, 100, 301)] == [1.0, 2.0, 3.0, 3.0, 3.0, 3.0]
    assert long_run.on_lines([(2, 1.0), (10, 3.0)])(14) == 4.0
    assert long_run.on_lines([(10, 3.0)])(301) == 3.0


def test_the_estimate_says_what_is_extrapolated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(long_run, "alignment_step", lambda dim, device: lambda classes: 1e-3)
    rows = [
        {"implementation": name, "tasks": tasks, "mode": mode, "seconds": 3.6, "batch": 4,
         "arch": "a", "blocks": "all", "amp": "none"}
        for name, most in (("ours", 301), ("dense", 100))
        for tasks in (2, most)
        for mode in ("train", "infer")
    ]  # fmt: skip
    rows.append({**rows[-1], "tasks": 301, "seconds": ""})
    long_run.print_estimate(rows, dim=8, device="cpu")
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert float(lines["ours"].split()[1]) == pytest.approx(20 * 168_718 * 0.9 / 3600, rel=1e-3)
    assert "extrapolated" not in lines["ours"]
    assert "extrapolated from T=100" in lines["dense"]


def test_alignment_is_measured() -> None:
    step = long_run.alignment_step(8, "cpu")
    assert step(100) > 0
    assert step(1000) > 0
