"""L2P's training: what moves, by which loss, and what does not."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from tiny import Predictions, snapshot, tiny_benchmark, tiny_images, tiny_vit
from torch import Tensor

from avalanche_care.benchmarks import CILBenchmark
from avalanche_care.strategies import L2PConfig, L2PStrategy, TrainingPhase

SMALL = {"pool": 6, "length": 2, "top_k": 2, "epochs": 3, "lr": 0.01, "batch_size": 4}


def l2p(plugins: Any = None, **config: Any) -> L2PStrategy:
    settings = L2PConfig(**{**SMALL, **config})
    return L2PStrategy(
        model=tiny_vit(), config=settings, plugins=plugins, evaluator=None, eval_mb_size=64
    )


class Steps(SupervisedPlugin[Any], supports_distributed=False):
    """Keeps gradients, and lets a test look at every step before the optimizer's."""

    def __init__(self, look: Any = None) -> None:
        super().__init__()
        self.look = look
        self.grads: list[dict[str, Tensor | None]] = []

    def before_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        named = strategy.model.named_parameters()
        self.grads.append({n: None if p.grad is None else p.grad.clone() for n, p in named})
        if self.look is not None:
            self.look(strategy)


def test_the_loss_is_that_of_the_paper(benchmark: CILBenchmark) -> None:
    """Cross-entropy with minus infinity for the other classes, minus lambda times the cosines."""
    seen: list[int] = []

    def look(strategy: Any) -> None:
        model, seen_classes = strategy.model, strategy.model.head.n_classes
        with torch.no_grad():
            found = model.prompted(strategy.mb_x)
            logits = model.head(found.features)
        masked = torch.full_like(logits, -torch.inf)
        masked[:, seen_classes - 2 :] = logits[:, seen_classes - 2 :]
        queries = model.query(strategy.mb_x)
        pull = sum(
            torch.cosine_similarity(queries[b], model.keys[i], dim=0)
            for b in range(len(queries))
            for i in found.chosen[b]
        )
        expected = torch.nn.functional.cross_entropy(masked, strategy.mb_y)
        expected = expected - 0.3 * pull / len(queries)
        torch.testing.assert_close(strategy.loss.detach().squeeze(), expected.detach())
        seen.append(seen_classes)

    l2p([Steps(look)], pull=0.3).train(benchmark.train_stream)
    assert sorted(set(seen)) == [2, 4, 6]


def test_only_prompts_keys_and_the_current_rows_move(benchmark: CILBenchmark) -> None:
    steps = Steps()
    strategy = l2p([steps])
    strategy.train(benchmark.train_stream[0])
    x = torch.randn(4, 3, 16, 16)
    query, before = strategy.model.query(x), snapshot(strategy.model)
    steps.grads.clear()
    strategy.train(benchmark.train_stream[1])
    after = snapshot(strategy.model)
    moved = {
        name for name in before if not torch.equal(before[name], after[name][: len(before[name])])
    }
    assert moved == {"prompts", "keys"}
    assert not torch.equal(after["head.weight"][2:], torch.zeros(2, 16))
    assert torch.equal(strategy.model.query(x), query)
    for grads in steps.grads:
        weight = grads["head.weight"]
        assert weight is not None
        assert not weight[:2].any()
        assert weight[2:].any()
        assert all(torch.isfinite(g).all() for g in grads.values() if g is not None)


def test_a_prompt_that_is_never_chosen_does_not_move(benchmark: CILBenchmark) -> None:
    strategy = l2p(epochs=1)
    chosen: set[int] = set()
    steps = Steps(lambda s: chosen.update(s._found.chosen.flatten().tolist()))
    strategy.plugins.append(steps)
    before = snapshot(strategy.model)
    strategy.train(benchmark.train_stream[0])
    assert 2 <= len(chosen) < 6
    for name in ("prompts", "keys"):
        for i, value in enumerate(before[name]):
            assert torch.equal(value, strategy.model.state_dict()[name][i]) == (i not in chosen)


def test_keys_come_nearer_to_the_queries(benchmark: CILBenchmark) -> None:
    matches: list[float] = []
    strategy = l2p([Steps(lambda s: matches.append(s._found.match.item()))], epochs=10)
    strategy.train(benchmark.train_stream[0])
    assert max(matches) <= 2  # k
    assert sum(matches[-3:]) > sum(matches[:3]) + 0.3


def test_the_learning_rate_is_constant_and_adam_is_new_for_every_task(
    benchmark: CILBenchmark,
) -> None:
    rates, optimizers = [], []

    def look(strategy: Any) -> None:
        rates.append(strategy.optimizer.param_groups[0]["lr"])
        optimizers.append(strategy.optimizer)

    strategy = l2p([Steps(look)])
    strategy.train(benchmark.train_stream[:2])
    assert set(rates) == {0.01}
    assert len({id(o) for o in optimizers}) == 2
    assert type(optimizers[0]) is torch.optim.Adam
    assert optimizers[0].defaults["betas"] == (0.9, 0.999)
    assert optimizers[0].defaults["weight_decay"] == 0
    assert {type(phase) for phase in strategy.phases()} == {TrainingPhase}


@pytest.mark.parametrize("norm", [None, 0.05])
def test_gradients_are_clipped(norm: float | None, benchmark: CILBenchmark) -> None:
    strategy = l2p(clip_norm=norm)
    lengths: list[float] = []
    step = torch.optim.Adam.step

    def noting(self: Any, *args: Any) -> Any:
        grads = [p.grad.flatten() for p in self.param_groups[0]["params"]]
        lengths.append(torch.cat(grads).norm().item())
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", noting)
        strategy.train(benchmark.train_stream[0])
    assert (max(lengths) < 0.0501) == (norm is not None)


def test_own_prompts_per_task_until_the_pool_is_used_up() -> None:
    used: dict[int, set[int]] = {}

    def look(strategy: Any) -> None:
        chosen = strategy._found.chosen.flatten().tolist()
        used.setdefault(strategy.task, set()).update(chosen)

    strategy = l2p([Steps(look)], pool=4, prompts_per_task=True, epochs=1)
    strategy.train(tiny_benchmark().train_stream)
    assert used[0] == {0, 1}
    assert used[1] == {2, 3}
    assert len(used[2]) >= 2


CHOICES = ["per-image", "batch-in-training", "batch-leaks-task-identity"]


@pytest.mark.parametrize("choice", CHOICES)
def test_who_chooses(choice: str) -> None:
    shared: list[bool] = []
    predictions = Predictions()
    steps = Steps(lambda s: shared.append(len(s._found.chosen.unique(dim=0)) == 1))
    strategy = l2p([steps, predictions], choice=choice, epochs=1, pull=0.0)
    test = tiny_images(6, split=1)
    strategy.train(tiny_benchmark().train_stream)
    with torch.no_grad():  # keys that single images are near to
        strategy.model.keys.copy_(strategy.model.query(test.tensors[0][::6]))
    assert all(shared) == (choice != "per-image")
    outputs = []
    for size in (6, 1):
        strategy.eval_mb_size = size
        strategy.eval(tiny_benchmark(test=test).seen_stream[2])
        outputs.append(predictions.outputs)
    same = [torch.allclose(outputs[0][i], outputs[1][i], atol=1e-5) for i in outputs[0]]
    assert all(same) == (choice != "batch-leaks-task-identity")
    assert strategy.prediction() == ({"majority": True} if choice == CHOICES[2] else {})


def test_the_choices_are_logged(benchmark: CILBenchmark, caplog: pytest.LogCaptureFixture) -> None:
    strategy = l2p()
    with caplog.at_level(logging.INFO, "avalanche_care.strategies.l2p"):
        strategy.train(benchmark.train_stream[:2])
    assert [record.args[0] for record in caplog.records] == [0, 1]  # type: ignore[index]
    for record in caplog.records:
        assert sum(record.args[1]) == 12 * 3 * 2  # type: ignore[index,arg-type]


def test_a_config_names_everything_that_is_wrong() -> None:
    with pytest.raises(ValueError) as info:  # noqa: PT011
        L2PConfig(epochs=0, lr=-1.0, pool=3, pull=-0.1, choice="batch", init="x", clip_norm=0.0)
    message = str(info.value)
    for part in (
        "L2PConfig cannot", "epochs must be pos", "lr must be pos", "pull must not", "init must",
        "choice must be one of", "clip_norm must be pos", "top_k must not exceed pool, got 5 of 3",
    ):  # fmt: skip
        assert part in message
    with pytest.raises(ValueError, match="top_k must be an integer"):
        L2PConfig(top_k=2.5)  # type: ignore[arg-type]


PILOT = {  # for ImageNet-R
    "pool": 10,
    "length": 5,
    "top_k": 5,
    "pull": 0.1,
    "choice": "per-image",
    "prompts_per_task": False,
    "init": "symmetric",
    "position": "cls",
    "epochs": 10,
    "lr": 0.03 * 16 / 256,
    "batch_size": 32,
    "clip_norm": None,
}
OFFICIAL = {
    "length": 10,
    "top_k": 4,
    "init": "small",
    "position": "none",
    "epochs": 5,
    "lr": 0.03 * 128 / 256,
    "batch_size": 128,
    "clip_norm": 1.0,
}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cifar100/B0-Inc10", {"epochs": 5, "batch_size": 16, "clip_norm": 1.0}),
        ("cifar100/B0-Inc5", {"epochs": 5, "batch_size": 16}),
        ("imagenet-r/B0-Inc20", {}),
        ("omnibenchmark1k/B100-Inc3", {}),
        ("jax/cifar100", {**OFFICIAL, "pull": 1.0, "choice": "batch-leaks-task-identity"}),
        ("jax/five-datasets", {**OFFICIAL, "pool": 20, "pull": 0.5, "prompts_per_task": True}),
    ],
)
def test_released_settings(name: str, settings: dict[str, Any]) -> None:
    assert dataclasses.asdict(L2PConfig.preset(name)) == {**PILOT, **settings}


def test_presets() -> None:
    assert dataclasses.asdict(L2PConfig()) == PILOT
    for name in L2PConfig.presets():
        leaks = L2PConfig.preset(name).choice == "batch-leaks-task-identity"
        assert leaks == (name == "jax/cifar100")
    with pytest.raises(ValueError, match="did you mean 'vtab/B0-Inc10'"):
        L2PConfig.preset("vtab/B0-Inc1")


def test_settings_reach_the_model() -> None:
    strategy = l2p(pool=7, length=3, top_k=4, init="small", position="none")
    model = strategy.model
    assert model.arguments() == {"pool": 7, "length": 3, "top_k": 4, "position": "none"}
    assert model.prompts.shape == (7, 3, 16)
    assert all(0 <= p.min() < p.max() < 0.01 for p in (model.prompts, model.keys))
    assert l2p().model.prompts.min() < -0.9
