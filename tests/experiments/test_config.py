"""Configurations from plain values: defaults, presets, and everything wrong at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import wrong_settings

from avalanche_care import CaREConfig
from avalanche_care.benchmarks import DatasetRecord
from avalanche_care.checked import ConfigError
from avalanche_care.experiments.config import RunConfig, read_toml, run_config, run_type
from avalanche_care.experiments.typed import from_plain
from avalanche_care.nn import BRMoEConfig
from avalanche_care.strategies.care_presets import PRESETS
from avalanche_care.strategies.registry import available_methods


@pytest.mark.parametrize("method", sorted(available_methods()))
def test_a_name_is_enough(method: str) -> None:
    config = run_config({"method": method})
    assert config.settings == available_methods()[method].config()
    assert config == dataclasses.replace(config)
    assert isinstance(config, RunConfig)


def test_values_are_written_over_the_defaults() -> None:
    config = run_config(
        {
            "method": "care",
            "seed": 7,
            "settings": {"lr": 1, "brmoe": {"top_k": 5}},
            "benchmark": {"name": "vtab", "protocol": "B0-Inc3"},
        }
    )
    assert config.settings == CaREConfig(lr=1.0, brmoe=BRMoEConfig(top_k=5))
    assert isinstance(config.settings.lr, float)
    assert (config.seed, config.benchmark.protocol, config.benchmark.class_order) == (
        7,
        "B0-Inc3",
        "published",
    )


def test_the_preset_of_the_benchmark_is_the_default() -> None:
    benchmark = {"name": "omnibenchmark1k", "protocol": "B100-Inc3"}
    values: dict[str, Any] = {"method": "care", "benchmark": benchmark}
    assert run_config(values).settings == CaREConfig.preset("omnibenchmark1k/B100-Inc3")
    changed = run_config({**values, "settings": {"lr": 0.5}}).settings
    assert changed == CaREConfig.preset("omnibenchmark1k/B100-Inc3", lr=0.5)
    assert run_config({**values, "settings": {"preset": "none"}}).settings == CaREConfig()
    named = {**values, "settings": {"preset": "vtab/B0-Inc10"}}
    assert run_config(named).settings == CaREConfig.preset("vtab/B0-Inc10")
    assert set(CaREConfig.presets()) == set(PRESETS)
    with pytest.raises(ValueError, match="did you mean 'vtab/B0-Inc10'"):
        run_config({**values, "settings": {"preset": "vtab/B0-Inc1"}})
    with pytest.raises(ValueError, match="SimpleCILConfig has no presets"):
        run_config({"method": "simplecil", "settings": {"preset": "vtab/B0-Inc10"}})


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({}, ["method: is missing"]),
        ({"method": "car"}, ["method: there is no method 'car'; did you mean 'care'?"]),
        (
            {"method": "care", "sed": 1, "benchmark": {"nam": 1}, "settings": {"brmoe": {"k": 1}}},
            [
                "sed: there is no such setting; did you mean 'seed'?",
                "benchmark.nam: there is no such setting; did you mean 'name'?",
                "settings.brmoe.k: there is no such setting; expected some of ['bank_dtype",
            ],
        ),
        (
            {"method": "care", "seed": "1", "settings": {"epochs": 1.5, "soft_from_block": "x"}},
            [
                "seed: must be a valid integer, got '1'",
                "settings.epochs: must be a valid integer, got 1.5",
                "settings.soft_from_block: must be a valid integer, got 'x'",
            ],
        ),
        (
            {"method": "care", "settings": {"lr": -1, "epochs": 0}},
            ["settings.lr: must be", "settings.epochs: must be"],
        ),
        ({"method": "care", "settings": 3}, ["settings: must be a table, got 3"]),
        ({"method": "care", "benchmark": "glyphs"}, ["benchmark: must be a table, got 'glyphs'"]),
        (
            {"method": "care", "seed": -1, "evaluation": {"every": 0, "batch_size": 0}},
            ["seed: must be", "evaluation.every: must be", "evaluation.batch_size: must be"],
        ),
        (
            {"method": "care", "eval_every": 2, "eval_mb_size": 2, "evaluation": {"evry": 2}},
            [
                "eval_every: there is no such setting; did you mean 'evaluation.every'?",
                "eval_mb_size: there is no such setting; did you mean 'evaluation.batch_size'?",
                "evaluation.evry: there is no such setting; did you mean 'every'?",
            ],
        ),
        (
            {"method": "care", "benchmark": {"class_order": "x"}},
            ["benchmark.class_order: must be a seed"],
        ),
    ],
)
def test_everything_wrong_is_said_at_once(values: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"run\.toml cannot be used") as info:
        run_config(values, where="run.toml")
    assert len(info.value.problems) == len(lines)
    for line in lines:
        assert [problem for problem in info.value.problems if problem.startswith(line)], line


def test_what_cannot_change_a_number_is_not_part_of_the_identity() -> None:
    plain = run_config({"method": "care", "benchmark": {"name": "vtab"}})
    local = {
        "device": "cuda",
        "num_workers": 4,
        "evaluation": {"batch_size": 3},
        "save_every": 0,
        "save_every_phase": True,
        "benchmark": {"name": "vtab", "root": "x", "cache_eval": True},
        "backbone": {"weights": "y", "compile": True},
    }
    same = run_config({"method": "care", **local})
    assert same.identity() == plain.identity()
    assert same.directory_name == plain.directory_name
    change: dict[str, Any]
    for change in (
        {"seed": 2},
        {"evaluation": {"every": 2}},
        {"settings": {"lr": 0.5}},
        {"settings": {"brmoe": {"top_k": 2}}},
        {"benchmark": {"protocol": "B0-Inc5"}},
        {"benchmark": {"class_order": 1990}},
        {"benchmark": {"packed": True}},
        {"backbone": {"img_size": 32}},
    ):
        changed = {**change, "benchmark": {"name": "vtab", **change.get("benchmark", {})}}
        assert run_config({"method": "care", **changed}).directory_name != plain.directory_name


def test_options_of_the_benchmark() -> None:
    def options(**values: Any) -> dict[str, Any]:
        return run_config({"method": "care", "benchmark": values}).benchmark.options()

    assert options() == {}
    assert options(class_order=1990, n_classes=50) == {"class_order_seed": 1990, "n_classes": 50}
    assert options(class_order="natural") == {"class_order_seed": None}


def test_toml(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('method = "care"\nseed = 3\n[settings.brmoe]\ntop_k = 2\n')
    config = run_config(read_toml(path))
    assert (config.seed, config.settings.brmoe.top_k) == (3, 2)
    path.write_text("method = care\n")
    with pytest.raises(ValueError, match=r"run.toml is not a TOML file: .*line 1"):
        read_toml(path)
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("values", "lines"), wrong_settings.one_right(wrong_settings.RUN), ids=["", *wrong_settings.RUN]
)
def test_every_problem_is_reported_once(values: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(ConfigError, match="the run cannot be used") as info:
        run_config(wrong_settings.nested({"method": "care", **values}))
    wrong_settings.check(list(info.value.problems), lines)


def test_without_the_method_the_rest_is_looked_at() -> None:
    wrong = {name: entry for name, entry in wrong_settings.RUN.items() if "epochs" not in name}
    others = {name: entry for name, entry in wrong.items() if not name.startswith("settings")}
    values = {name: entry.value for name, entry in wrong.items()}
    for method, line in (
        ({"method": "car"}, "method: there is no method 'car'; did you mean 'care'?"),
        ({"method": 3}, "method: must be a valid string, got 3"),
        ({"method": None}, "method: must be a valid string, got None"),
        ({}, "method: is missing; 'avalanche-care methods' lists them"),
    ):
        with pytest.raises(ConfigError) as info:
            run_config(wrong_settings.nested({**method, **values}))
        lines = [line, *(entry.line for entry in others.values())]
        wrong_settings.check(list(info.value.problems), lines)


def test_presets_that_there_are_not() -> None:
    def problems(preset: Any, method: str = "care", **settings: Any) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as info:
            run_config({"method": method, "settings": {"preset": preset, **settings}})
        return info.value.problems

    first, second = problems("vtab/B0-Inc1", epochs=0)
    assert first.startswith("settings.preset: there is no CaRE preset 'vtab/B0-Inc1'; did you mean")
    assert second == "settings.epochs: must be positive, got 0"
    assert problems(3) == ("settings.preset: must be the name of a preset, got 3",)
    assert problems("x", "simplecil") == (
        "settings.preset: SimpleCILConfig has no presets, got 'x'",
    )


@pytest.mark.parametrize(
    ("benchmark", "lines"),
    [
        (
            {"name": "cifar100", "protocol": "B0-Inc200", "transforms": "cares"},
            ["benchmark: increment=200 is more", "benchmark.transforms: "],
        ),
        (
            {"name": "glyphs", "packed": True, "n_classes": 2000},
            ["benchmark: glyphs has images and trans", "benchmark: glyphs has 1000 classes, got"],
        ),
        ({"name": "folders"}, ["benchmark.name: for two directories of your own call"]),
        ({"name": 3, "protocol": "B0-Inc2000"}, ["benchmark.name: must be a valid string, got 3"]),
        ({"protocol": "B0-Inc0"}, ["benchmark.protocol: increment must be an integer of at least"]),
        ({"class_order": -1}, ["benchmark.class_order: must be a seed, 'natural' or"]),
        (
            {"class_order": 1.5},
            ["benchmark.class_order: must be a valid integer or a valid string, got 1.5"],
        ),
        ({"n_classes": 0}, ["benchmark.n_classes: must be at least 1, got 0"]),
    ],
)
def test_what_can_be_told_without_the_data(benchmark: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(ConfigError) as info:
        run_config({"method": "simplecil", "benchmark": benchmark})
    wrong_settings.check(list(info.value.problems), lines)


def test_imported_data_is_known(tmp_path: Path) -> None:
    values = {"method": "simplecil", "benchmark": {"name": "birds", "root": str(tmp_path)}}
    with pytest.raises(ConfigError, match=r"benchmark\.name: no benchmark is called 'birds'"):
        run_config(values)
    (tmp_path / "birds").mkdir()
    record = DatasetRecord(
        name="birds", classes=30, train_images=300, test_images=60, source="a friend"
    )
    record.save(tmp_path / "birds")
    assert run_config(values).benchmark.name == "birds"
    with pytest.raises(ConfigError, match="birds has 30 classes, got n_classes=31"):
        run_config({**values, "benchmark": {**values["benchmark"], "n_classes": 31}})  # type: ignore[dict-item]


@dataclasses.dataclass(frozen=True)
class OneAtATime:
    """Checks its fields one after the other, and both together."""

    low: int = 0
    high: int = 10
    step: int = 1

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ValueError(f"step must be at least 1, got {self.step}")
        if self.low > self.high:
            raise ValueError(f"low must not be more than high, got {self.low} and {self.high}")


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        ({"low": 3, "high": 2}, ["low: must not be more than high, got 3 and 2"]),
        (
            {"low": 3, "high": 2, "step": 0},
            ["step: must be at least 1, got 0", "low: must not be more than high, got 3 and 2"],
        ),
        # whether 12 is too much cannot be told from what stands in for the value of high
        ({"low": 12, "high": "x"}, ["high: must be a valid integer, got 'x'"]),
        ({"low": 12, "high": 13, "stop": 1}, ["stop: there is no such setting; did you mean"]),
    ],
)
def test_classes_of_others(values: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as info:
        from_plain(OneAtATime, values, where="x")
    wrong_settings.check(list(info.value.problems), problems)


@dataclasses.dataclass(frozen=True)
class Order:
    """For lists."""

    order: tuple[int, ...] | None = None


def test_lists_become_tuples() -> None:
    assert from_plain(Order, {"order": [2, 1]}, where="x") == Order((2, 1))
    with pytest.raises(ValueError, match=r"order\.1: must be a valid integer, got 'a'"):
        from_plain(Order, {"order": [2, "a"]}, where="x")


def test_the_type_of_a_run_knows_the_type_of_its_settings() -> None:
    assert {f.name: f.type for f in dataclasses.fields(run_type("care"))}["settings"] is CaREConfig
