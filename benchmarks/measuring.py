"""What the measuring scripts share: options, clocks, memory, tables, CSV files, figures.

Times of two implementations are only worth comparing if they were taken together, so
:func:`side_by_side` runs them in turns within one process.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from avalanche_care.experiments.environment import hardware, versions
from avalanche_care.memory import TensorMemory

Key = TypeVar("Key")


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every script has."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    options.add_argument("--csv", type=Path, help="write the rows to this file")
    options.add_argument("--figure", type=Path, help="draw the rows into this PNG file")
    options.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    options.add_argument("--threads", type=int, help="CPU threads of PyTorch; None: its choice")
    return options


def numbers(text: str) -> list[int]:
    """Parse an option like ``2,10,100`` into a sorted list."""
    return sorted({int(part) for part in text.split(",")})


def prepare(options: argparse.Namespace) -> None:
    """Apply ``--threads``, fix the seed, and print what this runs on."""
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(", ".join(f"{key} {value}" for key, value in machine(options.device).items()))


def machine(device: str) -> dict[str, Any]:
    """Return hardware, versions and date, for the CSV file."""
    return {**hardware(device), **versions(), "date": datetime.date.today().isoformat()}


def seconds_of(call: Callable[[], Any], device: str) -> float:
    """Return how long a call takes, waiting for the device."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: str) -> None:
    """Wait until the device has done all its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def side_by_side(
    calls: Mapping[Key, Callable[[], Any]], *, repeats: int, device: str, warm_up: int = 1
) -> dict[Key, float]:
    """Time several calls in turns, so that a busy machine is busy for all of them.

    Args:
        calls: what to time, by name or another key.
        repeats: rounds that count.
        device: where they run.
        warm_up: rounds that do not count.

    Returns:
        The median seconds of each.
    """
    for _ in range(warm_up):
        for call in calls.values():
            call()
    taken: dict[Key, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(seconds_of(call, device))
    return {name: statistics.median(times) for name, times in taken.items()}


class CudaMemory:
    """What a GPU's allocator hands out while it is entered, as TensorMemory counts on the CPU."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.before = 0

    def __enter__(self) -> CudaMemory:
        synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self.before = torch.cuda.memory_allocated(self.device)
        return self

    def __exit__(self, *error: object) -> None:
        synchronize(self.device)

    @property
    def live(self) -> int:
        """Bytes in use now, beyond those before."""
        return torch.cuda.memory_allocated(self.device) - self.before

    @property
    def peak(self) -> int:
        """Most bytes in use at once, beyond those before."""
        return torch.cuda.max_memory_allocated(self.device) - self.before


def memory_counter(device: str) -> CudaMemory | TensorMemory:
    """Return a context manager with ``live`` and ``peak`` bytes, for either kind of device."""
    return CudaMemory(device) if torch.device(device).type == "cuda" else TensorMemory()


def peak_bytes(call: Callable[[], Any], device: str) -> int:
    """Return the most memory that a call's tensors took at once, beyond what existed before.

    On a GPU it is what the allocator handed out, elsewhere the bytes of all tensors made.
    """
    with memory_counter(device) as memory:
        call()
    return memory.peak


def free_bytes(device: str) -> int | None:
    """Return how much memory is free on a device, None where the system does not say."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.empty(0, device=device).device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return 1024 * int(lines["MemAvailable"].split()[0])


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of the same keys, aligned."""
    header = list(rows[0])
    cells = [header, *([_text(row[key]) for key in header] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], device: str) -> None:
    """Write rows with hardware and versions in columns of their own.

    Written beside the target and renamed, so that a file from before is never half overwritten.
    """
    facts = machine(device)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *facts])
        writer.writeheader()
        writer.writerows({**row, **facts} for row in rows)
    os.replace(partial, path)
    print(f"rows: {path}")


# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"


def keep(
    rows: Sequence[Mapping[str, Any]],
    options: argparse.Namespace,
    draw: Callable[[Sequence[Mapping[str, Any]], Path], None],
) -> None:
    """Write and draw the rows where ``--csv`` and ``--figure`` say, if they do."""
    if options.csv:
        write_csv(options.csv, rows, options.device)
    if options.figure:
        draw(rows, options.figure)


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 3.4, height: float = 2.5
) -> tuple[Any, list[Any]]:
    """Return a matplotlib figure of panels in a grid, and the panels, row by row.

    Args:
        rows: of panels.
        columns: of panels.
        width: of a panel in inches.
        height: of a panel in inches.
    """
    from matplotlib.figure import Figure  # here: only figures need it; not pyplot, no display

    size = (width * columns + 0.6, height * rows + 0.5)
    figure = Figure(figsize=size, dpi=160, layout="constrained", facecolor="white")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def finish_panel(panel: Any, *, title: str, x: str, y: str, ticks: Sequence[int] = ()) -> None:
    """Title, axis labels, a faint grid, and plain numbers on logarithmic axes.

    Args:
        panel: of :func:`new_figure`, with everything drawn.
        title: above it.
        x: label of the x axis.
        y: label of the y axis.
        ticks: the only marks of the x axis; empty: matplotlib's.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    panel.set_title(title, loc="left", fontsize=10)
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.grid(color="#DDDDDD", lw=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    for axis in (panel.xaxis, panel.yaxis):
        if axis.get_scale() == "log":
            low, high = sorted(axis.get_view_interval())
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter("{x:g}")
    if ticks:
        panel.set_xticks(ticks, labels=[str(tick) for tick in ticks])


def save_figure(figure: Any, path: Path) -> None:
    """Write the PNG file and say where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"figure: {path}")
