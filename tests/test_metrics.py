"""The metrics against values worked out by hand, and against plain loops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics.forgetting_bwt import BWT, Forgetting
from torchmetrics.functional.classification import multiclass_accuracy

from avalanche_care import metrics
from avalanche_care.plugins.class_counts import ClassCounts

NAN = float("nan")

# Three tasks with 2, 1 and 1 classes. Row t: the evaluation after task t. The entries of classes
# that are still to come are deliberately wrong, because they must not be read.
SIZES = (2, 1, 1)
TOTAL = np.array([10, 30, 20, 40])
CORRECT = np.array([[10, 15, 99, 99], [5, 15, 20, 99], [6, 18, 10, 10]])
#                 task 0: 25/40              20/40  20/20           24/40  10/20  10/40
R = np.array([[0.625, NAN, NAN], [0.5, 1.0, NAN], [0.6, 0.5, 0.25]])


def test_accuracy_matrix_by_hand() -> None:
    np.testing.assert_array_equal(metrics.accuracy_matrix(CORRECT, TOTAL, SIZES), R)


def test_curves_by_hand() -> None:
    # after task 0: 25 of 40; after task 1: 40 of 60; after task 2: 44 of 100
    np.testing.assert_allclose(
        metrics.accuracy_curve(CORRECT, TOTAL, SIZES), [25 / 40, 40 / 60, 44 / 100]
    )
    # class accuracies: (1, .5), (.5, .5, 1), (.6, .6, .5, .25)
    np.testing.assert_allclose(
        metrics.class_mean_accuracy_curve(CORRECT, TOTAL, SIZES), [1.5 / 2, 2 / 3, 1.95 / 4]
    )


def test_averages_by_hand() -> None:
    curve = metrics.accuracy_curve(CORRECT, TOTAL, SIZES)
    assert metrics.last_accuracy(curve) == pytest.approx(0.44)
    assert metrics.average_accuracy(curve) == pytest.approx((0.625 + 2 / 3 + 0.44) / 3)
    # 25 + 40 + 44 right answers to 40 + 60 + 100 questions
    assert metrics.average_accuracy_over_samples(CORRECT, TOTAL, SIZES) == pytest.approx(109 / 200)


def test_forgetting_by_hand() -> None:
    # best minus last: task 0: .625 - .6, task 1: 1 - .5; the last task does not count
    assert metrics.forgetting(R) == pytest.approx((0.025 + 0.5) / 2)
    assert metrics.forgetting_from_first(R) == pytest.approx((0.025 + 0.5) / 2)
    assert metrics.backward_transfer(R) == pytest.approx(-(0.025 + 0.5) / 2)


def test_the_two_forgettings_differ_when_a_task_gets_better_later() -> None:
    matrix = [[0.5, NAN, NAN], [0.9, 0.8, NAN], [0.7, 0.9, 0.6]]
    # task 0: best .9 -> .7, first .5 -> .7; task 1: best is the last step itself, first .8 -> .9
    assert metrics.forgetting(matrix) == pytest.approx((0.2 + 0.0) / 2)
    assert metrics.forgetting_from_first(matrix) == pytest.approx((-0.2 - 0.1) / 2)
    assert metrics.backward_transfer(matrix) == pytest.approx((0.2 + 0.1) / 2)


def test_a_single_task_forgets_nothing() -> None:
    for metric in (metrics.forgetting, metrics.forgetting_from_first, metrics.backward_transfer):
        assert metric([[0.75]]) == 0.0


def test_matches_plain_loops_on_random_counts() -> None:
    rng = np.random.default_rng(0)
    sizes = [3, 1, 4, 2]
    total = rng.integers(1, 9, size=(4, 10))
    correct = rng.integers(0, total + 1)
    matrix = metrics.accuracy_matrix(correct, total, sizes)
    curve = metrics.accuracy_curve(correct, total, sizes)
    means = metrics.class_mean_accuracy_curve(correct, total, sizes)
    for t in range(4):
        start = 0
        for j, size in enumerate(sizes):
            columns = range(start, start + size)
            if j <= t:
                expected = sum(correct[t, c] for c in columns) / sum(total[t, c] for c in columns)
                assert matrix[t, j] == pytest.approx(expected)
            else:
                assert np.isnan(matrix[t, j])
            start += size
        seen = range(sum(sizes[: t + 1]))
        assert curve[t] == pytest.approx(
            sum(correct[t, c] for c in seen) / sum(total[t, c] for c in seen)
        )
        assert means[t] == pytest.approx(np.mean([correct[t, c] / total[t, c] for c in seen]))


# The same run, evaluated after tasks 1 and 2 only.
SPARSE_TOTAL = np.array([[0, 0, 0, 0], TOTAL, TOTAL])
SPARSE_R = np.array([[NAN, NAN, NAN], *R[1:]])


def test_steps_not_evaluated_by_hand() -> None:
    counts = (CORRECT * (SPARSE_TOTAL > 0), SPARSE_TOTAL, SIZES)
    np.testing.assert_array_equal(metrics.accuracy_matrix(*counts), SPARSE_R)
    curve = metrics.accuracy_curve(*counts)
    np.testing.assert_allclose(curve, [NAN, 40 / 60, 44 / 100])
    np.testing.assert_allclose(metrics.class_mean_accuracy_curve(*counts), [NAN, 2 / 3, 1.95 / 4])
    assert metrics.last_accuracy(curve) == pytest.approx(0.44)
    assert metrics.average_accuracy(curve) == pytest.approx((2 / 3 + 0.44) / 2)
    assert metrics.average_accuracy_over_samples(*counts) == pytest.approx(84 / 160)
    # task 0: best and first known .5, now .6; task 1: 1, now .5
    assert metrics.forgetting(SPARSE_R) == pytest.approx((0.0 + 0.5) / 2)
    assert metrics.forgetting_from_first(SPARSE_R) == pytest.approx((-0.1 + 0.5) / 2)
    assert metrics.backward_transfer(SPARSE_R) == pytest.approx((0.1 - 0.5) / 2)


def test_tasks_that_only_the_last_evaluation_saw_do_not_count_as_unforgotten() -> None:
    matrix = np.full((4, 4), NAN)
    matrix[1, :2], matrix[3] = [0.9, 0.7], [0.4, 0.6, 0.1, 0.2]
    assert metrics.forgetting(matrix) == pytest.approx((0.5 + 0.1) / 2)  # tasks 0 and 1
    matrix[1] = NAN
    for metric in (metrics.forgetting, metrics.forgetting_from_first, metrics.backward_transfer):
        assert np.isnan(metric(matrix))


def test_steps_not_evaluated_match_plain_loops() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        matrix = np.where(np.tri(6, dtype=bool), rng.random((6, 6)), NAN)
        left_out = rng.random(6) < 0.5
        left_out[-1] = False
        matrix[left_out] = NAN
        best, first = [], []
        for j in range(6):
            known = [matrix[t, j] for t in range(j, 5) if not left_out[t]]
            if known:
                best.append(max(*known, matrix[5, j]) - matrix[5, j])
                first.append(known[0] - matrix[5, j])
        expected = [np.mean(best), np.mean(first)] if best else [NAN, NAN]
        found = [metrics.forgetting(matrix), metrics.forgetting_from_first(matrix)]
        np.testing.assert_allclose(found, expected)


def test_both_curves_agree_on_balanced_test_sets() -> None:
    correct = [[4, 0, 0], [1, 3, 0], [2, 2, 4]]
    total = [4, 4, 4]
    np.testing.assert_allclose(
        metrics.accuracy_curve(correct, total, [1, 1, 1]),
        metrics.class_mean_accuracy_curve(correct, total, [1, 1, 1]),
    )


def test_realms_by_hand() -> None:
    realms = {"Latin": [0, 2], "Greek": [1, 3], "to come": [4]}
    accuracy = metrics.realm_accuracy([6, 18, 10, 10], [10, 30, 20, 40], realms)
    assert accuracy["Latin"] == pytest.approx(16 / 30)
    assert accuracy["Greek"] == pytest.approx(28 / 70)
    assert np.isnan(accuracy["to come"])


def test_rows_that_grow_are_padded_with_zeros() -> None:
    stacked = metrics.stack_counts([[1], [2, 3], np.array([4, 5, 6])], 3)
    np.testing.assert_array_equal(stacked, [[1, 0, 0], [2, 3, 0], [4, 5, 6]])
    stacked = metrics.stack_counts([None, [2, 3]], 3)  # step 0 was not evaluated
    np.testing.assert_array_equal(stacked, [[0, 0, 0], [2, 3, 0]])
    with pytest.raises(ValueError, match=r"row 1 must have shape \(C_t,\) with C_t <= 1"):
        metrics.stack_counts([[1], [2, 3]], 1)


def test_inputs_are_not_changed() -> None:
    correct, total, matrix = CORRECT.copy(), TOTAL.copy(), R.copy()
    metrics.accuracy_matrix(correct, total, SIZES)
    metrics.class_mean_accuracy_curve(correct, total, SIZES)
    metrics.forgetting(matrix)
    np.testing.assert_array_equal(correct, CORRECT)
    np.testing.assert_array_equal(total, TOTAL)
    np.testing.assert_array_equal(matrix, R)


@pytest.mark.parametrize(
    ("correct", "total", "sizes", "message"),
    [
        ([[1, 2]], [3, 3], [1, 1], r"shape \(tasks, classes\) = \(2, 2\)"),
        ([[1, 0], [1, 1]], [3], [1, 1], "and total"),
        ([[4, 0], [1, 1]], [3, 3], [1, 1], "0 <= correct <= total"),
        ([[1, 0], [-1, 1]], [3, 3], [1, 1], "0 <= correct <= total"),
        ([[1, 0], [1, 0]], [3, 0], [1, 1], "no test image"),
        ([[1, 0], [0, 0]], [[3, 0], [0, 0]], [1, 1], "the last step has no test image"),
        ([[1]], [1], [], "task_sizes"),
        ([[1]], [1], [0, 1], "task_sizes"),
    ],
)
def test_impossible_counts_are_refused(correct: Any, total: Any, sizes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.accuracy_matrix(correct, total, sizes)


@pytest.mark.parametrize(
    "matrix",
    [
        [[0.5, 0.5]],  # not square
        [[0.5, 0.5], [0.5, 0.5]],  # number above the diagonal
        [[0.5, NAN], [NAN, 0.5]],  # gap below it
        [[0.5, NAN], [NAN, NAN]],  # without the last step
        [[NAN]],
        np.empty((0, 0)),
    ],
)
def test_what_is_no_accuracy_matrix_is_refused(matrix: Any) -> None:
    with pytest.raises(ValueError, match="an accuracy matrix has"):
        metrics.forgetting(matrix)


def test_what_is_no_curve_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(T,\) with T >= 1"):
        metrics.average_accuracy([])
    with pytest.raises(ValueError, match=r"shape \(T,\) with T >= 1"):
        metrics.last_accuracy([[0.5]])
    for metric in (metrics.average_accuracy, metrics.last_accuracy):
        with pytest.raises(ValueError, match="evaluate after the last task"):
            metric([0.5, NAN])


def test_realm_counts_must_fit() -> None:
    with pytest.raises(ValueError, match=r"shape \(C,\)"):
        metrics.realm_accuracy([1, 2], [3], {})
    with pytest.raises(ValueError, match="0 <= correct <= total"):
        metrics.realm_accuracy([4], [3], {"a": [0]})


def test_accuracies_are_those_of_torchmetrics() -> None:
    sizes, n_classes = (3, 2, 4), 9
    random = torch.Generator().manual_seed(0)
    # Every class has an image; the classes have different numbers of them.
    labels = torch.cat([torch.arange(9), torch.randint(9, (191,), generator=random) ** 2 // 8])
    counts, top5, expected = [], [], {"micro": [], "macro": [], "top-5": []}  # type: ignore[var-annotated]
    for seen in np.cumsum(sizes).tolist():
        mine = labels[labels < seen]  # (B,)
        logits = torch.randn(len(mine), seen, generator=random)  # no two are equal
        counter = ClassCounts()
        experience = SimpleNamespace(classes_in_this_experience=list(range(seen)))
        strategy: Any = SimpleNamespace(
            experience=experience, device="cpu", mb_output=logits, mb_y=mine
        )
        counter.before_eval_exp(strategy)
        counter.after_eval_iteration(strategy)
        assert counter._counts is not None
        correct, in_top5, total = counter._counts.numpy()
        counts.append((correct, total))
        top5.append(in_top5.sum() / total.sum())
        for name, average, k in (
            ("micro", "micro", 1),
            ("macro", "macro", 1),
            ("top-5", "micro", 5),
        ):
            if k < seen:
                value = multiclass_accuracy(logits, mine, seen, average=average, top_k=k)  # type: ignore[arg-type]
            else:
                value = torch.tensor(1.0)
            expected[name].append(value.item())
    right = metrics.stack_counts([correct for correct, _ in counts], n_classes)
    images = metrics.stack_counts([total for _, total in counts], n_classes)
    curve = metrics.accuracy_curve(right, images, sizes)
    mean = metrics.class_mean_accuracy_curve(right, images, sizes)
    np.testing.assert_allclose(curve, expected["micro"], rtol=1e-6)
    np.testing.assert_allclose(mean, expected["macro"], rtol=1e-6)
    np.testing.assert_allclose(top5, expected["top-5"], rtol=1e-6)
    assert np.abs(curve - mean).min() > 1e-4  # or one could stand for the other


def test_forgetting_from_first_is_that_of_avalanche() -> None:
    matrix = np.tril(np.random.RandomState(0).rand(6, 6))
    matrix[np.triu_indices(6, 1)] = NAN
    forgetting, bwt = Forgetting(), BWT()
    for task in range(5):  # the last task has had no time to be forgotten
        for metric in (forgetting, bwt):
            metric.update(task, matrix[task, task], initial=True)
            metric.update(task, matrix[5, task])
    values = forgetting.result()
    assert isinstance(values, dict)
    assert metrics.forgetting_from_first(matrix) == pytest.approx(np.mean(list(values.values())))
    assert metrics.backward_transfer(matrix) == pytest.approx(np.mean(list(bwt.result().values())))
