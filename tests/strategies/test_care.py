"""CaRE's training and prediction against the method's description."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from tiny import QUICK_CARE, Predictions, snapshot, tiny_benchmark, tiny_care
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from avalanche_care import CaREConfig, CaREStrategy
from avalanche_care.nn import BRMoEConfig
from avalanche_care.nn.weights import state_sha256
from avalanche_care.strategies.care_presets import PRESETS
from avalanche_care.strategies.phases import Computation, TrainingPhase


class Recorder(SupervisedPlugin[Any], supports_distributed=False):
    """Notes what happens in which phase."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: list[list[str]] = []
        self.lrs: list[dict[str, list[float]]] = []
        self.optimizers: list[set[int]] = []
        self.tensors: list[int] = []
        self.momentum_empty: list[bool] = []
        self.heads: list[dict[str, tuple[Tensor, Tensor]]] = []

    def before_training_exp(self, strategy: CaREStrategy, *args: Any, **kwargs: Any) -> None:
        self.phases.append([])
        self.lrs.append({})
        self.heads.append({})

    def phase_start(self, strategy: CaREStrategy) -> None:
        assert strategy.phase is not None
        self.phases[-1].append(strategy.phase.name)
        self.start = strategy.model.head.weight.detach().clone()

    def phase_end(self, strategy: CaREStrategy) -> None:
        assert strategy.phase is not None
        name = f"{len(self.phases[-1])} {strategy.phase.name}"
        self.heads[-1][name] = (self.start, strategy.model.head.weight.detach().clone())

    def before_training_epoch(self, strategy: CaREStrategy, *args: Any, **kwargs: Any) -> None:
        assert strategy.phase is not None
        rates = self.lrs[-1].setdefault(strategy.phase.name, [])
        if not rates:
            group = strategy.optimizer.param_groups[0]
            self.optimizers.append({id(p) for p in group["params"]})
            self.tensors.append(len(group["params"]))
            self.momentum_empty.append(not strategy.optimizer.state)
        rates.append(strategy.optimizer.param_groups[0]["lr"])


def released_rates(epochs: int, start: float, floor: float) -> list[float]:
    """What PyTorch's scheduler gives when stepped once per epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=start)
    scheduler = CosineAnnealingLR(optimizer, T_max=epochs, eta_min=floor)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


# The schedule and the optimizer


@pytest.mark.parametrize(("epochs", "half"), [(1, 1), (2, 1), (5, 2), (8, 4)])
def test_schedule(epochs: int, half: int) -> None:
    recorder = Recorder()
    strategy = tiny_care(plugins=[recorder], epochs=epochs, lr=0.02, min_lr=0.001)
    strategy.train(tiny_benchmark(n_classes=4).train_stream)
    later = ["phase 1", "class statistics", "alignment"]
    later += ["phase 2", "class statistics", "alignment"]
    assert recorder.phases == [["training", "class statistics"], later]
    first, second = recorder.lrs
    assert first == {"training": pytest.approx(released_rates(epochs, 0.02, 0.001))}
    assert second == {
        "phase 1": pytest.approx(released_rates(half, 0.02, 0.01)),
        "phase 2": pytest.approx(released_rates(half, 0.01, 0.001)),
    }


def test_one_phase() -> None:
    recorder = Recorder()
    strategy = tiny_care(plugins=[recorder], epochs=3, lr=0.02, two_phases=False)
    strategy.train(tiny_benchmark(n_classes=4).train_stream)
    assert recorder.phases[1] == ["training", "class statistics", "alignment"]
    assert recorder.lrs[1] == {"training": pytest.approx(released_rates(3, 0.02, 0.0))}


def test_learning_rate_formula() -> None:
    phase = TrainingPhase("x", 4, 0.1, 0.02)
    rates = [phase.learning_rate(e) for e in range(4)]
    assert rates == pytest.approx(released_rates(4, 0.1, 0.02))
    assert rates[0] == pytest.approx(0.1)


def test_optimizer_holds_newest_triplets_shared_experts_and_head() -> None:
    recorder = Recorder()
    strategy = tiny_care(plugins=[recorder], epochs=2)
    for experience in tiny_benchmark("B0-Inc1", 7).train_stream:
        strategy.train(experience)
        expected = {id(strategy.model.head.weight)}
        for layer in strategy.model.layers():
            assert layer.shared is not None
            for part in (layer.expert, layer.router, layer.perceptron, layer.shared):
                expected |= {id(p) for p in part.parameters()}
        assert recorder.optimizers[-1] == expected
    # 2 blocks of expert 7, router 2, perceptron 4, shared 7 tensors; the head
    assert set(recorder.tensors) == {2 * (7 + 2 + 4 + 7) + 1}
    assert recorder.momentum_empty == [True] * 13  # one phase, then 6 times two


def test_momentum_is_forgotten_between_phases() -> None:
    """Phase 2 with lr = 0 everywhere but in phase 1 must not move anything but by alignment."""
    strategy = tiny_care(alignment_epochs=0, weight_decay=0.0, epochs=2)
    benchmark = tiny_benchmark(n_classes=4)
    strategy.train(benchmark.train_stream[0])
    phases = strategy.phases
    states: list[dict[str, Tensor]] = []

    def still() -> list[Any]:
        first, *_, second, _, _ = phases()
        assert isinstance(second, TrainingPhase)
        note = Computation("note", lambda: states.append(snapshot(strategy.model.head)))
        return [first, note, dataclasses.replace(second, lr=0.0, min_lr=0.0), note]

    strategy.phases = still  # type: ignore[method-assign]
    strategy.train(benchmark.train_stream[1])
    assert torch.equal(states[0]["weight"], states[1]["weight"])


# The shared expert


class Shared(SupervisedPlugin[Any], supports_distributed=False):
    """The shared experts' parameters at each forward pass and after each step of a phase."""

    def __init__(self) -> None:
        super().__init__()
        self.by_phase: list[tuple[Tensor, list[Tensor], list[Tensor], Tensor]] = []

    def flat(self, strategy: Any) -> Tensor:
        return torch.cat([p.detach().flatten() for p in strategy.model.shared_parameters()])

    def phase_start(self, strategy: Any) -> None:
        self.start, self.seen, self.stepped = self.flat(strategy), [], []

    def after_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.seen.append(self.flat(strategy))

    def after_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.stepped.append(self.flat(strategy))

    def phase_end(self, strategy: Any) -> None:
        # This plugin comes before the EMA plugin, so "the paper's" move is not yet made here.
        self.by_phase.append((self.start, self.seen, self.stepped, self.flat(strategy)))

    def training(self) -> list[tuple[Tensor, list[Tensor], list[Tensor], Tensor]]:
        return [phase for phase in self.by_phase if phase[1]]


def run_shared(**config: Any) -> tuple[Shared, CaREStrategy]:
    shared = Shared()
    strategy = tiny_care(plugins=[shared], epochs=4, batch_size=4, **config)
    strategy.train(tiny_benchmark(n_classes=4).train_stream)
    return shared, strategy


def test_shared_expert_stays_within_a_thousandth_of_a_step() -> None:
    shared, strategy = run_shared(alignment_epochs=0)
    first, *later = shared.training()
    start, seen, stepped, end = first
    for at_forward, before in zip(seen[1:], stepped, strict=False):
        assert torch.equal(at_forward, before)  # task 0 trains freely
    assert len(later) == 2
    for start, seen, stepped, end in later:
        assert len(seen) == len(stepped) == 6
        largest = max((s - start).norm() for s in stepped)
        assert largest > 0
        for at_forward, step in zip(seen[1:], stepped, strict=False):
            torch.testing.assert_close(
                at_forward - start, 1e-3 * (step - start), rtol=0, atol=2e-7 * start.abs().max()
            )
            assert (at_forward - start).norm() <= 1.002e-3 * largest + 1e-7 * start.norm()
        assert torch.equal(end, stepped[-1])  # the last step is not pulled back
    strategy.model.eval()
    assert torch.equal(shared.flat(strategy), later[-1][3])
    strategy.eval(tiny_benchmark(n_classes=4).test_stream)
    assert torch.equal(shared.flat(strategy), later[-1][3])


def test_shared_expert_without_the_rule_moves_freely() -> None:
    shared, _ = run_shared(alignment_epochs=0, ema="none")
    for _, seen, stepped, _ in shared.training():
        for at_forward, before in zip(seen[1:], stepped, strict=False):
            assert torch.equal(at_forward, before)


def test_shared_expert_by_the_papers_rule() -> None:
    shared, strategy = run_shared(alignment_epochs=0, ema="paper", ema_decay=0.9, two_phases=False)
    first, second = shared.training()
    for _, seen, stepped, _ in (first, second):
        for at_forward, before in zip(seen[1:], stepped, strict=False):
            assert torch.equal(at_forward, before)
    start, _, stepped, _ = second
    torch.testing.assert_close(shared.flat(strategy), 0.9 * start + 0.1 * stepped[-1])
    assert not torch.allclose(start, stepped[-1])


# Head and loss


def test_old_head_rows_turn_in_alignment_only() -> None:
    recorder = Recorder()
    strategy = tiny_care(plugins=[recorder], epochs=4, lr=0.1, alignment_epochs=1)
    strategy.train(tiny_benchmark(n_classes=6).train_stream)
    for task in (1, 2):
        old = 2 * task
        assert len(recorder.heads[task]) == 6
        for name, (before, after) in recorder.heads[task].items():
            cosine = torch.cosine_similarity(before[:old].double(), after[:old].double())
            if "phase" in name:
                assert (1 - cosine).abs().max() < 1e-12, name
                assert not torch.equal(before[old:], after[old:])
            elif "statistics" in name:
                assert torch.equal(before, after)
            else:
                assert (1 - cosine).max() > 1e-9, name


@pytest.fixture
def in_task_one() -> tuple[CaREStrategy, Tensor, Tensor]:
    """A strategy in the middle of its second experience, with a batch."""
    strategy = tiny_care(brmoe=BRMoEConfig(bottleneck=4, shared_bottleneck=6, dropout=0.0))
    benchmark = tiny_benchmark(n_classes=4)
    strategy.train(benchmark.train_stream)
    dataset = benchmark.train_stream[1].dataset
    x = torch.stack([dataset[i][0] for i in range(len(dataset))])
    y = torch.tensor([dataset[i][1] for i in range(len(dataset))])
    strategy.is_training = True
    strategy.model.train()
    return strategy, x, y


def loss_of(strategy: CaREStrategy, x: Tensor, y: Tensor) -> Tensor:
    strategy.mbatch = [x, y, torch.zeros(len(y))]
    strategy.mb_output = strategy.forward()
    return strategy.criterion()


def test_loss_depends_on_current_columns_only(
    in_task_one: tuple[CaREStrategy, Tensor, Tensor],
) -> None:
    strategy, x, y = in_task_one
    head = strategy.model.head
    loss = loss_of(strategy, x, y)
    (gradient,) = torch.autograd.grad(loss, head.weight)
    assert gradient[:2].abs().max() == 0
    assert gradient[2:].abs().max() > 0
    with torch.no_grad():
        head.weight[:2] += torch.randn(2, 16)
    assert torch.equal(loss_of(strategy, x, y), loss)
    with torch.no_grad():
        head.weight[2:] += torch.randn(2, 16)
    assert not torch.equal(loss_of(strategy, x, y), loss)


def test_loss_is_the_papers_formula(in_task_one: tuple[CaREStrategy, Tensor, Tensor]) -> None:
    """Section 4, written out sample by sample in float64, against the strategy's own loss."""
    strategy, x, y = in_task_one
    weight = strategy.model.head.weight.detach().double()[2:]
    with torch.no_grad():
        out = strategy.model.features_and_logits(x, task=1)
    total = 0.0
    for sample in range(len(x)):
        f = out.features[sample].double()
        cosines = [float(f @ w / (f.norm() * w.norm())) for w in weight]
        target = int(y[sample]) - 2
        total += cross_entropy([20 * c for c in cosines], target)
        for block in range(2):
            z = [float(v) for v in out.logits[block][sample]]
            hard = cross_entropy([20 * v for v in z], target)
            soft = kullback_leibler(cosines, z)  # both blocks are before block 6: temperature 1
            total += (hard + soft) / 2 / 2
    assert loss_of(strategy, x, y).item() == pytest.approx(total / len(x), rel=1e-5)


def softmax(values: list[float]) -> list[float]:
    whole = sum(math.exp(v) for v in values)
    return [math.exp(v) / whole for v in values]


def cross_entropy(values: list[float], target: int) -> float:
    highest = max(values)
    return highest - values[target] + math.log(sum(math.exp(v - highest) for v in values))


def kullback_leibler(teacher: list[float], student: list[float]) -> float:
    p, q = softmax(teacher), softmax(student)
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_labels_of_earlier_experiences_are_refused(
    in_task_one: tuple[CaREStrategy, Tensor, Tensor],
) -> None:
    strategy, x, y = in_task_one
    before = snapshot(strategy.model)
    y = torch.where(torch.arange(len(y)) % 3 == 0, y - 2, y)
    strategy.loss = loss_of(strategy, x, y)
    with pytest.raises(ValueError, match=r"current experience \[2, 3\], got \[0, 1\] of earlier"):
        strategy.backward()
    for name, value in before.items():
        assert torch.equal(value, strategy.model.state_dict()[name]), name


# What stays as it is


def test_backbone_and_old_experts_are_frozen() -> None:
    benchmark = tiny_benchmark("B0-Inc1", 5)
    strategy = tiny_care(lr=0.1)
    backbone = state_sha256(strategy.model.backbone)
    strategy.train(benchmark.train_stream[:3])
    banks = [(snapshot(layer.bank), snapshot(layer.routing)) for layer in strategy.model.layers()]
    strategy.train(benchmark.train_stream[3:])
    assert state_sha256(strategy.model.backbone) == backbone
    for layer, old in zip(strategy.model.layers(), banks, strict=True):
        for module, before in zip((layer.bank, layer.routing), old, strict=True):
            assert len(before) >= 4
            for name, value in before.items():
                assert torch.equal(getattr(module, name)[: len(value)], value), name
                assert len(getattr(module, name)) > len(value)


def test_model_is_back_in_its_mode_after_statistics() -> None:
    modes: list[tuple[str, bool, bool]] = []

    class Modes(SupervisedPlugin[Any], supports_distributed=False):
        def phase_end(self, strategy: Any) -> None:
            layer = next(strategy.model.layers())
            modes.append((strategy.phase.name, layer.training, torch.is_grad_enabled()))

    tiny_care(plugins=[Modes()]).train(tiny_benchmark(n_classes=4).train_stream)
    assert ("class statistics", True, True) in modes
    assert all(training and grad for _, training, grad in modes)


def test_statistics_use_eval_mode_and_the_task_id(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = tiny_benchmark(n_classes=4)
    for with_task, expected in ((True, [0, 1, 1]), (False, [None, None, None])):
        strategy = tiny_care(statistics_with_task=with_task)
        calls: list[int | None] = []
        features = strategy.model.features

        def noting(
            x: Tensor,
            *,
            task: int | None = None,
            calls: list[int | None] = calls,
            features: Any = features,
            strategy: CaREStrategy = strategy,
        ) -> Tensor:
            assert not strategy.model.training
            calls.append(task)
            return features(x, task=task)  # type: ignore[no-any-return]

        monkeypatch.setattr(strategy.model, "features", noting)
        strategy.train(benchmark.train_stream)
        assert calls == expected


# Unequal tasks, switches and precisions


@pytest.mark.parametrize(
    ("protocol", "n_classes", "sizes"),
    [("B1-Inc3", 7, (1, 3, 3)), ("B4-Inc2", 7, (4, 2, 1)), ("B0-Inc1", 3, (1, 1, 1))],
)
@pytest.mark.parametrize("wide", [False, True])
def test_unequal_tasks(protocol: str, n_classes: int, sizes: tuple[int, ...], wide: bool) -> None:
    brmoe = QUICK_CARE["brmoe"]
    if wide:  # more routers and experts asked for than there are tasks
        brmoe = dataclasses.replace(brmoe, top_m=9, top_k=9)
    benchmark = tiny_benchmark(protocol, n_classes)
    assert benchmark.protocol.sizes == sizes
    predictions = Predictions()
    strategy = tiny_care(plugins=[predictions], brmoe=brmoe)
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        strategy.eval(benchmark.seen_stream[task])
        assert predictions.total == 6 * sum(sizes[: task + 1])
        output = torch.stack(list(predictions.outputs.values()))
        assert output.shape[1] == sum(sizes[: task + 1])
        assert torch.isfinite(output).all()


SWITCHES: list[dict[str, Any]] = [
    {"routing_input": "block"},
    {"perceptron_norm": False},
    {"expert_init": "fresh"},
    {"frozen_dropout": False},
    {"normalised_entropy": True},
    {"shared_bottleneck": 0},
    {"top_m": 1, "top_k": 1},
]


@pytest.mark.parametrize("switch", [None, *SWITCHES], ids=str)
def test_every_variant_trains_and_predicts(switch: dict[str, Any] | None) -> None:
    changes: dict[str, Any] = {"epochs": 1, "batch_size": 6}
    if switch is None:
        config = CaREConfig.paper(**changes)
    else:
        brmoe = BRMoEConfig(**{"bottleneck": 4, "shared_bottleneck": 6, **switch})
        config = CaREConfig(brmoe=brmoe, alignment_epochs=1, **changes)
    predictions = Predictions()
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    strategy = tiny_care(plugins=[predictions], **fields)
    assert strategy.config == config
    benchmark = tiny_benchmark()
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.seen_stream[2])
    assert torch.isfinite(torch.stack(list(predictions.outputs.values()))).all()


def test_half_precision_is_close() -> None:
    losses: dict[str, list[float]] = {}

    class Losses(SupervisedPlugin[Any], supports_distributed=False):
        def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            losses.setdefault(strategy.config.amp, []).append(strategy.loss.item())
            assert strategy.loss.dtype == torch.float32

    benchmark = tiny_benchmark(n_classes=4)
    for amp in ("none", "bfloat16", "float16"):
        torch.manual_seed(0)
        brmoe = BRMoEConfig(bottleneck=4, shared_bottleneck=6, dropout=0.0)
        strategy = tiny_care(plugins=[Losses()], amp=amp, brmoe=brmoe, lr=0.001)
        strategy._scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=amp == "float16")
        strategy.train(benchmark.train_stream[:1], shuffle=False)
    exact = torch.tensor(losses["none"])
    for amp, tolerance in (("bfloat16", 0.05), ("float16", 0.02)):
        assert losses[amp] != losses["none"]  # it was on
        torch.testing.assert_close(torch.tensor(losses[amp]), exact, rtol=tolerance, atol=tolerance)


# Prediction


def test_when_prediction_is_iterative(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = tiny_benchmark("B0-Inc1", 4)
    strategy = tiny_care(iterative_max_tasks=2)
    calls = []
    scores = strategy.model.iterative_scores
    monkeypatch.setattr(
        strategy.model, "iterative_scores", lambda x: calls.append(strategy.task) or scores(x)
    )
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        strategy.eval(benchmark.seen_stream[task])
    assert calls == [1, 2]  # a single task needs no search, task 3 is beyond the limit


# Settings


def test_all_problems_of_a_config_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match="CaREConfig") as caught:
        CaREConfig(ema="x", covariance="y", epochs=0, lr=-1.0, margin=-0.1, momentum=1.0, amp="z")
    for part in (
        "ema must be one of ('release', 'paper', 'none'), got 'x'",
        "covariance must be one of ('full', 'diagonal'), got 'y'",
        "amp must be one of ('none', 'float16', 'bfloat16'), got 'z'",
        "epochs must be positive, got 0",
        "lr must be positive, got -1.0",
        "margin must not be negative, got -0.1",
        "momentum must be in [0, 1), got 1.0",
    ):
        assert part in str(caught.value)


TABLE = """
cifar100/B0-Inc10            60 0.05 64 30 0.005 full     none     0.0 none    yes
cifar100/B0-Inc5             60 0.05 64 30 0.005 full     none     0.0 none    yes
imagenet-r/B0-Inc20          60 0.02 32 30 0.005 full     released 0.0 none    yes
imagenet-r/B0-Inc10          60 0.01 16 30 0.005 full     released 0.0 none    yes
imagenet-r/B0-Inc4           20 0.05 16 20 0.005 full     released 0.0 none    yes
imagenet-a/B0-Inc20          20 0.01 16 10 0.01  diagonal released 0.3 none    yes
imagenet-a/B0-Inc4           20 0.01 16 10 0.01  diagonal released 0.3 none    yes
objectnet/B0-Inc20           30 0.05 64 30 0.005 full     released 0.0 none    yes
objectnet/B0-Inc10           30 0.05 64 30 0.005 full     released 0.0 none    yes
objectnet/B0-Inc4            30 0.01 16 30 0.005 full     released 0.0 none    yes
omnibenchmark/B0-Inc5        20 0.01 16 30 0.005 full     released 0.0 none    yes
vtab/B0-Inc10                30 0.01 16 30 0.005 full     released 0.0 none    yes
omnibenchmark1k/B0-Inc10     20 0.02 32 5  0.005 full     released 0.0 float16 no
omnibenchmark1k/B0-Inc5      20 0.01 16 3  0.005 full     released 0.0 float16 no
omnibenchmark1k/B100-Inc6    20 0.02 32 3  0.005 full     released 0.0 float16 no
omnibenchmark1k/B100-Inc3    20 0.01 16 3  0.005 full     released 0.0 float16 no
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]


def test_there_is_a_preset_per_released_configuration() -> None:
    assert set(PRESETS) == {row[0] for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_presets(row: list[str]) -> None:
    name, epochs, lr, batch, ca_epochs, ca_lr, covariance, decay, margin, amp, iterative = row
    config = CaREConfig.preset(name)
    assert (config.epochs, config.lr, config.batch_size) == (int(epochs), float(lr), int(batch))
    assert (config.alignment_epochs, config.alignment_lr) == (int(ca_epochs), float(ca_lr))
    assert (config.covariance, config.alignment_decay) == (covariance, decay)
    assert (config.margin, config.amp) == (float(margin), amp)
    assert config.iterative_prediction == (iterative == "yes")
    plain = name.startswith("imagenet-a/")
    assert config.perceptron_angular == config.distillation == (not plain)
    shared = (config.scale, config.momentum, config.weight_decay, config.ema_decay, config.min_lr)
    assert shared == (20.0, 0.9, 5e-4, 0.999, 0.0)
    brmoe = config.brmoe
    assert (brmoe.top_m, brmoe.top_k) == (2, 3)
    assert (brmoe.bottleneck, brmoe.shared_bottleneck, brmoe.dropout) == (16, 64, 0.1)
    assert (config.ema, config.two_phases, config.iterative_max_tasks) == ("release", True, 60)
    assert CaREConfig.preset(name, epochs=3) == dataclasses.replace(config, epochs=3)


def test_preset_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="did you mean 'imagenet-r/B0-Inc20'"):
        CaREConfig.preset("imagenet-r/B0-inc20")
    with pytest.raises(ValueError, match=r"no CaRE preset 'q'; expected one of \['cifar100"):
        CaREConfig.preset("q")


def test_settings_of_the_papers_text() -> None:
    config = CaREConfig.paper(lr=0.5)
    assert (config.epochs, config.batch_size, config.lr) == (20, 16, 0.5)
    assert not config.two_phases
    assert not config.iterative_prediction
    assert config.alignment_epochs == 0
    assert config.ema == "paper"
    assert config.perceptron_weight == 2.0
    assert config.soft_from_block is None
    brmoe = config.brmoe
    assert (brmoe.routing_input, brmoe.expert_init) == ("block", "fresh")
    assert (brmoe.perceptron_norm, brmoe.frozen_dropout) == (False, False)
    assert (brmoe.top_m, brmoe.top_k, brmoe.bottleneck, brmoe.shared_bottleneck) == (2, 3, 16, 64)
