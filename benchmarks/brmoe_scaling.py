"""Time and memory of CaRE's network against the number of tasks T.

    python benchmarks/brmoe_scaling.py --csv benchmarks/results/brmoe_scaling.csv \\
        --figure benchmarks/results/brmoe_scaling.png --estimate

Three networks on the same frozen ViT, in turns within one run:

ours    CaREModel: a BR-MoE of T tasks beside every MLP, and a cosine head
dense   the same function in its plain form (dense_brmoe.py): every expert on every token
floor   one adapter of width 64 beside every MLP, and the head: what any adapter method pays

A training step is the forward pass of task T - 1, CaRE's losses, the backward pass and the step of
SGD on what trains. Inference is the forward pass without a task. Weights are random, the experts'
not zero, and images differ enough that samples select different experts. Memory is measured apart
from time, and is what a call takes beyond the weights: `peak_bytes` at its worst, `saved_bytes`
when the forward pass of a training step is over. `model_bytes` are the weights that are not the
ViT's. Where dense would not fit it is not run, and its row says what it would take.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import measuring
import timm
import torch
from dense_brmoe import step_bytes
from long_run import print_estimate
from scaling_cases import DTYPES, IMPLEMENTATIONS, Case, grown
from scaling_report import draw, print_goals, print_rows
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.nn import BRMoEConfig, FrozenViT

MODES = ("train", "infer")
SLACK = {"cuda": 1.3, "cpu": 3.0}
"""Room to have free, in tensors' bytes. On the CPU a dense step of 100 tasks in 4 blocks was seen
to take 2.3 times its tensors: malloc cannot use all it has got back."""


@dataclass(frozen=True)
class Setting:
    """What all networks share.

    Attributes:
        backbone: the frozen ViT.
        images: (B, C, H, W).
        options: of the command line.
    """

    backbone: FrozenViT
    images: Tensor
    options: argparse.Namespace

    def case(self, name: str, tasks: int) -> Case:
        """Return a network ready to be measured."""
        options = self.options
        classes = options.classes_per_task
        network = grown(name, self.backbone, tasks, classes, options.device)
        return Case(network, tasks, self.images, options.amp)

    def dense_bytes(self, tasks: int, mode: str) -> int:
        """Estimate what the dense network takes, without its weights."""
        patches = self.backbone.vit.patch_embed.num_patches
        tokens = len(self.images) * (self.backbone.num_prefix_tokens + patches)
        half = self.options.amp != "none"
        args = (tasks, tokens, self.backbone, BRMoEConfig())
        return step_bytes(*args, train=mode == "train", half=half)

    def refusal(self, name: str, tasks: int, mode: str) -> str:
        """Return why a case is not run, "" if it is."""
        if name != "dense":
            return ""
        need = self.dense_bytes(tasks, mode)
        free = measuring.free_bytes(self.options.device)
        room = need * SLACK["cuda" if self.options.device.startswith("cuda") else "cpu"]
        if tasks <= self.options.dense_up_to and (free is None or room < free):
            return ""
        why = "beyond --dense-up-to" if tasks > self.options.dense_up_to else "does not fit"
        return f"not run: {why}, would take {need / 1e9:.1f} GB"


def setting(options: argparse.Namespace) -> Setting:
    """Build the ViT, cut to ``--blocks``, and images that differ in coarse patterns."""
    vit: Any = timm.create_model(options.arch, pretrained=False, num_classes=0)
    if options.blocks:
        vit.blocks = vit.blocks[: options.blocks]
    backbone = FrozenViT(vit).to(options.device)
    coarse = 4 * torch.randn(options.batch, backbone.in_chans, 4, 4)
    images = F.interpolate(coarse, size=backbone.img_size)  # (B, C, H, W)
    return Setting(backbone, images.to(options.device), options)


def measure(shared: Setting) -> list[dict[str, Any]]:
    """Return a row per implementation, number of tasks and mode, timed in turns."""
    options = shared.options
    wanted = [(name, tasks) for tasks in options.tasks for name in options.implementations]
    refused = {(n, t, mode): shared.refusal(n, t, mode) for n, t in wanted for mode in MODES}
    cases = {}
    for name, tasks in wanted:
        if not all(refused[name, tasks, mode] for mode in MODES):
            print(f"building {name} of {tasks} tasks", flush=True)
            cases[name, tasks] = shared.case(name, tasks)
    rows = []
    for mode in MODES:
        run = {(n, t): case for (n, t), case in cases.items() if not refused[n, t, mode]}
        print(f"measuring {mode}: {len(run)} networks in turns", flush=True)
        calls = {key: getattr(case, mode) for key, case in run.items()}
        seconds = measuring.side_by_side(calls, repeats=options.repeats, device=options.device)
        for name, tasks in wanted:
            row = {"implementation": name, "tasks": tasks, "mode": mode, "batch": options.batch}
            if (name, tasks) in run:
                row |= _measured(run[name, tasks], mode, seconds[name, tasks])
            rows.append(row | {"note": refused[name, tasks, mode]})
    return [complete(row, rows, options) for row in rows]


def _measured(case: Case, mode: str, seconds: float) -> dict[str, Any]:
    rate = len(case.images) / seconds
    sizes = {**case.memory(mode), "model_bytes": case.model_bytes()}
    return {"seconds": seconds, "images_per_second": rate, **sizes}


def complete(
    row: dict[str, Any], rows: Sequence[dict[str, Any]], options: argparse.Namespace
) -> dict[str, Any]:
    """Add the ratios to the floor, and to the same implementation with the fewest tasks."""

    def ratio(key: str, name: str, tasks: int) -> float | str:
        wanted = {"implementation": name, "tasks": tasks, "mode": row["mode"]}
        other = next((r for r in rows if wanted.items() <= r.items()), {})
        return row[key] / other[key] if key in row and key in other else ""

    fewest = options.tasks[0]
    keys = ("seconds", "images_per_second", "peak_bytes", "saved_bytes", "model_bytes")
    return {
        **{key: row[key] for key in ("implementation", "tasks", "mode", "batch")},
        **{key: row.get(key, "") for key in keys},
        "seconds_to_floor": ratio("seconds", "floor", row["tasks"]),
        "memory_to_floor": ratio("peak_bytes", "floor", row["tasks"]),
        "seconds_to_fewest": ratio("seconds", row["implementation"], fewest),
        "memory_to_fewest": ratio("peak_bytes", row["implementation"], fewest),
        "note": row["note"],
        "arch": options.arch,
        "blocks": options.blocks or "all",
        "amp": options.amp,
        "classes_per_task": options.classes_per_task,
        "repeats": options.repeats,
    }


def names(text: str) -> list[str]:
    """Parse ``ours,floor`` into a list."""
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in IMPLEMENTATIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {IMPLEMENTATIONS}, got {unknown}")
    return chosen


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; ``--quick`` sets what it does not say."""
    parser = measuring.parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", default="vit_base_patch16_224", help="timm architecture")
    parser.add_argument(
        "--tasks", type=measuring.numbers, default="2,10,100,301", help="values of T"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes-per-task", type=int, default=3)
    parser.add_argument("--amp", choices=DTYPES, default="none", help="autocast, in both modes")
    parser.add_argument("--implementations", type=names, default=",".join(IMPLEMENTATIONS))
    parser.add_argument("--dense-up-to", type=int, default=100, help="largest T to run dense with")
    parser.add_argument("--blocks", type=int, help="use the ViT's first blocks only")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that are timed")
    parser.add_argument("--estimate", action="store_true", help="of a whole run of 301 tasks")
    quick = {"arch": "vit_tiny_patch16_224", "tasks": "2,10,40", "batch": 2, "repeats": 3}
    if parser.parse_known_args(arguments)[0].quick:
        parser.set_defaults(**quick)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write and draw."""
    options = parse(arguments)
    measuring.prepare(options)
    shared = setting(options)
    rows = measure(shared)
    print_rows(rows)
    print_goals(rows)
    if options.estimate:
        print_estimate(rows, dim=shared.backbone.embed_dim, device=options.device)
    measuring.keep(rows, options, draw)


if __name__ == "__main__":
    main()
