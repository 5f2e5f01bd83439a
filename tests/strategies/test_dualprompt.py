"""DualPrompt's training: what moves, by which loss, and what does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from steps import Steps
from tiny import Predictions, snapshot, tiny_benchmark, tiny_images, tiny_vit
from torch import Tensor

from avalanche_care.benchmarks import CILBenchmark
from avalanche_care.strategies import DualPromptConfig, DualPromptStrategy

SMALL: dict[str, Any] = {
    "general_blocks": (0,),
    "expert_blocks": (1,),
    "epochs": 2,
    "lr": 0.01,
    "batch_size": 4,
}


def dualprompt(plugins: Any = None, **config: Any) -> DualPromptStrategy:
    settings = DualPromptConfig(**{**SMALL, **config})
    return DualPromptStrategy(
        model=tiny_vit(), config=settings, plugins=plugins, evaluator=None, eval_mb_size=64
    )


def rows_with_gradient(parameter: Tensor) -> list[int]:
    assert parameter.grad is not None
    return [i for i, row in enumerate(parameter.grad) if row.any()]


@pytest.mark.parametrize("pool", [None, 3, 10])
def test_only_the_tasks_own_parts_get_gradients(pool: int | None, benchmark: CILBenchmark) -> None:
    tasks: set[int] = set()

    def look(strategy: Any) -> None:
        model, task = strategy.model, strategy.task
        assert rows_with_gradient(model.experts.prompts) == [task]
        assert rows_with_gradient(model.experts.keys) == [task]
        assert set(rows_with_gradient(model.head.weight)) == {2 * task, 2 * task + 1}
        assert model.general.grad.any()
        assert all(p.grad is None for p in model.backbone.parameters())
        tasks.add(task)

    strategy = dualprompt([Steps(look)], pool=pool)
    x = torch.randn(4, 3, 16, 16)
    query = strategy.model.query(x)
    for task, experience in enumerate(benchmark.train_stream):
        before = snapshot(strategy.model)
        strategy.train(experience)
        after = snapshot(strategy.model)
        for name in ("experts.prompts", "experts.keys", "head.weight"):
            old = 2 * task if name == "head.weight" else task
            assert torch.equal(after[name][:old], before[name][:old]), name
        assert not torch.equal(after["general"], before["general"])
    assert tasks == {0, 1, 2}
    assert torch.equal(strategy.model.query(x), query)


def test_the_loss_is_that_of_the_paper(benchmark: CILBenchmark) -> None:
    seen: set[int] = set()

    def look(strategy: Any) -> None:
        model, task = strategy.model, strategy.task
        with torch.no_grad():
            logits = model.head(model.prompted(strategy.mb_x, task=task).features)
            masked = torch.full_like(logits, -torch.inf)
            masked[:, 2 * task :] = logits[:, 2 * task :]
            queries, key = model.query(strategy.mb_x), model.experts.keys[task]
            pull = torch.stack([torch.cosine_similarity(q, key, dim=0) for q in queries]).mean()
            expected = torch.nn.functional.cross_entropy(masked, strategy.mb_y) - 0.7 * pull
        torch.testing.assert_close(strategy.loss.detach().squeeze(), expected)
        seen.add(task)

    dualprompt([Steps(look)], pull=0.7).train(benchmark.train_stream)
    assert seen == {0, 1, 2}


def test_tasks_beyond_the_pool_train_what_their_images_choose(benchmark: CILBenchmark) -> None:
    strategy = dualprompt(pool=2)
    strategy.train(benchmark.train_stream[:2])
    before = snapshot(strategy.model)
    strategy.train(benchmark.train_stream[2])
    after = snapshot(strategy.model)
    assert after["experts.keys"].shape[0] == 2
    assert not torch.equal(after["experts.prompts"], before["experts.prompts"])


def test_more_tasks_than_ten_have_prompts_of_their_own() -> None:
    strategy = dualprompt(epochs=1)
    benchmark = tiny_benchmark("B0-Inc2", 24, train=tiny_images(24, 2), test=tiny_images(24, 1))
    strategy.train(benchmark.train_stream)
    prompts = strategy.model.experts.prompts.detach().flatten(1)
    assert len(prompts) == 12
    assert len(prompts.unique(dim=0)) == 12


CHOICES = ["per-image", "batch-in-training", "batch-leaks-task-identity"]


@pytest.mark.parametrize("choice", CHOICES)
def test_who_chooses(choice: str, benchmark: CILBenchmark) -> None:
    shared: list[bool] = []
    predictions = Predictions()

    def look(strategy: Any) -> None:
        if strategy.task == 2:  # the only one beyond the pool
            shared.append(len(set(strategy._found.chosen.tolist())) == 1)

    strategy = dualprompt([Steps(look), predictions], choice=choice, pool=2, pull=0.0)
    x = torch.cat([e.dataset[i][0][None] for e in benchmark.train_stream for i in (0, 7)])
    strategy.train(benchmark.train_stream[:2])
    with torch.no_grad():  # keys between which the images of the last task are torn
        strategy.model.experts.keys.copy_(strategy.model.query(x[4:]))
    strategy.train(benchmark.train_stream[2])
    assert all(shared) == (choice != "per-image")
    outputs = []
    for size in (36, 1):
        strategy.eval_mb_size = size
        strategy.eval(benchmark.seen_stream[2])
        outputs.append(predictions.outputs)
    same = [torch.allclose(outputs[0][i], outputs[1][i], atol=1e-5) for i in outputs[0]]
    assert all(same) == (choice != "batch-leaks-task-identity")
    assert strategy.prediction() == ({"majority": True} if choice == CHOICES[2] else {})


def test_a_config_names_everything_that_is_wrong() -> None:
    with pytest.raises(ValueError) as info:  # noqa: PT011
        DualPromptConfig(epochs=0, pool=0, pull=-1.0, choice="x", init="y", expert_blocks=(1, 2))
    message = str(info.value)
    for part in (
        "DualPromptConfig cannot", "epochs must be pos", "pool must be pos", "pull must not be neg",
        "choice must be one of", "init must be one of", "expert_blocks must be different blocks",
    ):  # fmt: skip
        assert part in message
    with pytest.raises(ValueError, match="pool must be an integer"):
        DualPromptConfig(pool=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"blocks of 0 \.\. 1, got \[0, 1, 2, 3, 4\]"):
        DualPromptStrategy(model=tiny_vit())


PILOT = {  # for ImageNet-R, with a pool that grows
    "pool": None,
    "match_unseen": True,
    "general_blocks": (0, 1),
    "expert_blocks": (2, 3, 4),
    "general_length": 5,
    "expert_length": 5,
    "pull": 0.1,
    "choice": "per-image",
    "init": "symmetric",
    "epochs": 10,
    "lr": 0.001,
    "batch_size": 24,
    "clip_norm": None,
}
PORT = {"pool": 10, "clip_norm": 1.0}
OFFICIAL = {"pool": 10, "pull": 1.0, "init": "small", "batch_size": 192, "clip_norm": 1.0}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cifar100/B0-Inc10", {**PORT, "epochs": 5, "lr": 0.03 * 24 / 256}),
        (
            "imagenet-r/B0-Inc20",
            {**PORT, "epochs": 50, "lr": 0.005 * 24 / 256, "expert_length": 20},
        ),
        ("cifar100/B0-Inc5", {"epochs": 5}),
        (
            "jax/cifar100",
            {
                **OFFICIAL,
                "epochs": 5,
                "lr": 0.03 * 192 / 256,
                "choice": "batch-leaks-task-identity",
            },
        ),
        (
            "jax/imagenet-r",
            {**OFFICIAL, "epochs": 50, "lr": 0.005 * 192 / 256, "expert_length": 20},
        ),
        ("imagenet-r/B0-Inc40", {"pool": 10}),
        ("omnibenchmark/B0-Inc30", {"pool": 10}),
        ("omnibenchmark1k/B100-Inc3", {}),
    ],
)
def test_released_settings(name: str, settings: dict[str, Any]) -> None:
    assert dataclasses.asdict(DualPromptConfig.preset(name)) == {**PILOT, **settings}


def test_presets() -> None:
    assert dataclasses.asdict(DualPromptConfig()) == PILOT
    for name in DualPromptConfig.presets():
        config = DualPromptConfig.preset(name)
        assert (config.choice == "batch-leaks-task-identity") == (name == "jax/cifar100")
        assert config.pool in (None, 10)
        if "1k" in name:
            assert config.pool is None  # hundreds of tasks


def test_settings_reach_the_model() -> None:
    sizes = {"pool": 3, "match_unseen": False, "general_length": 4, "expert_length": 6}
    model = dualprompt(**sizes, init="small").model
    blocks = {"general_blocks": [0], "expert_blocks": [1]}
    assert model.arguments() == {**sizes, **blocks}
    for values in (model.general, model.experts.prompts, model.experts.keys):
        assert 0 <= values.min() < values.max() < 0.01
    assert dualprompt(pool=3).model.experts.keys.min() < -0.5


def test_the_length_of_a_gradient_is_that_of_all_parts(benchmark: CILBenchmark) -> None:
    """It is clipped as a whole: general and expert prompts, key and head."""
    lengths: list[float] = []

    def noting(self: Any, *args: Any) -> Any:
        grads = [p.grad.flatten() for p in self.param_groups[0]["params"]]
        lengths.append(torch.cat(grads).norm().item())
        return step(self, *args)

    step = torch.optim.Adam.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", noting)
        dualprompt(clip_norm=0.05).train(benchmark.train_stream[:2])
    assert lengths == pytest.approx([0.05] * len(lengths), rel=1e-3)
