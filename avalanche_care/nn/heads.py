"""Classifier heads that grow by a task's classes and know which labels they have seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_care.nn.growing import GrowingModule


class GrowingHead(GrowingModule):
    """A head with one row per class seen, in order of appearance.

    Labels need not be contiguous or ordered: Avalanche's benchmarks keep the data set's own labels
    unless told otherwise. :attr:`labels` holds the label of each column.

    Args:
        dim: width D of the features.
    """

    weight: nn.Parameter  # (C, D)
    labels: Tensor  # (C,)
    task_of: Tensor  # (C,)
    _column_of: Tensor  # (highest label + 3,), not saved

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.zeros(0, dim))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.long))
        self.register_buffer("task_of", torch.zeros(0, dtype=torch.long))
        self.register_buffer("_column_of", torch.zeros(0, dtype=torch.long), persistent=False)
        self._note_sizes()

    def _note_sizes(self) -> None:
        """Work out once per task what every step asks for, so that no step waits for the device."""
        labels = self.labels.tolist()
        self._ends = list(accumulate(self.task_of.bincount().tolist()))
        self._width = max(labels, default=-1) + 1
        self._contiguous = labels == list(range(len(labels)))
        # One entry more on either side stands for every label below 0 and above the highest.
        table = self.labels.new_full((self._width + 2,), -1)
        table[self.labels + 1] = torch.arange(len(labels), device=table.device)
        self._column_of = table

    @property
    def n_classes(self) -> int:
        """Number of classes seen, C."""
        return len(self.labels)

    @property
    def tasks(self) -> int:
        """Number of tasks seen."""
        return len(self._ends)

    def columns_of(self, task: int) -> slice:
        """Return the columns of a task."""
        return slice(self._ends[task - 1] if task else 0, self._ends[task])

    def classes_of(self, task: int) -> Tensor:
        """Return the labels of a task, in column order."""
        return self.labels[self.columns_of(task)]

    def begin_task(self, task: int, labels: Sequence[int]) -> bool:
        """Add a task's classes unless the head has that very task already.

        Args:
            task: its index, counted from 0.
            labels: its classes.

        Returns:
            Whether the head grew.

        Raises:
            ValueError: if a task was skipped, the task has other classes, or a class is not new.
        """
        if task > self.tasks:
            raise ValueError(f"expected task {self.tasks} next, got task {task}")
        if task == self.tasks:
            self.expand(labels)
            return True
        known = self.classes_of(task).tolist()
        if sorted(labels) != known:
            raise ValueError(
                f"task {task} has classes {known}, got {sorted(labels)}. Either training on an "
                "experience was broken off, and another one cannot take its place; or a new "
                "strategy was given a model that has learned before: go on with its own strategy"
            )
        return False

    @torch.no_grad()
    def expand(self, labels: Sequence[int]) -> None:
        """Add a task's classes.

        Args:
            labels: the classes of the new task.

        Raises:
            ValueError: if there is none, one is negative, or one was seen before.
        """
        new = sorted(int(label) for label in labels)
        seen = sorted(set(new) & set(self.labels.tolist()))
        problems = []
        if not new:
            problems.append("the experience has no classes; expected at least one")
        if len(set(new)) < len(new) or (new and new[0] < 0):
            problems.append(f"class labels must be distinct and not negative, got {new}")
        if seen:
            again = [t for t in range(self.tasks) if self.classes_of(t).tolist() == new]
            problems.append(
                f"this experience was learned already, as task {again[0]}: train on each once"
                if again
                else f"classes {seen} were learned in an earlier experience; class-incremental "
                "learning expects each class in exactly one"
            )
        if problems:
            raise ValueError("; ".join(problems))
        task = self.tasks
        rows = self.weight.new_empty(len(new), self.dim)
        nn.init.trunc_normal_(rows, std=0.02)
        self.weight = nn.Parameter(torch.cat([self.weight, rows]))
        self.labels = torch.cat([self.labels, self.labels.new_tensor(new)])
        self.task_of = torch.cat([self.task_of, self.task_of.new_full((len(new),), task)])
        self._note_sizes()

    def find(self, labels: Tensor) -> Tensor:
        """Return the column of each label, -1 for labels not seen; the device is not waited for.

        Args:
            labels: any shape.
        """
        return self._column_of[labels.long().clamp(-1, self._width) + 1]

    def columns(self, labels: Tensor) -> Tensor:
        """Return the column of each label; checking them waits for the device.

        Args:
            labels: any shape, all of them seen.

        Raises:
            ValueError: naming the labels that this head has not seen.
        """
        if not self.n_classes:
            raise ValueError(
                "this head has seen no class yet: expected an experience before labels"
            )
        columns = self.find(labels)
        unknown = columns < 0
        if unknown.any():
            raise ValueError(
                f"labels {sorted(set(labels[unknown].tolist()))} are not among the "
                f"{self.n_classes} classes of the experiences seen so far"
            )
        return columns

    def refuse_earlier(self, columns: Tensor, allowed: slice) -> None:
        """Check that columns are of the current experience; this waits for the device.

        Args:
            columns: of labels, see :meth:`columns`; any shape.
            allowed: those that they may be.

        Raises:
            ValueError: naming the labels that stand before the allowed columns.
        """
        earlier = self.labels[columns[columns < allowed.start].unique()].tolist()
        if earlier:
            raise ValueError(
                f"expected labels of the current experience {self.labels[allowed].tolist()}, got "
                f"{sorted(earlier)} of earlier ones"
            )

    def in_label_order(self, scores: Tensor) -> Tensor:
        """Return scores whose column index is the label.

        Args:
            scores: one column per class seen, (B, C).

        Returns:
            (B, highest label + 1); labels not seen get the lowest finite score.
        """
        if self._contiguous:
            return scores
        lowest = torch.finfo(scores.dtype).min
        out = scores.new_full((len(scores), self._width), lowest)
        out[:, self.labels] = scores
        return out

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._note_sizes()


class LinearHead(GrowingHead):
    """Linear classifier with bias."""

    bias: nn.Parameter  # (C,)

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.bias = nn.Parameter(torch.zeros(0))

    def expand(self, labels: Sequence[int]) -> None:
        """Add a task's classes, with zero bias; see :meth:`GrowingHead.expand`."""
        super().expand(labels)
        new = self.n_classes - len(self.bias)
        self.bias = nn.Parameter(torch.cat([self.bias.detach(), self.bias.new_zeros(new)]))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits of features (B, D) for every class, (B, C)."""
        return F.linear(features, self.weight, self.bias)


class CosineHead(GrowingHead):
    """Cosine classifier without scale or bias, one row per class."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the cosine of features (B, D) to every class, (B, C)."""
        return F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))


class ProxyHead(nn.Module):
    """Cosine classifier of one task with a learnable scale, thrown away when the task is learned.

    APER, RanPAC and EASE train their features with it. The scale starts at 1 as released: logits
    in [-1, 1] make a soft cross-entropy with small gradients until it has grown.

    Args:
        dim: width D of the features.
        n_classes: C.
        scale: what the scale starts at.
    """

    def __init__(self, dim: int, n_classes: int, *, scale: float = 1.0) -> None:
        super().__init__()
        bound = dim**-0.5
        self.weight = nn.Parameter(torch.empty(n_classes, dim).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def forward(self, features: Tensor) -> Tensor:
        """Return scaled cosines of features (B, D) to every class, (B, C)."""
        cosines = F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))
        return self.scale * cosines
