"""Time and memory of classifier alignment: an epoch of samples of every class seen.

    python benchmarks/alignment.py --csv benchmarks/results/alignment.csv \\
        --figure benchmarks/results/alignment.png

Four ways to keep and draw class Gaussians, in turns within one run:

ours       ClassGaussians: triangular factors of the centred features, drawn in blocks
files      the same, in memory-mapped files (Offload)
dense      a covariance matrix per class and torch.distributions.MultivariateNormal of it in every
           epoch, all samples at once: how the published code of the method does it
unchecked  dense without PyTorch's check that the matrix is positive definite, which is a second
           factorisation

Mode `sample` is drawing an epoch's features alone. Mode `epoch` also takes the steps of SGD on the
head: align_head for the first two, the same steps with autograd for the others. Features are random
numbers. Memory is measured apart from time: `peak_bytes` is what a call takes beyond what is
stored, `stored_bytes` is what stays between calls.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import measuring
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.nn import functional as F

from avalanche_care.alignment import align_head
from avalanche_care.nn import CosineHead
from avalanche_care.offload import Offload
from avalanche_care.statistics import ClassGaussians

JITTER = 1e-4
RATE = 0.005
CLASSES_PER_TASK = 10
IMPLEMENTATIONS = ("ours", "files", "dense", "unchecked")
MODES = ("sample", "epoch")


class DenseGaussians:
    """Means and covariance matrices; every epoch factorises each matrix and draws all samples.

    Args:
        means: (C, D).
        matrices: (C, D, D).
        checked: whether PyTorch checks the matrices, its default.
    """

    def __init__(self, means: Tensor, matrices: Tensor, *, checked: bool) -> None:
        self.means = means
        self.matrices = matrices
        self.checked = checked

    def fit(self, column: int, features: Tensor) -> None:
        """Set the Gaussian of a class from features (n, D)."""
        self.means[column] = features.mean(0)
        self.matrices[column] = torch.cov(features.T)
        self.matrices[column].diagonal().add_(JITTER)

    def draw(self, columns: Tensor, chunk: int, **_: Any) -> Iterator[Tensor]:
        """Draw a feature for each entry of ``columns``, as ClassGaussians does."""
        n = len(columns) // len(self.means)
        samples = torch.cat(
            [
                MultivariateNormal(mean, matrix, validate_args=self.checked).sample((n,))
                for mean, matrix in zip(self.means, self.matrices, strict=True)
            ]
        )  # (C n, D), class by class
        place = torch.empty_like(columns)
        place[columns.argsort()] = torch.arange(len(columns))
        yield from samples[place.to(samples.device)].split(chunk)

    def bytes_of(self, column: int) -> int:
        """Return how many bytes are kept for a class."""
        return self.means[column].nbytes + self.matrices[column].nbytes


def fitted(options: argparse.Namespace, directory: str) -> dict[str, Any]:
    """Return the implementations by name, fitted to the same features."""
    shape = (options.classes, options.dim)
    means = torch.empty(shape, device=options.device)
    matrices = torch.empty(*shape, options.dim, device=options.device)
    sides: dict[str, Any] = {
        "ours": ClassGaussians(jitter=JITTER),
        "files": ClassGaussians(jitter=JITTER, offload=Offload(directory)),
        "dense": DenseGaussians(means, matrices, checked=True),
        "unchecked": DenseGaussians(means, matrices, checked=False),
    }
    for column in range(options.classes):
        features = torch.randn(options.images, options.dim, device=options.device)
        for name in ("ours", "files", "dense"):
            sides[name].fit(column, features)
    torch.testing.assert_close(sides["ours"].matrix(0), sides["dense"].matrices[0])
    return sides


def call_of(mode: str, gaussians: Any, head: CosineHead, rows: int) -> Callable[[], None]:
    """Return what is measured: drawing an epoch's samples, or a whole epoch."""

    def sample() -> None:
        columns = torch.randperm(head.n_classes * rows) // rows
        for _ in gaussians.draw(columns, rows, device=head.weight.device):
            pass

    def epoch() -> None:
        align_head(head, gaussians, rates=[RATE], rows=rows)

    if mode == "sample":
        return sample
    if isinstance(gaussians, DenseGaussians):
        return lambda: plain_epoch(head, gaussians, rows)
    return epoch


def plain_epoch(head: CosineHead, gaussians: DenseGaussians, rows: int) -> None:
    """Do what align_head does, with autograd."""
    optimizer = torch.optim.SGD([head.weight], lr=RATE, momentum=0.9, weight_decay=5e-4)
    columns = torch.randperm(head.n_classes * rows) // rows
    targets = columns.to(head.weight.device).split(rows)
    for x, y in zip(gaussians.draw(columns, rows), targets, strict=True):
        loss = F.cross_entropy(20.0 * head(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def measure(options: argparse.Namespace, directory: str) -> list[dict[str, Any]]:
    """Return a row per mode and implementation."""
    device, rows = options.device, 5 * options.batch
    sides = fitted(options, directory)
    head = CosineHead(options.dim).to(device)
    for first in range(0, options.classes, CLASSES_PER_TASK):
        head.expand(range(first, min(first + CLASSES_PER_TASK, options.classes)))
    table = []
    for mode in MODES:
        calls = {name: call_of(mode, sides[name], head, rows) for name in IMPLEMENTATIONS}
        peaks = {name: measuring.peak_bytes(call, device) for name, call in calls.items()}
        # Without warming up: they have just run.
        seconds = measuring.side_by_side(calls, repeats=options.repeats, device=device, warm_up=0)
        for name in IMPLEMENTATIONS:
            row = {"implementation": name, "mode": mode, "classes": options.classes}
            row |= {"tasks": head.tasks, "dim": options.dim, "images": options.images}
            row |= {"batch": options.batch, "seconds": seconds[name], "peak_bytes": peaks[name]}
            row["stored_bytes"] = sum(map(sides[name].bytes_of, range(options.classes)))
            table.append(row)
    return table


def print_ratios(table: Sequence[dict[str, Any]]) -> None:
    """Print how much more the others take than ours."""
    of = {(row["implementation"], row["mode"]): row for row in table}
    for name in IMPLEMENTATIONS[1:]:
        for mode in MODES:
            other, ours = of[name, mode], of["ours", mode]
            ratios = [other[key] / ours[key] for key in ("seconds", "peak_bytes", "stored_bytes")]
            text = "{:.2f} x time, {:.2f} x peak memory, {:.2f} x stored".format(*ratios)
            print(f"{name} / ours, {mode}: {text}")


def draw_figure(options: argparse.Namespace, table: Sequence[dict[str, Any]]) -> None:
    """Draw seconds, peak and stored memory, a bar per implementation."""
    of = {(row["implementation"], row["mode"]): row for row in table}
    figure, panels = measuring.new_figure(columns=3)
    units = (("seconds", 1, "seconds"), ("peak_bytes", 1e9, "GB"), ("stored_bytes", 1e9, "GB"))
    titles = ("Time of an epoch", "Peak memory of an epoch", "Stored statistics")
    names = IMPLEMENTATIONS[::-1]
    for panel, (key, unit, label), title in zip(panels, units, titles, strict=True):
        values = [of[name, "epoch"][key] / unit for name in names]
        colours = [measuring.COLOURS[IMPLEMENTATIONS.index(name)] for name in names]
        bars = panel.barh(names, values, color=colours)
        panel.bar_label(bars, fmt="{:.3g}", padding=2, fontsize=8)
        panel.margins(x=0.18)
        measuring.finish_panel(panel, title=title, x=label, y="")
    sampling = [of[name, "sample"]["seconds"] for name in names]
    panels[0].barh(names, sampling, color="none", edgecolor="black", hatch="////", lw=0.6)
    panels[0].set_xlabel("seconds (hatched: drawing samples)")
    figure.suptitle(
        f"{options.classes} classes of {options.images} images, width {options.dim}, "
        f"{5 * options.batch} samples per class, {options.device}",
        fontsize=9,
    )
    measuring.save_figure(figure, options.figure)


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = measuring.parser(str(__doc__).splitlines()[0])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=768, help="width of the features")
    parser.add_argument("--images", type=int, default=169, help="training images per class")
    parser.add_argument("--batch", type=int, default=16, help="an epoch has 5 x this per class")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the median counts")
    options = parser.parse_args()
    if options.quick:
        options.classes, options.repeats = min(options.classes, 40), 1
    measuring.prepare(options)
    with tempfile.TemporaryDirectory() as directory:
        table = measure(options, directory)
    measuring.print_table(table)
    print_ratios(table)
    if options.csv:
        measuring.write_csv(options.csv, table, options.device)
    if options.figure:
        draw_figure(options, table)


if __name__ == "__main__":
    main()
