"""The split protocol and the benchmark that it makes of two data sets."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import NCScenario
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from calls import Calls
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from avalanche_care.benchmarks import (
    CILBenchmark,
    Protocol,
    available_benchmarks,
    class_incremental,
)
from avalanche_care.benchmarks.labels import labels_of


def tensor_data(n_classes: int, per_class: int) -> TensorDataset:
    """Images of shape (2,) that carry their original class and a serial number."""
    labels = torch.arange(n_classes).repeat(per_class)
    images = torch.stack([labels.float(), torch.arange(len(labels)).float()], dim=1)
    return TensorDataset(images, labels)


def small_benchmark(protocol: Protocol, **kwargs: Any) -> CILBenchmark:
    train, test = tensor_data(protocol.total_classes, 3), tensor_data(protocol.total_classes, 2)
    return class_incremental(train, test, protocol, name="toy", **kwargs)


# The first entries of the class orders of the published protocols, read off the reference code.
@pytest.mark.parametrize(
    ("n_classes", "first"),
    [
        (100, (68, 56, 78, 8, 23, 84, 90, 65, 74, 76)),
        (200, (168, 136, 51, 9, 183, 101, 171, 99, 42, 159)),
        (1000, (54, 7, 894, 512, 126, 337, 988, 11, 284, 493)),
    ],
)
def test_seed_1993_gives_the_published_order(n_classes: int, first: tuple[int, ...]) -> None:
    order = Protocol.parse("B0-Inc10", n_classes=n_classes).class_order
    assert order[:10] == first
    assert sorted(order) == list(range(n_classes))


@pytest.mark.parametrize(
    ("name", "n_classes", "sizes"),
    [
        ("B0-Inc10", 1000, (10,) * 100),
        ("B0-Inc5", 1000, (5,) * 200),
        ("B100-Inc6", 1000, (100, *(6,) * 150)),
        ("B100-Inc3", 1000, (100, *(3,) * 300)),
        ("B0-Inc4", 10, (4, 4, 2)),
        ("B5-Inc2", 10, (5, 2, 2, 1)),
        ("B10-Inc3", 10, (10,)),
        ("B0-Inc1", 3, (1, 1, 1)),
    ],
)
def test_sizes(name: str, n_classes: int, sizes: tuple[int, ...]) -> None:
    protocol = Protocol.parse(name, n_classes=n_classes)
    assert protocol.sizes == sizes
    assert protocol.tasks == len(sizes)
    assert protocol.name == name
    assert [c for t in range(protocol.tasks) for c in protocol.classes_of(t)] == [*range(n_classes)]


@st.composite
def splits(draw: st.DrawFn) -> Protocol:
    """Any protocol that can be built, of up to 400 classes and some that are left out."""
    n_classes = draw(st.integers(1, 400))
    base = draw(st.integers(0, n_classes))
    increment = draw(st.integers(1, n_classes - base or 400))
    seed = draw(st.none() | st.integers(0, 2**32 - 1))
    return Protocol(
        base, increment, n_classes, seed, total_classes=n_classes + draw(st.integers(0, 50))
    )


@given(splits())
def test_the_sizes_of_any_split(protocol: Protocol) -> None:
    sizes, base, increment = protocol.sizes, protocol.base, protocol.increment
    assert sum(sizes) == protocol.n_classes
    assert len(sizes) == protocol.tasks
    assert min(sizes) >= 1
    later = list(sizes)
    if base:
        assert later.pop(0) == base
    assert all(size == increment for size in later[:-1])
    if later:  # the last one has the remainder, if there is one
        assert later[-1] == ((protocol.n_classes - base) % increment or increment)
    assert (
        Protocol.parse(
            protocol.name,
            n_classes=protocol.n_classes,
            class_order_seed=protocol.class_order_seed,
            total_classes=protocol.total_classes,
        )
        == protocol
    )


@given(splits())
def test_every_class_arrives_exactly_once(protocol: Protocol) -> None:
    tasks = [protocol.classes_of(task) for task in range(protocol.tasks)]
    assert [label for task in tasks for label in task] == list(range(protocol.n_classes))
    order = protocol.class_order
    assert len(order) == len(set(order)) == protocol.n_classes
    assert 0 <= min(order) <= max(order) < protocol.total_classes
    whole = dataclasses.replace(protocol, n_classes=protocol.total_classes, base=0, increment=1)
    assert sorted(whole.class_order) == list(range(protocol.total_classes))
    assert whole.class_order[: protocol.n_classes] == order


def test_the_class_orders_of_the_paper() -> None:
    orders = {}
    for seed in (1993, 1990, 1996, 1999):
        protocol = Protocol.parse("B100-Inc3", n_classes=1000, class_order_seed=seed)
        np.random.seed(0)  # the global generator plays no part
        again = Protocol.parse("B0-Inc10", n_classes=1000, class_order_seed=seed)
        np.random.seed(seed)  # how the reference code draws it
        assert protocol.class_order == again.class_order == tuple(np.random.permutation(1000))
        orders[protocol.class_order] = seed
    assert len(orders) == 4
    assert next(iter(orders))[:4] == (54, 7, 894, 512)


def test_classes_of_refuses_a_task_that_is_not_there() -> None:
    with pytest.raises(IndexError, match="B0-Inc5 has tasks 0 to 1, got 2"):
        Protocol(0, 5, 10).classes_of(2)


def test_no_seed_keeps_the_natural_order() -> None:
    assert Protocol(0, 2, 6, class_order_seed=None).class_order == tuple(range(6))


def test_own_order() -> None:
    protocol = Protocol(0, 2, 4, class_order_seed=None, fixed_class_order=(3, 1, 0, 2))
    assert protocol.class_order == (3, 1, 0, 2)
    shorter = dataclasses.replace(protocol, n_classes=2)
    assert shorter.class_order == (3, 1)
    parsed = Protocol.parse(
        "B0-Inc2", n_classes=4, class_order_seed=None, fixed_class_order=[3, 1, 0, 2]
    )
    assert parsed == protocol


@pytest.mark.parametrize("seed", [1993, 7])
def test_own_order_and_a_seed_contradict_each_other(seed: int) -> None:
    own = Protocol(0, 2, 4, class_order_seed=None, fixed_class_order=(3, 1, 0, 2))
    with pytest.raises(ValueError, match=f"pass class_order_seed=None with it, got {seed}"):
        dataclasses.replace(own, class_order_seed=seed)


@pytest.mark.parametrize("before", [1993, 7, None])
@pytest.mark.parametrize("after", [1993, 7, None])
def test_another_seed_is_another_order(before: int | None, after: int | None) -> None:
    changed = dataclasses.replace(Protocol(0, 2, 10, before), class_order_seed=after)
    assert changed == Protocol(0, 2, 10, after)
    expected = range(10) if after is None else np.random.RandomState(after).permutation(10)
    assert changed.class_order == tuple(expected)


def test_fewer_classes_are_the_beginning_of_the_long_sequence() -> None:
    whole = Protocol.parse("B0-Inc10", n_classes=1000)
    part = Protocol.parse("B0-Inc10", n_classes=100, total_classes=1000)
    assert part.class_order == whole.class_order[:100]
    assert part.tasks == 10
    assert dataclasses.replace(part, increment=20).class_order == part.class_order


@pytest.mark.parametrize("name", ["B0Inc10", "b0-inc10", "B-Inc10", "B0-Inc", "10", "", 10, None])
def test_a_name_of_another_form_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=r"B\{base\}-Inc\{increment\}.*B100-Inc3.*got"):
        Protocol.parse(name, n_classes=100)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"increment": 0}, "increment must be an integer of at least 1, got 0"),
        ({"base": -1}, "base must be an integer of at least 0"),
        ({"base": 11}, "base=11 is more than the 10 classes"),
        ({"increment": 11}, "increment=11 is more than the 10 classes left after base=0 of 10"),
        ({"base": 8, "increment": 3}, "increment=3 is more than the 2 classes left after base=8"),
        ({"n_classes": 10.0}, "n_classes must be an integer"),
        ({"total_classes": 9}, "total_classes must be an integer of at least n_classes=10, got 9"),
        ({"total_classes": "10"}, "total_classes must be an integer .* got '10'"),
        ({"class_order_seed": -1}, "class_order_seed must be None or in"),
        ({"fixed_class_order": (0, 1)}, "fixed_class_order must have 10 entries, got 2"),
        ({"fixed_class_order": (*range(9), 10)}, r"integers in \[0, 10\), got \[10\]"),
        ({"fixed_class_order": (*range(9), 0)}, r"each class once; more than once: \[0\]"),
        ({"fixed_class_order": tuple(range(10))}, "pass class_order_seed=None with it, got 1993"),
    ],
)
def test_values_that_allow_no_split_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Protocol(**({"base": 0, "increment": 2, "n_classes": 10} | values))


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(ValueError, match="cannot be built") as error:
        Protocol(-1, 0, True, class_order_seed="x")  # type: ignore[arg-type]
    for name in ("base", "increment", "n_classes", "class_order_seed"):
        assert f"\n- {name} must be" in str(error.value)


def test_the_streams_follow_the_protocol() -> None:
    protocol = Protocol.parse("B4-Inc3", n_classes=12)
    benchmark = small_benchmark(protocol)
    assert isinstance(benchmark, CILBenchmark)
    assert benchmark.name == "toy"
    assert benchmark.class_order == protocol.class_order
    assert protocol.sizes == (4, 3, 3, 2)
    for stream, per_class in ((benchmark.train_stream, 3), (benchmark.test_stream, 2)):
        assert len(stream) == 4
        for task, experience in enumerate(stream):
            labels = list(protocol.classes_of(task))
            assert sorted(experience.classes_in_this_experience) == labels
            samples = list(experience.dataset)
            assert sorted(sample[1] for sample in samples) == sorted(labels * per_class)
            for image, label, task_label in samples:
                assert protocol.class_order[label] == image[0]  # exactly the images of that class
                assert task_label == 0


def test_timeline_is_the_one_that_avalanche_finds() -> None:
    benchmark = small_benchmark(Protocol.parse("B4-Inc3", n_classes=12, total_classes=15))
    for name in ("train", "test"):
        for task in range(4):
            ours = benchmark.get_classes_timeline(task, name)
            theirs = NCScenario.get_classes_timeline(benchmark, task, name)
            assert ours == tuple(sorted(part) for part in theirs)


def test_taking_an_experience_costs_the_same_in_a_long_sequence() -> None:
    found = []
    for tasks in (5, 50):
        benchmark = small_benchmark(Protocol(0, 1, tasks))
        for stream in (benchmark.train_stream, benchmark.test_stream):
            with Calls() as calls:
                _ = stream[4]
            found.append(calls.total)
    assert len(set(found)) == 1, found


def test_seen_stream_is_the_test_stream_up_to_the_step() -> None:
    benchmark = small_benchmark(Protocol.parse("B4-Inc3", n_classes=12))
    assert len(benchmark.seen_stream) == 4
    for t, seen in enumerate(benchmark.seen_stream):
        expected = [
            (image.tolist(), label)
            for task in range(t + 1)
            for image, label, _ in benchmark.test_stream[task].dataset
        ]
        assert [(image.tolist(), label) for image, label, _ in seen.dataset] == expected
        n_seen = sum(benchmark.protocol.sizes[: t + 1])
        assert seen.classes_in_this_experience == list(range(n_seen))
        assert seen.classes_seen_so_far == list(range(n_seen))
        assert seen.future_classes == list(range(n_seen, 12))
        assert seen.current_experience == t
        assert seen.task_labels == [0]
        assert seen.benchmark is benchmark
        assert seen.origin_stream.name == "test_seen"
        assert benchmark.seen_stream[t] is seen  # built once
    assert benchmark.seen_stream[-1] is benchmark.seen_stream[3]


def test_transforms_reach_their_streams() -> None:
    benchmark = small_benchmark(
        Protocol(0, 2, 4), train_transform=lambda x: x + 1000, eval_transform=lambda x: x - 1000
    )
    assert benchmark.train_stream[0].dataset[0][0].min() >= 1000
    assert benchmark.train_stream[0].dataset.eval()[0][0].max() < 0
    assert benchmark.test_stream[0].dataset[0][0].max() < 0
    assert benchmark.seen_stream[1].dataset[0][0].max() < 0


def test_a_subset_of_the_classes() -> None:
    protocol = Protocol.parse("B0-Inc2", n_classes=5, total_classes=9)
    benchmark = small_benchmark(protocol)
    originals = {int(image[0]) for e in benchmark.train_stream for image, _, _ in e.dataset}
    assert originals == set(protocol.class_order)
    assert len(benchmark.seen_stream[2].dataset) == 5 * 2


def test_class_names_and_realms_are_given_per_label() -> None:
    benchmark = small_benchmark(
        Protocol(0, 2, 3, class_order_seed=None, fixed_class_order=(2, 0, 1), total_classes=4),
        class_names=["zero", "one", "two", "three"],
        realms={"even": [0, 2], "odd": [1, 3], "unused": [3]},
    )
    assert benchmark.class_names == ("two", "zero", "one")
    assert benchmark.realms == {"even": (0, 1), "odd": (2,)}
    assert small_benchmark(Protocol(0, 2, 4)).realms is None


def test_301_steps() -> None:
    benchmark = small_benchmark(Protocol.parse("B100-Inc3", n_classes=1000))
    assert len(benchmark.seen_stream) == 301
    assert [len(e.dataset) for e in benchmark.seen_stream][::100] == [200, 800, 1400, 2000]
    last_six = [benchmark.seen_stream[300].dataset[i][1] for i in range(1994, 2000)]
    assert sorted(last_six) == [997, 997, 998, 998, 999, 999]


class OneHot(nn.Module):
    """Knows the answer: the first number of an image is its class."""

    def __init__(self, label_of: Tensor) -> None:
        super().__init__()
        self.register_buffer("label_of", label_of)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        labels = self.label_of[x[:, 0].long()]
        return self.scale * nn.functional.one_hot(labels, len(self.label_of)).float()


def test_naive_trains_and_evaluates_on_it() -> None:
    benchmark = small_benchmark(Protocol.parse("B4-Inc3", n_classes=12))
    label_of = torch.empty(12, dtype=torch.long)
    label_of[list(benchmark.class_order)] = torch.arange(12)
    label_of[benchmark.class_order[5]] = 0  # wrong on purpose: one of the classes of task 1
    model = OneHot(label_of)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        train_mb_size=5,
        eval_mb_size=7,
        evaluator=EvaluationPlugin(accuracy_metrics(stream=True), loggers=[]),
    )
    name = "Top1_Acc_Stream/eval_phase/test_seen_stream/Task000"
    for t, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        bare = strategy.eval(benchmark.seen_stream[t])[name]
        listed = strategy.eval([benchmark.seen_stream[t]])[name]
        n_seen = sum(benchmark.protocol.sizes[: t + 1])
        assert bare == listed == pytest.approx(1.0 if t == 0 else (n_seen - 1) / n_seen)
    assert strategy.eval(benchmark.test_stream)[name.replace("test_seen", "test")] == bare


class Listed(Dataset[Any]):
    """A data set in torchvision's manner."""

    def __init__(self, targets: Any) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(1), int(self.targets[index])


@pytest.mark.parametrize(
    "dataset",
    [
        Listed([0, 1, 2, 1]),
        Listed(np.array([0, 1, 2, 1])),
        Listed(torch.tensor([0, 1, 2, 1])),
        TensorDataset(torch.zeros(4, 1), torch.tensor([0, 1, 2, 1])),
        Subset(Listed([9, 0, 1, 2, 1]), range(1, 5)),
        Subset(Subset(Listed([9, 0, 9, 1, 2, 1]), [1, 2, 3, 4, 5]), [0, 2, 3, 4]),
        ConcatDataset([Listed([0]), TensorDataset(torch.zeros(3, 1), torch.tensor([1, 2, 1]))]),
    ],
    ids=["list", "array", "tensor", "tensors", "subset", "subset of subset", "concat"],
)
def test_labels_are_found_and_the_benchmark_builds(dataset: Dataset[Any]) -> None:
    assert labels_of(dataset).tolist() == [0, 1, 2, 1]
    protocol = Protocol(0, 1, 3, class_order_seed=None, fixed_class_order=(1, 2, 0))
    benchmark = class_incremental(dataset, dataset, protocol, name="toy")
    assert [sample[1] for e in benchmark.train_stream for sample in e.dataset] == [0, 0, 1, 2]


def test_data_without_usable_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="'targets' sequence or a TensorDataset is needed, got li"):
        labels_of([(torch.zeros(1), 0)])
    with pytest.raises(ValueError, match="one integer per sample, got float32"):
        labels_of(Listed(torch.tensor([0.0, 1.0])))
    with pytest.raises(ValueError, match=r"one integer per sample, got int64 of shape \(2, 1\)"):
        labels_of(Listed(torch.tensor([[0], [1]])))
    renamed = Listed([0, 1])
    renamed.target_transform = lambda y: y + 1  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="has a target_transform"):
        labels_of(renamed)


def test_every_misfit_of_the_data_is_reported_at_once() -> None:
    protocol = Protocol(0, 2, 6, class_order_seed=None, fixed_class_order=(5, 4, 3, 2, 1, 0))
    train, test = Listed([0, 1, 2, 3, 6, -1]), Listed([0, 2, 3, 4, 5])
    names = ["ant", "bee", "cat", "dog", "elk", "fox"]
    with pytest.raises(ValueError, match="the data do not fit B0-Inc2 of 6 classes") as error:
        class_incremental(train, test, protocol, name="toy", class_names=names)
    message = str(error.value)
    assert "training set has labels outside [0, 6), the classes of the protocol: -1, 6" in message
    # task 0 is classes 5 and 4: an experience without a single training image
    assert "task 0: all classes without a training image: 5 (fox), 4 (elk)" in message
    assert "task 2: classes without a test image: 1 (bee)" in message
    assert message.count("\n- ") == 3


def test_a_long_list_of_misfits_is_cut() -> None:
    # 51 classes without a training image and 50 without a test image, of which 20 are listed
    with pytest.raises(ValueError, match="and 81 problems more"):
        class_incremental(Listed([]), Listed([0]), Protocol(0, 1, 51), name="toy")


def test_wrong_number_of_class_names_is_refused() -> None:
    with pytest.raises(ValueError, match="class_names must have 4 entries, got 1"):
        small_benchmark(Protocol(0, 2, 4), class_names=["ant"])


def test_benchmarks_are_listed_with_a_description() -> None:
    listed = available_benchmarks()
    assert {"glyphs", "folders"} <= set(listed)
    assert list(listed) == sorted(listed)
    assert all(text and "\n" not in text for text in listed.values())


def test_listing_the_benchmarks_imports_nothing_heavy() -> None:
    code = (
        "from avalanche_care.benchmarks import available_benchmarks; available_benchmarks();"
        "import sys; print(sorted({'torch', 'avalanche', 'numpy'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
