"""CaRE with statistics and frozen experts outside the device, and precisions of the hardware."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from tiny import tiny_benchmark, tiny_care, tiny_strategy

from avalanche_care import CaREStrategy
from avalanche_care.strategies.care_config import check_precision


def after_two_tasks(**kwargs: object) -> CaREStrategy:
    torch.manual_seed(0)
    benchmark = tiny_benchmark()
    strategy: CaREStrategy = tiny_strategy("care", **kwargs)
    for experience in list(benchmark.train_stream)[:2]:
        strategy.train(experience)
    return strategy


def test_training_is_the_same_wherever_the_bank_is(tmp_path: Path) -> None:
    expected = after_two_tasks().model.state_dict()
    for where in ("cpu", tmp_path):
        strategy = after_two_tasks(offload=where)
        found = strategy.model.state_dict()
        assert list(found) == list(expected)
        for name, tensor in found.items():
            assert torch.equal(tensor, expected[name]), name
    # The strategy is the one in files, which it removes when it is collected.
    files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert any(name.startswith("block0.") for name in files)
    assert any(name.startswith("factor.") for name in files)
    del strategy, found
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_unknown_place() -> None:
    with pytest.raises(ValueError, match=r"offload: expected .*it does not exist"):
        tiny_strategy("care", offload="no/such/place")


def test_bfloat16_needs_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(ValueError, match=r"which Old GPU does not: use amp='float16'"):
        check_precision("bfloat16", gpu)
    check_precision("float16", gpu)
    check_precision("bfloat16", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    check_precision("bfloat16", gpu)
    tiny_care(amp="bfloat16")  # a CPU can
