"""BR-MoE in its plain form, whose cost grows with the number of tasks T, to compare against.

One module per task for expert, router and class perceptron, as the released code has it. Every
expert sees every token, the outputs are stacked, every router and perceptron is evaluated, and the
gates weigh the whole stack. It computes the same function as :class:`avalanche_care.nn.BRMoE`; a
test holds the two together.

It is no straw man, and cheaper than the released layer where that costs nothing in plainness.
Gates are summed over the selected routers before they meet the stack, instead of a weighted copy of
the stack for each; older triplets ask for no gradient, so that autograd keeps nothing for theirs;
experts outside a router's top K get no share at all, where a score of -100 leaves them one of
1e-44, with which processors calculate slowly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_care.nn import Adapter, BRMoEConfig, CosineHead, FrozenViT, Perceptron


class DenseBRMoE(nn.Module):
    """The layer, with released routing: perceptrons and routers read their own expert's output.

    Args:
        dim: width D of the tokens.
        config: sizes; the switches must have their default values.
    """

    def __init__(self, dim: int, config: BRMoEConfig) -> None:
        super().__init__()
        self.dim = dim
        self.config = config
        self.experts = nn.ModuleList()
        self.routers = nn.ModuleList()
        self.perceptrons = nn.ModuleList()
        self.shared = Adapter(dim, config.shared_bottleneck, dropout=config.dropout)

    @property
    def tasks(self) -> int:
        """Number of tasks T."""
        return len(self.experts)

    def expand(self, n_classes: int) -> None:
        """Freeze the newest triplet and add another, at PyTorch's initial values."""
        for part in (self.experts, self.routers, self.perceptrons):
            part[-1:].requires_grad_(False)
        self.experts.append(Adapter(self.dim, self.config.bottleneck, dropout=self.config.dropout))
        self.routers.append(nn.Linear(self.dim, len(self.experts)))
        self.perceptrons.append(Perceptron(self.dim, n_classes))

    def forward(self, h: Tensor, *, task: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the residual (B, N, D) and the perceptron logits of ``task``; as in BRMoE."""
        visible = self.tasks if task is None else task + 1
        outputs = torch.stack([expert(h) for expert in self.experts[:visible]])  # (T, B, N, D)
        rows = outputs[:, :, 0].clone()  # (T, B, D); a view would keep a float32 stack under AMP
        logits = [p(row) for p, row in zip(self.perceptrons[:visible], rows, strict=True)]
        gates = self.gates(rows, logits, task)  # (B, T)
        out = torch.einsum("bt,tbnd->bnd", gates, outputs) + self.shared(h)
        return out, None if task is None else logits[task]

    def gates(self, rows: Tensor, logits: list[Tensor], task: int | None) -> Tensor:
        """Return the weight of every expert, (B, T).

        Args:
            rows: CLS row of every expert's output, (T, B, D).
            logits: of every perceptron, each (B, its classes).
            task: see :meth:`BRMoE.forward`.
        """
        visible, batch, _ = rows.shape
        if visible == 1:
            return rows.new_ones(batch, 1)
        entropies = torch.stack([entropy(z) for z in logits], 1)  # (B, T)
        m = min(self.config.top_m, visible)
        if task is not None:
            entropies[:, task] = -1.0  # below any entropy: this router is always selected
        selected = entropies.topk(m, dim=1, largest=False).indices  # (B, M)

        scores = [router(row) for router, row in zip(self.routers[:visible], rows, strict=True)]
        scores = [F.pad(s, (0, visible - s.shape[1]), value=-torch.inf) for s in scores]
        every = torch.stack(scores, 1)  # (B, T, T)
        of_selected = every.gather(1, selected[..., None].expand(-1, -1, visible))  # (B, M, T)
        best, experts = of_selected.topk(min(self.config.top_k, visible), dim=-1)  # (B, M, K)
        kept = torch.full_like(of_selected, -torch.inf).scatter(-1, experts, best)  # (B, M, T)
        return kept.softmax(-1).sum(1)


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the softmax of logits (B, k), (B,)."""
    p = logits.softmax(1)
    return -(p * (p + 1e-10).log()).sum(1)


class DenseNetwork(nn.Module):
    """A frozen ViT with a dense layer beside every MLP, and a cosine head.

    Args:
        backbone: the frozen ViT.
        config: of the layers.
        scale: what cosines are multiplied with.
    """

    def __init__(self, backbone: FrozenViT, config: BRMoEConfig, *, scale: float = 20.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = CosineHead(backbone.embed_dim)
        self.layers = nn.ModuleList(
            DenseBRMoE(backbone.embed_dim, config) for _ in range(backbone.depth)
        )
        self.scale = scale

    def expand(self, task: int, classes: range) -> None:
        """Add a task to every layer and to the head."""
        self.head.begin_task(task, classes)
        layer: Any
        for layer in self.layers:
            layer.expand(len(classes))

    def features_and_logits(
        self, x: Tensor, *, task: int | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return features (B, D) of images (B, C, H, W), and perceptron logits of each block."""
        logits: list[Tensor] = []

        def branch(layer: nn.Module, h: Tensor) -> Tensor:
            out, own = layer(h, task=task)
            if own is not None:
                logits.append(own)
            return out

        plugs = [lambda h, layer=layer: branch(layer, h) for layer in self.layers]
        return self.backbone(x, parallel=plugs), logits

    def forward(self, x: Tensor) -> Tensor:
        """Return scaled cosines of images (B, C, H, W) to every class, (B, classes)."""
        return self.scale * self.head(self.features_and_logits(x)[0])


def step_bytes(
    tasks: int, tokens: int, backbone: FrozenViT, config: BRMoEConfig, *, train: bool, half: bool
) -> int:
    """Estimate what the experts of a :class:`DenseNetwork` take at once, beyond the parameters.

    Until the backward pass is there, a training step keeps for every expert of every block its
    output, in the stack, and its hidden units after ReLU and after dropout. The block at work has
    the stack twice more: as a list and as a stack going forward, as gradients coming back. The
    figures agree with what TensorMemory counts.

    Args:
        tasks: T.
        tokens: B N, tokens of a batch.
        backbone: for its width and depth.
        config: of the layers.
        train: a training step; False: inference.
        half: under autocast, which keeps the stack in 16 bits and makes it in 32.
    """
    output = 4 * tokens * backbone.embed_dim
    hidden = 2 * 4 * tokens * config.bottleneck
    kept = backbone.depth * (output + hidden) // (2 if half else 1)
    if not train:
        return tasks * 2 * output
    return tasks * (kept + (output * 5 // 2 if half else output * 2))
