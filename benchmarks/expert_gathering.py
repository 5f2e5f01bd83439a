"""When to gather each sample's experts, and when to run all experts for everyone.

    python benchmarks/expert_gathering.py --csv benchmarks/results/expert_gathering.csv

A BR-MoE layer runs at most M K = 6 frozen experts per sample. With few experts it may be faster to
run all of them as one matrix product (dense) than to gather six for each sample (sparse). The layer
chooses dense up to M K experts, where dense does no more work than sparse. This script forces both
ways on layers with more, and prints how they compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import torch
from torch import Tensor

from avalanche_care.nn import BRMoE
from avalanche_care.nn.brmoe import Mixture


class EitherWay(BRMoE):
    """A layer that can be told which way to go."""

    dense = False

    def _narrow(self, gates: Tensor, mask: Tensor | None, *, live: bool) -> Mixture:
        if not self.dense:
            return super()._narrow(gates, mask, live=live)
        frozen = gates[:, :-1] if live else gates
        masks = None if mask is None else mask[:, : frozen.shape[1]]
        newest = (gates[:, -1], None if mask is None else mask[:, -1]) if live else (None, None)
        return Mixture(None, frozen, masks, *newest)


def run(layer: EitherWay, h: Tensor, *, dense: bool, train: bool) -> Any:
    """Run one forward pass, and the backward pass in training."""
    layer.dense = dense
    layer.train(train)
    with torch.set_grad_enabled(train):
        out, logits = layer(h, task=layer.tasks - 1 if train else None)
    if train and logits is not None:
        (out.sum() + logits.sum()).backward()


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the ratio of the two against the number of tasks."""
    figure, (panel,) = measuring.new_figure(width=4.5)
    for i, mode in enumerate(("train", "infer")):
        own = [row for row in rows if row["mode"] == mode]
        x, y = [r["tasks"] for r in own], [r["dense_over_sparse"] for r in own]
        panel.plot(x, y, color=measuring.COLOURS[i], marker=measuring.MARKERS[i], label=mode)
    panel.axhline(1, color="black", lw=0.8)
    panel.set_xscale("log")
    panel.legend(frameon=False)
    ticks = sorted({row["tasks"] for row in rows})
    title = "All experts for everyone / six gathered for each"
    measuring.finish_panel(panel, title=title, x="tasks", y="ratio of seconds", ticks=ticks)
    measuring.save_figure(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure for every number of tasks."""
    parser = measuring.parser(__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--tokens", type=int, default=197)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tasks", type=measuring.numbers, default="7,8,10,13,16,20,30,50")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args(arguments)
    if options.quick:
        options.tasks, options.repeats, options.batch = [8, 20], 3, 2
    measuring.prepare(options)
    layer = EitherWay(options.dim).to(options.device)
    h = torch.randn(options.batch, options.tokens, options.dim, device=options.device)
    h.requires_grad_()
    rows = []
    for tasks in options.tasks:
        while layer.tasks < tasks:
            layer.expand(3)
            torch.nn.init.normal_(layer.expert.scale)
        for train in (True, False):
            calls = {
                "dense": partial(run, layer, h, dense=True, train=train),
                "sparse": partial(run, layer, h, dense=False, train=train),
            }
            seconds = measuring.side_by_side(
                calls, repeats=options.repeats, device=options.device, warm_up=2
            )
            rows.append(
                {
                    "dim": options.dim,
                    "batch": options.batch,
                    "tasks": tasks,
                    "mode": "train" if train else "infer",
                    "dense_seconds": seconds["dense"],
                    "sparse_seconds": seconds["sparse"],
                    "dense_over_sparse": seconds["dense"] / seconds["sparse"],
                }
            )
    measuring.print_table(rows)
    measuring.keep(rows, options, draw)


if __name__ == "__main__":
    main()
