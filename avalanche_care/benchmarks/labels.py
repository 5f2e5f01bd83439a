"""Labels of a data set, and whether they fit a protocol. No image is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, Subset

from avalanche_care.benchmarks.protocol import Protocol

__all__ = ["check_labels", "labels_of"]

MAX_PROBLEMS = 20  # lines of one error message


def labels_of(dataset: Any) -> NDArray[np.int64]:
    """Label of every sample, without loading an image.

    Args:
        dataset: As in :func:`avalanche_care.benchmarks.scenario.class_incremental`.

    Returns:
        Original class indices, shape (len(dataset),).

    Raises:
        ValueError: If the data set does not carry its labels, or they are not integers.
    """
    kind = type(dataset).__name__
    if getattr(dataset, "target_transform", None) is not None:
        raise ValueError(
            f"the {kind} has a target_transform, so that its targets are not the labels it yields; "
            "build it without one"
        )
    if hasattr(dataset, "targets"):
        targets = dataset.targets  # a list, an array, a tensor, or Avalanche's lazy sequence
        labels = np.asarray(targets if hasattr(targets, "__array__") else list(targets))
    elif len(getattr(dataset, "tensors", ())) > 1:
        labels = np.asarray(dataset.tensors[1])
    elif isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)[np.asarray(dataset.indices, dtype=np.int64)]
    elif isinstance(dataset, ConcatDataset):
        labels = np.concatenate([labels_of(part) for part in dataset.datasets])
    else:
        raise ValueError(
            f"a data set with a 'targets' sequence or a TensorDataset is needed, got {kind}; "
            "set dataset.targets to the list of its labels"
        )
    if labels.size and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        raise ValueError(
            f"the targets of the {kind} must be one integer per sample, got {labels.dtype} of "
            f"shape {labels.shape}"
        )
    return labels.astype(np.int64)


def check_labels(
    train: Any, test: Any, protocol: Protocol, class_names: Sequence[str] | None
) -> None:
    """Refuse data that do not fit a protocol.

    Args:
        train, test, protocol, class_names: As in
            :func:`avalanche_care.benchmarks.scenario.class_incremental`.

    Raises:
        ValueError: If a label or the number of names does not fit, or a class has no image; every
            problem is listed.
    """
    total = protocol.total_classes
    problems = []
    if class_names is not None and len(class_names) != total:
        problems.append(f"class_names must have {total} entries, got {len(class_names)}")
        class_names = None
    for split, dataset in (("training", train), ("test", test)):
        present = set(np.unique(labels_of(dataset)).tolist())
        outside = sorted(label for label in present if not 0 <= label < total)
        if outside:
            problems.append(
                f"the {split} set has labels outside [0, {total}), the classes of the protocol: "
                f"{_some(outside)}"
            )
        for task in range(protocol.tasks):
            originals = [protocol.class_order[label] for label in protocol.classes_of(task)]
            empty = [c for c in originals if c not in present]
            if empty:
                named = [f"{c} ({class_names[c]})" if class_names else c for c in empty]
                which = "all classes" if len(empty) == len(originals) else "classes"
                problems.append(f"task {task}: {which} without a {split} image: {_some(named)}")
    if len(problems) > MAX_PROBLEMS:
        problems[MAX_PROBLEMS:] = [f"and {len(problems) - MAX_PROBLEMS} problems more"]
    if problems:
        raise ValueError(
            f"the data do not fit {protocol.name} of {protocol.n_classes} classes:\n- "
            + "\n- ".join(problems)
        )


def _some(values: Sequence[object]) -> str:
    """The first few values, and how many there are."""
    shown = ", ".join(str(value) for value in values[:5])
    return shown if len(values) <= 5 else f"{shown}, ... ({len(values)} in all)"
