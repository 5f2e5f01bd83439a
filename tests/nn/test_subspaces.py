"""EASE's classifier against loops over classes and numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from calls import Calls
from ease_reference import (
    filled,
    looped_prototypes,
    looped_scores,
    own_subspace,
    random_means,
    tasks_of,
)
from torch import Tensor

from avalanche_care.nn import EnsembleConfig, subspaces
from avalanche_care.nn.subspaces import SubspaceHead

SIZES = [(3,), (1, 1, 1), (3, 1, 2, 2)]
CONFIGS: list[dict[str, Any]] = [
    {},
    {"divide_alpha": False},
    {"similar_to": "newest"},
    {"softmax_over": "old"},
    {"reweight": False},
    {"reweight": False, "similar_to": "newest"},
    {"reweight": False, "softmax_over": "old", "pretrained": True},
    {"pretrained": True, "beta": 0.7, "alpha": 0.005},
    {"max_adapters": 1, "pretrained": True, "reweight": False},
    {"max_adapters": 2},
    {"max_adapters": 2, "reweight": False, "similar_to": "newest"},
]
DIM = 5


def head_of(sizes: tuple[int, ...], **config: Any) -> tuple[SubspaceHead, Tensor, Tensor | None]:
    """A head that has learned tasks of these sizes, and the class means it was given."""
    torch.manual_seed(sum(sizes))
    head = SubspaceHead(DIM, EnsembleConfig(**config)).double()
    means = random_means(sizes, DIM, head.config)
    bare = torch.randn(sum(sizes), DIM).double() if head.config.pretrained else None
    filled(head, sizes, means, bare)
    return head, means, bare


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_the_loops(
    sizes: tuple[int, ...], config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    head, means, bare = head_of(sizes, **config)
    expected = looped_prototypes(means, sizes, head.config)
    torch.testing.assert_close(head.prototypes(), expected, rtol=1e-12, atol=1e-12)
    features = torch.randn(means.shape[1], 4, DIM, dtype=torch.float64)
    without = None if bare is None else torch.randn(4, DIM, dtype=torch.float64)
    scores = looped_scores(features, without, expected, bare, sizes, head.config)
    # Numbers that are unpacked at once, and subspaces that are given at once.
    for at_once, k in ((subspaces.AT_ONCE, 99), (2 * sum(sizes) * DIM, 3), (1, 2)):
        monkeypatch.setattr(subspaces, "AT_ONCE", at_once)
        other = SubspaceHead(DIM, head.config).double()
        other.load_state_dict(head.state_dict())
        blocks = [(start, features[start : start + k]) for start in range(0, len(features), k)]
        torch.testing.assert_close(other(blocks, without), scores, rtol=1e-11, atol=1e-11)


def two_tasks() -> tuple[SubspaceHead, list[list[float]]]:
    """One class a task, in subspaces of two dimensions, and features of one image in each."""
    head = SubspaceHead(2)
    head.expand([0])
    head.set_means(torch.tensor([[[1.0, 0.0]]]))
    head.expand([1])
    head.set_means(torch.tensor([[[0.6, 0.8], [0.0, 2.0]]]))
    return head, [[3.0, 0.0], [1.0, 1.0]]


def score(head: SubspaceHead, features: list[list[float]]) -> list[float]:
    return head([(0, torch.tensor(features)[:, None])])[0].tolist()


def test_two_tasks_by_hand() -> None:
    """The weight of the other subspace is alpha = 0.1 over T - 1 = 1."""
    head, features = two_tasks()
    # Class 0 has no mean in subspace 1; class 1 is the only newer one and lends it (0, 2).
    half = math.sqrt(0.5)  # cosine of (1, 1) and (0, 2)
    assert score(head, features) == pytest.approx([1 + 0.1 * half, half + 0.1 * 0.6])


def test_three_tasks_by_hand() -> None:
    """The weight of each other subspace is 0.1 / 2 = 0.05."""
    head, features = two_tasks()
    head.expand([2])
    head.set_means(torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, -1.0]]]))
    # In class 0's own subspace its cosines with classes 1 and 2 are 0.6 and 0.
    a, b = math.exp(0.6) / (math.exp(0.6) + 1), 1 / (math.exp(0.6) + 1)
    made = (b * 1.0, a * 2.0)  # of (0, 2) and (1, 0)
    torch.testing.assert_close(head.prototypes()[0, 1], torch.tensor(made))
    cosine = sum(made) / (math.sqrt(2) * math.hypot(*made))  # with (1, 1)
    half = math.sqrt(0.5)
    expected = [
        1 + 0.05 * (cosine - 1),  # (0, -1) of class 2 against (0, 1)
        half + 0.05 * (0.6 - 1),
        -1 + 0.05 * (0.0 + half),
    ]
    assert score(head, [*features, [0.0, 1.0]]) == pytest.approx(expected)
    plain = SubspaceHead(2, EnsembleConfig(divide_alpha=False))
    plain.load_state_dict(head.state_dict())
    assert score(plain, [*features, [0.0, 1.0]])[0] == pytest.approx(1 + 0.1 * (cosine - 1))


@pytest.mark.parametrize("similar_to", ["later", "newest"])
def test_synthesised_prototypes_are_convex_combinations(similar_to: str) -> None:
    sizes = (4, 2, 3, 1)
    torch.manual_seed(1)
    head = SubspaceHead(DIM, EnsembleConfig(similar_to=similar_to)).double()
    means = random_means(sizes, DIM, head.config)
    means[..., -1] = 1.0  # then the weights' sum is the last number of what they make
    filled(head, sizes, means, None)
    made, task = head.prototypes(), tasks_of(sizes)
    torch.testing.assert_close(made[..., -1], torch.ones(10, 4).double())
    for o in range(10):
        for j in range(task[o] + 1, 4):
            newer = torch.tensor([n for n in range(10) if task[n] >= j])
            assert made[o, j].norm() <= means[newer, j].norm(dim=1).max() + 1e-12
            assert (made[o, j] <= means[newer, j].max(0).values + 1e-12).all()
            assert (made[o, j] >= means[newer, j].min(0).values - 1e-12).all()


def test_after_every_task_no_prototype_is_missing_and_class_means_stay() -> None:
    sizes, config = (3, 1, 2, 2), EnsembleConfig()
    torch.manual_seed(2)
    means = random_means(sizes, DIM, config)
    head, end = SubspaceHead(DIM).double(), 0
    changed = []
    for task, size in enumerate(sizes):
        before = head.prototypes() if task else means[:0]
        start, end = end, end + size
        head.expand(range(start, end))
        head.set_means(means[start:end, : task + 1])
        now = head.prototypes()
        assert now.shape == (end, task + 1, DIM)
        assert now.abs().amax(-1).min() > 0
        for c, t in enumerate(tasks_of(sizes)[:end]):
            assert torch.equal(now[c, : t + 1], means[c, : t + 1])
        changed.append(bool(task and (now[:start, :task] != before).any()))
    # As released, older synthesised prototypes are made anew with every task that has newer ones.
    assert changed == [False, False, True, True]


def test_a_task_in_progress_scores_zero_and_changes_no_prototype() -> None:
    head = head_of((3, 1, 2), reweight=False)[0]
    before = head.prototypes()
    head.expand([6, 7])
    assert torch.equal(head.prototypes()[:6, :3], before)
    features = torch.randn(3, 4, DIM, dtype=torch.float64)
    scores = head([(0, features)])
    assert not scores[:, 6:].any()
    assert scores[:, :6].all()
    other = SubspaceHead(DIM, head.config).double()
    other.load_state_dict(head.state_dict())
    assert torch.equal(other([(0, features)]), scores)
    means = torch.randn(2, 4, DIM, dtype=torch.float64)
    blocks = [(0, torch.randn(4, 2, DIM, dtype=torch.float64))]
    for one in (head, other):
        one.set_means(means)  # what was worked out before holds no longer
    other.load_state_dict(head.state_dict())
    assert head(blocks)[:, 6:].all()
    assert torch.equal(head(blocks), other(blocks))


def test_a_head_in_use_takes_another_state() -> None:
    one, other = head_of((3, 1, 2))[0], head_of((2, 2, 1))[0]
    features = [(0, torch.randn(3, 4, DIM, dtype=torch.float64))]
    expected, before = other(features), one(features)
    one.load_state_dict(other.state_dict())
    assert torch.equal(one(features), expected)
    assert before.shape != expected.shape


def test_memory_is_half_of_the_full_matrix() -> None:
    """What is saved for 1000 classes, the first 100 in one task and the others in threes."""
    head = SubspaceHead(2)
    head.expand(range(100))
    for start in range(100, 1000, 3):
        head.expand(range(start, start + 3))
    kept = sum(v.numel() for v in head.state_dict().values() if v.is_floating_point())
    pairs = 100 + sum(3 * (task + 1) for task in range(1, 301))
    assert kept == 2 * (pairs + 1)  # one row of zeros
    assert kept / (1000 * 301 * 2) < 0.46


def test_synthesis_runs_no_loop_over_classes_or_tasks() -> None:
    """Counted: as many calls of functions for a hundred classes in fifty tasks as for six."""
    calls = []
    for tasks in (3, 3, 50):  # the first warms up
        head = head_of((2,) * tasks)[0]
        features = torch.randn(tasks, 2, DIM, dtype=torch.float64)
        with Calls() as counter:
            head([(0, features)])
        calls.append(counter)
    small, large = calls[1:]
    assert large.total == small.total, large.growth_from(small)


def test_own_subspaces_end_where_adapters_do() -> None:
    head, means, _ = head_of((2, 1, 1, 1), max_adapters=2)
    assert head.subspaces == 2
    assert [head.own_of(task) for task in range(4)] == [0, 1, 1, 1]
    assert [own_subspace(task, (2, 1, 1, 1), head.config) for task in range(4)] == [0, 1, 1, 1]
    assert torch.equal(head.prototypes()[2:], means[2:])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"alpha": -1.0, "beta": float("nan")}, "alpha must not be negative.*\n- beta must not"),
        ({"similar_to": "all"}, "similar_to must be one of"),
        ({"softmax_over": "both", "max_adapters": 0}, "softmax_over.*\n- max_adapters must be at"),
    ],
)
def test_settings_that_make_no_sense(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"EnsembleConfig cannot be used:\n- {message}"):
        EnsembleConfig(**config)
