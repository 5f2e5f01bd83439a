"""What the tests of all strategies start from."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_benchmark

from avalanche_care.benchmarks import CILBenchmark


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def benchmark() -> CILBenchmark:
    return tiny_benchmark()
