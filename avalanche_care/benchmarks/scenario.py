"""The benchmark that a split protocol makes of two data sets.

It is Avalanche's own ``NCScenario`` (new classes), so that every Avalanche strategy runs on it,
with one stream more: ``seen_stream`` holds, for each step, a single evaluation experience with the
test images of all classes seen so far. Evaluating it costs one pass and one data loader, where
``test_stream[: t + 1]`` costs t + 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from avalanche.benchmarks import EagerCLStream, NCScenario, nc_benchmark
from avalanche.benchmarks.scenarios.deprecated import AbstractClassTimelineExperience

from avalanche_care.benchmarks.labels import check_labels
from avalanche_care.benchmarks.protocol import Protocol

__all__ = ["CILBenchmark", "SeenExperience", "class_incremental"]


class SeenExperience(AbstractClassTimelineExperience[Any]):
    """Test images of every class seen up to one step, as one evaluation experience."""

    @property
    def task_labels(self) -> list[int]:
        """Always ``[0]``: the default would read the task label of every sample to find that."""
        return [0]


class CILBenchmark(NCScenario):
    """Avalanche's new-classes benchmark, with its protocol and ``seen_stream``.

    Build it with :func:`class_incremental`. ``train_stream`` and ``test_stream`` are Avalanche's.
    Labels are positions in the class order, so the classes of task t follow those of task t - 1.

    Attributes:
        name: Name for tables and result files.
        protocol: The split.
        class_names: Name of each label, or None.
        realms: Groups of classes, name -> labels; None if the data have none.
        transforms: What is done to the images, in words; None if nobody said. Accuracies under
            different transforms are not comparable, so it goes into every result.
    """

    name: str
    protocol: Protocol
    class_names: tuple[str, ...] | None
    realms: Mapping[str, tuple[int, ...]] | None
    transforms: str | None
    _labels: list[int]  # slices of it share the numbers, which weigh more than lists of 301 steps

    def __str__(self) -> str:
        """A summary in words, for logs and the command line."""
        protocol = self.protocol
        seed = protocol.class_order_seed
        order = "fixed class order" if protocol.fixed_class_order else "natural class order"
        lines = [
            f"{self.name}, {protocol.name}: {protocol.n_classes:,} classes in {protocol.tasks} "
            f"tasks, {order if seed is None else f'class order {seed}'}",
            f"images: {_count(self, 'train'):,} for training, {_count(self, 'test'):,} for testing",
            f"transforms: {self.transforms or 'not recorded'}",
        ]
        if self.realms:
            lines.append(f"realms: {len(self.realms)}")
        return "\n".join(lines)

    @property
    def class_order(self) -> tuple[int, ...]:
        """Original class index of each label."""
        return self.protocol.class_order

    def get_classes_timeline(
        self, current_experience: int, stream: str = "train"
    ) -> tuple[list[int], list[int], list[int], list[int]]:
        """Return the classes of an experience, those before it, both together, those to come.

        Avalanche asks for them at every access to an experience, and goes through all experiences
        to find them. Here they follow from the protocol, in both streams.
        """
        now = self.protocol.classes_of(current_experience)
        labels = self._labels
        return (
            labels[now.start : now.stop],
            labels[: now.start],
            labels[: now.stop],
            labels[now.stop :],
        )

    @cached_property
    def seen_stream(self) -> EagerCLStream[SeenExperience]:
        """One evaluation experience per step t, with the test images of tasks 0 to t."""
        # Each data set is the one before plus the new task: sharing keeps 301 steps at a tenth of a
        # second, where 301 subsets of the whole test set take 20 times that.
        experiences, dataset = [], None
        for task, part in enumerate(self.stream_definitions["test"].exps_data):
            dataset = part if dataset is None else dataset.concat(part)
            _, before, seen, future = self.get_classes_timeline(task)
            experiences.append(
                SeenExperience(
                    self.test_stream,  # only until the stream below takes them over
                    dataset,
                    task,
                    classes_in_this_exp=seen,
                    previous_classes=before,
                    classes_seen_so_far=seen,
                    future_classes=future,
                )
            )
        return EagerCLStream("test_seen", experiences, benchmark=self)


def class_incremental(
    train: Any,
    test: Any,
    protocol: Protocol,
    *,
    train_transform: Any = None,
    eval_transform: Any = None,
    name: str,
    class_names: Sequence[str] | None = None,
    realms: Mapping[str, Sequence[int]] | None = None,
    transforms: str | None = None,
) -> CILBenchmark:
    """Split two data sets into a class-incremental benchmark.

    Args:
        train, test: Data sets of (image, label) with ``targets`` (torchvision's ``ImageFolder``,
            ``CIFAR100`` ...) or a ``TensorDataset``; ``Subset`` and ``ConcatDataset`` of those too.
            Labels are original class indices, ``0 <= label < protocol.total_classes``.
        protocol: Which classes arrive when.
        train_transform, eval_transform: Applied to the image after the data set's own transform.
        name: Name for tables and result files.
        class_names: Name of each original class, for messages and figures.
        realms: Groups of classes: name -> original class indices.
        transforms: What the transforms do, in words, for results.

    Returns:
        The benchmark. Minibatches are ``(images, labels, task labels)``, the labels are positions
        in the class order and the task labels are all 0.

    Raises:
        ValueError: If the labels do not fit the protocol, or a class has no training or no test
            image; every problem is listed.
    """
    check_labels(train, test, protocol, class_names)
    benchmark = nc_benchmark(
        train,
        test,
        n_experiences=protocol.tasks,
        task_labels=False,
        fixed_class_order=list(protocol.class_order),
        per_exp_classes=dict(enumerate(protocol.sizes)),
        class_ids_from_zero_from_first_exp=True,
        train_transform=train_transform,
        eval_transform=eval_transform,
    )
    # nc_benchmark cannot be told which class to build. Ours adds attributes and changes nothing.
    benchmark.__class__ = CILBenchmark
    benchmark.name = name
    benchmark.protocol = protocol
    benchmark._labels = list(range(protocol.n_classes))
    benchmark.class_names = (
        None if class_names is None else tuple(class_names[c] for c in protocol.class_order)
    )
    benchmark.realms = None if realms is None else _realms_of_labels(realms, protocol)
    benchmark.transforms = transforms
    return benchmark


def _count(benchmark: CILBenchmark, stream: str) -> int:
    """Images of a stream; its experiences are not built."""
    return sum(len(data) for data in benchmark.stream_definitions[stream].exps_data)


def _realms_of_labels(
    realms: Mapping[str, Sequence[int]], protocol: Protocol
) -> dict[str, tuple[int, ...]]:
    """Realms in labels; unused classes fall away, and realms that are then empty."""
    label = {original: position for position, original in enumerate(protocol.class_order)}
    kept = {
        realm: tuple(sorted(label[c] for c in classes if c in label))
        for realm, classes in realms.items()
    }
    return {realm: labels for realm, labels in kept.items() if labels}
