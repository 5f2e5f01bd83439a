"""Counting the memory of tensors."""

from __future__ import annotations

import torch

from avalanche_care.memory import TensorMemory

KILO = torch.zeros(1000).nbytes


def test_counts_from_making_to_release() -> None:
    with TensorMemory() as memory:
        x = torch.zeros(1000)
        assert (memory.live, memory.peak) == (KILO, KILO)
        y = x + 1
        del x
        assert (memory.live, memory.peak) == (KILO, 2 * KILO)
        del y
    assert (memory.live, memory.peak) == (0, 2 * KILO)


def test_views_and_what_was_there_before_do_not_count() -> None:
    before = torch.zeros(1000)
    with TensorMemory() as memory:
        parts = [before[:10], before.view(10, 100), before.detach(), before.add_(1)]
    assert memory.peak == 0
    assert len(parts) == 4


def test_a_view_keeps_its_storage_alive() -> None:
    with TensorMemory() as memory:
        part = torch.zeros(1000)[:1]
        assert memory.live == KILO
    assert len(part) == 1


def test_counts_what_autograd_saves() -> None:
    weight = torch.ones(1000, requires_grad=True)
    with TensorMemory() as memory:
        loss = weight.exp().exp().sum()  # both results of exp are needed for their own gradient
        assert memory.live == 2 * KILO + loss.nbytes
        loss.backward()
        assert weight.grad is not None
        assert memory.live == loss.nbytes + weight.grad.nbytes
    assert memory.peak >= 3 * KILO
