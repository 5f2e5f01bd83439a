"""The shared expert's rule, alone and on Avalanche's own strategy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.supervised import Naive
from tiny import QUICK_CARE, tiny_benchmark, tiny_vit
from torch import Tensor, nn

from avalanche_care.nn import CaREModel
from avalanche_care.plugins import SharedExpertEMAPlugin, TripletExpansionPlugin


def stand_in(values: Tensor, *, past: int) -> Any:
    """A strategy with one shared parameter, after ``past`` experiences."""
    parameter = nn.Parameter(values.clone())
    model = SimpleNamespace(shared_parameters=lambda: iter([parameter]))
    clock = SimpleNamespace(train_exp_counter=past)
    return SimpleNamespace(model=model, clock=clock, parameter=parameter)


@pytest.fixture
def values() -> Tensor:
    return torch.randn(10_000, generator=torch.Generator().manual_seed(0))


def test_release_rule(values: Tensor) -> None:
    strategy = stand_in(values, past=1)
    plugin = SharedExpertEMAPlugin(0.999)
    plugin.phase_start(strategy)
    strategy.parameter.data += 1.0  # a step
    plugin.before_forward(strategy)
    torch.testing.assert_close(strategy.parameter.data, values + 1e-3, rtol=0, atol=1e-6)
    strategy.parameter.data += 1.0
    plugin.before_forward(strategy)  # of the first step 1e-6 is left, of the second 1e-3
    torch.testing.assert_close(strategy.parameter.data, values + 1.001e-3, rtol=0, atol=1e-6)
    strategy.parameter.data += 1.0
    after = strategy.parameter.detach().clone()
    plugin.phase_end(strategy)
    plugin.before_forward(strategy)  # the snapshot is gone
    assert torch.equal(strategy.parameter, after)


def test_without_steps_the_release_rule_rounds_by_one_ulp_at_most(values: Tensor) -> None:
    strategy = stand_in(values, past=1)
    plugin = SharedExpertEMAPlugin(0.999)
    plugin.phase_start(strategy)
    for _ in range(200):
        plugin.before_forward(strategy)
        ulp = torch.nextafter(values.abs(), values.new_full((), torch.inf)) - values.abs()
        assert ((strategy.parameter.data - values).abs() <= ulp).all()


def test_first_experience_is_left_alone(values: Tensor) -> None:
    for rule in ("release", "paper"):
        strategy = stand_in(values, past=0)
        plugin = SharedExpertEMAPlugin(0.5, rule=rule)
        plugin.before_training_exp(strategy)
        plugin.phase_start(strategy)
        strategy.parameter.data += 1.0
        plugin.before_forward(strategy)
        plugin.phase_end(strategy)
        plugin.after_training_exp(strategy)
        assert torch.equal(strategy.parameter.data, values + 1.0)


def test_paper_rule_moves_once_when_the_phase_ends(values: Tensor) -> None:
    strategy = stand_in(values, past=2)
    plugin = SharedExpertEMAPlugin(0.75, rule="paper")
    plugin.before_training_exp(strategy)
    for _ in range(4):
        plugin.before_forward(strategy)
        strategy.parameter.data += 1.0
    torch.testing.assert_close(strategy.parameter.data, values + 4.0)
    plugin.phase_end(strategy)
    torch.testing.assert_close(strategy.parameter.data, values + 1.0)
    plugin.after_training_exp(strategy)  # no second time
    torch.testing.assert_close(strategy.parameter.data, values + 1.0)


@pytest.mark.parametrize(("decay", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_extreme_decays(values: Tensor, decay: float, expected: float) -> None:
    strategy = stand_in(values, past=1)
    plugin = SharedExpertEMAPlugin(decay)
    plugin.before_training_exp(strategy)
    strategy.parameter.data += 1.0
    plugin.before_forward(strategy)
    torch.testing.assert_close(strategy.parameter.data, values + expected)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"decay in \[0, 1\] .*got decay=1.5, rule='release'"):
        SharedExpertEMAPlugin(1.5)
    with pytest.raises(ValueError, match=r"rule in \('release', 'paper'\), got .*rule='other'"):
        SharedExpertEMAPlugin(rule="other")


@pytest.mark.parametrize("rule", ["release", "paper"])
def test_on_naive(rule: str) -> None:
    torch.manual_seed(0)
    model = CaREModel(tiny_vit(), QUICK_CARE["brmoe"])
    seen: list[tuple[Tensor, Tensor]] = []

    class Look(SupervisedPlugin[Any], supports_distributed=False):
        def flat(self) -> Tensor:
            return torch.cat([p.detach().flatten() for p in model.shared_parameters()])

        def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            self.start = self.flat()
            seen.clear()

        def after_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            self.forward = self.flat()

        def after_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            seen.append((self.forward - self.start, self.flat() - self.start))

    look = Look()
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=6,
        train_epochs=2,
        plugins=[look, TripletExpansionPlugin(), SharedExpertEMAPlugin(0.99, rule=rule)],
        evaluator=None,
    )
    benchmark = tiny_benchmark(n_classes=4)
    strategy.train(benchmark.train_stream[0])
    assert seen[-1][0].norm() > 0.1 * seen[-1][1].norm()  # the first experience trains freely
    strategy.train(benchmark.train_stream[1])
    at_forward, after_step = (torch.stack(part) for part in zip(*seen, strict=True))
    assert len(at_forward) == 4
    if rule == "release":
        torch.testing.assert_close(at_forward[1:], 0.01 * after_step[:-1], rtol=1e-2, atol=1e-6)
        assert torch.equal(look.flat() - look.start, after_step[-1])
    else:
        assert torch.equal(at_forward[1:], after_step[:-1])
        torch.testing.assert_close(
            look.flat() - look.start, 0.01 * after_step[-1], rtol=1e-2, atol=1e-6
        )
