"""Which routers and experts a trained CaRE uses, block by block, for images of known task.

The CaRE paper (arXiv 2602.03473) reports routing recall: how often the routers that level one
selects contain the one of the image's own task. Here it is for every block, with the whole table of
who is chosen for whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from avalanche_care.nn.brmoe import BRMoE
    from avalanche_care.nn.care import CaREModel

__all__ = ["ROUTING", "RoutingUsage", "batches_of", "routing_usage"]

ROUTING = "routing.npz"  # in the directory of a run

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RoutingUsage:
    """Sums over images of what every block decided for them; L blocks, T tasks.

    Attributes:
        images: Number of images of each task, (T,).
        routers: Images of task i for which block l selected router j, at [l, i, j], (L, T, T).
        experts: Gate mass that images of task i gave to expert j in block l, at [l, i, j],
            (L, T, T). An image's mass sums to the number of routers that were selected.
        expert_hits: Images whose own expert was among the ``top_k`` with the largest gates,
            (L, T).
        top_m: M, routers that are selected at most.
        top_k: K, experts that each of them mixes at most.
    """

    images: NDArray[np.int64]
    routers: NDArray[np.int64]
    experts: Floats
    expert_hits: NDArray[np.int64]
    top_m: int
    top_k: int

    @property
    def tasks(self) -> int:
        """Number of tasks T."""
        return len(self.images)

    @property
    def blocks(self) -> int:
        """Number of blocks L."""
        return len(self.routers)

    @property
    def router_recall(self) -> Floats:
        """Share of images for which their own task's router was selected, per block, (L,)."""
        return _own(self.routers).sum(1) / self.images.sum()

    @property
    def expert_recall(self) -> Floats:
        """Share of images whose own expert has one of the ``top_k`` largest gates, (L,)."""
        return self.expert_hits.sum(1) / self.images.sum()

    @property
    def router_recall_by_task(self) -> Floats:
        """As :attr:`router_recall`, for the images of each task, (L, T); nan without images."""
        return _share(_own(self.routers), self.images)

    @property
    def router_share(self) -> Floats:
        """Share of task i's images for which router j was selected, (L, T, T)."""
        return _share(self.routers, self.images[:, None])

    @property
    def expert_share(self) -> Floats:
        """Share of the gate mass of task i's images that expert j got, (L, T, T); rows sum to 1."""
        return _share(self.experts, self.experts.sum(2, keepdims=True))

    def summary(self) -> dict[str, Any]:
        """Return what a result's ``extra`` should hold under ``"routing"``: recall per block."""
        return {
            "router_recall": self.router_recall.tolist(),
            "expert_recall": self.expert_recall.tolist(),
            "top_m": self.top_m,
            "top_k": self.top_k,
            "images": int(self.images.sum()),
        }

    def save(self, path: str | Path) -> Path:
        """Write everything to a compressed .npz file, whatever the path ends with."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez_compressed(file, **{f.name: getattr(self, f.name) for f in fields(self)})
        return path

    @classmethod
    def load(cls, path: str | Path) -> RoutingUsage:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: If the file holds something else.
        """
        with np.load(path, allow_pickle=False) as file:
            lacking = [f.name for f in fields(cls) if f.name not in file]
            if lacking:
                raise ValueError(f"{path} holds no routing usage: it lacks {', '.join(lacking)}")
            values: dict[str, Any] = {f.name: file[f.name] for f in fields(cls)}
        return cls(**values | {name: int(values[name]) for name in ("top_m", "top_k")})


def _own(table: NDArray[Any]) -> NDArray[Any]:
    """Return what each task got from its own router or expert: (L, T, T) to (L, T)."""
    return table.diagonal(axis1=1, axis2=2)


def _share(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    whole = np.broadcast_to(whole, part.shape)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def batches_of(
    datasets: Sequence[Any], *, batch_size: int = 64, num_workers: int = 0
) -> Iterator[tuple[Tensor, int]]:
    """Yield the images of data sets, one data set per task, with their task.

    Args:
        datasets: of each task, in order; their items begin with an image, (C, H, W). The
            ``dataset`` of a benchmark's test experiences will do.
        batch_size: images per batch.
        num_workers: processes that load them.

    Yields:
        Images (B, C, H, W) and the index of their task.
    """
    from torch.utils.data import DataLoader

    for task, dataset in enumerate(datasets):
        for batch in DataLoader(dataset, batch_size=batch_size, num_workers=num_workers):
            yield batch[0], task


def routing_usage(model: CaREModel, batches: Iterable[tuple[Tensor, Tensor | int]]) -> RoutingUsage:
    """Run images through a trained CaRE as at inference and count what its blocks decide.

    The model sees no task: all of its routers compete. It is put into eval mode meanwhile.

    Args:
        model: with at least one task.
        batches: images (B, C, H, W) as the model expects them, and the index of their task: one
            number, or one per image, (B,). See :func:`batches_of`.

    Returns:
        The usage, summed over all images.

    Raises:
        ValueError: If the model has no task, there is no image, or a task is not one of its tasks.
    """
    import torch

    if not model.tasks:
        raise ValueError("the model has no task yet, so nothing to choose from: train it first")
    layers = list(model.layers())
    size = len(layers), model.tasks, model.tasks
    images = torch.zeros(model.tasks, dtype=torch.long)
    sums = _Sums(
        torch.zeros(size, dtype=torch.long),
        torch.zeros(size, dtype=torch.double),
        torch.zeros(size[:2], dtype=torch.long),
    )
    device, training = layers[0].routing.router_bias.device, model.training
    model.eval()
    try:
        for x, given in batches:
            own = _tasks_of(given, len(x), model.tasks)  # (B,)
            images += own.bincount(minlength=model.tasks)
            plugs = [partial(_run, layer, i, own, sums) for i, layer in enumerate(layers)]
            with torch.no_grad():
                model.backbone(x.to(device), parallel=plugs)
    finally:
        model.train(training)
    if not images.sum():
        raise ValueError("no image was given; expected batches of test images with their task")
    routers, experts, hits = (total.numpy() for total in sums)
    m, k = model.config.top_m, model.config.top_k
    return RoutingUsage(images.numpy(), routers, experts, hits, m, k)


class _Sums(NamedTuple):
    """What :class:`RoutingUsage` holds, while it is summed up on the CPU."""

    routers: Tensor
    experts: Tensor
    hits: Tensor


def _tasks_of(given: Tensor | int, n_images: int, tasks: int) -> Tensor:
    import torch

    own = torch.as_tensor(given).to("cpu", torch.long)
    own = own.expand(n_images) if own.ndim == 0 else own
    if own.shape != (n_images,) or not ((own >= 0) & (own < tasks)).all():
        raise ValueError(
            f"expected a task in [0, {tasks}) for each of {n_images} images, one number or a "
            f"tensor of them, got {given}"
        )
    return own


def _run(layer: BRMoE, block: int, own: Tensor, sums: _Sums, h: Tensor) -> Tensor:
    """Run a layer as the backbone's parallel branch and add up what it decided."""
    out, _ = layer(h)
    selected, gates = (tensor.cpu() for tensor in decisions(layer, h))
    sums.routers[block].index_put_((own[:, None], selected), own.new_ones(1), accumulate=True)
    sums.experts[block].index_add_(0, own, gates.double())
    best = gates.topk(min(layer.config.top_k, gates.shape[1])).indices  # (B, K)
    hit = (best == own[:, None]).any(1) & (gates.gather(1, own[:, None])[:, 0] > 0)
    sums.hits[block].index_add_(0, own, hit.long())
    return out


def decisions(layer: BRMoE, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a layer in eval mode decides for tokens, out of its own parts.

    Args:
        layer: that has just run on ``h``, so that its tables hold the newest triplet.
        h: tokens before the block's second LayerNorm, CLS in row 0, (B, N, D).

    Returns:
        The routers selected, (B, M), and the gate of every expert, (B, T).
    """
    import torch

    from avalanche_care.nn.adapter import normalise
    from avalanche_care.nn.routing import select_routers

    table, bank, config, tasks = layer.routing, layer.bank, layer.config, layer.tasks
    with torch.no_grad(), torch.autocast(h.device.type, enabled=False):
        cls = h[:, 0].to(table.router_bias.dtype)  # (B, D)
        row = normalise(cls)
        logits = table.logits(bank.cls_hidden(row, tasks), cls, row, tasks)  # (B, classes)
        entropies = table.entropies(logits, tasks)  # (B, T)
        if config.normalised_entropy:
            entropies = entropies / table.class_counts(tasks).clamp_min(2).log()
        selected, _ = select_routers(entropies, None, config.top_m)  # (B, M)
        if tasks == 1:
            return selected, cls.new_ones(len(cls), 1)
        everyone = torch.arange(tasks, device=cls.device)
        scores = table.scores(selected, everyone, bank.hidden_of(row, selected), cls)  # (B, M, T)
        best = scores.topk(min(config.top_k, tasks), dim=-1)  # (B, M, K)
        share = best.values.softmax(-1)
        gates = cls.new_zeros(len(cls), tasks)
        return selected, gates.scatter_add(1, best.indices.flatten(1), share.flatten(1))
