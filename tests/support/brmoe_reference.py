"""A plain, slow BR-MoE: one module per task, loops over experts, all of them on all tokens."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from avalanche_care.nn import Adapter, BRMoE, BRMoEConfig, Perceptron


class Recorder:
    """A BRMoE together with a copy of every triplet it ever had, in plain form."""

    def __init__(self, layer: BRMoE) -> None:
        self.layer = layer
        self.triplets: list[tuple[Adapter, nn.Linear, Perceptron]] = []

    def expand(self, n_classes: int) -> None:
        self.layer.expand(n_classes)

    def keep(self) -> None:
        """Copy the newest triplet as it is now."""
        layer = self.layer
        newest = (layer.expert, layer.router, layer.perceptron)
        self.triplets[layer.tasks - 1 :] = [copy.deepcopy(newest)]

    def __call__(self, h: Tensor, task: int | None = None) -> tuple[Tensor, Tensor | None]:
        return brmoe_reference(self, h, task)


def brmoe_reference(model: Recorder, h: Tensor, task: int | None) -> tuple[Tensor, Tensor | None]:
    """Sections 2 and 9 of the method, sample by sample, with -100 on unselected scores."""
    config = model.layer.config
    visible = len(model.triplets) if task is None else task + 1
    outputs = [model.triplets[i][0](h) for i in range(visible)]  # each (B, N, D)
    by_expert = config.routing_input == "expert"
    rows = [e[:, 0] if by_expert else h[:, 0] for e in outputs]  # each (B, D)
    logits = [model.triplets[i][2](rows[i]) for i in range(visible)]
    result = []
    for b in range(len(h)):
        mixture = torch.zeros_like(h[b])
        if visible == 1:
            mixture = outputs[0][b]
        else:
            for router in routers_of(logits, b, config, task):
                scores = model.triplets[router][1](rows[router][b])  # (router + 1,)
                kept = scores.topk(min(config.top_k, router + 1)).indices
                cut = torch.full_like(scores, -100.0)
                cut[kept] = scores[kept]
                for expert, gate in enumerate(cut.softmax(0)):
                    mixture = mixture + gate * outputs[expert][b]
        result.append(mixture)
    out = torch.stack(result)
    if model.layer.shared is not None:
        out = out + model.layer.shared(h)
    return out, None if task is None else logits[task]


def routers_of(logits: list[Tensor], b: int, config: BRMoEConfig, task: int | None) -> list[int]:
    entropies = []
    for z in logits:
        p = z[b].softmax(0)
        entropy = -(p * (p + 1e-10).log()).sum().item()
        if config.normalised_entropy:
            entropy /= math.log(max(len(p), 2))
        entropies.append(entropy)
    forced = [] if task is None else [task]
    others = [i for i in range(len(logits)) if i not in forced]
    ranked = sorted(others, key=lambda i: entropies[i])
    return (forced + ranked)[: config.top_m]


def randomise(module: nn.Module, std: float = 0.5) -> None:
    """Move every parameter away from zeros and ones, so that no term is hidden."""
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter.shape[1] if parameter.ndim > 1 else 1
            parameter.add_(torch.randn_like(parameter) * std / math.sqrt(fan_in))
