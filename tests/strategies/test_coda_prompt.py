"""CODA-Prompt's training: what moves, by which loss and schedule, and how many components."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from steps import Steps
from tiny import snapshot, tiny_benchmark, tiny_images, tiny_vit

from avalanche_care.benchmarks import CILBenchmark, Protocol
from avalanche_care.strategies import CODAPromptConfig, CODAPromptStrategy
from avalanche_care.strategies.coda_prompt import QuarterCosinePhase

SMALL: dict[str, Any] = {
    "blocks": (0, 1),
    "components_per_task": 2,
    "length": 4,
    "epochs": 2,
    "lr": 0.01,
    "batch_size": 4,
}


def coda(plugins: Any = None, **config: Any) -> CODAPromptStrategy:
    settings = CODAPromptConfig(**{**SMALL, **config})
    return CODAPromptStrategy(
        model=tiny_vit(), config=settings, plugins=plugins, evaluator=None, eval_mb_size=64
    )


def test_only_the_newest_components_and_the_current_rows_move(benchmark: CILBenchmark) -> None:
    def look(strategy: Any) -> None:
        task, weight = strategy.task, strategy.model.head.weight
        assert not weight.grad[: 2 * task].any()
        assert weight.grad[2 * task :].any()

    strategy = coda([Steps(look)])
    x = torch.randn(4, 3, 16, 16)
    query = strategy.model.query(x)
    for task, experience in enumerate(benchmark.train_stream):
        before = snapshot(strategy.model)
        strategy.train(experience)
        after = snapshot(strategy.model)
        assert torch.equal(after["head.weight"][: 2 * task], before["head.weight"])
        for part in ("prompts", "keys", "attention"):
            old, new = after[f"components.old_{part}"], after[f"components.{part}"]
            assert len(old) == 2 * task
            assert len(new) == 2
            was = [before[f"components.old_{part}"], before[f"components.{part}"]]
            assert torch.equal(old, torch.cat(was)), part
            assert new.norm(dim=-1).sub(1).abs().max() > 1e-3  # it has moved from unit length
    assert torch.equal(strategy.model.query(x), query)


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_the_loss_is_that_of_the_paper(weight: float, benchmark: CILBenchmark) -> None:
    seen: set[int] = set()

    def look(strategy: Any) -> None:
        model, task = strategy.model, strategy.task
        with torch.no_grad():
            logits = model.head(model.features(strategy.mb_x))
            logits[:, : 2 * task] = -torch.inf
            expected = torch.nn.functional.cross_entropy(logits, strategy.mb_y)
            for rows in model.components.rows():
                for block in rows:
                    gram = block @ block.T - torch.eye(len(block))
                    expected = expected + weight * gram.square().mean()
        torch.testing.assert_close(strategy.loss.detach().squeeze(), expected)
        seen.add(task)

    coda([Steps(look)], orthogonality=weight).train(benchmark.train_stream)
    assert seen == {0, 1, 2}


def test_learning_rates() -> None:
    phase = QuarterCosinePhase("training", 20, 0.001)
    rates = [phase.learning_rate(epoch) for epoch in range(20)]
    assert rates[0] == 0.001
    assert rates[-1] == pytest.approx(1.57e-5, rel=1e-3)
    for epoch, rate in enumerate(rates):  # 99 pi e / (200 (K - 1))
        angle = torch.tensor(99 * torch.pi * epoch / (200 * 19), dtype=torch.float64)
        assert rate == pytest.approx(0.001 * angle.cos().item())
    assert QuarterCosinePhase("training", 1, 0.1).learning_rate(0) == 0.1


def test_the_learning_rates_are_used(benchmark: CILBenchmark) -> None:
    rates: list[float] = []
    strategy = coda([Steps(lambda s: rates.append(s.optimizer.param_groups[0]["lr"]))], epochs=3)
    strategy.train(benchmark.train_stream[0])
    expected = QuarterCosinePhase("training", 3, 0.01)
    assert rates == [expected.learning_rate(epoch) for epoch in range(3) for _ in range(3)]


def test_a_task_with_fewer_images_than_a_batch_is_learned(benchmark: CILBenchmark) -> None:
    steps: list[int] = []
    strategy = coda([Steps(lambda s: steps.append(len(s.mb_x)))], batch_size=128)
    strategy.train(benchmark.train_stream[0])
    assert steps == [12, 12]


def test_tasks_without_number() -> None:
    """More tasks than components of the released pool, and than dimensions of the ViT."""
    benchmark = tiny_benchmark("B0-Inc1", 24, train=tiny_images(24, 1), test=tiny_images(24, 1))
    strategy = coda(components_per_task=1, epochs=1)
    strategy.train(benchmark.train_stream)
    components = strategy.model.components
    assert components.count == 24  # the ViT has width 16
    strategy.model.eval()
    prompts = components(torch.randn(3, 16))
    assert prompts.isfinite().all()
    assert prompts.norm(dim=-1).min() > 0.01  # never zero


def test_components_for_a_number_of_tasks() -> None:
    share = CODAPromptConfig.for_tasks
    assert share(10) == CODAPromptConfig()
    assert [share(t).components_per_task for t in (5, 40, 100)] == [20, 2, 1]
    assert share(301, components=602, lr=0.1).components_per_task == 2
    assert share(3, lr=0.1).lr == 0.1
    with pytest.raises(ValueError, match="100 components cannot be shared by 101 tasks"):
        share(101)
    with pytest.raises(ValueError, match="by 0 tasks"):
        share(0)


def test_a_config_names_everything_that_is_wrong() -> None:
    with pytest.raises(ValueError) as info:  # noqa: PT011
        CODAPromptConfig(components_per_task=0, length=7, blocks=(1, 1), orthogonality=-1.0)
    message = str(info.value)
    for part in (
        "CODAPromptConfig cannot be used", "components_per_task must be pos", "length must be even",
        "blocks must be different blocks", "orthogonality must not be neg",
    ):  # fmt: skip
        assert part in message
    with pytest.raises(ValueError, match=r"blocks of 0 \.\. 1, got \[0, 1, 2, 3, 4\]"):
        CODAPromptStrategy(model=tiny_vit())


RELEASED = {  # for CIFAR-100
    "components_per_task": 10,
    "length": 8,
    "blocks": (0, 1, 2, 3, 4),
    "orthogonality": 0.0,
    "epochs": 20,
    "lr": 0.001,
    "batch_size": 128,
    "clip_norm": None,
}
CLASSES = {
    "cifar100": 100,
    "imagenet-r": 200,
    "imagenet-a": 200,
    "objectnet": 200,
    "omnibenchmark": 300,
    "omnibenchmark1k": 1000,
    "vtab": 50,
    "cub": 200,
}


def test_presets() -> None:
    """A hundred components for all tasks, at least one each; 50 epochs on ImageNet-R."""
    assert dataclasses.asdict(CODAPromptConfig()) == RELEASED
    for name in CODAPromptConfig.presets():
        data, protocol = name.split("/")
        tasks = Protocol.parse(protocol, n_classes=CLASSES[data]).tasks
        assert dataclasses.asdict(CODAPromptConfig.preset(name)) == {
            **RELEASED,
            "components_per_task": max(1, 100 // tasks),
            "epochs": 50 if data == "imagenet-r" else 20,
        }


def test_settings_reach_the_model() -> None:
    model = coda(blocks=(1,), components_per_task=3, length=6).model
    assert model.arguments() == {"blocks": [1], "components_per_task": 3, "length": 6}
    model.expand(0, [0])
    assert model.components.prompts.shape == (3, 1, 6 * 16)
