"""Finding runs, and putting together those that differ in their seed only."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from runs import SMALL, made_up, save

from avalanche_care.benchmarks import Protocol
from avalanche_care.experiments.directory import RunDirectory
from avalanche_care.experiments.reporting.cells import Cell, cells
from avalanche_care.experiments.reporting.collect import collect_runs
from avalanche_care.experiments.reporting.run_entry import RunEntry
from avalanche_care.experiments.reporting.variants import deviations, flatten, merge


def entry(result: Any, path: str = "run") -> RunEntry:
    """A complete run that was read from somewhere."""
    identity = {**result.extra, **{f.name: getattr(result, f.name) for f in fields(result)}}
    return RunEntry(Path(path), "complete", identity, result)


def fields(result: Any) -> list[Any]:
    asked = ["method", "config", "benchmark", "protocol", "class_order", "seed", "backbone"]
    return [f for f in dataclasses.fields(result) if f.name in asked]


def test_runs_in_every_state_are_found(tmp_path: Path) -> None:
    done = save(tmp_path / "a" / "deep", made_up(seed=1))
    failed = save(tmp_path / "a", made_up(seed=2), status="failed", error="out of\n memory")
    stopped = save(tmp_path, made_up(seed=3), status="unfinished")
    by_hand = made_up(seed=4).save(tmp_path / "saved" / "care-seed4.json")
    (tmp_path / "saved" / "suite.json").write_text('{"runs": []}')  # of another kind
    (tmp_path / "saved" / "notes.txt").write_text("{")
    (done / "state").mkdir()
    (done / "state" / "latest.json").write_text("{")  # no business of ours
    found = {entry.path: entry for entry in collect_runs(tmp_path)}
    assert {path: entry.status for path, entry in found.items()} == {
        done: "complete",
        failed: "failed",
        stopped: "unfinished",
        by_hand: "complete",
    }
    assert found[failed].error == "out of memory"
    assert found[stopped].state == "unfinished, 3 of 5 tasks done"  # the fourth line is half a line
    assert found[done].result == made_up(seed=1)
    assert len({entry.setting for entry in found.values()}) == 1
    assert {entry.evaluated for entry in found.values()} == {(0, 1, 2, 3, 4)}


def test_a_run_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    run = save(tmp_path / "runs", made_up())
    found = collect_runs([tmp_path, run, tmp_path / "runs" / ".." / "runs"])
    assert [entry.path for entry in found] == [run]
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        collect_runs([tmp_path, tmp_path / "nowhere"])


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    whole = save(tmp_path / "runs", made_up(seed=1))
    text = (whole / "result.json").read_text()
    (whole / "result.json").write_text(text[: len(text) // 2])
    by_hand = tmp_path / "care-seed2.json"
    by_hand.write_text(json.dumps(json.loads(text) | {"A_last": 0.999}))
    edited = save(tmp_path / "runs", made_up(seed=3), status="unfinished")
    config = (edited / "config.json").read_text()
    (edited / "config.json").write_text(config.replace('"epochs": 4', '"epochs": 5'))
    other = tmp_path / "other.json"
    other.write_text('{"format": 1}')
    found = {entry.path: entry for entry in collect_runs([tmp_path, other])}
    assert {entry.status for entry in found.values()} == {"unreadable"}
    assert "result.json is not a JSON file" in found[whole].error
    assert "A_last is 0.999, but the accuracies give" in found[by_hand].error
    assert "edited after it was written" in found[edited].error
    assert found[other].error == "it is not a result file"
    assert cells(list(found.values()))[0].results == []  # the first still says what it was


def test_directories_are_read_as_they_are_written(tmp_path: Path) -> None:
    result = made_up()
    names = [f.name for f in fields(result)]
    identity = {name: getattr(result, name) for name in names} | {"eval_every": 2}
    record = RunDirectory(tmp_path / "run", identity)
    record.open()
    record.log({"task": 0})
    record.close()
    (found,) = collect_runs(tmp_path)
    assert (found.status, found.tasks_done, found.identity) == ("unfinished", 1, identity)
    assert found.evaluated == (1, 3, 4)


def test_seeds_come_together_in_their_order() -> None:
    results = [made_up(seed=seed) for seed in (3, 1, 2)]
    (cell,) = cells([entry(result) for result in results])
    assert cell.results == [results[1], results[2], results[0]]
    assert (cell.variant, cell.left_out, cell.notes) == ("care", 0, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"benchmark": "omniglot"},
        {"protocol": Protocol(4, 2, 10)},
        {"protocol": Protocol(0, 2, 10, class_order_seed=1990)},
        {"backbone": {"name": "glyph_vit_micro", "sha256": "0" * 64}},
        {"config": {"epochs": 5, "lr": 0.01, "brmoe": {"top_k": 3}}},
        {"config": {"epochs": 4, "lr": 0.01, "brmoe": {"top_k": 2}}},
        {"every": 2},
        {"extra": {"test_images": 100}},
        {"extra": {"transforms": "another crop"}},
        {"method": "simplecil"},
    ],
    ids=str,
)
def test_runs_that_differ_otherwise_are_never_averaged(changes: dict[str, Any]) -> None:
    runs = [entry(made_up(seed=1)), entry(made_up(seed=2, **changes))]
    assert [len(cell.runs) for cell in cells(runs)] == [1, 1]


def test_configurations_are_named_by_what_differs_within_a_setting() -> None:
    def run(lr: float, benchmark: str = "glyphs", **more: Any) -> RunEntry:
        return entry(made_up(config={"lr": lr, "sizes": [1, 2], **more}, benchmark=benchmark))

    def names(*runs: RunEntry) -> list[str]:
        return [cell.variant for cell in cells(runs)]

    assert names(run(0.1), run(0.2, "omniglot")) == ["care", "care"]  # settings per data set
    assert names(run(0.1), run(0.2), run(0.2, "omniglot")) == [
        "care (lr=0.1)",
        "care (lr=0.2)",
        "care (lr=0.2)",
    ]
    many = {"a": 1, "b": True, "c": None, "d": "x"}
    other = {"a": 2, "b": False, "c": 3, "d": "y"}
    assert names(run(0.1, **many), run(0.1, **other), run(0.1, "omniglot", **other)) == [
        "care (configuration 1)",
        "care (configuration 2)",
        "care (configuration 2)",
    ]


def test_a_setting_that_is_newer_than_a_run_keeps_no_runs_apart() -> None:
    old, new = {"lr": 0.1}, {"lr": 0.1, "bank": {"dtype": "same"}}
    first, second = made_up(seed=1, config=old), made_up(seed=2, config=new)
    (cell,) = cells([entry(first), entry(second)])
    assert (cell.variant, cell.results) == ("care", [first, second])
    assert cell.notes == ("not recorded in every run: bank.dtype",)
    third = made_up(seed=3, config={"lr": 0.1, "bank": {"dtype": "bfloat16"}})
    apart = cells([entry(first), entry(second), entry(third)])  # which of the two was the first?
    assert [c.variant for c in apart] == [
        "care (bank.dtype=not recorded)",
        "care (bank.dtype=same)",
        "care (bank.dtype=bfloat16)",
    ]


def test_merging_keeps_every_run_once() -> None:
    configs = [flatten(c) for c in ({"a": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, {"a": 2})]
    merged = merge({config: [i] for i, config in enumerate(configs)})
    assert sorted(run for runs, _ in merged.values() for run in runs) == [0, 1, 2, 3]
    assert [sorted(runs) for runs, _ in merged.values()] == [[0, 1, 2], [3]]


def test_of_several_runs_of_a_seed_the_newest_complete_one_counts(tmp_path: Path) -> None:
    old = dataclasses.replace(made_up(seed=1), created="2026-01-01T00:00:00+00:00")
    new = dataclasses.replace(made_up(seed=1, last=0.5), created="2026-02-01T00:00:00+00:00")
    save(tmp_path / "new", new)
    save(tmp_path / "old", old)
    save(tmp_path / "then failed", made_up(seed=1), status="failed")
    save(tmp_path / "another", made_up(seed=2), status="failed", error="killed")
    (cell,) = cells(collect_runs(tmp_path))
    assert cell.results == [new]
    assert [run.status for run in cell.runs] == ["complete", "failed"]
    assert cell.notes == ("seed 1 was run 3 times; the newest complete run is shown",)


def test_a_run_that_failed_says_more_than_one_that_is_not_finished(tmp_path: Path) -> None:
    save(tmp_path / "a", made_up(), status="unfinished")
    save(tmp_path / "b", made_up(), status="failed", error="killed")
    (cell,) = cells(collect_runs(tmp_path))
    assert [run.error for run in cell.runs] == ["killed"]


def test_versions_that_differ_are_noted() -> None:
    runs = [made_up(seed=s, versions={"avalanche_care": f"0.{s}.0"}) for s in (1, 2)]
    (cell,) = cells([entry(run) for run in runs])
    assert cell.notes == ("runs of versions 0.1.0, 0.2.0",)


def test_deviations() -> None:
    config = {"lr": 0.1, "epochs": 4, "brmoe": {"top_k": 3, "old": True}, "betas": [0.9, 0.99]}
    defaults = {"lr": 0.01, "epochs": 4, "brmoe": {"top_k": 2, "new": 1}, "betas": (0.9, 0.99)}
    assert deviations(config, defaults) == [
        "brmoe.old = true (no such setting today)",
        "brmoe.top_k = 3 (default 2)",
        "lr = 0.1 (default 0.01)",
    ]


def test_a_failed_run_without_a_configuration_is_in_no_cell(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "failed.json").write_text('{"error": "no such data set"}')
    found = collect_runs(tmp_path)
    assert [(e.status, e.error, e.setting) for e in found] == [("failed", "no such data set", None)]
    assert cells(found) == []
    assert isinstance(cells([entry(made_up(protocol=SMALL))])[0], Cell)
