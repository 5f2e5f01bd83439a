"""The measuring script for evaluations: both ways are measured and count the same."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from scripts import script

evaluation = script("evaluation")


def test_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, picture = tmp_path / "rows.csv", tmp_path / "rows.png"
    sizes = ["--tasks", "9,11", "--workers", "0", "--images", "2", "--batch", "4", "--repeats", "1"]
    evaluation.main([*sizes, "--csv", str(table), "--figure", str(picture)])
    rows = list(csv.DictReader(table.open()))
    ways = [(row["implementation"], row["tasks"], row["loaders"]) for row in rows[:4]]
    assert ways == [
        ("one pass", "9", "1"),
        ("per task", "9", "9"),
        ("one pass", "11", "1"),
        ("per task", "11", "11"),
    ]
    assert [row["images"] for row in rows[:4]] == ["18", "18", "22", "22"]
    assert all(float(row["ratio"]) > 0 for row in rows)
    calls = {(row["implementation"], row["tasks"]): int(row["calls"]) for row in rows[4:]}
    assert {name for name, _ in calls} >= {"care", "simplecil", "finetune"}
    for name, _ in calls:
        assert calls[name, "11"] == pytest.approx(calls[name, "9"], rel=0.01)
    assert "data loaders: per task 45,451, one pass 301" in capsys.readouterr().out
    assert picture.stat().st_size > 1000


def test_too_few_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluation.main(["--tasks", "8,9"])
    assert "--tasks must be more than 8" in capsys.readouterr().err


def test_answers_that_differ_are_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = evaluation.CILBenchmark.seen_stream.func
    late = property(lambda benchmark: [None, *stream(benchmark)])
    monkeypatch.setattr(evaluation.CILBenchmark, "seen_stream", late)
    with pytest.raises(RuntimeError, match="the two ways of evaluating disagree"):
        evaluation.main(["--tasks", "9", "--workers", "0", "--images", "1", "--repeats", "1"])
