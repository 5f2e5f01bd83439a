"""Iterative prediction: T + 1 passes that share what they can, beside T + 1 plain passes.

    python benchmarks/iterative_prediction.py --csv benchmarks/results/iterative_prediction.csv

CaRE's iterative prediction tries every task id on every image. ``CaREModel.iterative_scores`` runs
the embedding and block 0 once for all task ids and puts several task ids into one batch; plain is
one whole pass per task id. Both give the same scores, which is checked first. Multiply-adds are
counted, seconds are taken in turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import timm
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from avalanche_care.nn import CaREModel, FrozenViT


def plain(model: CaREModel, x: Tensor) -> Tensor:
    """Return the scores of iterative prediction by one whole pass per task id, (B, C)."""
    passes = [model.head(model.features(x, task=task)) for task in range(model.tasks)]
    p = (model.scale * torch.stack(passes)).softmax(2)  # (T, B, C)
    certain = torch.special.entr(p).sum(2).argmin(0)  # (B,)
    single = model(x).softmax(1)  # (B, C)
    return (p[certain, torch.arange(len(x), device=x.device)] + single) / 2


def shared(model: CaREModel, x: Tensor) -> Tensor:
    """Return the same, the common part computed once."""
    return model.iterative_scores(x)


def grown(arch: str, tasks: int, device: str) -> CaREModel:
    """Return a model of random weights whose experts are not zero, 3 classes a task."""
    model = CaREModel(FrozenViT(timm.create_model(arch, pretrained=False)))
    for task in range(tasks):
        model.expand(task, range(3 * task, 3 * task + 3))
        for layer in model.layers():
            torch.nn.init.normal_(layer.expert.scale)
    return model.to(device).eval()


def gmac(call: partial[Tensor]) -> float:
    """Return the multiply-adds of a call, in thousand millions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2e9


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw how much is left of the plain form's work and time."""
    figure, panels = measuring.new_figure(columns=2)
    for panel, key, title in zip(
        panels, ("gmac_ratio", "seconds_ratio"), ("Multiply-adds", "Seconds"), strict=True
    ):
        own = [row for row in rows if row["implementation"] == "shared"]
        for i, batch in enumerate(sorted({row["batch"] for row in own})):
            line = [row for row in own if row["batch"] == batch]
            panel.plot(
                [row["tasks"] for row in line],
                [row[key] for row in line],
                color=measuring.COLOURS[i],
                marker=measuring.MARKERS[i],
                label=f"batch {batch}",
            )
        panel.axhline(1, color="black", lw=0.8)
        panel.set_ylim(bottom=0)
        ticks = sorted({row["tasks"] for row in own})
        measuring.finish_panel(panel, title=title, x="tasks", y="shared / plain", ticks=ticks)
    panels[0].legend(frameon=False)
    measuring.save_figure(figure, path)


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure for every number of tasks and every batch size."""
    parser = measuring.parser(__doc__.splitlines()[0])
    parser.add_argument("--arch", default="vit_tiny_patch16_224", help="timm architecture")
    parser.add_argument("--tasks", type=measuring.numbers, default="10,20,60")
    parser.add_argument("--batch", type=measuring.numbers, default="1,8")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    if options.quick:
        options.tasks, options.batch, options.repeats = [5], [1, 4], 1
    measuring.prepare(options)
    rows = []
    for tasks in options.tasks:
        model = grown(options.arch, tasks, options.device)
        for batch in options.batch:
            x = torch.randn(batch, 3, *model.backbone.img_size, device=options.device)
            torch.testing.assert_close(shared(model, x), plain(model, x), rtol=1e-3, atol=1e-4)
            calls = {"plain": partial(plain, model, x), "shared": partial(shared, model, x)}
            seconds = measuring.side_by_side(
                calls, repeats=options.repeats, device=options.device, warm_up=0
            )
            macs = {name: gmac(call) / batch for name, call in calls.items()}
            rows += [
                {
                    "implementation": name,
                    "arch": options.arch,
                    "tasks": tasks,
                    "batch": batch,
                    "gmac_per_image": macs[name],
                    "seconds": seconds[name],
                    "gmac_ratio": macs[name] / macs["plain"],
                    "seconds_ratio": seconds[name] / seconds["plain"],
                }
                for name in calls
            ]
    measuring.print_table(rows)
    measuring.keep(rows, options, draw)


if __name__ == "__main__":
    main()
