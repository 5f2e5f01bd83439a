"""From a configuration to a run's directory."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from short_runs import short_run

import avalanche_care
from avalanche_care.experiments import launch
from avalanche_care.experiments.config import BackboneConfig, EvaluationConfig, run_config
from avalanche_care.experiments.directory import OtherRun
from avalanche_care.experiments.estimate import describe_run
from avalanche_care.experiments.launch import read_run, resume, run
from avalanche_care.experiments.suite import Suite, run_suite
from avalanche_care.nn.vit import FrozenViT


def config(**changes: Any) -> Any:
    benchmark = {"name": "glyphs", "protocol": "B0-Inc2", "n_classes": 4}
    return run_config({"method": "simplecil", "benchmark": benchmark, **changes})


def test_a_run_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(config(), tmp_path, progress=False)
    (directory,) = tmp_path.iterdir()
    assert directory.name == config().directory_name
    assert {p.name for p in directory.iterdir()} >= {"config.json", "events.jsonl", "result.json"}
    assert first.extra["transforms"].startswith("glyphs")
    assert set(first.extra["realm_accuracy"])
    assert first.A_last <= first.extra["A_last_top5"] == 1.0  # of four classes

    def never(*args: Any) -> None:
        raise AssertionError("it ran again")

    monkeypatch.setattr(launch, "_run", never)
    assert run(config(), tmp_path) == first
    assert resume(directory) == first


def test_a_result_is_of_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(config(), tmp_path, progress=False)
    (directory,) = tmp_path.iterdir()
    before = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    loaded: list[str] = []
    original = launch.build_backbone

    def other(backbone: BackboneConfig) -> FrozenViT:
        """The weights of another file: the name says so, as if they had been read from there."""
        loaded.append(str(backbone.weights))
        vit = original(dataclasses.replace(backbone, weights=None))
        vit.info = dataclasses.replace(vit.info, sha256="0" * 64)
        return vit

    monkeypatch.setattr(launch, "build_backbone", other)
    elsewhere = config(backbone={"weights": "elsewhere.safetensors"})
    assert config().directory_name == elsewhere.directory_name  # a path is no identity
    with pytest.raises(OtherRun, match=r"holds another run.*\n- backbone.sha256: "):
        run(elsewhere, tmp_path, progress=False)
    report = run_suite(Suite("one", (elsewhere,)), tmp_path, progress=False)
    assert "holds another run" in report.runs[0].error
    assert loaded == ["elsewhere.safetensors"] * 2
    after = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    assert after == before  # no failed.json either
    assert run(config(), tmp_path) == first
    assert [r.before for r in run_suite(Suite("one", (config(),)), tmp_path).runs] == [True]
    assert len(loaded) == 2
    moved = tmp_path / "moved"
    directory.rename(moved)
    monkeypatch.setattr(launch, "build_backbone", original)
    assert resume(moved, progress=False, device="cpu") == first
    (moved / "result.json").write_text("{")
    with pytest.raises(ValueError, match="or remove it and start the run again"):
        resume(moved)


def test_a_dry_run_says_what_is_there(tmp_path: Path) -> None:
    assert "would be made" in describe_run(config(), tmp_path)
    (tmp_path / config().directory_name).mkdir()
    assert "is there: the run would go on" in describe_run(config(), tmp_path)
    run(config(), tmp_path, progress=False)
    assert "the run is complete" in describe_run(config(), tmp_path)


def test_a_directory_is_enough_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avalanche_care.experiments.directory import RunDirectory

    asked = config(evaluation={"batch_size": 3}, settings={"batch_size": 7})
    with monkeypatch.context() as patch:

        def stop(*args: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(RunDirectory, "log", stop)
        with pytest.raises(KeyboardInterrupt):
            run(asked, tmp_path, progress=False)
    directory = tmp_path / asked.directory_name
    assert not (directory / "failed.json").exists()  # to stop is no failure
    assert read_run(directory) == asked
    moved = directory.rename(tmp_path / "elsewhere")
    result = resume(moved, progress=False, evaluation=EvaluationConfig(batch_size=5))
    assert result.extra["eval_mb_size"] == 5
    assert (moved / "result.json").exists()


def test_directories_of_older_versions_go_on(tmp_path: Path) -> None:
    first = run(config(evaluation={"every": 2, "batch_size": 7}), tmp_path, progress=False)
    assert first.extra["eval_every"] == 2
    (directory,) = tmp_path.iterdir()
    path = directory / "config.json"
    noted = json.loads(path.read_text())
    old = noted["details"]["run"]
    evaluation = old.pop("evaluation")
    old |= {"eval_every": evaluation["every"], "eval_mb_size": evaluation["batch_size"]}
    path.write_text(json.dumps(noted))
    asked = config(evaluation={"every": 2, "batch_size": 7})
    assert read_run(directory) == asked
    assert launch.finished(asked, directory) == first
    assert launch.finished(config(evaluation={"every": 1}), directory) is None
    assert resume(directory, progress=False) == first


PUBLISHED = Path(avalanche_care.__file__).parents[1] / "benchmarks" / "results" / "quick" / "runs"


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*-seed1-*")), ids=lambda path: path.name)
def test_runs_of_older_versions_are_found_where_they_are(path: Path) -> None:
    assert read_run(path).directory_name == path.name


def test_a_run_can_be_read_where_its_data_is_not(tmp_path: Path) -> None:
    first = run(config(), tmp_path, progress=False)
    (directory,) = tmp_path.iterdir()
    path = directory / "config.json"
    path.write_text(path.read_text().replace('"name": "glyphs"', '"name": "birds"'))
    assert read_run(directory).benchmark.name == "birds"
    assert resume(directory, progress=False) == first


def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not the directory of a run"):
        resume(tmp_path)
    with pytest.raises(ValueError, match="is not the directory of a run"):
        resume(tmp_path / "none")
    short_run("simplecil", tmp_path / "script")
    with pytest.raises(ValueError, match=r"was made by run_method\(\) in a script"):
        resume(tmp_path / "script")


def test_a_failure_is_noted_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config()
    directory = tmp_path / asked.directory_name
    with pytest.raises(ValueError, match="cannot be used"):
        run(config(device="cuda:77"), tmp_path, progress=False)
    assert not directory.exists()  # nothing was begun

    with monkeypatch.context() as patch:
        from avalanche_care.experiments.learning import Learning

        def fail(self: Any, step: int) -> None:
            raise RuntimeError("the roof fell in")

        patch.setattr(Learning, "_evaluate", fail)
        with pytest.raises(RuntimeError, match="the roof"):
            run(asked, tmp_path, progress=False)
    note = json.loads((directory / "failed.json").read_text())
    assert note["error"] == "RuntimeError: the roof fell in"
    assert "_evaluate" in note["traceback"]
    run(asked, tmp_path, progress=False)
    assert not (directory / "failed.json").exists()
    assert (directory / "result.json").exists()


def test_loggers_of_avalanche(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    wandb = MagicMock(__version__="1")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    asked = config(tensorboard=True, wandb="tests")
    result = run(asked, tmp_path, progress=False)
    events = EventAccumulator(str(tmp_path / asked.directory_name / "tensorboard")).Reload()
    (tag,) = events.Tags()["scalars"]
    assert tag.startswith("Top1_Acc_Seen/eval_phase/test_seen_stream")
    logged = [event.value for event in events.Scalars(tag)]
    assert logged == pytest.approx([a for a in result.accuracy if a is not None])
    wandb.init.assert_called_once()
    assert wandb.init.call_args.kwargs["project"] == "tests"
    assert wandb.init.call_args.kwargs["resume"] == "allow"
    sent = [call.args[0][tag] for call in wandb.log.call_args_list if tag in call.args[0]]
    assert sent == logged


def test_the_installed_wandb_takes_the_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run(config(wandb="tests"), tmp_path, progress=False)
