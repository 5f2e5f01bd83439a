"""EASE's prototypes and scores as loops over classes, straight from the formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.nn import EnsembleConfig
from avalanche_care.nn.subspaces import SubspaceHead


def tasks_of(sizes: Sequence[int]) -> list[int]:
    """The task of every class."""
    return [task for task, size in enumerate(sizes) for _ in range(size)]


def own_subspace(task: int, sizes: Sequence[int], config: EnsembleConfig) -> int:
    """The subspace of a task's classes, of those there are."""
    return min(task, (config.max_adapters or len(sizes)) - 1)


def random_means(sizes: Sequence[int], dim: int, config: EnsembleConfig) -> Tensor:
    """A class mean for every class and subspace; only those of old adapters can be known."""
    count = own_subspace(len(sizes) - 1, sizes, config) + 1
    # Positive on average, as features are: otherwise synthesis may come out near zero.
    return torch.randn(sum(sizes), count, dim, dtype=torch.float64) + 0.3


def filled(head: SubspaceHead, sizes: Sequence[int], means: Tensor, bare: Tensor | None) -> None:
    """Let a head learn tasks of these sizes, in turn."""
    end = 0
    for task, size in enumerate(sizes):
        start, end = end, end + size
        head.expand(range(start, end))
        own = own_subspace(task, sizes, head.config)
        head.set_means(means[start:end, : own + 1], None if bare is None else bare[start:end])


def cos(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def looped_prototypes(means: Tensor, sizes: Sequence[int], config: EnsembleConfig) -> Tensor:
    """Every prototype, (C, subspaces, D), synthesised one by one."""
    task = tasks_of(sizes)
    own = [own_subspace(t, sizes, config) for t in task]
    out = means.clone()
    for o in range(len(task)):
        for j in range(own[o] + 1, means.shape[1]):
            later = config.similar_to == "later"
            new = [n for n in range(len(task)) if (task[n] >= j if later else task[n] == j)]
            weights = []
            for n in new:
                e = math.exp(cos(means[o, own[o]], means[n, own[o]]))
                group = new
                if config.softmax_over == "old":
                    group = [other for other in range(len(task)) if task[other] == task[o]]
                    total = sum(math.exp(cos(means[c, own[o]], means[n, own[o]])) for c in group)
                else:
                    total = sum(math.exp(cos(means[o, own[o]], means[c, own[o]])) for c in group)
                weights.append(e / total)
            out[o, j] = sum(w * means[n, j] for w, n in zip(weights, new, strict=True))
    return out


def looped_scores(
    features: Tensor,
    bare_features: Tensor | None,
    prototypes: Tensor,
    bare: Tensor | None,
    sizes: Sequence[int],
    config: EnsembleConfig,
) -> Tensor:
    """Scores of features (subspaces, B, D) for every class, (B, C)."""
    task, (count, batch, _) = tasks_of(sizes), features.shape
    scores = torch.zeros(batch, len(task), dtype=features.dtype)
    for b in range(batch):
        for c, t in enumerate(task):
            if not config.reweight:
                f, p = list(features[:, b]), list(prototypes[c])
                if bare is not None and bare_features is not None:
                    f, p = [bare_features[b], *f], [bare[c], *p]
                scores[b, c] = cos(torch.cat(f), torch.cat(p))
                continue
            own = own_subspace(t, sizes, config)
            for j in range(count):
                divisor = max(count - 1, 1) if config.divide_alpha else 1
                weight = 1.0 if j == own else config.alpha / divisor
                scores[b, c] += weight * cos(features[j, b], prototypes[c, j])
            if bare is not None and bare_features is not None:
                scores[b, c] += config.beta * cos(bare_features[b], bare[c])
    return scores


def one_by_one(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Features of every adapter, (T, B, D), each in a pass from the image on; and without."""
    passes = []
    for task in range(model.adapters):
        plugs = [plain_adapter(bank, task) for bank in model.banks]
        passes.append(model.backbone(x, parallel=plugs))
    return torch.stack(passes), model.backbone(x)


def plain_adapter(bank: Any, task: int) -> Any:
    """One adapter of a bank as a function."""

    def residual(h: Tensor) -> Tensor:
        hidden = F.relu(F.linear(h, bank.down_weight[task], bank.down_bias[task]))
        return hidden @ bank.up_weight[task] + bank.up_bias[task]

    return residual
