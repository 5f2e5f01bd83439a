"""How large every kind of state is after T tasks: predicted by formula, and measured.

    python benchmarks/state_sizes.py --csv benchmarks/results/state_sizes.csv \\
        --figure benchmarks/results/state_sizes.png

Measured are real tensors and files, of one layer times the number of blocks, since all are alike,
and of ten classes' statistics, since they are too. Nothing here depends on M and K, the numbers of
routers and experts that are selected.

The last columns are the released layout: one adapter, router and perceptron per task, and a D x D
covariance per class, again by formula and counted on modules (without allocating them). The last
table answers what it takes to have 300 routers at hand.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measuring
import timm
import torch
from dense_brmoe import DenseBRMoE
from sizes_report import draw, print_routers, print_rows
from torch import nn

from avalanche_care.nn import BRMoE, BRMoEConfig, CosineHead
from avalanche_care.statistics import ClassGaussians

KINDS = {
    "bank.": "experts",
    "routing.router_": "routers",
    "routing.": "perceptrons",
    "expert.": "newest triplet",
    "router.": "newest triplet",
    "perceptron.": "newest triplet",
    "shared.": "shared expert",
    "expert_sum.": "sum of experts",
}
"""Kind of each tensor of a layer, by the beginning of its name; the first that fits."""
FITTED = 10  # classes whose statistics are made


@dataclass(frozen=True)
class Sizes:
    """What the formulas depend on besides T.

    Attributes:
        dim: width D.
        depth: number of blocks.
        bottleneck: r.
        shared: bottleneck of the shared expert.
        first: classes of the first task.
        per_task: classes of every other task.
        images: training images per class.
        bank: bytes per number in the bank.
    """

    dim: int
    depth: int
    bottleneck: int = 16
    shared: int = 64
    first: int = 100
    per_task: int = 3
    images: int = 169
    bank: int = 4

    def classes(self, tasks: int) -> int:
        """Number of classes after ``tasks`` tasks, C."""
        return self.first + (tasks - 1) * self.per_task

    def newest(self, tasks: int) -> int:
        """Number of classes of the newest task."""
        return self.per_task if tasks > 1 else self.first


def adapter(dim: int, width: int) -> int:
    """Parameters of an adapter: LayerNorm, down, up, scale."""
    return 2 * dim + (width * dim + width) + (dim * width + dim) + dim


def predicted(tasks: int, s: Sizes) -> dict[str, int]:
    """Return the bytes of every kind of state after ``tasks`` tasks."""
    d, r, classes = s.dim, s.bottleneck, s.classes(tasks)
    pairs = tasks * (tasks + 1) // 2  # entries of all routers: router i knows i + 1 experts
    triplet = adapter(d, r) + tasks * (d + 1) + 2 * d + s.newest(tasks) * (d + 1)
    layer = {
        "experts": s.bank * tasks * (2 * r * d + r + d),
        "routers": 4 * pairs * (r + 2),
        # weights, biases and 8 bytes for the task of each; the gram matrix of each task
        "perceptrons": classes * (4 * (r + 2) + 8) + 4 * tasks * (r + 1) ** 2,
        "newest triplet": 4 * triplet,
        "shared expert": 4 * adapter(d, s.shared),
        "sum of experts": 4 * adapter(d, r),
    }
    found = {kind: s.depth * size for kind, size in layer.items()}
    found["head"] = classes * (4 * d + 16)  # and the label and the task of each, 8 bytes
    found["class statistics"] = 4 * classes * (d + min(s.images, d) * d)
    found["checkpoint"] = sum(found.values())
    trained = s.depth * (triplet + adapter(d, s.shared)) + classes * d
    found["optimiser"] = 4 * trained  # momentum
    return found


def released(tasks: int, s: Sizes) -> dict[str, int]:
    """Return the same for one module per task, and a covariance matrix per class."""
    d, classes = s.dim, s.classes(tasks)
    layer = {
        "experts": tasks * adapter(d, s.bottleneck),
        "routers": tasks * (tasks + 1) // 2 * (d + 1),
        "perceptrons": tasks * 2 * d + classes * (d + 1),
        "shared expert": adapter(d, s.shared),
    }
    found = {kind: 4 * s.depth * size for kind, size in layer.items()}
    found["head"] = 4 * classes * d
    found["class statistics"] = 4 * classes * (d + d * d)
    found["checkpoint"] = sum(found.values())
    found["optimiser"] = predicted(tasks, s)["optimiser"]
    return found


def measured(layer: BRMoE, s: Sizes) -> dict[str, int]:
    """Return the bytes of real tensors and files after as many tasks as the layer has."""
    classes = s.classes(layer.tasks)
    found = dict.fromkeys(KINDS.values(), 0)
    for name, tensor in layer.state_dict().items():
        kind = next(kind for start, kind in KINDS.items() if name.startswith(start))
        found[kind] += s.depth * tensor.untyped_storage().nbytes()
    head = CosineHead(s.dim)
    head.expand(range(classes))
    found["head"] = sum(tensor.untyped_storage().nbytes() for tensor in head.state_dict().values())
    gaussians = ClassGaussians()
    for column in range(FITTED):
        gaussians.fit(column, torch.randn(s.images, s.dim))
    size = sum(gaussians.bytes_of(column) for column in range(FITTED))
    found["class statistics"] = classes * size // FITTED
    found["checkpoint"] = (
        s.depth * file_bytes(layer.state_dict())
        + file_bytes(head.state_dict())
        + classes * file_bytes(gaussians.state_dict()) // FITTED
    )
    found["optimiser"] = s.depth * momentum_bytes(layer) + momentum_bytes(head)
    return found


def file_bytes(state: dict[str, Any]) -> int:
    """Return the size of a file with this state."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.pt"
        torch.save(state, path)
        return path.stat().st_size


def momentum_bytes(module: nn.Module) -> int:
    """Return the size of SGD's state after a step on what trains."""
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.0, momentum=0.9)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return sum(optimizer.state[p]["momentum_buffer"].nbytes for p in trained)


def counted(layer: DenseBRMoE, s: Sizes) -> dict[str, int]:
    """Return the bytes of the released layout's modules, of one layer times the depth."""
    parts = {
        "experts": layer.experts,
        "routers": layer.routers,
        "perceptrons": layer.perceptrons,
        "shared expert": layer.shared,
    }
    return {
        kind: s.depth * sum(p.nbytes for p in part.parameters()) for kind, part in parts.items()
    }


def rows_of(tasks: Sequence[int], s: Sizes, config: BRMoEConfig) -> list[dict[str, Any]]:
    """Return a row per number of tasks and kind of state."""
    layer = BRMoE(s.dim, config)
    with torch.device("meta"):
        plain = DenseBRMoE(s.dim, config)
    rows = []
    for wanted in tasks:
        while layer.tasks < wanted:
            n_classes = s.newest(layer.tasks + 1)
            layer.expand(n_classes)
            with torch.device("meta"):
                plain.expand(n_classes)
        sizes, theirs = measured(layer, s), released(wanted, s)
        modules = counted(plain, s)
        for kind, formula in predicted(wanted, s).items():
            row = {"tasks": wanted, "classes": s.classes(wanted), "kind": kind}
            row |= {"predicted_bytes": formula, "measured_bytes": sizes[kind]}
            row["difference_percent"] = round(100 * (sizes[kind] / formula - 1), 2)
            row["released_bytes"] = theirs.get(kind, "")
            rows.append(row | {"released_counted_bytes": modules.get(kind, "")})
    return rows


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = measuring.parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", default="vit_base_patch16_224", help="timm architecture")
    parser.add_argument("--tasks", type=measuring.numbers, default="10,100,301,1000")
    parser.add_argument("--first-classes", type=int, default=100, help="of the first task")
    parser.add_argument("--classes-per-task", type=int, default=3, help="of all others")
    parser.add_argument("--images-per-class", type=int, default=169)
    parser.add_argument("--bank-dtype", choices=("same", "bfloat16"), default="same")
    if parser.parse_known_args(arguments)[0].quick:
        parser.set_defaults(tasks="10,30,100")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Predict, measure, print, write and draw."""
    options = parse(arguments)
    measuring.prepare(options)
    vit: Any = timm.create_model(options.arch, pretrained=False, num_classes=0)
    config = BRMoEConfig(bank_dtype=options.bank_dtype)
    sizes = Sizes(
        dim=vit.embed_dim,
        depth=len(vit.blocks),
        bottleneck=config.bottleneck,
        shared=config.shared_bottleneck,
        first=options.first_classes,
        per_task=options.classes_per_task,
        images=options.images_per_class,
        bank=2 if options.bank_dtype == "bfloat16" else 4,
    )
    rows = rows_of(options.tasks, sizes, config)
    print_rows(rows, sum(p.nbytes for p in vit.parameters()))
    print_routers(sizes)
    extra = {"arch": options.arch, "bank_dtype": options.bank_dtype}
    if options.csv:
        measuring.write_csv(options.csv, [{**row, **extra} for row in rows], options.device)
    if options.figure:
        last = options.tasks[-1]
        curve = sorted({1, *options.tasks, *range(1, last, max(1, last // 100))})
        ours = {tasks: predicted(tasks, sizes) for tasks in curve}
        draw(ours, {tasks: released(tasks, sizes) for tasks in curve}, rows, options.figure)


if __name__ == "__main__":
    main()
