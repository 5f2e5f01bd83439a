"""One run: when it is evaluated, and what its result then says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from short_runs import short_config
from tiny import tiny_benchmark, tiny_images, tiny_vit

from avalanche_care.experiments import RunResult, demo, run_method
from avalanche_care.strategies.registry import available_methods


def run(method: str, **kwargs: Any) -> RunResult:
    config = short_config(method)
    train, test = tiny_images(5), tiny_images(5, split=1)
    test.tensors[0].add_(torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0)))
    benchmark = tiny_benchmark("B0-Inc1", 5, train=train, test=test)
    return run_method(method, benchmark, tiny_vit(), config=config, progress=False, **kwargs)


@pytest.mark.parametrize("method", sorted(available_methods()))
def test_fewer_evaluations_are_of_the_same_run(method: str) -> None:
    whole = run(method)
    assert whole.evaluated == [0, 1, 2, 3, 4]
    assert whole.extra["eval_every"] == 1
    assert len(set(whole.accuracy)) > 1  # there is something to be equal
    for every, steps in ((2, [1, 3, 4]), (5, [4]), (99, [4])):
        sparse = run(method, eval_every=every)
        assert sparse.evaluated == steps
        assert sparse.extra["eval_every"] == every
        assert sparse.A_last == whole.A_last
        np.testing.assert_array_equal(sparse.matrix[steps], whole.matrix[steps])
        assert sparse.A_avg == pytest.approx(np.mean(whole.curve[steps]))
        if method == "simplecil":
            continue  # one schedule is enough for the slower ones
        break


@pytest.mark.parametrize("every", [0, -1, 1.5, "2"])
def test_what_is_no_number_of_tasks_is_refused(every: Any) -> None:
    with pytest.raises(
        ValueError, match=f"eval_every must be an integer of at least 1, got {every!r}"
    ):
        run("simplecil", eval_every=every)


def test_demo_passes_it_on(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "INCREMENT", 1)
    (result,) = demo.run_demo(
        tasks=4, methods=["simplecil"], eval_every=3, out=tmp_path, progress=False
    )
    assert result.evaluated == [2, 3]
    assert "2 of 4" in (tmp_path / "table.rst").read_text(encoding="utf-8")
