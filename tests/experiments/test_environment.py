"""What a run measures of the machine."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from avalanche_care.experiments.environment import PeakMemory

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the mark is set back on Linux only")
def test_each_measurement_has_a_peak_of_its_own() -> None:
    outer = PeakMemory()
    before = outer.read()["process"]
    np.ones(100 * MIB, dtype=np.uint8)  # and gone
    inner = PeakMemory()  # sets the mark of the process back
    assert inner.read()["process"] < before + 50 * MIB
    assert outer.read()["process"] > before + 90 * MIB  # which it has not lost


def test_where_the_system_has_no_such_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **kwargs: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(Path, "write_text", missing)
    unit = 1 if sys.platform == "darwin" else 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    assert PeakMemory().read()["process"] >= most
