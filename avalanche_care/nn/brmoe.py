"""The bi-level routing mixture of experts, the layer that CaRE adds to every block.

Lou, Fu and Yu, "Scaling Continual Learning to 300+ Tasks with Bi-Level Routing
Mixture-of-Experts", ICML 2026, arXiv 2602.03473, sections 3.2 and 3.3; where text and released code
differ, the released code is followed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from avalanche_care.nn.adapter import Adapter, FoldedAdapter, Perceptron, normalise
from avalanche_care.nn.bank import ExpertBank
from avalanche_care.nn.brmoe_config import BANK_DTYPES, BRMoEConfig
from avalanche_care.nn.routing import RoutingTable, select_routers
from avalanche_care.nn.units import Units, run_units
from avalanche_care.offload import Offload


class Mixture(NamedTuple):
    """What each sample runs on its tokens, of the frozen experts and of the newest."""

    experts: Tensor | None  # of the bank, (B, S); None: the first S for everyone
    gates: Tensor  # (B, S)
    masks: Tensor | None  # dropout masks of the CLS row, (B, S, r)
    newest_gate: Tensor | None  # (B,), if the newest expert runs from its parameters
    newest_mask: Tensor | None  # (B, r)


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
        offload: where the bank lives; None: on the layer's device.
        name: tells this layer from others with the same ``offload``.
    """

    expert: Adapter
    router: nn.Linear
    perceptron: Perceptron
    shared: Adapter | None

    def __init__(
        self,
        dim: int,
        config: BRMoEConfig | None = None,
        *,
        offload: Offload | None = None,
        name: str = "brmoe",
    ) -> None:
        super().__init__()
        self.dim = dim
        self.config = config = config or BRMoEConfig()
        width = config.shared_bottleneck
        self.shared = Adapter(dim, width, dropout=config.dropout) if width else None
        self.bank = ExpertBank(
            dim,
            config.bottleneck,
            dtype=BANK_DTYPES[config.bank_dtype],
            offload=offload,
            name=name,
        )
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
        self._folded_version: tuple[Any, ...] | None = None

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
        like = self.routing.router_bias
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

    def _newest_version(self) -> tuple[Any, ...] | None:
        """Return what changes whenever the newest triplet does; None if that cannot be told."""
        triplet = [*self.expert.parameters(), *self.perceptron.parameters()]
        triplet += self.router.parameters()
        if any(p.is_inference() for p in triplet):
            return None
        return tuple((id(p), p._version) for p in triplet)

    @torch.no_grad()
    def _refresh_newest(self) -> None:
        """Fold the newest triplet into the last rows, unless they hold it as it is."""
        version = self._newest_version()
        if version is None or version != self._folded_version:
            folded = self.expert.fold()
            self.bank.write_last(folded)
            self.routing.write_last(folded, self.perceptron, self.router)
            self._folded_version = version

    def train(self, mode: bool = True) -> BRMoE:
        """Set the mode; see ``nn.Module.train``."""
        self._folded_version = None  # what was written through .data has no version
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._folded_version = None
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, *args: Any) -> None:
        if self.tasks:
            self._refresh_newest()
        super()._save_to_state_dict(*args)

    def forward(
        self, h: Tensor, *, task: int | Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the residual of the mixture, and the logits of the perceptron of ``task``.

        For the backward pass only ``h`` and the routing are kept; the mixture is computed again
        then, which costs less than the memory traffic of keeping it.

        Args:
            h: tokens before the block's second LayerNorm, CLS in row 0, (B, N, D).
            task: task index: only triplets 0 to ``task`` take part and router ``task`` is always
                selected (the path of training and of class statistics). A tensor (B,) of indices
                gives each sample its own, which trains nothing and returns no logits. None: all
                triplets compete (the path of inference).

        Returns:
            The residual, (B, N, D), and the logits (B, classes of ``task``), None without ``task``.

        Raises:
            RuntimeError: if the layer has no task yet.
            ValueError: if ``task`` is not one of its tasks.
        """
        visible = self._visible(task)
        # The newest triplet runs from its parameters when somebody may differentiate.
        grad = torch.is_grad_enabled()
        live = grad and not isinstance(task, Tensor) and visible == self.tasks
        with torch.autocast(h.device.type, enabled=False):  # routing decides in full precision
            if task is None or not live:
                self._refresh_newest()  # else nothing of the last rows is used
            cls = h[:, 0].to(self.routing.router_bias.dtype)  # (B, D)
            gates, mask, logits = self._route(cls, normalise(cls), task, live=live)
            mixture = self._narrow(gates, mask, live=live)
        if not grad:
            return self._mix(h, mixture, None), logits
        out: Tensor = checkpoint(
            self._mix,
            h,
            mixture,
            self.expert if live else None,  # as it is now: by then another may be the newest
            use_reentrant=False,
            preserve_rng_state=mask is not None,
        )
        return out, logits

    def _visible(self, task: int | Tensor | None) -> int:
        """Return how many triplets to look at."""
        if not self.tasks:
            raise RuntimeError("BRMoE has no task yet: call expand(n_classes) before forward")
        if task is None or isinstance(task, Tensor):
            return self.tasks
        if not 0 <= task < self.tasks:
            raise ValueError(f"task must be in [0, {self.tasks}), got {task}")
        return task + 1

    def _route(
        self, cls: Tensor, normalised_cls: Tensor, task: int | Tensor | None, *, live: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Decide from the CLS rows (B, D).

        Returns:
            The gate of every visible expert (B, V), the experts' dropout masks on the CLS row
            (B, V, r) or None, and the perceptron logits of ``task`` or None.
        """
        visible = self._visible(task)
        mask = self._draw_mask(normalised_cls, visible)
        row = self._newest_row(cls, normalised_cls, mask) if live else None  # (B, D)
        with torch.no_grad():  # entropies only rank the routers: there is nothing to differentiate
            hidden = masked(self.bank.cls_hidden(normalised_cls, visible), mask)  # (B, V, r)
            every = self.routing.logits(hidden, cls, normalised_cls, visible)  # (B, classes)
            entropies = self._entropies(every, visible)  # (B, V)
            selected, use = select_routers(entropies, task, self.config.top_m)  # (B, m)
        logits = every[:, self.routing.classes_of(task)] if isinstance(task, int) else None
        if row is not None and logits is not None:
            logits = self.perceptron(row)
        if visible == 1:
            return cls.new_ones(len(cls), 1), mask, logits

        own_mask = None if mask is None else mask.gather(1, rows_like(selected, mask))
        hidden = masked(self.bank.hidden_of(normalised_cls, selected), own_mask)  # (B, m, r)
        own = None if row is None else self.router(row)  # the newest router's scores, (B, T)
        with torch.no_grad():  # which experts: all scores
            everyone = torch.arange(visible, device=cls.device)
            scores = self._scores(selected, everyone, hidden, cls, own)  # (B, m, V)
            experts = scores.topk(min(self.config.top_k, visible), dim=-1).indices  # (B, m, K)
        scores = self._scores(selected, experts, hidden, cls, own)  # what to differentiate: a few
        share = scores.softmax(-1)  # (B, m, K)
        if use is not None:
            share = share * use[..., None]
        gates = share.new_zeros(len(cls), visible)
        return gates.scatter_add(1, experts.flatten(1), share.flatten(1)), mask, logits

    def _scores(
        self, selected: Tensor, experts: Tensor, hidden: Tensor, cls: Tensor, own: Tensor | None
    ) -> Tensor:
        """Return the selected routers' scores; the newest router's are ``own``, if given."""
        scores = self.routing.scores(selected, experts, hidden, cls)  # (B, m, V)
        if own is None:
            return scores
        newest = (selected == self.tasks - 1)[..., None]  # (B, m, 1)
        own = own[:, None].expand(-1, selected.shape[1], -1)  # (B, m, T)
        return torch.where(newest, own.gather(-1, experts.expand_as(scores)), scores)

    def _entropies(self, logits: Tensor, visible: int) -> Tensor:
        entropies = self.routing.entropies(logits, visible)  # (B, V)
        if self.config.normalised_entropy:
            entropies = entropies / self.routing.class_counts(visible).clamp_min(2).log()
        return entropies

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
        folded = self.expert.fold()
        hidden = F.relu(F.linear(normalised_cls, folded.down_weight, folded.down_bias))  # (B, r)
        if mask is not None:
            hidden = hidden * mask[:, -1].clone()  # a view would keep all masks for backward
        return hidden @ folded.up_weight + folded.up_bias

    def _narrow(self, gates: Tensor, mask: Tensor | None, *, live: bool) -> Mixture:
        """Cut the gates (B, V) and masks (B, V, r) down to the experts that each sample uses.

        The result is all that the backward pass keeps of them, so its size does not grow with V.
        """
        newest_gate = gates[:, -1].clone() if live else None
        newest_mask = mask[:, -1].clone() if live and mask is not None else None
        frozen = gates[:, :-1] if live else gates
        if mask is None or not self.config.frozen_dropout:
            masks = None
        else:
            masks = mask[:, : frozen.shape[1]]
        most = self.config.top_m * self.config.top_k
        if frozen.shape[1] <= most:
            return Mixture(None, frozen, masks, newest_gate, newest_mask)
        frozen, experts = frozen.topk(most, dim=1)  # (B, M K)
        if masks is not None:
            masks = masks.gather(1, rows_like(experts, masks))
        return Mixture(experts, frozen, masks, newest_gate, newest_mask)

    def _mix(self, h: Tensor, mixture: Mixture, newest: Adapter | None) -> Tensor:
        """Return the gated sum of the experts' outputs and the shared expert's.

        Args:
            h: tokens, (B, N, D).
            mixture: what to run.
            newest: the newest expert, if it runs from its parameters.

        Returns:
            (B, N, D).
        """
        normalised = normalise(h)
        parts = []
        if mixture.gates.shape[1]:
            parts.append(self.bank.units(mixture.experts, mixture.gates, mixture.masks, normalised))
        always: list[tuple[FoldedAdapter, Tensor, Tensor | None]] = []  # run for every sample
        if newest is not None and mixture.newest_gate is not None:
            always.append((newest.fold(), mixture.newest_gate, mixture.newest_mask))
        if self.shared is not None:
            mask = None
            if self.training and self.config.dropout:
                mask = h.new_ones(len(h), self.config.shared_bottleneck)
                mask = F.dropout(mask, self.config.dropout)
            always.append((self.shared.fold(), mixture.gates.new_ones(len(h)), mask))
        if always:
            parts.append(Units.of(always))
        return run_units(normalised, parts, dropout=self.config.dropout)


def masked(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a dropout mask, if there is one."""
    return hidden if mask is None else hidden * mask


def rows_like(index: Tensor, like: Tensor) -> Tensor:
    """Expand row indices (B, m) so that ``like.gather(1, ...)`` takes whole rows of (B, T, r)."""
    return index[..., None].expand(-1, -1, like.shape[-1])
