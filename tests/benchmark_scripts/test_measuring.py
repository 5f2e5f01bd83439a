"""What the measuring scripts share."""

from __future__ import annotations

import csv
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import torch
from scripts import BENCHMARKS, script

measuring = script("measuring")


def test_side_by_side_takes_turns() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = measuring.side_by_side(calls, repeats=3, device="cpu", warm_up=2)
    assert order == ["a", "b"] * 5
    assert set(seconds) == {"a", "b"}


def test_memory_on_the_cpu() -> None:
    def call() -> None:
        _ = torch.zeros(1000) + 1

    assert measuring.peak_bytes(call, "cpu") == 8000
    with measuring.memory_counter("cpu") as memory:
        kept = torch.zeros(500)
        call()
        assert memory.live == kept.nbytes
    assert memory.peak == 10_000


def test_rows_replace_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.csv"
    for value in (1.5, 2.5):
        measuring.write_csv(path, [{"a": value, "b": "x"}], "cpu")
    (row,) = csv.DictReader(path.open())
    assert row["a"] == "2.5"
    assert row["torch"] == metadata.version("torch")
    assert [p.name for p in path.parent.iterdir()] == ["rows.csv"]


def test_figures_without_a_display(tmp_path: Path) -> None:
    figure, panels = measuring.new_figure(1, 2)
    panels[0].set(xscale="log", yscale="log")
    for panel in panels:
        panel.plot([2, 10, 301], [0.5, 1, 4])
    measuring.finish_panel(panels[0], title="t", x="x", y="y", ticks=[2, 10, 301])
    measuring.finish_panel(panels[1], title="t", x="x", y="y")
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["2", "10", "301"]
    measuring.save_figure(figure, tmp_path / "new" / "picture.png")
    assert (tmp_path / "new" / "picture.png").stat().st_size > 1000


def test_numbers() -> None:
    assert measuring.numbers("10,2,10") == [2, 10]


def test_the_scripts_never_import_avalanche() -> None:
    code = "import brmoe_scaling, state_sizes, sys; print('avalanche' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=BENCHMARKS
    )
    assert run.stdout.split() == ["False"]
