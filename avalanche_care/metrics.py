"""Pure functions on per-class counts and on the accuracy matrix.

Every accuracy here is a fraction in [0, 1]; tables and figures turn it into per cent.

The counts are two arrays, ``correct`` and ``total``, of shape (T, C): row t holds the evaluation
after task t, column c the test images of label c. Labels are positions in the class order, so that
task j owns ``task_sizes[j]`` adjoining columns. Entries of classes that row t has not seen are not
read. A row without any image is a step that was not evaluated.

The accuracy matrix R, shape (T, T), has at [t, j] the accuracy on the test images of task j after
task t; entries above the diagonal (tasks to come) are nan, and so are the rows of steps that were
not evaluated. The last step always has to be. Metrics over several steps are over those that were
evaluated: with fewer of them, the average is one of fewer terms, and forgetting does not know of
better accuracies in between.

Published tables differ in two ways that the names here keep apart. An accuracy over several tasks
weighs each image alike (sample-weighted) or each class alike (class mean). Forgetting is counted
from the best accuracy that a task ever had, or from the one right after it was learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "accuracy_curve",
    "accuracy_matrix",
    "average_accuracy",
    "average_accuracy_over_samples",
    "backward_transfer",
    "class_mean_accuracy_curve",
    "forgetting",
    "forgetting_from_first",
    "last_accuracy",
    "realm_accuracy",
    "stack_counts",
]

Floats = NDArray[np.float64]


def stack_counts(rows: Sequence[ArrayLike | None], n_classes: int) -> NDArray[np.int64]:
    """Stack the counts of single evaluations, which grow longer, into one array.

    Args:
        rows: Counts of the evaluation after each task, each of shape (C_t,) with C_t <= n_classes;
            None for a step that was not evaluated.
        n_classes: C.

    Returns:
        Counts, shape (T, C), 0 where a row has no entry.

    Raises:
        ValueError: If a row is not a vector or is longer than ``n_classes``.
    """
    stacked = np.zeros((len(rows), n_classes), np.int64)
    for task, row in enumerate(rows):
        if row is None:
            continue
        counts = np.asarray(row)
        if counts.ndim != 1 or len(counts) > n_classes:
            raise ValueError(
                f"row {task} must have shape (C_t,) with C_t <= {n_classes}, got {counts.shape}"
            )
        stacked[task, : len(counts)] = counts
    return stacked


def accuracy_matrix(correct: ArrayLike, total: ArrayLike, task_sizes: Sequence[int]) -> Floats:
    """Accuracy of every task after every task.

    ``R[t, j] = sum of correct[t, c] / sum of total[t, c]`` over the classes c of task j, j <= t.

    Args:
        correct, total: Counts, shape (T, C); ``total`` may be (C,) where every row saw the same
            test images.
        task_sizes: Number of classes per task, length T, summing to C.

    Returns:
        R, shape (T, T), nan above the diagonal and in the rows of steps not evaluated.

    Raises:
        ValueError: If the shapes do not fit, a count is impossible, or an evaluation lacks images
            of a task seen.
    """
    hits, images, seen = _check_counts(correct, total, task_sizes)
    starts = np.cumsum([0, *task_sizes[:-1]])
    hits_of_task = np.add.reduceat(hits, starts, axis=1)  # (T, T)
    images_of_task = np.add.reduceat(images, starts, axis=1)  # (T, T)
    return _divide(hits_of_task, images_of_task, where=seen[:, starts])


def accuracy_curve(correct: ArrayLike, total: ArrayLike, task_sizes: Sequence[int]) -> Floats:
    """Accuracy on all test images seen so far, after each task (sample-weighted).

    ``A[t] = sum of correct[t, c] / sum of total[t, c]`` over all classes c seen up to task t. This
    is the curve of the papers.

    Args:
        correct, total, task_sizes: As in :func:`accuracy_matrix`.

    Returns:
        A, shape (T,), nan at steps not evaluated.
    """
    hits, images, _ = _check_counts(correct, total, task_sizes)
    return _divide(hits.sum(1), images.sum(1), where=images.sum(1) > 0)


def class_mean_accuracy_curve(
    correct: ArrayLike, total: ArrayLike, task_sizes: Sequence[int]
) -> Floats:
    """Mean of the class accuracies over all classes seen so far, after each task.

    ``A[t] = mean of correct[t, c] / total[t, c]`` over all classes c seen up to task t. It equals
    :func:`accuracy_curve` where every class has the same number of test images.

    Args:
        correct, total, task_sizes: As in :func:`accuracy_matrix`.

    Returns:
        A, shape (T,), nan at steps not evaluated.
    """
    hits, images, seen = _check_counts(correct, total, task_sizes)
    per_class = _divide(hits, images, where=seen)  # (T, C), nan where not seen
    return _divide(np.nansum(per_class, axis=1), seen.sum(1), where=images.sum(1) > 0)


def last_accuracy(curve: ArrayLike) -> float:
    """Accuracy after the last task (A_last, A_B): ``A[T - 1]``.

    Args:
        curve: Accuracy after each task, shape (T,), in [0, 1]; nan at steps not evaluated.

    Returns:
        A_last, in [0, 1].
    """
    return float(_check_curve(curve)[-1])


def average_accuracy(curve: ArrayLike) -> float:
    """Mean of the accuracy curve (A_avg, A-bar), the first task included: ``mean over t of A[t]``.

    Every evaluated step counts alike, as in the papers, which evaluate all of them; within a step
    the curve decides.

    Args:
        curve: Accuracy after each task, shape (T,), in [0, 1]; nan at steps not evaluated.

    Returns:
        A_avg, in [0, 1].
    """
    return float(np.nanmean(_check_curve(curve)))


def average_accuracy_over_samples(
    correct: ArrayLike, total: ArrayLike, task_sizes: Sequence[int]
) -> float:
    """The sample-weighted twin of A_avg: every evaluated image counts alike.

    ``sum over t, c of correct[t, c] / sum over t, c of total[t, c]``, classes c seen up to task t.
    Later steps evaluate more images and so weigh more. No table of the papers uses it; it shows how
    much of A_avg comes from the easy first steps.

    Args:
        correct, total, task_sizes: As in :func:`accuracy_matrix`.

    Returns:
        The accuracy, in [0, 1].
    """
    hits, images, _ = _check_counts(correct, total, task_sizes)
    return float(_divide(hits.sum(), images.sum()))


def forgetting(matrix: ArrayLike) -> float:
    """Mean drop from the best accuracy of a task to its last (max minus last).

    ``mean over j < T - 1 of (max over t >= j of R[t, j]) - R[T - 1, j]``. The maximum includes the
    last step, so no term is negative. The rule of the released CaRE code. Where steps were left
    out, the maximum is over those evaluated, and the mean over the tasks that were evaluated before
    the last step too: of the others it is not known what they forgot.

    Args:
        matrix: R, shape (T, T).

    Returns:
        Forgetting, in [0, 1]; 0 for a single task, nan if only the last of several steps was
        evaluated.
    """
    accuracy = _check_matrix(matrix)
    return _mean_drop(np.nanmax(accuracy, axis=0), accuracy)


def forgetting_from_first(matrix: ArrayLike) -> float:
    """Mean drop from the accuracy right after learning a task to its last (first minus last).

    ``mean over j < T - 1 of R[j, j] - R[T - 1, j]``; Avalanche's rule. Negative where later tasks
    help earlier ones. Where steps were left out, the first evaluation of task j takes the place of
    ``R[j, j]``, and the mean is over the same tasks as in :func:`forgetting`.

    Args:
        matrix: R, shape (T, T).

    Returns:
        Forgetting, in [-1, 1]; 0 for a single task, nan as in :func:`forgetting`.
    """
    accuracy = _check_matrix(matrix)
    first = (~np.isnan(accuracy)).argmax(axis=0)  # (T,), the step of each task's first evaluation
    return _mean_drop(accuracy[first, np.arange(len(accuracy))], accuracy)


def backward_transfer(matrix: ArrayLike) -> float:
    """Backward transfer (BWT) of Lopez-Paz and Ranzato (2017).

    ``mean over j < T - 1 of R[T - 1, j] - R[j, j]``, the negative of :func:`forgetting_from_first`.

    Args:
        matrix: R, shape (T, T).

    Returns:
        BWT, in [-1, 1]; 0 for a single task, nan as in :func:`forgetting`.
    """
    drop = forgetting_from_first(matrix)
    return -drop if drop else 0.0


def realm_accuracy(
    correct: ArrayLike, total: ArrayLike, realms: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """Accuracy per realm (group of classes) in one evaluation, sample-weighted.

    Args:
        correct, total: Counts of one evaluation, shape (C,).
        realms: Name -> labels. Labels of C and above (not yet seen) are left out.

    Returns:
        Name -> accuracy in [0, 1]; nan for a realm without test images so far.

    Raises:
        ValueError: If the counts are not two vectors of equal length, or a count is impossible.
    """
    hits, images = np.asarray(correct, np.float64), np.asarray(total, np.float64)
    if hits.ndim != 1 or hits.shape != images.shape:
        raise ValueError(
            f"correct and total must both have shape (C,), got {hits.shape} and {images.shape}"
        )
    _check_possible(hits, images)
    accuracy = {}
    for name, labels in realms.items():
        seen = [label for label in labels if label < len(hits)]
        n = images[seen].sum()
        accuracy[name] = float(hits[seen].sum() / n) if n else float("nan")
    return accuracy


def _check_counts(
    correct: ArrayLike, total: ArrayLike, task_sizes: Sequence[int]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Counts as float, unseen ones 0, and which classes each row evaluates; all (T, C)."""
    sizes = np.asarray(task_sizes, np.int64)
    if sizes.ndim != 1 or not len(sizes) or (sizes < 1).any():
        raise ValueError(f"task_sizes must be positive integers, at least one, got {task_sizes}")
    shape = (len(sizes), int(sizes.sum()))
    hits, images = np.asarray(correct, np.float64), np.asarray(total, np.float64)
    if hits.shape != shape or images.shape not in (shape, shape[1:]):
        raise ValueError(
            f"correct must have shape (tasks, classes) = {shape} and total {shape} or {shape[1:]}, "
            f"got {hits.shape} and {images.shape}; give the counts of all classes in every row, 0 "
            "where a class has not been seen"
        )
    seen = np.arange(shape[1]) < np.cumsum(sizes)[:, None]  # (T, C)
    hits, images = np.where(seen, hits, 0.0), np.where(seen, images, 0.0)
    _check_possible(hits, images)
    evaluated = images.sum(1) > 0  # (T,)
    if not evaluated[-1]:
        raise ValueError("the last step has no test image: it always has to be evaluated")
    return hits, images, seen & evaluated[:, None]


def _check_possible(hits: Floats, images: Floats) -> None:
    if not ((hits >= 0) & (hits <= images)).all():
        raise ValueError("each count must satisfy 0 <= correct <= total")


def _check_curve(curve: ArrayLike) -> Floats:
    values = np.asarray(curve, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"an accuracy curve has shape (T,) with T >= 1, got {values.shape}")
    if np.isnan(values[-1]):
        raise ValueError("an accuracy curve ends with a number: evaluate after the last task")
    return values


def _check_matrix(matrix: ArrayLike) -> Floats:
    values = np.asarray(matrix, np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not len(values):
        raise ValueError(f"an accuracy matrix has shape (T, T) with T >= 1, got {values.shape}")
    evaluated = np.sum(~np.isnan(values), axis=1) > 0  # (T,)
    known = np.tri(len(values), dtype=bool) & evaluated[:, None]
    if not evaluated[-1] or (np.isnan(values) == known).any():
        raise ValueError(
            "an accuracy matrix has numbers on and below the diagonal and nan above it; a row may "
            "be all nan, for a step that was not evaluated, but not the last"
        )
    return values


def _mean_drop(before: Floats, accuracy: Floats) -> float:
    """Mean of ``before - accuracy[-1]`` over the tasks evaluated before the last step."""
    if len(accuracy) == 1:
        return 0.0
    earlier = np.sum(~np.isnan(accuracy[:-1]), axis=0) > 0  # (T,)
    return float((before - accuracy[-1])[earlier].mean()) if earlier.any() else float("nan")


def _divide(hits: Floats, images: Floats, *, where: NDArray[np.bool_] | bool = True) -> Floats:
    """``hits / images``, nan outside ``where``."""
    if ((images == 0) & where).any():
        raise ValueError("a class or task that has been seen has no test image, so no accuracy")
    return np.divide(hits, images, out=np.full(hits.shape, np.nan), where=where)
