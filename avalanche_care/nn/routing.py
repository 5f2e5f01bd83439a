"""Level one and two of CaRE's routing over all frozen tasks at once.

Class perceptrons (level one: whose entropy is lowest?) and routers (level two: which experts?) of
all tasks live in stacked buffers. With ``routing_input="expert"`` they read the CLS row of their
own expert's output ``e = U' a + c'``. That row is linear in ``z = [a; 1]`` (r + 1 numbers), so it
is never formed: a router keeps ``R U^`` with ``U^ = [U', c']``, and the perceptron's LayerNorm has
the closed form ``LN(e) = V z / sqrt(z' G z + eps)``, ``V`` being ``U^`` with its column means
removed and ``G = V'V / D``. A router entry costs r + 2 numbers instead of D + 1.

With ``routing_input="block"`` (the paper's section 3.3) both read the CLS row of the block's input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from avalanche_care.nn.adapter import EPS, FoldedAdapter, Perceptron
from avalanche_care.nn.growing import GrowingModule, overwrite_tail

ENTROPY_FLOOR = 1e-10
"""Added inside the logarithm of the entropy, as in the released code."""

GATHERED = 2**22
"""Numbers of router rows gathered at once, which bounds memory (16 MiB in float32)."""


class RoutingTable(GrowingModule):
    """Perceptrons and routers of all tasks of one block, folded and stacked.

    Row counts are ragged: task i has |G_i| perceptron rows and i + 1 router rows. They are stored
    one after the other, which is what keeps unequal tasks (a first task of 100 classes) from being
    padded.

    Args:
        dim: width D of the tokens.
        bottleneck: hidden width r of the experts.
        by_expert: ``routing_input="expert"``; False: ``"block"``. See the module docstring.
        normed: whether perceptrons have a LayerNorm.
    """

    perceptron_weight: Tensor  # (C, F), F = r + 1 or D
    perceptron_bias: Tensor  # (C,)
    perceptron_task: Tensor  # (C,) the task that each row belongs to
    gram: Tensor  # (T, F, F), or (T, 0, 0) where no LayerNorm of an expert's output is needed
    router_weight: Tensor  # (T (T + 1) / 2, F); the rows of router i start at i (i + 1) / 2
    router_bias: Tensor  # (T (T + 1) / 2,)

    def __init__(self, dim: int, bottleneck: int, *, by_expert: bool, normed: bool) -> None:
        super().__init__()
        self.by_expert = by_expert
        self.normed = normed
        features = bottleneck + 1 if by_expert else dim
        gram = features if by_expert and normed else 0
        self.register_buffer("perceptron_weight", torch.zeros(0, features))
        self.register_buffer("perceptron_bias", torch.zeros(0))
        self.register_buffer("perceptron_task", torch.zeros(0, dtype=torch.long))
        self.register_buffer("gram", torch.zeros(0, gram, gram))
        self.register_buffer("router_weight", torch.zeros(0, features))
        self.register_buffer("router_bias", torch.zeros(0))
        self._class_ends: list[int] = []  # where each task's perceptron rows end; spares a sync

    @property
    def tasks(self) -> int:
        """Number of tasks T."""
        return self.gram.shape[0]

    def append(self, n_classes: int) -> None:
        """Make room for one more task, to be filled by :meth:`write_last`."""
        task = self.tasks
        self.append_rows("perceptron_weight", n_classes)
        self.append_rows("perceptron_bias", n_classes)
        self.append_rows("perceptron_task", n_classes)
        self.perceptron_task[-n_classes:] = task
        self._class_ends.append(len(self.perceptron_task))
        self.append_rows("gram", 1)
        self.append_rows("router_weight", task + 1)
        self.append_rows("router_bias", task + 1)

    def class_counts(self, visible: int) -> Tensor:
        """Return the number of classes of each of the first ``visible`` tasks, (visible,)."""
        ends = self._class_ends[:visible]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return self.perceptron_bias.new_tensor(counts)

    def classes_of(self, task: int) -> slice:
        """Return which columns of :meth:`logits` belong to ``task``."""
        return slice(self._class_ends[task - 1] if task else 0, self._class_ends[task])

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._class_ends = self.perceptron_task.bincount(minlength=self.tasks).cumsum(0).tolist()

    @torch.no_grad()
    def write_last(self, expert: FoldedAdapter, perceptron: Perceptron, router: nn.Linear) -> None:
        """Fold a triplet into the rows of the last task, see :func:`overwrite_tail`."""
        weight: Tensor = perceptron.linear.weight  # (k, D)
        bias: Tensor = perceptron.linear.bias  # (k,)
        scores: Tensor = router.weight  # (t + 1, D)
        if perceptron.norm is not None:
            bias = bias + weight @ perceptron.norm.bias
            weight = weight * perceptron.norm.weight
        if self.by_expert:
            output = torch.cat([expert.up_weight, expert.up_bias[None]])  # (r + 1, D)
            scores = scores @ output.T
            if self.normed:
                output = output - output.mean(1, keepdim=True)
                overwrite_tail(self.gram, (output @ output.T / output.shape[1])[None])
            weight = weight @ output.T
        overwrite_tail(self.perceptron_weight, weight)
        overwrite_tail(self.perceptron_bias, bias)
        overwrite_tail(self.router_weight, scores)
        overwrite_tail(self.router_bias, router.bias)

    def logits(self, hidden: Tensor, cls: Tensor, normalised_cls: Tensor, visible: int) -> Tensor:
        """Return the logits of all perceptrons of the first ``visible`` tasks, side by side.

        Args:
            hidden: CLS activations of every expert, (B, T, r).
            cls: CLS row of the block's input, (B, D).
            normalised_cls: the same, normalised, (B, D).
            visible: number of tasks to look at.

        Returns:
            (B, classes of those tasks).
        """
        count = self._class_ends[visible - 1]
        weight, bias = self.perceptron_weight[:count], self.perceptron_bias[:count]
        if not self.by_expert:
            return (normalised_cls if self.normed else cls) @ weight.T + bias
        z = with_one(hidden[:, :visible])  # (B, T, r + 1)
        if self.normed:
            variance = torch.einsum("bti,tij,btj->bt", z, self.gram[:visible], z).clamp_min(0)
            z = z / (variance + EPS).sqrt()[..., None]
        per_class = z[:, self.perceptron_task[:count]]  # (B, C, r + 1)
        return torch.einsum("bcf,cf->bc", per_class, weight) + bias

    def entropies(self, logits: Tensor, visible: int) -> Tensor:
        """Return each perceptron's predictive entropy in nats, (B, visible).

        Args:
            logits: from :meth:`logits` with the same ``visible``, (B, C).
            visible: number of tasks.
        """
        task = self.perceptron_task[: logits.shape[1]].expand_as(logits)  # (B, C)
        empty = logits.new_zeros(len(logits), visible)
        highest = empty.scatter_reduce(1, task, logits, "amax", include_self=False)
        unnormalised = (logits - highest.gather(1, task)).exp()
        total = empty.scatter_add(1, task, unnormalised)
        p = unnormalised / total.gather(1, task)
        return empty.scatter_add(1, task, -p * (p + ENTROPY_FLOOR).log())

    def scores(self, selected: Tensor, experts: Tensor, hidden: Tensor, cls: Tensor) -> Tensor:
        """Return what the selected routers say of some experts, -inf of those they do not know.

        Args:
            selected: router indices, (B, M).
            experts: expert indices, (B, M, V), or (V,) for all routers alike.
            hidden: CLS activations of the selected routers' own experts, (B, M, r).
            cls: CLS row of the block's input, (B, D).

        Returns:
            (B, M, V).
        """
        features = with_one(hidden) if self.by_expert else cls[:, None].expand(*selected.shape, -1)
        experts = experts.expand(*selected.shape, -1)
        # The rows are gathered for a few samples at a time: (B, M, V, D) of them can be large.
        step = max(1, GATHERED // (experts[0].numel() * features.shape[-1]))
        parts = [
            self._scores(s, e, z)
            for s, e, z in zip(
                selected.split(step), experts.split(step), features.split(step), strict=True
            )
        ]
        return torch.cat(parts)

    def _scores(self, selected: Tensor, experts: Tensor, features: Tensor) -> Tensor:
        known = experts <= selected[..., None]  # (b, M, V)
        row = (selected * (selected + 1) // 2)[..., None]  # (b, M, 1)
        row = row + torch.minimum(experts, selected[..., None])  # (b, M, V)
        scores = (self.router_weight[row] @ features[..., None])[..., 0] + self.router_bias[row]
        return scores.masked_fill(~known, -torch.inf)


def with_one(hidden: Tensor) -> Tensor:
    """Append a constant one to the last axis: (..., r) to (..., r + 1)."""
    return torch.cat([hidden, hidden.new_ones(*hidden.shape[:-1], 1)], -1)


def select_routers(
    entropies: Tensor, task: int | Tensor | None, m: int
) -> tuple[Tensor, Tensor | None]:
    """Return the routers in use: those whose perceptrons are most certain.

    Of equal entropies the older router wins.

    Args:
        entropies: of each perceptron, (B, V).
        task: router that is always selected, the others come from before it; one for all or one
            per sample, (B,). None: all compete.
        m: how many at most.

    Returns:
        Indices (B, m), and a mask (B, m) of those that count; None if all do.
    """
    if task is None:
        return entropies.argsort(dim=1, stable=True)[:, :m], None
    if not isinstance(task, Tensor):
        forced = torch.full((len(entropies), 1), task, device=entropies.device)
        others = entropies[:, :task].argsort(dim=1, stable=True)[:, : m - 1]
        return torch.cat([forced, others], 1), None
    forced = task[:, None]  # (B, 1)
    later = torch.arange(entropies.shape[1], device=task.device) >= forced  # (B, V)
    ranked, others = entropies.masked_fill(later, torch.inf).sort(dim=1, stable=True)
    use = torch.cat([torch.ones_like(forced, dtype=torch.bool), ranked[:, : m - 1] < torch.inf], 1)
    return torch.cat([forced, others[:, : m - 1]], 1), use
