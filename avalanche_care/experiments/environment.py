"""What a run ran on and with: packages and hardware, for the result files."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from avalanche_care._version import __version__

__all__ = ["cpu_model", "forget_peak_memory", "hardware", "peak_memory", "versions"]

PACKAGES = ("torch", "torchvision", "timm", "avalanche-lib", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python, of this package, and of what the numbers depend on.

    Returns:
        Name -> version. Read from the installed packages' metadata, so nothing is imported.
    """
    found = {"python": platform.python_version(), "avalanche_care": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware(device: str = "cpu") -> dict[str, Any]:
    """What the run ran on; without the machine's name.

    Args:
        device: The torch device of the run, for example ``"cpu"`` or ``"cuda:0"``.

    Returns:
        ``device`` (the model of the GPU, or ``"cpu"``), ``cpu``, ``cores`` and torch's ``threads``.
    """
    import torch  # here, so that reading and printing results does not wait for torch

    kind = torch.device(device)
    return {
        "device": torch.cuda.get_device_name(kind) if kind.type == "cuda" else kind.type,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def forget_peak_memory(device: Any = "cpu") -> None:
    """Let the peak of a GPU's memory begin anew; that of the process cannot be."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: Any = "cpu") -> dict[str, int]:
    """Most memory that was used so far, in bytes.

    Args:
        device: The torch device of the run.

    Returns:
        ``process``, resident memory of this process in all its life, where the system tells it;
        and for a GPU ``device``, what PyTorch had allocated on it since
        :func:`forget_peak_memory`.
    """
    import torch

    peak = {}
    try:
        import resource  # not on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        peak["process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    except ImportError:
        pass
    kind = torch.device(device)
    if kind.type == "cuda":
        peak["device"] = torch.cuda.max_memory_allocated(kind)
    return peak


def cpu_model() -> str:
    """Name of the processor, where the system tells it; else its architecture."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [n for n in info.read_text().splitlines() if n.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()
