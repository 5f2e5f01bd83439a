"""Configurations from plain values: defaults, presets, and everything wrong at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from avalanche_care import CaREConfig
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
            "benchmark": {"name": "x", "protocol": "B0-Inc3"},
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
        ({}, ["'method' must name one, got None"]),
        ({"method": "car"}, ["did you mean 'care'?"]),
        (
            {"method": "care", "sed": 1, "benchmark": {"nam": 1}, "settings": {"brmoe": {"k": 1}}},
            [
                "there is no setting 'sed'; did you mean 'seed'?",
                "'benchmark.nam'; did you mean 'name'?",
                "there is no setting 'settings.brmoe.k'",
            ],
        ),
        (
            {"method": "care", "seed": "1", "settings": {"epochs": 1.5, "soft_from_block": "x"}},
            [
                "seed: input should be a valid integer, got '1'",
                "settings.epochs: input should be a valid integer, got 1.5",
                "settings.soft_from_block: input should be a valid integer, got 'x'",
            ],
        ),
        ({"method": "care", "settings": {"lr": -1, "epochs": 0}}, ["lr must be", "epochs must be"]),
        ({"method": "care", "settings": 3}, ["settings must be a table, got 3"]),
        ({"method": "care", "benchmark": "glyphs"}, ["benchmark must be a table, got 'glyphs'"]),
        ({"method": "care", "seed": -1, "eval_every": 0}, ["seed must be", "eval_every must be"]),
        ({"method": "care", "benchmark": {"class_order": "x"}}, ["class_order must be a seed"]),
    ],
)
def test_everything_wrong_is_said_at_once(values: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(ValueError, match=r"run\.toml|no method") as info:
        run_config(values, where="run.toml")
    for line in lines:
        assert line in str(info.value)


def test_what_cannot_change_a_number_is_not_part_of_the_identity() -> None:
    plain = run_config({"method": "care"})
    local = {
        "device": "cuda",
        "num_workers": 4,
        "eval_mb_size": 3,
        "save_every": 0,
        "save_every_phase": True,
        "benchmark": {"root": "x", "cache_eval": True},
        "backbone": {"weights": "y", "compile": True},
    }
    same = run_config({"method": "care", **local})
    assert same.identity() == plain.identity()
    assert same.directory_name == plain.directory_name
    for change in (
        {"seed": 2},
        {"eval_every": 2},
        {"settings": {"lr": 0.5}},
        {"settings": {"brmoe": {"top_k": 2}}},
        {"benchmark": {"protocol": "B0-Inc5"}},
        {"benchmark": {"class_order": 1990}},
        {"benchmark": {"packed": True}},
        {"backbone": {"img_size": 32}},
    ):
        assert run_config({"method": "care", **change}).directory_name != plain.directory_name


def test_options_of_the_benchmark() -> None:
    def options(**values: Any) -> dict[str, Any]:
        return run_config({"method": "care", "benchmark": values}).benchmark.options()

    assert options() == {}
    assert options(class_order=1990, n_classes=5) == {"class_order_seed": 1990, "n_classes": 5}
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


@dataclasses.dataclass(frozen=True)
class Order:
    """For lists."""

    order: tuple[int, ...] | None = None


def test_lists_become_tuples() -> None:
    assert from_plain(Order, {"order": [2, 1]}, where="x") == Order((2, 1))
    with pytest.raises(ValueError, match=r"order.*1: input should be a valid integer, got 'a'"):
        from_plain(Order, {"order": [2, "a"]}, where="x")


def test_the_type_of_a_run_knows_the_type_of_its_settings() -> None:
    assert {f.name: f.type for f in dataclasses.fields(run_type("care"))}["settings"] is CaREConfig
