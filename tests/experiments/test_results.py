"""Result files, and the table and figure made from them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from avalanche_care.benchmarks import Protocol
from avalanche_care.experiments.environment import hardware, versions
from avalanche_care.experiments.figures import style
from avalanche_care.experiments.report import accuracy_figure, results_table
from avalanche_care.experiments.results import RunResult

PROTOCOL = Protocol(0, 2, 4)
CORRECT = [[8, 6, 0, 0], [6, 4, 10, 8]]  # of 10 images per class


def result(correct: Any = CORRECT, protocol: Protocol = PROTOCOL, **changes: Any) -> RunResult:
    values: dict[str, Any] = {
        "method": "care",
        "benchmark": "glyphs",
        "protocol": protocol,
        "seed": 0,
        "seconds": {"train": 1.5, "eval": 0.5, "total": 2.0},
        "parameters": {"trainable": 1234, "total": 1234567},
    }
    total = changes.pop("total", [10] * protocol.n_classes)
    return RunResult.from_counts(correct, total, **(values | changes))


def test_accuracies_follow_from_the_counts() -> None:
    made = result()
    assert made.accuracy == pytest.approx([14 / 20, 28 / 40])
    assert made.A_last == pytest.approx(0.7)
    assert made.A_avg == pytest.approx(0.7)
    assert made.forgetting == pytest.approx(0.7 - 0.5)
    assert made.accuracy_matrix == [[pytest.approx(0.7), None], [0.5, pytest.approx(0.9)]]
    np.testing.assert_allclose(made.matrix, [[0.7, np.nan], [0.5, 0.9]])
    assert made.extra["backward_transfer"] == pytest.approx(-0.2)
    assert made.extra["A_avg_over_samples"] == pytest.approx(42 / 60)
    assert made.extra["A_avg_class_mean"] == pytest.approx(0.7)
    assert made.class_order == list(PROTOCOL.class_order)
    assert made.task_sizes == [2, 2]


def test_the_file_holds_what_a_table_needs(tmp_path: Path) -> None:
    path = result().save(tmp_path / "runs" / "care" / "result.json")
    values = json.loads(path.read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity
    needed = "method benchmark protocol seed class_order A_last A_avg forgetting accuracy"
    needed += " accuracy_matrix seconds parameters versions"
    assert set(needed.split()) <= set(values)
    assert values["accuracy_matrix"][0][1] is None
    assert values["protocol"] == "B0-Inc2"


@dataclass(frozen=True)
class Settings:
    lr: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    weights: Path = Path("vit.safetensors")


def test_a_result_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    made = result(
        config=Settings(),
        backbone={"name": "vit", "sha256": "0" * 64},
        hardware=hardware(),
        extra={"loss": np.float32(0.5), "gap": float("nan"), "counts": np.arange(3)},
    )
    assert RunResult.load(made.save(tmp_path / "result.json")) == made
    assert made.config == {"lr": 0.01, "betas": [0.9, 0.99], "weights": "vit.safetensors"}
    assert made.extra["gap"] is None
    assert made.extra["counts"] == [0, 1, 2]


def sparse(steps: list[int], **changes: Any) -> RunResult:
    """Six tasks of one class with 10 test images each, evaluated after some of them."""
    total = [[10 * (t in steps)] * 6 for t in range(6)]
    correct = [[9 - t + j if t in steps and j <= t else 0 for j in range(6)] for t in range(6)]
    return result(correct, Protocol(0, 1, 6), total=total, **changes)


def test_steps_that_were_not_evaluated(tmp_path: Path) -> None:
    made = sparse([1, 3, 5])
    assert made.evaluated == [1, 3, 5]
    # Task j has 9 - t + j of 10 after task t: the mean over j is 9 - t / 2.
    np.testing.assert_allclose(made.curve, [np.nan, 0.85, np.nan, 0.75, np.nan, 0.65])
    assert made.A_last == pytest.approx(0.65)
    assert made.A_avg == pytest.approx((0.85 + 0.75 + 0.65) / 3)
    assert made.accuracy_matrix[2] == [None] * 6
    # Tasks 0 and 1 lose 4/10 from step 1 on, tasks 2 and 3 lose 2/10; 4 and 5 were seen once.
    assert made.forgetting == pytest.approx(0.3)
    path = made.save(tmp_path / "result.json")
    values = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert values["accuracy"][0] is None
    assert RunResult.load(path) == made


def test_what_is_unknown_if_only_the_last_step_was_evaluated(tmp_path: Path) -> None:
    made = sparse([5])
    assert (made.A_last, made.A_avg, made.forgetting) == (pytest.approx(0.65),) * 2 + (None,)
    assert made.extra["forgetting_from_first"] is None
    assert RunResult.load(made.save(tmp_path / "result.json")) == made
    with pytest.raises(ValueError, match=r"forgetting is 0\.0, but the accuracies give None"):
        dataclasses.replace(made, forgetting=0.0)


def test_the_last_step_must_be_there_and_curve_and_matrix_agree() -> None:
    with pytest.raises(ValueError, match="the last step has no test image"):
        sparse([1, 3])
    made = sparse([1, 3, 5])
    with pytest.raises(ValueError, match="accuracy lacks the last step"):
        dataclasses.replace(made, accuracy=[*made.accuracy[:-1], None])
    with pytest.raises(
        ValueError, match=r"accuracy has steps \[3, 5\], accuracy_matrix has \[1, 3"
    ):
        dataclasses.replace(made, accuracy=[None, None, *made.accuracy[2:]])


def test_the_table_says_how_many_steps_were_evaluated() -> None:
    lines = results_table([sparse([*range(6)]), sparse([1, 3, 5]), sparse([5])]).split("\n")
    assert lines[1].split()[:2] == ["method", "evaluated"]
    assert [line[: line.index(" of 6") + 5].split()[1] for line in lines[3:6]] == ["6", "3", "1"]
    assert "unknown" in lines[5]
    assert "unknown" not in lines[3] + lines[4]
    assert "evaluated" not in results_table([sparse([*range(6)])])


def test_figure_of_steps_that_were_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[list[float], list[float]]] = []

    plot = Axes.plot

    def noting(self: Axes, x: Any, y: Any, **kwargs: Any) -> Any:
        shown.append((list(x), list(y)))
        return plot(self, x, y, **kwargs)

    monkeypatch.setattr(Axes, "plot", noting)
    runs = [sparse([1, 3, 5]), sparse([3, 5], seed=1), sparse([5], method="other")]
    accuracy_figure(runs, tmp_path / "curve.png")
    assert shown == [([4, 6], pytest.approx([75.0, 65.0])), ([6], pytest.approx([65.0]))]


COMMITTED = sorted((Path(__file__).parents[2] / "benchmarks" / "results").rglob("*-seed*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_committed_results_are_still_read(path: Path) -> None:
    loaded = RunResult.load(path)
    every, tasks = loaded.extra.get("eval_every", 1), len(loaded.task_sizes)
    assert loaded.evaluated == [*range(every - 1, tasks, every)]


def test_an_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    path = result().save(tmp_path / "result.json")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        result(seed=1).save(path)
    assert RunResult.load(path).seed == 0
    result(seed=1).save(path, overwrite=True)
    assert RunResult.load(path).seed == 1


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = result().save(tmp_path / "result.json")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        result(seed=1).save(path, overwrite=True)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_files_that_are_no_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"

    def write(text: str) -> Path:
        path.write_text(text)
        return path

    good = json.loads(result().save(tmp_path / "good.json").read_text())
    with pytest.raises(FileNotFoundError):
        RunResult.load(tmp_path / "none.json")
    for text, message in (
        ("{", "not a JSON file"),
        ("[1]", "no entry 'format'"),
        ('{"method": "care"}', "no entry 'format'"),
        (json.dumps(good | {"format": 2}), "not of result format 1; .*'avalanche_care'"),
        (json.dumps(good | {"colour": 1}), r"missing: \[\]; entries unknown: \['colour'\]"),
        (json.dumps({k: v for k, v in good.items() if k != "A_avg"}), r"missing: \['A_avg'\]"),
        (json.dumps(good | {"A_avg": 0.9}), r"A_avg is 0\.9, but the accuracies give 0\.7"),
        (json.dumps(good | {"seconds": 3}), "seconds must be a dict that is not empty, got 3"),
        (json.dumps(good | {"accuracy": []}), r"accuracy must be a list that is not empty, got \["),
        (json.dumps(good | {"accuracy_matrix": [3, 4]}), "accuracy_matrix must have 2 rows of 2"),
        (json.dumps(good | {"task_sizes": ["2", "2"]}), r"result\.json: "),
    ):
        with pytest.raises(ValueError, match=message) as error:
            RunResult.load(write(text))
        assert str(path) in str(error.value)


def test_contradictions_are_reported_together() -> None:
    with pytest.raises(ValueError, match="contradicts itself") as error:
        dataclasses.replace(
            result(),
            seconds={"train": 1.0},
            accuracy=[0.7, 70.0],
            task_sizes=[2, 3],
            accuracy_matrix=[[0.7]],
        )
    for start in ("seconds lacks", "accuracy must be", "task_sizes", "accuracy_matrix"):
        assert f"\n- {start}" in str(error.value)


def test_empty_fields_are_reported_together() -> None:
    with pytest.raises(ValueError, match="contradicts itself") as error:
        dataclasses.replace(result(), method="", protocol=PROTOCOL.sizes, versions={})
    for text in ("method must be a str", "protocol must be a str", "versions must be a dict"):
        assert f"\n- {text} that is not empty, got" in str(error.value)


@pytest.mark.parametrize(("name", "wrong"), [("A_last", 0.71), ("A_avg", 70), ("forgetting", None)])
def test_a_summary_that_does_not_follow_is_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is {wrong}, but the accuracies give"):
        dataclasses.replace(result(), **{name: wrong})


def test_values_that_json_cannot_hold_are_named() -> None:
    with pytest.raises(ValueError, match=r"config\.optimizer\.fn is a builtin"):
        result(config={"optimizer": {"fn": len}})
    with pytest.raises(ValueError, match=r"extra\.losses\[1\] is inf"):
        result(extra={"losses": [0.5, float("inf")]})


def test_versions_and_hardware_name_what_matters() -> None:
    found = versions()
    assert set(found) == {
        "python", "avalanche_care", "torch", "torchvision", "timm", "avalanche-lib", "numpy",
    }  # fmt: skip
    assert found["numpy"] == np.__version__
    assert hardware()["device"] == "cpu"
    assert hardware()["threads"] >= 1


def test_table_is_aligned() -> None:
    worse = result([[8, 6, 0, 0], [0, 0, 10, 10]], method="sequential", seconds={"total": 123.4})
    assert results_table([result(), worse]).split("\n") == [
        "==========  ==========  =========  ==============  =======  =========  =========",
        "method      A_last (%)  A_avg (%)  forgetting (%)  seconds  trainable      total",
        "==========  ==========  =========  ==============  =======  =========  =========",
        "care             70.00      70.00           20.00      2.0      1,234  1,234,567",
        "sequential       50.00      60.00           70.00    123.4      1,234  1,234,567",
        "==========  ==========  =========  ==============  =======  =========  =========",
    ]


def test_table_says_in_what_the_results_differ() -> None:
    header = results_table([result(seed=1), result(seed=2)]).split("\n")[1].split()
    assert header[:2] == ["method", "seed"]
    other = result([[9] * 4] * 4, Protocol(0, 1, 4), benchmark="folders")
    header = results_table([result(), other]).split("\n")[1].split()
    assert header[:3] == ["method", "benchmark", "protocol"]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_figure_is_written(tmp_path: Path, ending: str) -> None:
    path = accuracy_figure([result(), result(method="other")], tmp_path / "new" / f"curve.{ending}")
    assert path.stat().st_size > 1000
    if ending == "svg":
        assert "<svg" in path.read_text()


def test_figure_shows_the_curves(tmp_path: Path) -> None:
    same = accuracy_figure([result()], tmp_path / "a.png")
    again = accuracy_figure([result()], tmp_path / "b.png")
    other = accuracy_figure([result([[5, 5, 0, 0], [9, 9, 9, 9]])], tmp_path / "c.png")
    pixels = [np.array(Image.open(path)) for path in (same, again, other)]
    assert (pixels[0] == pixels[1]).all()
    assert pixels[0].shape != pixels[2].shape or (pixels[0] != pixels[2]).any()
    blue = tuple(int(style.COLOURS[0][i : i + 2], 16) for i in (1, 3, 5))
    drawn = (pixels[0][..., :3] == blue).all(axis=-1)
    # 70 % before and after: the line is level, 7/10 of the way up the axes, from the middle on
    rows, columns = np.nonzero(drawn)
    height, width = drawn.shape
    assert drawn.sum() > 500
    assert rows.max() - rows.min() < 0.05 * height
    assert 0.3 * height < np.median(rows) < 0.4 * height
    assert columns.min() > 0.4 * width


def test_figure_of_one_sequence_only(tmp_path: Path) -> None:
    other = result([[9] * 4] * 4, Protocol(0, 1, 4))
    with pytest.raises(ValueError, match="one sequence of tasks, got glyphs B0-Inc1, glyphs B0-In"):
        accuracy_figure([result(), other], tmp_path / "curve.png")
    with pytest.raises(ValueError, match="at least one RunResult"):
        accuracy_figure([], tmp_path / "curve.png")
    with pytest.raises(ValueError, match="at least one RunResult"):
        results_table([])
    assert not list(tmp_path.iterdir())


def test_figure_of_several_seeds_and_many_methods(tmp_path: Path) -> None:
    many = [result(method=f"method {i}", seed=seed) for i in range(9) for seed in range(2)]
    assert accuracy_figure(many, tmp_path / "curve.png").exists()


def test_labels_are_moved_apart_and_no_further() -> None:
    assert style.spread([80.0, 10.0, 50.0], 5.0) == [80.0, 10.0, 50.0]
    assert style.spread([50.0, 51.0], 5.0) == pytest.approx([48.0, 53.0])
    assert style.spread([51.0, 50.0], 5.0) == pytest.approx([53.0, 48.0])
    crowded = [50.0, 50.0, 51.0, 57.0, 90.0]
    moved = style.spread(crowded, 5.0)
    assert (np.diff(moved) >= 5.0 - 1e-9).all()
    assert moved[-1] == 90.0
    assert np.mean(moved[:4]) == pytest.approx(np.mean(crowded[:4]))


def test_figures_leave_matplotlib_as_it_was(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    accuracy_figure([result()], tmp_path / "curve.png")
    assert dict(mpl.rcParams) == before
    code = (
        "import avalanche_care.experiments.report, sys; print('matplotlib.pyplot' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
