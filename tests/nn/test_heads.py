"""Heads that grow, with labels in any order."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from avalanche_care.nn.heads import CosineHead, GrowingHead, LinearHead

every_head = pytest.mark.parametrize("kind", [CosineHead, LinearHead])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def grown(kind: type[GrowingHead] = CosineHead) -> GrowingHead:
    head = kind(5)
    for task, labels in enumerate(([9, 2], [4], [0, 7, 5])):
        assert head.begin_task(task, labels)
    return head


@every_head
def test_bookkeeping(kind: type[GrowingHead]) -> None:
    head = kind(5)
    assert (head.n_classes, head.tasks) == (0, 0)
    head = grown(kind)
    assert head.labels.tolist() == [2, 9, 4, 0, 5, 7]
    assert head.task_of.tolist() == [0, 0, 1, 2, 2, 2]
    assert (head.n_classes, head.tasks) == (6, 3)
    assert [head.classes_of(t).tolist() for t in range(3)] == [[2, 9], [4], [0, 5, 7]]


@every_head
def test_columns(kind: type[GrowingHead]) -> None:
    head = grown(kind)
    labels = torch.tensor([[7, 2, 2], [0, 9, 4]])
    assert head.columns(labels).tolist() == [[5, 0, 0], [3, 1, 2]]
    assert torch.equal(head.labels[head.columns(labels)], labels)
    assert head.columns(torch.tensor([], dtype=torch.long)).tolist() == []
    for unknown in (1, 3, 8, 10, 100, -1):
        with pytest.raises(ValueError, match=rf"labels \[{unknown}\] are not among the 6 classes"):
            head.columns(torch.tensor([4, unknown, unknown]))


@every_head
def test_find(kind: type[GrowingHead]) -> None:
    head = grown(kind)
    assert "_column_of" not in "".join(head.state_dict())  # it follows from the labels
    for other in (head, copy.deepcopy(head), kind(5)):
        other.load_state_dict(head.state_dict())
        known = head.labels.tolist()
        labels = torch.tensor([*range(-3, 13), 2**40, -(2**40)])
        expected = [known.index(label) if label in known else -1 for label in labels.tolist()]
        assert other.find(labels).tolist() == expected
        assert other.find(labels[:4].reshape(2, 2)).shape == (2, 2)
        assert other.find(torch.tensor([9, 2, 7], dtype=torch.uint8)).tolist() == [1, 0, 5]
    assert kind(5).find(torch.tensor([0, 1, -1])).tolist() == [-1, -1, -1]


def test_columns_of_an_empty_head() -> None:
    with pytest.raises(ValueError, match="this head has seen no class yet"):
        CosineHead(5).columns(torch.tensor([0]))


@every_head
def test_in_label_order(kind: type[GrowingHead]) -> None:
    head = grown(kind)
    scores = torch.randn(3, 6)
    out = head.in_label_order(scores)
    assert out.shape == (3, 10)
    for column, label in enumerate(head.labels.tolist()):
        assert torch.equal(out[:, label], scores[:, column])
    lowest = torch.finfo(torch.float32).min
    assert (out[:, [1, 3, 6, 8]] == lowest).all()
    # Softmax, cross-entropy and argmax are those of the seen columns.
    target = torch.tensor([7, 2, 0])
    expected = F.cross_entropy(scores, head.columns(target))
    torch.testing.assert_close(F.cross_entropy(out, target), expected)
    assert torch.equal(out.argmax(1), head.labels[scores.argmax(1)])


def test_in_label_order_of_contiguous_labels() -> None:
    head = CosineHead(5)
    head.expand([0, 1])
    head.expand([2])
    scores = torch.randn(3, 3)
    assert torch.equal(head.in_label_order(scores), scores)
    head = CosineHead(5)
    head.expand([2])
    head.expand([0, 1])
    assert torch.equal(head.in_label_order(scores), scores[:, [1, 2, 0]])


def test_in_label_order_keeps_the_gradient() -> None:
    head = grown()
    features = torch.randn(2, 5)
    loss = F.cross_entropy(head.in_label_order(head(features)), torch.tensor([4, 9]))
    (gradient,) = torch.autograd.grad(loss, head.weight)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().amax(1) > 0).all()


@every_head
def test_growing_keeps_the_old_rows(kind: type[GrowingHead]) -> None:
    head = grown(kind)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    old = {name: p.detach().clone() for name, p in head.named_parameters()}
    head.expand([1, 30])
    for name, value in old.items():
        new = head.get_parameter(name)
        assert new.requires_grad
        assert new.is_leaf
        assert torch.equal(new[:6], value)
        assert len(new) == 8


def test_initial_rows() -> None:
    head = LinearHead(300)
    head.expand(range(40))
    assert abs(head.weight.mean().item()) < 1e-3
    assert 0.0195 < head.weight.std().item() < 0.0205
    assert head.bias.abs().max() == 0


def test_values() -> None:
    features = torch.randn(4, 5)
    cosine, linear = grown(CosineHead), grown(LinearHead)
    assert isinstance(linear, LinearHead)
    with torch.no_grad():
        linear.bias.normal_()
    for i in range(4):
        for c in range(6):
            expected = torch.cosine_similarity(features[i], cosine.weight[c], dim=0)
            torch.testing.assert_close(cosine(features)[i, c], expected)
            expected = features[i] @ linear.weight[c] + linear.bias[c]
            torch.testing.assert_close(linear(features)[i, c], expected)
    torch.testing.assert_close(cosine(3 * features), cosine(features))


@every_head
def test_begin_task(kind: type[GrowingHead]) -> None:
    head = grown(kind)
    before = copy.deepcopy(head.state_dict())
    assert not head.begin_task(2, [7, 0, 5])  # again, in whatever order
    assert not head.begin_task(0, [2, 9])
    with pytest.raises(ValueError, match="expected task 3 next, got task 4"):
        head.begin_task(4, [11])
    with pytest.raises(
        ValueError, match=r"task 2 has classes \[0, 5, 7\], got \[0, 5\].*broken off"
    ):
        head.begin_task(2, [5, 0])
    with pytest.raises(ValueError, match="no classes; expected at least one"):
        head.begin_task(3, [])
    with pytest.raises(ValueError, match=r"distinct and not negative, got \[-1, 3\]"):
        head.begin_task(3, [3, -1])
    with pytest.raises(ValueError, match=r"distinct and not negative, got \[3, 3\]"):
        head.begin_task(3, [3, 3])
    with pytest.raises(ValueError, match=r"classes \[4, 7\] were learned in an earlier exp"):
        head.begin_task(3, [3, 7, 4])
    with pytest.raises(ValueError, match="learned already, as task 1: train on each once"):
        head.begin_task(3, [4])
    with pytest.raises(ValueError, match=r"distinct and not negative.*; classes \[4\] were"):
        head.begin_task(3, [4, -2])
    assert head.state_dict().keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(head.state_dict()[name], value)


@every_head
def test_state_dict_resizes(kind: type[GrowingHead]) -> None:
    head = grown(kind)
    state = head.state_dict()
    larger = grown(kind)
    larger.begin_task(3, [30, 31, 32])
    for other in (kind(5), larger):
        other.load_state_dict(state)
        assert other.tasks == 3
        for name, value in state.items():
            assert torch.equal(other.state_dict()[name], value), name
        assert isinstance(other.weight, torch.nn.Parameter)
        x = torch.randn(2, 5)
        assert torch.equal(other(x), head(x))
        other.begin_task(3, [1])
        assert other.n_classes == 7
    assert head.n_classes == 6
    with pytest.raises(RuntimeError, match="size mismatch"):
        kind(4).load_state_dict(state)


@every_head
def test_deep_copies_are_apart(kind: type[GrowingHead]) -> None:
    head = grown(kind)
    other = copy.deepcopy(head)
    other.expand([1])
    with torch.no_grad():
        other.weight.zero_()
    assert head.n_classes == 6
    assert head.weight.abs().max() > 0
