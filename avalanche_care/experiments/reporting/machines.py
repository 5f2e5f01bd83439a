"""What runs were made on: seconds and memory of different machines cannot be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from avalanche_care.experiments.results import RunResult

__all__ = ["machine", "machines"]


def machine(hardware: Mapping[str, Any]) -> str:
    """What seconds depend on: the GPU and its processor, or the processor and its threads."""
    device, cpu = hardware.get("device"), hardware.get("cpu")
    if not device:
        return "hardware not recorded"
    if device != "cpu":
        return f"{device}, {cpu}" if cpu else str(device)
    threads = hardware.get("threads", "unknown")
    return f"{cpu or 'CPU'}, {threads} thread" + ("" if threads == 1 else "s")


def machines(results: Iterable[RunResult]) -> list[str]:
    """The machines of some runs, sorted; those that a run was continued on are among them."""
    found: set[str] = set()
    for result in results:
        known = [entry["hardware"] for entry in result.extra.get("machines", ())]
        found.update(machine(hardware) for hardware in (result.hardware, *known))
    return sorted(found)
