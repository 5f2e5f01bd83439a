"""Fine-tuning, joint training, replay, LwF, EWC and SLDA: equal to Avalanche's own strategies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.core import SupervisedPlugin
from avalanche.models import IncrementalClassifier
from avalanche.training import EWC, JointTraining, LwF, Naive, StreamingLDA
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from tiny import snapshot, tiny_benchmark, tiny_images, tiny_strategy, tiny_vit, with_targets
from torch import Tensor, nn
from torch.utils.data import DataLoader

from avalanche_care.benchmarks import CILBenchmark, Protocol, class_incremental
from avalanche_care.nn import LinearClassifier
from avalanche_care.nn.petl import KINDS
from avalanche_care.nn.weights import state_sha256
from avalanche_care.plugins import silent_evaluator
from avalanche_care.strategies.phases import TrainingPhase
from avalanche_care.strategies.registry import available_methods, get_method
from avalanche_care.strategies.template import PTMStrategy

SEQUENTIAL = ("finetune", "joint", "replay", "lwf", "ewc")
CLASSICS = (*SEQUENTIAL, "slda")
PLAIN = {"epochs": 3, "lr": 0.1, "batch_size": 5, "momentum": 0.0, "weight_decay": 0.0}
OWN: dict[str, dict[str, Any]] = {
    "joint": {"every": 3},
    "replay": {"memory": 7},
    "lwf": {"alpha": 0.7, "temperature": 3.0},
    "ewc": {"ewc_lambda": 20.0, "decay_factor": 0.5},
}
THEIRS: dict[str, Callable[..., Any]] = {
    "finetune": Naive,
    "joint": JointTraining,
    "replay": lambda plugins, **kwargs: Naive(
        plugins=[*plugins, ReplayPlugin(7, storage_policy=ClassBalancedBuffer(7))], **kwargs
    ),
    "lwf": lambda **kwargs: LwF(alpha=0.7, temperature=3.0, **kwargs),
    "ewc": lambda **kwargs: EWC(ewc_lambda=20.0, mode="online", decay_factor=0.5, **kwargs),
}


def ours(method: str, **changes: Any) -> Any:
    chosen = get_method(method)
    plugins = changes.pop("plugins", None)
    values = {} if method == "slda" else {**PLAIN, "tuning": "none", **OWN.get(method, {})}
    config = chosen.config(**{**values, **changes})
    return chosen.strategy(
        model=tiny_vit(), config=config, plugins=plugins, evaluator=None, eval_mb_size=64
    )


def theirs(method: str, tuning: str, plugins: list[Any]) -> Any:
    """Avalanche's strategy on a plain network with a head that grows."""
    vit = tiny_vit().requires_grad_(tuning == "finetune")
    model = nn.Sequential(vit, IncrementalClassifier(16, 2))
    return THEIRS[method](
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=PLAIN["batch_size"],
        train_epochs=PLAIN["epochs"],
        plugins=plugins,
        evaluator=silent_evaluator(),
    )


class Alike(SupervisedPlugin[Any], supports_distributed=False):
    """Gives any strategy the same new rows, rates and random numbers."""

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        model = strategy.model
        head = model[1].classifier if isinstance(model, nn.Sequential) else model.head
        first = 0 if len(head.bias) == 6 and self.every else len(head.bias) - 2
        rows = torch.randn(6, 16, generator=torch.Generator().manual_seed(5)) / 4
        with torch.no_grad():
            head.weight[first:] = rows[first : len(head.weight)]
            head.bias[first:] = 0.0

    def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        epoch = strategy.clock.train_exp_epochs
        rate = TrainingPhase("", int(PLAIN["epochs"]), PLAIN["lr"]).learning_rate(epoch)
        for group in strategy.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(epoch)

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        torch.manual_seed(99)

    def __init__(self, every: bool = False) -> None:
        super().__init__()
        self.every = every


@pytest.mark.parametrize("tuning", ["none", "finetune"])
@pytest.mark.parametrize("method", SEQUENTIAL)
def test_the_trajectory_is_that_of_avalanche(
    method: str, tuning: str, benchmark: CILBenchmark
) -> None:
    joint = method == "joint"
    mine = ours(method, tuning=tuning, plugins=[Alike(joint)])
    plain = theirs(method, tuning, [Alike(joint)])
    for task, experience in enumerate(benchmark.train_stream):
        mine.train(experience)
        if joint and task < 2:
            continue
        plain.train(benchmark.train_stream if joint else experience)
        head = plain.model[1].classifier
        torch.testing.assert_close(mine.model.head.weight, head.weight, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(mine.model.head.bias, head.bias, rtol=1e-5, atol=1e-6)
        if tuning == "finetune":
            expected = dict(plain.model[0].named_parameters())
            for name, value in mine.model.petl.tuned.named_parameters():
                torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
        x = tiny_images(6, split=1).tensors[0]
        torch.testing.assert_close(mine.model.eval()(x), plain.model.eval()(x))


def test_the_plugins_make_a_difference(benchmark: CILBenchmark) -> None:
    """So that the test above would see one that does nothing."""
    heads = {}
    for method in SEQUENTIAL:
        strategy = ours(method, plugins=[Alike()])
        strategy.train(benchmark.train_stream)
        heads[method] = strategy.model.head.weight.detach()
    for method in SEQUENTIAL[1:]:
        assert (heads[method] - heads["finetune"]).abs().max() > 1e-2, method


@pytest.mark.parametrize(
    ("base", "streaming"), [(False, True), (True, True), (True, False)], ids=str
)
def test_slda_is_avalanches(base: bool, streaming: bool, benchmark: CILBenchmark) -> None:
    mine = ours("slda", base=base, streaming=streaming, shrinkage=0.01)
    plain = StreamingLDA(
        slda_model=tiny_vit(),
        criterion=nn.CrossEntropyLoss(),
        input_size=16,
        num_classes=6,
        shrinkage_param=0.01,
        streaming_update_sigma=streaming,
        train_mb_size=5,
        evaluator=silent_evaluator(),
    )
    x = tiny_images(6, split=1).tensors[0]
    for task, experience in enumerate(benchmark.train_stream):
        mine.train(experience)
        if base and task == 0:
            images, labels, *_ = next(iter(DataLoader(experience.dataset.eval(), batch_size=99)))
            plain.fit_base(tiny_vit()(images), labels)
        else:
            plain.train(experience, shuffle=False)
        seen = 2 * (task + 1)
        assert mine.slda.num_updates == plain.num_updates == 12 * (task + 1)
        torch.testing.assert_close(mine.slda.Sigma, plain.Sigma, rtol=1e-4, atol=1e-5)
        scores = plain.predict(plain.model(x))[:, :seen]
        torch.testing.assert_close(mine.model.eval()(x), scores, rtol=1e-3, atol=1e-3)
        assert torch.equal(mine.model(x).argmax(1), scores.argmax(1))


def test_slda_trains_nothing(benchmark: CILBenchmark) -> None:
    strategy = ours("slda")
    for experience in benchmark.train_stream:
        strategy.train(experience)
        assert not [name for name, p in strategy.model.named_parameters() if p.requires_grad]
    assert strategy.clock.train_iterations == 0


def test_slda_prints_nothing(benchmark: CILBenchmark, capsys: pytest.CaptureFixture[str]) -> None:
    ours("slda", base=True).train(benchmark.train_stream)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("method", CLASSICS)
def test_going_on_from_any_moment(method: str, benchmark: CILBenchmark) -> None:
    """From between experiences, and from right after a phase."""
    states: dict[str, Any] = {}

    class Keep(SupervisedPlugin[Any], supports_distributed=False):
        def phase_complete(self, strategy: PTMStrategy) -> None:
            if strategy.task == 1:
                states["phase"] = copy.deepcopy(strategy.run_state())

    first = ours(method, **({"every": 1} if method == "joint" else {}), plugins=[Keep()])
    first.train(benchmark.train_stream[:2])
    states["between"] = copy.deepcopy(first.run_state())
    first.train(benchmark.train_stream[2])
    for moment, state in states.items():
        torch.manual_seed(77)
        second = ours(method, **({"every": 1} if method == "joint" else {}))
        second.load_run_state(state)
        second.train(benchmark.train_stream[1 if moment == "phase" else 2 :])
        after = snapshot(second.model)
        for name, value in snapshot(first.model).items():
            assert torch.equal(after[name], value), (moment, name)


@pytest.mark.parametrize(
    ("method", "tuning"), [*((m, "none") for m in SEQUENTIAL), ("ewc", "adapter"), ("lwf", "ssf")]
)
def test_going_on_after_the_first_experience(
    method: str, tuning: str, benchmark: CILBenchmark
) -> None:
    """When there is something to hold on to for the first time."""
    settings: dict[str, Any] = {"tuning": tuning, **({"every": 1} if method == "joint" else {})}
    first, second = ours(method, **settings), ours(method, **settings)
    first.train(benchmark.train_stream[0])
    second.load_run_state(copy.deepcopy(first.run_state()))
    state = torch.get_rng_state()
    for strategy in (first, second):
        torch.set_rng_state(state)
        strategy.train(benchmark.train_stream[1])
    after = snapshot(second.model)
    for name, value in snapshot(first.model).items():
        assert torch.equal(after[name], value), name


ORDER = [2, 7, 0, 5, 3, 6]  # sorted within each task


def relabelled(*, from_zero: bool) -> Any:
    """Avalanche's benchmark, with the data set's labels or with those of the order."""
    chosen = []
    for split in (0, 1):
        images, labels = tiny_images(8, split=split).tensors
        kept = torch.isin(labels, torch.tensor(ORDER))
        chosen.append(with_targets(images[kept], labels[kept]))
    return nc_benchmark(
        *chosen,
        n_experiences=3,
        task_labels=False,
        shuffle=False,
        fixed_class_order=ORDER,
        class_ids_from_zero_from_first_exp=from_zero,
    )


@pytest.mark.parametrize("method", CLASSICS)
def test_labels_may_be_any(method: str) -> None:
    heads = []
    for from_zero in (True, False):
        torch.manual_seed(0)
        strategy = ours(method)
        strategy.train(relabelled(from_zero=from_zero).train_stream)
        heads.append(strategy.model.head)
    assert heads[0].labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert heads[1].labels.tolist() == ORDER
    # Columns that do not exist are at the lowest score, so sums differ in their rounding only.
    torch.testing.assert_close(heads[0].weight, heads[1].weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "tuning"),
    [*(("finetune", kind) for kind in sorted(KINDS)), ("lwf", "adapter"), ("ewc", "adapter")],
)
def test_what_trains(method: str, tuning: str, benchmark: CILBenchmark) -> None:
    strategy = ours(method, tuning=tuning, lr=0.01)
    backbone, before = state_sha256(strategy.model.backbone), snapshot(strategy.model.petl)
    assert bool(before) == (tuning != "none")
    strategy.train(benchmark.train_stream[:2])
    assert state_sha256(strategy.model.backbone) == backbone
    after = snapshot(strategy.model.petl)
    moved = [name for name, value in before.items() if not torch.equal(after[name], value)]
    assert len(moved) > 0.8 * len(before) or tuning == "none"
    made = LinearClassifier.from_arguments(tiny_vit(), strategy.model.arguments())
    made.load_state_dict(strategy.model.state_dict())
    x = torch.randn(3, 3, 16, 16)
    assert torch.equal(made.eval()(x), strategy.model.eval()(x))


@pytest.mark.parametrize(
    ("tuning", "options"),
    [("adapter", {"bottleneck": 3}), ("vpt-shallow", {"tokens": 2}), ("vpt-deep", {"tokens": 2})],
)
@pytest.mark.parametrize("method", ["finetune", "joint"])
def test_options_of_the_tuning(method: str, tuning: str, options: dict[str, int]) -> None:
    """At the start, and for joint training in every experience."""
    strategy = ours(method, tuning=tuning, epochs=1, **options)
    shapes = {name: p.shape for name, p in strategy.model.petl.named_parameters()}
    assert any(next(iter(options.values())) in shape for shape in shapes.values())
    strategy.train(tiny_benchmark("B0-Inc6", 6).train_stream)
    assert shapes == {name: p.shape for name, p in strategy.model.petl.named_parameters()}
    assert strategy.model.arguments() == {"kind": tuning, "options": options}


# Memory


def test_the_teacher_shares_the_backbone_and_is_at_rest(benchmark: CILBenchmark) -> None:
    strategy = ours("lwf", tuning="adapter")
    strategy.train(benchmark.train_stream[:2])
    resumed = ours("lwf", tuning="adapter")
    resumed.load_run_state(strategy.run_state())
    assert strategy.method_state() == {}
    for found in (strategy, resumed):
        lwf, model = found.distillation.lwf, found.model
        teacher = lwf.prev_model
        assert teacher.backbone is model.backbone
        assert teacher.head is not model.head
        assert not any(module.training for module in teacher.modules())
        assert not any(p.requires_grad for p in teacher.parameters())
        assert all(p.requires_grad for p in model.petl.parameters())
        assert (lwf.expcount, dict(lwf.prev_classes_by_task)) == (2, {0: {0, 1, 2, 3}})


def test_ewc_keeps_nothing_of_what_is_frozen(benchmark: CILBenchmark) -> None:
    strategy = ours("ewc", tuning="adapter")
    strategy.train(benchmark.train_stream[:2])
    trained = {n for n, p in strategy.model.named_parameters() if p.requires_grad}
    plugin = strategy.consolidation
    for kept in (plugin.importances, plugin.saved_params):
        assert list(kept) == [1]
        assert set(kept[1]) == trained
    assert set(strategy.method_state()["importances"]) == trained
    assert any(bool((value.data > 0).any()) for value in plugin.importances[1].values())
    assert all(p.grad is None for p in strategy.model.parameters())


@pytest.mark.filterwarnings("error")
def test_ewc_grows_without_a_warning(benchmark: CILBenchmark) -> None:
    strategy = ours("ewc")
    strategy.train(benchmark.train_stream)
    assert strategy.consolidation.importances[2]["head.weight"].shape == (6, 16)


# Replay


def test_the_memory_is_shared_by_the_classes(benchmark: CILBenchmark) -> None:
    strategy = ours("replay", memory=7)
    expected = [[4, 3], [2, 2, 2, 1], [2, 1, 1, 1, 1, 1]]
    before: set[tuple[int, ...]] = set()
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        chosen = strategy.memory.chosen
        assert chosen.dtype == torch.int64
        assert chosen[:, 0].bincount().tolist() == expected[task]
        for column, number, place in chosen.tolist():
            assert benchmark.train_stream[number].dataset[place][1] == column
        rows = {tuple(row) for row in chosen.tolist()}
        assert len(rows) == 7
        assert {row for row in rows if row[1] < task} <= before
        before = rows
        assert len(strategy.memory.buffer) == 0
    strategy.memory.resize(strategy, 6)
    assert strategy.memory.chosen[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_fewer_exemplars_than_classes(benchmark: CILBenchmark) -> None:
    strategy = ours("replay", memory=3)
    strategy.train(benchmark.train_stream)
    assert strategy.memory.chosen[:, 0].tolist() == [0, 1, 2]  # the oldest have them


class Seen(SupervisedPlugin[Any], supports_distributed=False):
    """How many images of each label the batches of each experience had."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[list[Tensor]] = []

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.labels.append([])

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.labels[-1].append(strategy.mb_y.clone())

    def counts(self) -> list[list[int]]:
        return [torch.cat([*found, torch.tensor([5])]).bincount().tolist() for found in self.labels]


@pytest.mark.parametrize("cut", [False, True])
def test_replay_reads_exemplars_again(cut: bool, benchmark: CILBenchmark) -> None:
    seen = Seen()
    strategy = ours("replay", epochs=1, batch_size=4, memory=4, plugins=[seen])
    stream = benchmark.train_stream
    strategy.train(stream[0])
    strategy.train(stream[1:][0] if cut else stream[1])  # the origin of the former has no stream[0]
    # Three batches of four new images, and four exemplars in each.
    assert [len(batch) for batch in seen.labels[1]] == [8, 8, 8]
    assert seen.counts()[1] == [6, 6, 6, 6, 0, 1]
    lonely = copy.copy(stream[2])
    lonely._origin_stream = SimpleNamespace(name="train", benchmark=None)
    with pytest.raises(ValueError, match=r"this method reads images of earlier.*train_stream"):
        strategy.train(lonely)


# Joint training


def test_joint_training_has_all_images_so_far(benchmark: CILBenchmark) -> None:
    seen = Seen()
    ours("joint", every=1, epochs=1, plugins=[seen]).train(benchmark.train_stream)
    assert seen.counts() == [[6, 6, 0, 0, 0, 1], [6, 6, 6, 6, 0, 1], [6, 6, 6, 6, 6, 7]]


@pytest.mark.parametrize("method", SEQUENTIAL)
def test_images_are_augmented_in_training(method: str) -> None:
    """Those of earlier experiences too."""
    benchmark = class_incremental(
        tiny_images(6),
        tiny_images(6, split=1),
        Protocol.parse("B0-Inc2", n_classes=6),
        train_transform=lambda image: image + 100,
        eval_transform=lambda image: image - 100,
        name="tiny",
    )
    lowest: list[float] = []

    class Lowest(SupervisedPlugin[Any], supports_distributed=False):
        def before_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            lowest.append(float(strategy.mb_x.min()))

    changes = {"every": 1} if method == "joint" else {}
    ours(method, epochs=1, lr=1e-6, plugins=[Lowest()], **changes).train(benchmark.train_stream)
    assert len(lowest) >= 9
    assert min(lowest) > 50


@pytest.mark.parametrize("tuning", ["none", "adapter", "finetune"])
def test_joint_training_begins_anew(tuning: str, benchmark: CILBenchmark) -> None:
    """What it learns last does not depend on whether it learned anything before."""

    class Seed(SupervisedPlugin[Any], supports_distributed=False):
        def after_train_dataset_adaptation(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            torch.manual_seed(strategy.experience.current_experience)

    states = []
    for every in (1, 2, 3):
        strategy = ours("joint", every=every, tuning=tuning, plugins=[Seed()])
        strategy.train(benchmark.train_stream)
        states.append(snapshot(strategy.model))
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
        assert torch.equal(value, states[2][name]), name


def test_joint_training_is_not_evaluated_where_it_was_left_out(benchmark: CILBenchmark) -> None:
    seen = Seen()
    strategy = ours("joint", every=2, epochs=1, plugins=[seen])
    for task, due in enumerate((False, True, True)):  # the last one always is
        strategy.train(benchmark.train_stream[task], eval_streams=[benchmark.seen_stream[task]])
        assert bool(seen.labels[-1]) == due
        resumed = ours("joint", every=2)
        resumed.load_run_state(strategy.run_state())
        for found in (strategy, resumed):
            if due:
                found.eval(benchmark.seen_stream[task])
                continue
            with pytest.raises(RuntimeError, match=r"experience 0 was left out.*eval_every=2"):
                found.eval(benchmark.seen_stream[task])


def test_periodic_evaluation_passes_over_what_was_left_out(benchmark: CILBenchmark) -> None:
    evaluated: list[int] = []

    class Evaluated(SupervisedPlugin[Any], supports_distributed=False):
        def after_eval(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            evaluated.append(strategy.task)

    method = get_method("joint")
    strategy = method.strategy(
        model=tiny_vit(),
        config=method.config(epochs=1, every=2),
        plugins=[Evaluated()],
        evaluator=None,
        eval_every=0,
    )
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience, eval_streams=[benchmark.seen_stream[task]])
    assert evaluated == [1, 1, 2]  # after the second one, before and after the third


# Errors and descriptions


def test_lwf_refuses_task_labels() -> None:
    benchmark = nc_benchmark(
        tiny_images(4), tiny_images(4, split=1), n_experiences=2, task_labels=True, shuffle=False
    )
    strategy = ours("lwf")
    strategy.train(benchmark.train_stream[0])
    with pytest.raises(ValueError, match=r"all task labels are 0, got \[1\]"):
        strategy.train(benchmark.train_stream[1])


@pytest.mark.parametrize(
    ("method", "wrong", "words"),
    [
        (
            "finetune",
            {"tuning": "lora", "epochs": 0, "lr": -1.0, "momentum": 1.0, "weight_decay": -1.0},
            (
                "FinetuneConfig cannot be used:\n- tuning must",
                "epochs",
                "lr must",
                "momentum",
                "weight_decay",
            ),
        ),
        ("joint", {"every": 0, "epochs": 1.5}, ("every must be", "epochs must be an integer")),
        ("replay", {"memory": 0, "lr": 0.0}, ("memory must be positive", "lr must")),
        ("lwf", {"alpha": -1.0, "temperature": 0.0}, ("alpha must", "temperature must")),
        ("ewc", {"ewc_lambda": -1.0, "decay_factor": 2.0}, ("ewc_lambda must", "decay_factor")),
        (
            "slda",
            {"shrinkage": 2.0, "streaming": False, "batch_size": 0},
            ("SLDAConfig cannot be used:\n- batch_size", "shrinkage must", "without streaming"),
        ),
    ],
)
def test_config(method: str, wrong: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=words[0]) as info:
        get_method(method).config(**wrong)
    assert all(word in str(info.value) for word in words)


def test_what_uses_earlier_images_says_so() -> None:
    uses = {name: m.exemplars for name, m in available_methods().items() if m.exemplars}
    assert uses == {"joint": "all images", "replay": "exemplars"}


@pytest.mark.parametrize("method", SEQUENTIAL)
def test_defaults_of_training(method: str) -> None:
    config = get_method(method).config()
    values = (config.tuning, config.lr, config.batch_size)
    assert values == (("finetune", 0.005, 64) if method == "joint" else ("none", 0.01, 16))
    assert (config.epochs, config.momentum, config.weight_decay) == (20, 0.9, 5e-4)
    strategy = tiny_strategy(method)
    kind = "finetune" if method == "joint" else "none"
    assert strategy.model.arguments() == {"kind": kind, "options": {}}
    (group,) = strategy.build_optimizer(0.3).param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.3, 0.9, 5e-4)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("joint", {"every": 1}),
        ("replay", {"memory": 2000}),
        ("lwf", {"alpha": 1.0, "temperature": 2.0}),
        ("ewc", {"ewc_lambda": 100.0, "decay_factor": 1.0}),
        ("slda", {"shrinkage": 1e-4, "base": False, "streaming": True}),
    ],
)
def test_defaults(method: str, expected: dict[str, Any]) -> None:
    config = get_method(method).config()
    assert {name: getattr(config, name) for name in expected} == expected
