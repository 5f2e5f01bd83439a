"""EASE's classifier: class means in one subspace per task, synthesised where there are none.

Zhou, Sun, Ye and Zhan, "Expandable Subspace Ensemble for Pre-Trained Model-Based Class-Incremental
Learning", CVPR 2024, arXiv 2403.12030, sections 4.2 and 4.3. ``P[c, j]`` is the prototype of class
c in subspace j, which is the features of the network with adapter j. In its own, t(c), and in all
earlier ones that is a class mean; when later adapters are trained, no image of the class is left,
and the prototype is put together from those of newer classes.

**Synthesis as a matrix product.** Similarities are measured in the old class's own subspace. With R
the class means, zero where there is none::

    e[o, n] = exp(cos(R[o, t(o)], R[n, t(o)]))
    P[o, j] = sum_n e[o, n] R[n, j] / sum_{n: t(n) >= j} e[o, n]        for j > t(o)

Every class n that the first sum must leave out has R[n, j] = 0, so one product ``e R`` gives all
synthesised prototypes at once. A product with a feature needs none of them:
``f . P[o, j] ~ sum_n e[o, n] (f . R[n, j])``. So only class means are kept, half of the released
matrix (420 MB in place of 925 MB for 1000 classes in 301 tasks, of which the first has 100), and
what they determine is computed anew when they change. That costs C^2 T D multiply-adds, as many as
13 passes of an image through a ViT-B at that size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.nn.ensemble_config import EnsembleConfig
from avalanche_care.nn.heads import GrowingHead

AT_ONCE = 2**24
"""Numbers in the largest table of prototypes that is unpacked at once."""


class SubspaceHead(GrowingHead):
    """Prototypes of all classes in all subspaces, and the scores made of them.

    ``weight`` holds the class means in each class's own subspace, (C, D). A class without class
    means yet scores 0 and takes no part in any synthesis.

    Args:
        dim: width D of one subspace.
        config: how subspaces are combined.
    """

    earlier: Tensor  # (1 + R, D): class means before a class's own subspace, class by class
    bare: Tensor  # (C, D): class means of the backbone without adapter, or (0, D)
    _mixing: Tensor  # (C, C): e, not saved
    _coefficients: (
        Tensor  # (subspaces, C): what a product of feature and prototype counts, not saved
    )
    _bare_coefficients: Tensor  # (C,), not saved

    def __init__(self, dim: int, config: EnsembleConfig | None = None) -> None:
        super().__init__(dim)
        self.config = config or EnsembleConfig()
        # Row 0 of zeros stands for every class mean that there is not.
        self.register_buffer("earlier", torch.zeros(1, dim))
        self.register_buffer("bare", torch.zeros(0, dim))
        for name in ("_mixing", "_coefficients", "_bare_coefficients"):
            self.register_buffer(name, torch.zeros(0, 0), persistent=False)
        self._current = False

    @property
    def subspaces(self) -> int:
        """Number of adapters that the tasks seen have."""
        return min(self.tasks, self.config.max_adapters or self.tasks)

    def own_of(self, task: int) -> int:
        """Return the subspace that a task's classes have as their own."""
        return min(task, (self.config.max_adapters or self.tasks) - 1)

    @torch.no_grad()
    def expand(self, labels: Sequence[int]) -> None:
        """Add a task's classes, without class means; see :meth:`GrowingHead.expand`."""
        super().expand(labels)
        columns = self.columns_of(self.tasks - 1)
        self.weight[columns] = 0.0
        self.weight.requires_grad_(False)
        self.append_rows("earlier", len(labels) * self.own_of(self.tasks - 1))
        if self.config.pretrained:
            self.append_rows("bare", len(labels))
        self._current = False

    @torch.no_grad()
    def set_means(self, means: Tensor, bare: Tensor | None = None) -> None:
        """Set the class means of the newest task.

        Args:
            means: in its own subspace and all before, (classes of the task, subspaces, D).
            bare: without adapter, (classes of the task, D), where the config asks for them.
        """
        columns, own = self.columns_of(self.tasks - 1), self.own_of(self.tasks - 1)
        self.weight[columns] = means[:, own]
        rows = means[:, :own].flatten(0, 1)  # (classes * own, D)
        self.earlier[len(self.earlier) - len(rows) :] = rows
        if bare is not None:
            self.bare[columns] = bare
        self._current = False

    def forward(self, blocks: Iterable[tuple[int, Tensor]], bare: Tensor | None = None) -> Tensor:
        """Return scores of every class seen, in column order, (B, C).

        With reweighting that is ``cos(f_i, P[c, i]) + alpha / (T - 1) sum_{j != i} cos(f_j,
        P[c, j])``, i the class's own subspace, plus ``beta`` times the cosine without adapter.

        Args:
            blocks: features of consecutive subspaces, each (index of the first, (k, B, D)).
            bare: features without adapter, (B, D).
        """
        self._refresh()
        scores, squares = [], []
        for start, features in blocks:
            per = max(1, AT_ONCE // max(1, self.weight.numel()))
            for offset, part in enumerate(self._prepared(features).split(per)):
                scores.append(self._scores_in(start + offset * per, part))
                squares.append(part.square().sum((0, 2)))
        if bare is not None:
            bare = self._prepared(bare)
            scores.append(F.linear(bare, self.bare) * self._bare_coefficients)
            squares.append(bare.square().sum(1))
        total = torch.stack(scores).sum(0)  # (B, C)
        if self.config.reweight:
            return total
        return total / torch.stack(squares).sum(0).sqrt()[:, None]

    def _prepared(self, features: Tensor) -> Tensor:
        """Reweighting normalises each subspace by itself."""
        return F.normalize(features, dim=-1) if self.config.reweight else features

    def _scores_in(self, start: int, features: Tensor) -> Tensor:
        """Return what subspaces from ``start`` on contribute, of features (k, B, D), (B, C)."""
        means, known, usable = self._means(start, start + len(features))
        products = features @ means.mT  # (k, B, C)
        mixed = (products * usable[:, None]) @ self._mixing.T  # (k, B, C)
        products = torch.where(known[:, None], products, mixed)
        coefficients = self._coefficients[start : start + len(features), None]  # (k, 1, C)
        return (coefficients * products).sum(0)

    def _own(self) -> Tensor:
        """Return each class's own subspace, (C,)."""
        return self.task_of.clamp_max(self.subspaces - 1)

    def _means(self, start: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return class means in some subspaces, zero where there is none.

        Returns:
            the means (k, C, D); where a class has one (k, C); which of them synthesis may use.
        """
        own = self._own()
        subspace = torch.arange(start, end, device=own.device)[:, None]  # (k, 1)
        first = 1 + own.cumsum(0) - own  # (C,), row of a class in `earlier`
        rows = torch.where(subspace < own, first + subspace, 0)  # (k, C)
        means = torch.where((subspace == own)[..., None], self.weight, self.earlier[rows])
        known = subspace <= own
        usable = known if self.config.similar_to == "later" else subspace == self.task_of
        return means, known, usable

    @torch.no_grad()
    def prototypes(self) -> Tensor:
        """Return all prototypes, class means and synthesised ones, (C, subspaces, D)."""
        self._refresh()
        return torch.cat([self._complete(s, s + 1)[0] for s in range(self.subspaces)]).transpose(
            0, 1
        )

    def _complete(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Return the prototypes in some subspaces, and what their synthesis was divided by.

        Returns:
            (k, C, D), and (k, C), 1 where the prototype is a class mean.
        """
        means, known, usable = self._means(start, end)
        made = self._mixing @ (means * usable[..., None])  # (C, C) (k, C, D) -> (k, C, D)
        mass = torch.ones_like(made[..., 0])  # (k, C)
        if self.config.softmax_over == "new":
            mass = torch.where(known, 1.0, usable.to(made) @ self._mixing.T)
        return torch.where(known[..., None], means, _over(made, mass[..., None])), mass

    @torch.no_grad()
    def _refresh(self) -> None:
        """Compute what follows from the class means, unless it is known."""
        if self._current:
            return
        config, count = self.config, self.subspaces
        self._mixing = self.weight.new_zeros(self.n_classes, self.n_classes)
        per = max(1, AT_ONCE // max(1, self.weight.numel()))
        own, lengths, masses = self._own(), [], []
        for start in range(0, count, per):  # in this order: a row of e is needed in later subspaces
            end = min(start + per, count)
            self._mix(start, end)
            blocks, mass = self._complete(start, end)
            lengths.append(blocks.norm(dim=-1))
            masses.append(mass)
        length, mass = torch.cat(lengths), torch.cat(masses)  # (subspaces, C)
        bare = self.bare.norm(dim=1) if config.pretrained else length.new_zeros(self.n_classes)
        if config.reweight:
            others = max(count - 1, 1) if config.divide_alpha else 1
            is_own = torch.arange(count, device=own.device)[:, None] == own
            weight = torch.full_like(length, config.alpha / others).masked_fill(is_own, 1.0)
            self._coefficients = _over(weight, length * mass)
            self._bare_coefficients = _over(config.beta, bare)
        else:
            whole = (length.square().sum(0) + bare.square()).sqrt()  # (C,)
            self._coefficients = _over(1.0, whole * mass)
            self._bare_coefficients = _over(1.0, whole)
        self._current = True

    def _mix(self, start: int, end: int) -> None:
        """Compute the rows of e of the classes whose own subspace is one of these."""
        first = self.columns_of(start).start
        last = self.n_classes if end == self.subspaces else self.columns_of(end - 1).stop
        own = self._own()
        place = own[first:last] - start  # (m,)
        means = F.normalize(self._means(start, end)[0], dim=-1)  # (k, C, D)
        cosines = means @ F.normalize(self.weight[first:last], dim=-1).T  # (k, C, m)
        cosines = cosines[place, :, torch.arange(last - first, device=own.device)]  # (m, C)
        e = cosines.exp() * self.weight.any(1)  # none for classes without means
        if self.config.softmax_over == "old":
            of_task = F.one_hot(place, end - start).to(e)  # (m, k)
            e = _over(e, (of_task.T @ e)[place])
        self._mixing[first:last] = e

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._current = False


def _over(numerator: Tensor | float, denominator: Tensor) -> Tensor:
    """Divide, with 0 for division by zero."""
    tiny = torch.finfo(denominator.dtype).tiny
    return torch.where(denominator > 0, numerator / denominator.clamp_min(tiny), 0.0)
