"""The bi-level routing mixture of experts, the layer that CaRE adds to every block.

Meng, Fu and Yu, "Scaling Continual Learning to 300+ Tasks with Bi-Level Routing
Mixture-of-Experts", ICML 2026, arXiv 2602.03473, sections 3.2 and 3.3; where text and released code
differ, the released code is followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_care.nn.adapter import Adapter, Perceptron, normalise
from avalanche_care.nn.bank import ExpertBank
from avalanche_care.nn.routing import RoutingTable

ROUTING_INPUTS = ("expert", "block")
EXPERT_INITS = ("mean", "fresh")


@dataclass(frozen=True)
class BRMoEConfig:
    """Sizes and switches of :class:`BRMoE`.

    Attributes:
        bottleneck: hidden width r of an expert.
        shared_bottleneck: hidden width of the shared expert; 0 leaves it out (ablation).
        top_m: number M of routers that the class perceptrons select.
        top_k: number K of experts that each selected router mixes.
        dropout: on the hidden units of experts in training.
        routing_input: what perceptrons and routers read. ``"expert"``: the CLS row of their own
            expert's output (the released code; 0.53 points better in the paper's table 15).
            ``"block"``: the CLS row of the block's input (the paper's section 3.3 and figure 2);
            router storage then grows by D + 1 instead of r + 2 numbers per expert and router.
        perceptron_norm: a LayerNorm before each perceptron's linear layer, as released. False: the
            linear layer alone, as the paper says.
        expert_init: where expert t >= 2 starts. ``"mean"``: at the mean of experts 0 to t - 2, as
            released. ``"fresh"``: anew; the paper mentions no other initialisation.
        frozen_dropout: frozen experts keep their dropout in training, which makes routing noisy, as
            released. False: only the newest and the shared expert have dropout.
        normalised_entropy: divide each entropy by the log of the number of classes, so that
            perceptrons of large and small tasks compete evenly. Neither paper nor release does.
    """

    bottleneck: int = 16
    shared_bottleneck: int = 64
    top_m: int = 2
    top_k: int = 3
    dropout: float = 0.1
    routing_input: str = "expert"
    perceptron_norm: bool = True
    expert_init: str = "mean"
    frozen_dropout: bool = True
    normalised_entropy: bool = False

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least {least}, got {getattr(self, name)}"
            for name, least in (
                ("bottleneck", 1), ("shared_bottleneck", 0), ("top_m", 1), ("top_k", 1)
            )
            if getattr(self, name) < least
        ]  # fmt: skip
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout must be in [0, 1), got {self.dropout}")
        for name, allowed in (("routing_input", ROUTING_INPUTS), ("expert_init", EXPERT_INITS)):
            if getattr(self, name) not in allowed:
                problems.append(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if problems:
            raise ValueError("; ".join(problems))


class BRMoE(nn.Module):
    """A growing mixture of adapter experts, routed per sample on two levels.

    Level one: the M class perceptrons of lowest predictive entropy select M routers. Level two:
    each selected router mixes its K best experts. The M mixtures are summed (gate mass M), and a
    shared expert is always added. Only the selected experts run on all tokens.

    The newest triplet (``expert``, ``router``, ``perceptron``) is made of parameters. All triplets
    also stand in the buffers of ``bank`` and ``routing``, folded; the row of the newest one is
    refreshed at every forward and is fixed once :meth:`expand` adds the next. So the number of
    modules and of trainable tensors is the same after 2 tasks and after 301.

    Args:
        dim: width D of the tokens.
        config: sizes and switches.
    """

    expert: Adapter
    router: nn.Linear
    perceptron: Perceptron
    shared: Adapter | None

    def __init__(self, dim: int, config: BRMoEConfig | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.config = config = config or BRMoEConfig()
        width = config.shared_bottleneck
        self.shared = Adapter(dim, width, dropout=config.dropout) if width else None
        self.bank = ExpertBank(dim, config.bottleneck)
        self.routing = RoutingTable(
            dim,
            config.bottleneck,
            by_expert=config.routing_input == "expert",
            normed=config.perceptron_norm,
        )
        # Sum of all experts' parameters but the newest's: new experts start at their mean.
        self.expert_sum = Adapter(dim, config.bottleneck).requires_grad_(False)
        for total in self.expert_sum.parameters():
            nn.init.zeros_(total)

    @property
    def tasks(self) -> int:
        """Number of tasks T that the layer has been expanded to."""
        return self.bank.tasks

    @torch.no_grad()
    def expand(self, n_classes: int) -> None:
        """Freeze the newest triplet into the bank and start the next one.

        Experts 0 and 1 start fresh (zero scale). Expert t >= 2 starts at the mean, tensor by
        tensor, of experts 0 to t - 2; expert t - 1 is not part of it, as in the released code.

        Args:
            n_classes: number of classes of the new task, at least 1.

        Raises:
            ValueError: if ``n_classes`` is less than 1.
        """
        if n_classes < 1:
            raise ValueError(f"a task needs at least one class, got n_classes={n_classes}")
        previous = self.expert if self.tasks else None
        if previous is not None:
            self._refresh_newest()
        self._new_triplet(self.tasks + 1, n_classes)
        if previous is not None:
            sums = list(self.expert_sum.parameters())  # over experts 0 .. t - 2
            if self.tasks >= 2 and self.config.expert_init == "mean":
                for start, total in zip(self.expert.parameters(), sums, strict=True):
                    start.copy_(total / (self.tasks - 1))
            for total, last in zip(sums, previous.parameters(), strict=True):
                total.add_(last)
        self.bank.append()
        self.routing.append(n_classes)
        self._refresh_newest()

    def _new_triplet(self, n_experts: int, n_classes: int) -> None:
        like = self.bank.up_bias
        config = self.config
        self.expert = Adapter(self.dim, config.bottleneck, dropout=config.dropout).to(like)
        self.perceptron = Perceptron(self.dim, n_classes, norm=config.perceptron_norm).to(like)
        self.router = nn.Linear(self.dim, n_experts).to(like)
        nn.init.trunc_normal_(self.router.weight, std=0.02)
        nn.init.zeros_(self.router.bias)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        router = state_dict.get(prefix + "router.bias")
        classes = state_dict.get(prefix + "perceptron.linear.bias")
        if router is not None and classes is not None:
            self._new_triplet(len(router), len(classes))  # filled by the children's own loading
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.no_grad()
    def _refresh_newest(self) -> None:
        folded = self.expert.fold()
        self.bank.write_last(folded)
        self.routing.write_last(folded, self.perceptron, self.router)

    def forward(self, h: Tensor, *, task: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the residual of the mixture, and the logits of the perceptron of ``task``.

        Args:
            h: tokens before the block's second LayerNorm, CLS in row 0, (B, N, D).
            task: task index: only triplets 0 to ``task`` take part and router ``task`` is always
                selected (the path of training and of class statistics). None: all triplets
                compete (the path of inference).

        Returns:
            The residual, (B, N, D), and the logits (B, classes of ``task``), None without ``task``.

        Raises:
            RuntimeError: if the layer has no task yet.
            ValueError: if ``task`` is not one of its tasks.
        """
        self._visible(task)
        # The newest triplet runs from its parameters when somebody may differentiate.
        live = torch.is_grad_enabled() and task in (None, self.tasks - 1)
        normalised = normalise(h)  # (B, N, D)
        with torch.autocast(h.device.type, enabled=False):  # routing decides in full precision
            self._refresh_newest()
            cls = h[:, 0].to(normalised.dtype)
            gates, mask, logits = self._route(cls, normalised[:, 0], task, live=live)
        out = self._mix(normalised, gates, mask, live=live)
        if self.shared is not None:
            out = out + self.shared.on_normalised(normalised)
        return out, logits

    def _visible(self, task: int | None) -> int:
        if not self.tasks:
            raise RuntimeError("BRMoE has no task yet: call expand(n_classes) before forward")
        if task is None:
            return self.tasks
        if not 0 <= task < self.tasks:
            raise ValueError(f"task must be in [0, {self.tasks}), got {task}")
        return task + 1

    def _route(
        self, cls: Tensor, normalised_cls: Tensor, task: int | None, *, live: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Decide from the CLS rows (B, D).

        Returns:
            The gate of every visible expert (B, V), the experts' dropout masks on the CLS row
            (B, V, r) or None, and the perceptron logits of ``task`` or None.
        """
        visible = self._visible(task)
        mask = self._draw_mask(normalised_cls, visible)
        with torch.no_grad():  # entropies only rank the routers: there is nothing to differentiate
            hidden = masked(self.bank.cls_hidden(normalised_cls, visible), mask)  # (B, V, r)
            every = self.routing.logits(hidden, cls, normalised_cls, visible)  # (B, classes)
            selected = self._select(self._entropies(every, visible), task)  # (B, m)
        logits = None if task is None else every[:, self.routing.classes_of(task)]
        row = self._newest_row(cls, normalised_cls, mask) if live else None  # (B, D)
        if row is not None and task is not None:
            logits = self.perceptron(row)
        if visible == 1:
            return cls.new_ones(len(cls), 1), mask, logits

        own_mask = None if mask is None else mask.gather(1, rows_like(selected, mask))
        hidden = masked(self.bank.hidden_of(normalised_cls, selected), own_mask)  # (B, m, r)
        scores = self.routing.scores(selected, hidden, cls, visible)  # (B, m, V)
        if row is not None:
            newest = (selected == self.tasks - 1)[..., None]  # (B, m, 1)
            scores = torch.where(newest, self.router(row)[:, None], scores)
        best, experts = scores.topk(min(self.config.top_k, visible), dim=-1)  # (B, m, K)
        gates = scores.new_zeros(len(cls), visible)
        gates = gates.scatter_add(1, experts.flatten(1), best.softmax(-1).flatten(1))
        return gates, mask, logits

    def _entropies(self, logits: Tensor, visible: int) -> Tensor:
        entropies = self.routing.entropies(logits, visible)  # (B, V)
        if self.config.normalised_entropy:
            entropies = entropies / self.routing.class_counts(visible).clamp_min(2).log()
        return entropies

    def _select(self, entropies: Tensor, task: int | None) -> Tensor:
        """Return the routers in use (B, m); of equal entropies the older router wins."""
        m = self.config.top_m
        if task is None:
            return entropies.argsort(dim=1, stable=True)[:, :m]
        forced = torch.full((len(entropies), 1), task, device=entropies.device)
        others = entropies[:, :task].argsort(dim=1, stable=True)[:, : m - 1]
        return torch.cat([forced, others], 1)

    def _draw_mask(self, cls: Tensor, visible: int) -> Tensor | None:
        """Draw the CLS row's dropout masks; routing and output have to see the same ones."""
        if not self.training or self.config.dropout == 0:
            return None
        mask = cls.new_ones(len(cls), visible, self.config.bottleneck)
        if self.config.frozen_dropout:
            return F.dropout(mask, self.config.dropout)
        if visible == self.tasks:
            mask[:, -1] = F.dropout(mask[:, -1], self.config.dropout)
        return mask

    def _newest_row(self, cls: Tensor, normalised_cls: Tensor, mask: Tensor | None) -> Tensor:
        """Return what the newest perceptron and router read, (B, D), differentiably."""
        if self.config.routing_input == "block":
            return cls
        own_mask = None if mask is None else mask[:, -1]
        return self.expert.on_normalised(normalised_cls[:, None], cls_mask=own_mask)[:, 0]

    def _mix(self, normalised: Tensor, gates: Tensor, mask: Tensor | None, *, live: bool) -> Tensor:
        """Return the gated sum of the experts' outputs on all tokens, (B, N, D)."""
        frozen = gates.shape[1] - 1 if live else gates.shape[1]
        keep = self.config.frozen_dropout
        parts = []
        if live:
            own_mask = None if mask is None else mask[:, -1]
            own = self.expert.on_normalised(normalised, cls_mask=own_mask)
            parts.append(own * gates[:, -1, None, None])
        if frozen:
            mixture = self.bank.mix(
                normalised,
                gates[:, :frozen],
                at_most=self.config.top_m * self.config.top_k,
                cls_mask=mask[:, :frozen] if mask is not None and keep else None,
                dropout=self.config.dropout,
            )
            parts.append(mixture)
        return parts[0] + parts[1] if len(parts) == 2 else parts[0]


def masked(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a dropout mask, if there is one."""
    return hidden if mask is None else hidden * mask


def rows_like(index: Tensor, like: Tensor) -> Tensor:
    """Expand row indices (B, m) so that ``like.gather(1, ...)`` takes whole rows of (B, T, r)."""
    return index[..., None].expand(-1, -1, like.shape[-1])
