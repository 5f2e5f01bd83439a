"""A benchmark of 301 tasks on 190,000 training and 20,000 test images: what it costs to have one.

The images are paths that nobody may open. Costs are calls and bytes, which no other process can
disturb.
"""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import dataclass

import pytest
from calls import Calls
from torch.utils.data import Dataset

from avalanche_care.benchmarks import CILBenchmark, Protocol, class_incremental

CLASSES, TASKS = 1000, 301
PROTOCOL = Protocol.parse("B100-Inc3", n_classes=CLASSES)
MEGABYTE = 10**6


class Paths(Dataset[tuple[str, int]]):
    """Equally many fake image files of each class, in the manner of torchvision's ImageFolder."""

    def __init__(self, n_images: int, folder: str) -> None:
        self.samples = [
            (f"/data/{folder}/class_{c:04d}/{number:06d}.jpg", c)
            for c in range(CLASSES)
            for number in range(n_images // CLASSES)
        ]
        self.targets = [c for _, c in self.samples]
        self.reads = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[str, int]:
        self.reads += 1
        return self.samples[index]


@dataclass
class Built:
    """A benchmark and its data."""

    benchmark: CILBenchmark
    train: Paths
    test: Paths


def build(part: int = 1) -> Built:
    """All the images, or one of so many parts of them."""
    train, test = Paths(190_000 // part, "train"), Paths(20_000 // part, "test")
    return Built(class_incremental(train, test, PROTOCOL, name="paths"), train, test)


@pytest.fixture(scope="module")
def built() -> Built:
    return build()


def test_memory() -> None:
    """Five times what a fifth of the images takes, for tracing every allocation takes its time.

    That is more than all of them take, since what the tasks and classes cost is counted five times.
    """
    gc.collect()
    tracemalloc.start()
    try:
        fifth = build(part=5)
        peak = tracemalloc.get_traced_memory()[1]
        _ = fifth.benchmark.seen_stream
        peak_with_seen_stream = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 5 * peak < 75 * MEGABYTE  # 32 of them are the paths and labels themselves
    assert 5 * peak_with_seen_stream < 160 * MEGABYTE


def test_every_stream_is_whole(built: Built) -> None:
    benchmark = built.benchmark
    streams = (benchmark.train_stream, benchmark.test_stream, benchmark.seen_stream)
    assert [len(stream) for stream in streams] == [TASKS] * 3
    sizes = [[len(experience.dataset) for experience in stream] for stream in streams]
    assert sizes[0] == [190 * n for n in PROTOCOL.sizes]
    assert sizes[1] == [20 * n for n in PROTOCOL.sizes]
    assert sizes[2] == [20 * sum(PROTOCOL.sizes[: t + 1]) for t in range(TASKS)]
    # The last image of the last task is one of the last class.
    path, label, _ = benchmark.train_stream[300].dataset[-1]
    assert label == CLASSES - 1 or label in PROTOCOL.classes_of(300)
    assert f"class_{PROTOCOL.class_order[label]:04d}" in path


def test_iterating_reads_no_image(built: Built) -> None:
    before = (built.train.reads, built.test.reads)
    for stream in (built.benchmark.train_stream, built.benchmark.test_stream):
        for experience in stream:
            _ = (len(experience.dataset), experience.task_labels)
            _ = (experience.classes_in_this_experience, experience.classes_seen_so_far)
    for seen in built.benchmark.seen_stream:
        _ = (len(seen.dataset), seen.task_labels, seen.classes_in_this_experience)
    assert (built.train.reads, built.test.reads) == before


def calls_of_iterating(benchmark: CILBenchmark) -> Calls:
    list(benchmark.train_stream)  # what is made once and kept is not counted
    with Calls() as calls:
        for experience in benchmark.train_stream:
            _ = (experience.dataset, experience.task_labels)
            _ = experience.classes_in_this_experience
    return calls


def test_iterating_costs_as_much_as_there_are_tasks(built: Built) -> None:
    """No access goes through images or through other tasks.

    Avalanche's own benchmark finds the classes of each experience from those of all others: at 301
    tasks some 50 times as many calls.
    """

    one = Paths(CLASSES, "one")  # of each class
    one_image_each = class_incremental(one, one, PROTOCOL, name="labels")
    many, few = calls_of_iterating(built.benchmark), calls_of_iterating(one_image_each)
    assert many.total == few.total, many.growth_from(few)

    ten = Protocol(100, 100, CLASSES)  # as many classes in a thirtieth of the tasks
    short = calls_of_iterating(class_incremental(one, one, ten, name="labels"))
    most = short.total / ten.tasks * TASKS
    assert many.total < 1.1 * most, many.growth_from(short)
    assert many.total < 200 * TASKS


def test_a_number_is_kept_once(built: Built) -> None:
    """The lists of classes of 301 experiences are of the same 1,000 objects."""
    numbers = {
        id(label)
        for seen in built.benchmark.seen_stream
        for label in (*seen.classes_seen_so_far, *seen.future_classes)
    }
    assert len(numbers) == CLASSES


def test_lists_of_classes_are_the_callers_own(built: Built) -> None:
    for stream in (built.benchmark.train_stream, built.benchmark.test_stream):
        stream[3].classes_seen_so_far.clear()
        assert len(stream[3].classes_seen_so_far) == 109
