"""The example scripts run; on the tiny ViT and images, so that it costs no time."""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny import tiny_benchmark, tiny_vit

import avalanche_care
from avalanche_care.experiments import RunResult
from avalanche_care.nn import FrozenViT
from avalanche_care.strategies.registry import available_methods

EXAMPLES = Path(avalanche_care.__file__).parents[1] / "examples"


def example(name: str, monkeypatch: pytest.MonkeyPatch, benchmark: str) -> ModuleType:
    """A script as a module that makes the tiny benchmark and backbone instead of its own."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert hasattr(module, benchmark)
    monkeypatch.setattr(module, benchmark, lambda *args, **kwargs: tiny_benchmark())
    monkeypatch.setattr(FrozenViT, "create", lambda *args, **kwargs: tiny_vit(depth=6))
    return module


@pytest.mark.parametrize("method", sorted(available_methods()))
def test_every_method_runs_as_a_baseline(
    method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = example("baselines_on_glyphs", monkeypatch, "GlyphBenchmark")
    script.main(argparse.Namespace(methods=method, n_classes=6, cuda=-1))
    _, row = capsys.readouterr().out.splitlines()
    found = re.match(rf"{method} +([\d.]+) +([\d.]+) +[\d.]+ +([\d,]+)( .*)?$", row)
    assert found, row
    assert 100 / 6 < float(found[1]) <= 100  # better than chance
    assert float(found[2]) <= 100


def test_all_methods_are_baselines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = example("baselines_on_glyphs", monkeypatch, "GlyphBenchmark")
    with monkeypatch.context() as patch:
        quick = {name: available_methods()[name] for name in ("simplecil", "fsa")}
        patch.setattr(script, "available_methods", lambda: quick)
        script.main(argparse.Namespace(methods="all", n_classes=6, cuda=-1))
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == list(quick)
    with pytest.raises(ValueError, match="no method 'simplecill'; did you mean 'simplecil'"):
        script.main(argparse.Namespace(methods="simplecill", n_classes=6, cuda=-1))
    assert not capsys.readouterr().out


def test_avalanches_l2p_beside_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = example("avalanche_l2p", monkeypatch, "load_benchmark")
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 4, "lr": 0.01, "seed": 1}
    place: dict[str, Any] = {"benchmark": "", "protocol": "", "backbone": "", "device": "cpu"}
    left_out = dict.fromkeys(("n_classes", "transforms", "weights", "img_size"))
    script.main(argparse.Namespace(**settings, **place, **left_out, out=str(tmp_path)))
    table = capsys.readouterr().out
    for name in ("l2p", "l2p-avalanche", "l2p-avalanche-defaults"):
        assert f"\n{name} " in table
        result = RunResult.load(tmp_path / name / "result.json")
        assert result.method == name
        assert len(result.evaluated) == 3
        assert result.extra["train_images"] == 36
    ours, same, defaults = (
        RunResult.load(tmp_path / name / "result.json").parameters["trainable"]
        for name in ("l2p", "l2p-avalanche", "l2p-avalanche-defaults")
    )
    assert ours == same < defaults  # twice the prompts


def test_avalanches_own_strategies_need_nothing_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = example("avalanche_baselines", monkeypatch, "GlyphBenchmark")
    made: list[Any] = []
    build = script.build
    monkeypatch.setattr(script, "build", lambda *args: made.append(build(*args)) or made[-1])
    script.main(argparse.Namespace(epochs=2, cuda=-1))
    rows = [row.split() for row in capsys.readouterr().out.splitlines() if "%" not in row]
    found = {name: curve for name, *curve in rows if name in script.METHODS}
    assert list(found) == ["Naive", "LwF", "EWC", "Replay", "StreamingLDA", "JointTraining"]
    for name, curve in found.items():
        assert len(curve) == (1 if name == "JointTraining" else 3)
        assert all(0 < float(accuracy) <= 100 for accuracy in curve)
    assert float(found["JointTraining"][-1]) > float(found["Naive"][-1])
    for strategy in made:
        for thing in (strategy, *strategy.plugins):
            assert not type(thing).__module__.startswith("avalanche_care")
