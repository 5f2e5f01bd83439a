"""EASE as a strategy: what trains, on what, and what is computed afterwards."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.core import SupervisedPlugin
from ease_reference import one_by_one
from steps import descend
from tiny import Predictions, snapshot, tiny_benchmark, tiny_images, tiny_vit, with_targets
from torch import Tensor

from avalanche_care.benchmarks import CILBenchmark, Protocol, class_incremental
from avalanche_care.strategies import EASEConfig, EASEStrategy, TrainingPhase

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 4, "bottleneck": 4}


def ease(*, plugins: list[Any] | None = None, **config: Any) -> EASEStrategy:
    return EASEStrategy(
        model=tiny_vit(),
        config=EASEConfig(**{**QUICK, **config}),
        plugins=plugins,
        eval_mb_size=64,
        evaluator=None,
    )


class Steps(SupervisedPlugin[Any], supports_distributed=False):
    """What has a gradient after each backward pass, and what the temporary head was."""

    def __init__(self) -> None:
        super().__init__()
        self.gradients: list[dict[str, Tensor]] = []
        self.scales: list[float] = []
        self.heads: list[Tensor] = []
        self.rates: list[float] = []
        self.images: list[int] = []

    def before_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.scales.append(strategy._proxy.scale.item())
        self.heads.append(strategy._proxy.weight.detach().clone())
        self.rates.append(strategy.optimizer.param_groups[0]["lr"])

    def after_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        temporary = strategy._proxy.named_parameters("proxy")
        parameters = [*strategy.model.named_parameters(), *temporary]
        self.gradients.append({n: p.grad.clone() for n, p in parameters if p.grad is not None})
        optimised = {id(p) for group in strategy.optimizer.param_groups for p in group["params"]}
        assert optimised == {id(p) for _, p in parameters if p.grad is not None}


def test_gradients_reach_the_newest_adapters_and_the_temporary_head(
    benchmark: CILBenchmark,
) -> None:
    steps = Steps()
    strategy = ease(plugins=[steps])
    parts = ("down.weight", "down.bias", "up.weight", "up.bias")
    expected = {f"petl.adapters.{i}.{part}" for i in range(2) for part in parts}
    expected |= {"proxy.weight", "proxy.scale"}
    for experience in benchmark.train_stream:
        steps.gradients.clear()
        steps.scales.clear()
        steps.heads.clear()
        strategy.train(experience)
        assert all(set(gradients) == expected for gradients in steps.gradients)
        first, later = steps.gradients[0], steps.gradients[1]
        for block in range(2):  # U starts at zero, so that nothing passes it in the first step
            down, up = (f"petl.adapters.{block}.{part}.weight" for part in ("down", "up"))
            assert not first[down].any()
            assert first[up].any()
            assert later[down].any()
        assert steps.scales[0] == 1.0
        assert steps.scales[-1] != 1.0
        assert steps.heads[0].shape == (2, 16)  # the classes of the task
        assert 0 < steps.heads[0].abs().max() <= 16**-0.5
    assert strategy._proxy is None
    assert not any("proxy" in name for name in strategy.run_state()["model"]["tensors"])


def test_the_loss_is_over_the_classes_of_the_task(benchmark: CILBenchmark) -> None:
    found: list[tuple[float, float]] = []

    class Losses(SupervisedPlugin[Any], supports_distributed=False):
        def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            head, proxy = strategy.model.head, strategy._proxy
            classes = head.labels[2 * strategy.task :].tolist()
            features, expected = strategy.model.features(strategy.mb_x), 0.0
            for f, y in zip(features, strategy.mb_y.tolist(), strict=True):
                logits = [
                    proxy.scale * (f @ w) / (f.norm() * w.norm())  # sigma cos(f, w)
                    for w in proxy.weight
                ]
                every = sum(math.exp(z.item()) for z in logits)
                expected -= math.log(math.exp(logits[classes.index(y)].item()) / every)
            found.append((strategy.loss.item(), expected / len(features)))
            assert strategy.mb_output.shape[1] == head.n_classes
            assert set(strategy.mb_output.argmax(1).tolist()) <= set(classes)

    strategy = ease(plugins=[Losses()], dropout=0.0, head_scale=3.0)
    strategy.train(benchmark.train_stream)
    assert len(found) == 3 * 2 * 3  # tasks, epochs, steps
    for loss, expected in found:
        assert loss == pytest.approx(expected, rel=1e-4)


def test_every_task_trains_like_a_plain_loop(benchmark: CILBenchmark) -> None:
    """SGD on fresh adapters and on the temporary head with its scale, all with weight decay."""
    start: list[Any] = []
    batches: list[tuple[Tensor, Tensor]] = []

    class Trace(SupervisedPlugin[Any], supports_distributed=False):
        def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            if not batches:
                start.extend(copy.deepcopy([strategy.model.petl, strategy._proxy]))
            batches.append((strategy.mb_x.clone(), strategy.mb_y.clone()))

    strategy = ease(plugins=[Trace()], dropout=0.0, lr=0.1, weight_decay=0.01, epochs=3)
    for task, experience in enumerate(benchmark.train_stream):
        start.clear()
        batches.clear()
        strategy.train(experience)
        petl, proxy = start
        parameters = [*petl.parameters(), proxy.weight, proxy.scale]
        velocities = [torch.zeros_like(p) for p in parameters]
        assert len(batches) == 9  # twelve images in batches of four
        for step, (x, y) in enumerate(batches):
            features = petl(strategy.model.backbone, x)
            features = features / features.norm(dim=1, keepdim=True)
            rows = proxy.weight / proxy.weight.norm(dim=1, keepdim=True)
            logits = proxy.scale * features @ rows.T
            of_target = logits[torch.arange(len(y)), y - 2 * task]
            loss = (logits.logsumexp(1) - of_target).mean()
            rate = 0.1 * (1 + math.cos(math.pi * (step // 3) / 3)) / 2
            descend(loss, parameters, velocities, rate=rate, decay=0.01)
        got = snapshot(strategy.model.petl)
        for name, value in petl.state_dict().items():
            torch.testing.assert_close(got[name], value, rtol=1e-3, atol=2e-5, msg=name)


def test_old_adapters_and_class_means_stay(benchmark: CILBenchmark) -> None:
    strategy = ease(lr=0.5)
    model = strategy.model
    kept: list[dict[str, Tensor]] = []
    for experience in benchmark.train_stream:
        strategy.train(experience)
        kept.append(snapshot(model))
        for before in kept[:-1]:
            for name, value in before.items():
                if name.startswith(("backbone.", "banks.", "head.weight", "head.earlier")):
                    assert torch.equal(snapshot(model)[name][: len(value)], value), name
    up = model.banks[0].up_weight
    assert all(task.any() for task in up)
    assert not torch.equal(up[0], up[1])


def test_a_training_step_runs_one_pass_whatever_the_number_of_tasks(
    benchmark: CILBenchmark,
) -> None:
    """Old adapters take no part in training."""
    strategy, images = ease(epochs=1, batch_size=12), []
    strategy.model.backbone.vit.blocks[1].attn.register_forward_pre_hook(
        lambda _, args: images.append(len(args[0])) if torch.is_grad_enabled() else None
    )
    for experience in benchmark.train_stream:
        images.clear()
        strategy.train(experience)
        assert images == [12]


@pytest.mark.parametrize("rows", [1, 7, None])
@pytest.mark.parametrize("pretrained", [False, True])
def test_prototypes_are_class_means_in_every_subspace(rows: int | None, pretrained: bool) -> None:
    train = tiny_images(6)
    benchmark = class_incremental(
        train,
        tiny_images(6, split=1),
        Protocol.parse("B0-Inc2", n_classes=6),
        train_transform=lambda image: image + torch.randn_like(image),  # not for class means
        name="tiny",
    )
    strategy = ease(rows=rows, pretrained=pretrained, lr=0.5)
    strategy.eval_mb_size = 5
    strategy.train(benchmark.train_stream)
    prototypes, without = strategy.model.head.prototypes(), strategy.model.head.bare
    model = copy.deepcopy(strategy.model).double().eval()
    images, labels = train.tensors[0].double(), train.tensors[1]
    with torch.no_grad():
        features, bare = one_by_one(model, images)  # (T, n, D)
    for c, original in enumerate(benchmark.class_order):
        of_class = labels == original
        for j in range(c // 2 + 1):
            mean = features[j, of_class].mean(0).float()
            torch.testing.assert_close(prototypes[c, j], mean, rtol=1e-4, atol=1e-5)
        if pretrained:
            mean = bare[of_class].mean(0).float()
            torch.testing.assert_close(without[c], mean, rtol=1e-4, atol=1e-5)


def test_learning_rates() -> None:
    benchmark = tiny_benchmark("B0-Inc3", n_classes=6, train=tiny_images(6, per_class=2))
    steps = Steps()
    strategy = ease(plugins=[steps], batch_size=6, epochs=4, later_epochs=2, later_lr=0.3, lr=0.2)
    strategy.train(benchmark.train_stream)
    first = [0.1 * (1 + math.cos(math.pi * e / 4)) for e in range(4)]
    later = [0.15 * (1 + math.cos(math.pi * e / 2)) for e in range(2)]
    assert steps.rates == pytest.approx([*first, *later])
    same = ease(epochs=4, lr=0.2)
    same.train(benchmark.train_stream)
    phase = same.phases()[0]
    assert isinstance(phase, TrainingPhase)
    assert (phase.epochs, phase.lr) == (4, 0.2)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_optimizers(name: str, benchmark: CILBenchmark) -> None:
    predictions = Predictions()
    strategy = ease(optimizer=name, lr=0.01, plugins=[predictions])
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[name]
    optimizer = strategy.build_optimizer(0.01)
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["weight_decay"] == 5e-4
    assert optimizer.param_groups[0].get("momentum", 0.9) == 0.9
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.test_stream)
    assert predictions.accuracy >= 0.9


@pytest.mark.parametrize(
    "config", [{"max_adapters": 1, "pretrained": True, "reweight": False}, {"max_adapters": 2}]
)
def test_adapters_for_the_first_tasks_only(config: dict[str, Any], benchmark: CILBenchmark) -> None:
    predictions, names = Predictions(), []
    strategy = ease(**config, plugins=[predictions])
    for t, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        names.append([phase.name for phase in strategy.phases()])
        strategy.eval(benchmark.seen_stream[t])
        assert predictions.accuracy >= 0.9
        assert strategy.model.adapters == min(t + 1, config["max_adapters"])
    with_training, without = ["training", "prototypes"], ["prototypes"]
    assert names[0] == with_training
    assert names[1] == (with_training if config["max_adapters"] == 2 else without)
    assert names[2] == without
    assert not any(p.requires_grad for p in strategy.model.parameters())


@pytest.mark.parametrize("protocol", ["B0-Inc1", "B0-Inc4", "B3-Inc2"])
def test_tasks_of_any_size(protocol: str) -> None:
    """One class a task, a smaller last one, a larger first one."""
    benchmark, predictions = tiny_benchmark(protocol, 6), Predictions()
    strategy = ease(plugins=[predictions])
    for t, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        strategy.eval(benchmark.seen_stream[t])
        assert predictions.accuracy >= 0.9
        prototypes = strategy.model.head.prototypes()
        assert prototypes.shape[1] == t + 1
        assert prototypes.abs().amax(-1).min() > 0
        assert prototypes.isfinite().all()


def test_labels_that_are_not_remapped() -> None:
    order = [7, 2, 5, 0, 6, 3]
    chosen = []
    for split in (0, 1):
        data = tiny_images(8, split=split)
        of_order = torch.isin(data.tensors[1], torch.tensor(order))
        chosen.append(with_targets(*(t[of_order] for t in data.tensors)))
    benchmark = nc_benchmark(
        *chosen,
        n_experiences=3,
        task_labels=False,
        shuffle=False,
        fixed_class_order=order,
        class_ids_from_zero_from_first_exp=False,
    )
    predictions = Predictions()
    strategy = ease(plugins=[predictions])
    for t, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        strategy.eval(benchmark.test_stream[: t + 1])
    assert strategy.model.head.labels.tolist() == [2, 7, 0, 5, 3, 6]
    assert predictions.accuracy >= 0.9


@pytest.mark.parametrize("config", [{}, {"max_adapters": 1}], ids=str)
def test_label_of_an_earlier_experience(config: dict[str, Any], benchmark: CILBenchmark) -> None:
    strategy = ease(**config)
    strategy.train(benchmark.train_stream[0])
    second = benchmark.train_stream[1]
    both = copy.copy(second)
    both._dataset = second.dataset.concat(benchmark.train_stream[0].dataset)
    with pytest.raises(ValueError, match=r"current experience \[2, 3\], got .*earlier ones"):
        strategy.train(both)
    strategy.train(second)  # the same experience goes on
    assert strategy.model.adapters == (1 if config else 2)


def test_announced_class_without_images(benchmark: CILBenchmark) -> None:
    experience = copy.copy(benchmark.train_stream[0])
    experience.classes_in_this_experience = [0, 1, 2]
    with pytest.raises(ValueError, match=r"classes \[2\] have no training images"):
        ease().train(experience)


def test_class_means_are_of_finite_features(benchmark: CILBenchmark) -> None:
    """Where a task has no adapters of its own, no loss would have said so."""
    strategy = ease(max_adapters=1)
    strategy.train(benchmark.train_stream[0])
    images = tiny_images(6)
    images.tensors[0][-1] = torch.nan
    with pytest.raises(ValueError, match="have features that are not finite"):
        strategy.train(tiny_benchmark(train=images).train_stream[1:])


def test_the_model_is_made_as_the_settings_say(benchmark: CILBenchmark) -> None:
    strategy = ease(bottleneck=3, scale=0.4, dropout=0.2, rows=2, alpha=0.3, batch_size=12)
    assert strategy.model.sizes == {"bottleneck": 3, "scale": 0.4, "dropout": 0.2}
    assert strategy.model.head.config.alpha == 0.3
    strategy.train(benchmark.train_stream)
    adapter: Any = strategy.model.petl.adapters[0]
    assert (adapter.scale, adapter.dropout, len(adapter.down.weight)) == (0.4, 0.2, 3)
    sizes: list[int] = []
    strategy.model.backbone.vit.blocks[1].attn.register_forward_pre_hook(
        lambda _, args: sizes.append(len(args[0]))
    )
    strategy.eval_mb_size = 1
    strategy.eval(benchmark.test_stream[0])
    assert max(sizes) == 2  # images times adapters at once


# The configuration files: lr, batch size, weight decay, epochs, bottleneck, alpha.
RELEASED = {
    "cifar100/B0-Inc5": (0.025, 48, 5e-4, 20, 64, 0.1),
    "cub/B0-Inc10": (0.008, 32, 5e-4, 20, 64, 0.05),
    "imagenet-r/B0-Inc20": (0.05, 16, 5e-3, 20, 64, 0.1),
    "imagenet-a/B0-Inc20": (0.05, 32, 5e-3, 20, 64, 0.1),
    "objectnet/B0-Inc10": (0.05, 48, 5e-3, 25, 64, 0.2),
    "omnibenchmark/B0-Inc30": (0.01, 16, 5e-4, 20, 64, 1.0),
    "vtab/B0-Inc10": (0.03, 16, 5e-3, 45, 16, 0.1),
    "cub/B0-Inc10@in1k-ft": (0.005, 16, 5e-4, 20, 64, 0.005),
    "objectnet/B0-Inc10@in1k-ft": (0.03, 48, 5e-3, 20, 64, 0.1),
}


def test_presets_are_the_released_settings() -> None:
    names = ("lr", "batch_size", "weight_decay", "epochs", "bottleneck", "alpha")
    for preset, values in RELEASED.items():
        config = EASEConfig.preset(preset)
        assert tuple(getattr(config, name) for name in names) == values, preset
        assert config.optimizer == ("adam" if preset == "objectnet/B0-Inc10@in1k-ft" else "sgd")
        assert config.pretrained == (preset == "cub/B0-Inc10@in1k-ft" or "omni" in preset)
        assert config.reweight == ("omni" not in preset)
        assert config.max_adapters == (1 if "omni" in preset else None)
    for preset in EASEConfig.presets():
        EASEConfig.preset(preset)
    assert EASEConfig.preset("vtab/B0-Inc10", lr=0.5).lr == 0.5
    with pytest.raises(ValueError, match="no EASE preset 'vtab/B0-Inc1'; did you mean 'vtab/B0-I"):
        EASEConfig.preset("vtab/B0-Inc1")


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="EASEConfig cannot be used") as info:
        EASEConfig(
            alpha=-1.0,
            similar_to="all",
            optimizer="lion",
            epochs=0,
            rows=0,
            later_lr=-1.0,
            dropout=1.0,
            weight_decay=-1.0,
        )
    assert str(info.value).count("\n- ") == 8
