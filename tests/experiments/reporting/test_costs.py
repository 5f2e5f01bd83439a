"""Tables of what runs cost."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from runs import made_up, save

from avalanche_care.experiments.report import write_report
from avalanche_care.experiments.reporting.collect import collect_runs
from avalanche_care.experiments.reporting.machines import machine, machines

PHASES = {"phase 1": 50.0, "alignment": 20.0, "phase 2": 25.0}
CPU = {"device": "cpu", "cpu": "Processor", "cores": 2, "threads": 1}
H100 = {"device": "H100", "cpu": "Processor", "cores": 16, "threads": 8}


def timed(seed: int = 1, method: str = "care", **changes: Any) -> Any:
    seconds = {"train": 100.0 + seed, "eval": 20.0, "saving": 0.5, **PHASES}
    seconds = {**seconds, "total": seconds["train"] + seconds["eval"]}
    return made_up(method, seed, **({"seconds": seconds} | changes))


def tables(root: Path) -> Path:
    page = write_report(root / "runs", root / "report", figures=False, defaults=lambda _: None)
    return page.parent / "tables"


def rows(root: Path, part: str) -> dict[str, dict[str, str]]:
    with (tables(root) / f"glyphs-b0-inc2-{part}.csv").open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_seconds_by_phase(tmp_path: Path) -> None:
    for seed in (1, 3):
        save(tmp_path / "runs", timed(seed))
    whole = {"train": 30.0, "eval": 4.0, "prototypes": 30.0, "total": 34.0}
    save(tmp_path / "runs", timed(method="simplecil", seconds=whole))
    old = {"train": 30.0, "eval": 4.0, "total": 34.0}
    save(tmp_path / "runs", timed(method="old", seconds=old))
    save(tmp_path / "runs", timed(method="broken"), status="failed")
    found = rows(tmp_path, "phases")
    care = found["care"]
    for name, seconds in PHASES.items():
        assert float(care[f"training: {name}"]) == seconds
    assert float(care["training: between phases"]) == 102.0 - sum(PHASES.values())
    deviation = float(care["training: between phases, standard deviation"])
    assert deviation == pytest.approx(2**0.5)  # of 101 and 103
    assert (float(care["saving"]), float(care["evaluation"])) == (0.5, 20.0)
    assert care["training: prototypes"] == "–"
    simple = found["simplecil"]
    assert (simple["training: prototypes"], simple["training: phase 1"]) == ("30", "–")
    assert (simple["training: between phases"], simple["saving"]) == ("0", "not recorded")
    assert found["old"]["training: phase 1"] == found["old"]["training: between phases"]
    assert found["old"]["training: phase 1"] == "not recorded"
    assert found["broken"]["training: phase 1"] == "failed"
    parts = [name for name in care if name.startswith("training") and "deviation" not in name]
    summed = sum(float(care[name]) for name in parts if care[name] != "–")
    assert summed == pytest.approx(float(rows(tmp_path, "cost")["care"]["seconds: train"]))


def test_there_is_no_table_of_phases_without_any(tmp_path: Path) -> None:
    save(tmp_path / "runs", made_up())
    assert sorted(path.stem for path in tables(tmp_path).glob("*.csv")) == [
        "glyphs-b0-inc2",
        "glyphs-b0-inc2-cost",
        "glyphs-b0-inc2-definitions",
        "runs",
    ]


def test_images_per_second(tmp_path: Path) -> None:
    save(tmp_path / "runs", timed(2, extra={"evaluated_images_per_second": 123.0}))
    save(tmp_path / "runs", timed(method="old"))
    found = rows(tmp_path, "cost")
    learned, evaluated = "images per second: training set", "images per second: evaluation"
    assert float(found["care"][learned]) == pytest.approx(300 / 102)  # 300 training images
    assert float(found["care"][evaluated]) == 123.0
    assert float(found["old"][learned]) == pytest.approx(300 / 101)
    assert found["old"][evaluated] == "not recorded"


def test_the_size_of_the_state_is_the_last_of_the_log(tmp_path: Path) -> None:
    run = save(tmp_path / "runs", timed())
    events: list[Any] = [{"task": 0, "state_bytes": 2**20}, {"task": 1, "state_bytes": 3 * 2**19}]
    lines = [json.dumps(event) for event in [*events, {"task": 2}, [4]]]
    (run / "events.jsonl").write_text("\n".join([*lines, "{not json", '{"state_bytes": 1']))
    save(tmp_path / "runs", timed(method="mos"))
    assert collect_runs(run)[0].result.extra["state_bytes"] == 3 * 2**19  # type: ignore[union-attr]
    found = rows(tmp_path, "cost")
    assert (found["care"]["state (MiB)"], found["mos"]["state (MiB)"]) == ("1.5", "not recorded")


def test_a_result_knows_its_state_better_than_the_log(tmp_path: Path) -> None:
    run = save(tmp_path / "runs", timed(extra={"state_bytes": 2**21}))
    (run / "events.jsonl").write_text('{"state_bytes": 5}\n')
    assert rows(tmp_path, "cost")["care"]["state (MiB)"] == "2"


def test_means_over_different_machines_are_noted(tmp_path: Path) -> None:
    save(tmp_path / "runs", timed(1, hardware=CPU))
    save(tmp_path / "runs", timed(2, hardware=H100))
    save(tmp_path / "runs", timed(1, method="mos", hardware=CPU))
    for part in ("cost", "phases"):
        found = rows(tmp_path, part)
        note = "over runs of different machines: H100, Processor; Processor, 1 thread"
        assert note in found["care"]["notes"]
        assert "machines" not in found["mos"]["notes"]
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.count("seconds and memory are of different machines") == 2  # cost, phases
    parts = text.split("## glyphs, B0-Inc2, 5 tasks")
    [cost] = [part for part in parts if part.startswith(": time, parameters and memory")]
    care = next(line for line in cost.split("\n") if line.startswith("| care")).split(" | ")
    [mark] = [m[0] for line in cost.split("\n") if "over runs of" in line for m in [line[7:]]]
    assert [mark in cell.partition("<sup>")[2] for cell in care[3:]] == 4 * [True] + 2 * [False]


def test_machines_that_a_run_was_continued_on_count() -> None:
    went_on = timed(extra={"machines": [{"hardware": H100, "versions": {}}]}, hardware=CPU)
    assert machines([went_on]) == ["H100, Processor", "Processor, 1 thread"]
    assert machines([timed(1), timed(2)]) == ["Processor, 1 thread"]
    assert machine({}) == "hardware not recorded"
    assert machine({"device": "cpu"}) == "CPU, unknown threads"
    assert machine({"device": "H100"}) == "H100"
    assert machine(CPU | {"threads": 2}) == "Processor, 2 threads"
