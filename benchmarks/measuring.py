"""What the measuring scripts share: options, clocks, memory, tables, CSV files.

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
from typing import Any

import torch

from avalanche_care.experiments.environment import hardware, versions
from avalanche_care.memory import TensorMemory


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
    calls: Mapping[str, Callable[[], Any]], *, repeats: int, device: str, warm_up: int = 1
) -> dict[str, float]:
    """Time several calls in turns, so that a busy machine is busy for all of them.

    Args:
        calls: what to time, by name.
        repeats: rounds that count.
        device: where they run.
        warm_up: rounds that do not count.

    Returns:
        The median seconds of each.
    """
    for _ in range(warm_up):
        for call in calls.values():
            call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(seconds_of(call, device))
    return {name: statistics.median(times) for name, times in taken.items()}


def peak_bytes(call: Callable[[], Any], device: str) -> int:
    """Return the most memory that a call's tensors took at once, beyond what existed before.

    On a GPU it is what the allocator handed out, elsewhere the bytes of all tensors made.
    """
    if torch.device(device).type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with TensorMemory() as memory:
        call()
    return memory.peak


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
