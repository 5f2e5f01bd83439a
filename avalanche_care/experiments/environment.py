"""What a run ran on and with: packages and hardware, for the result files."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import weakref
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from avalanche_care._version import __version__

__all__ = ["PeakMemory", "cpu_model", "hardware", "versions"]

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


class PeakMemory:
    """The most memory that was used since it was made, in bytes.

    On Linux, the system's own mark of the process is set back for that, so that of several runs in
    a process each has a peak of its own. What another one had reached until then is noted for it
    before. Elsewhere the mark cannot be set back, and is that of the process in all its life.

    Args:
        device: The torch device of the run.
    """

    _others: ClassVar[weakref.WeakSet[PeakMemory]] = weakref.WeakSet()

    def __init__(self, device: Any = "cpu") -> None:
        import torch

        for other in list(self._others):
            other.read()
        self._others.add(self)
        self._device = torch.device(device)
        self._most: dict[str, int] = {}
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        with contextlib.suppress(OSError):  # not on Linux, or not allowed
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def read(self) -> dict[str, int]:
        """Return the most until now.

        Returns:
            ``process``, resident memory of the process, where the system tells it; and for a GPU
            ``device``, what PyTorch had allocated on it.
        """
        import torch

        now = _process_peak()
        if self._device.type == "cuda":
            now["device"] = torch.cuda.max_memory_allocated(self._device)
        self._most = {name: max(value, self._most.get(name, 0)) for name, value in now.items()}
        return dict(self._most)


def _process_peak() -> dict[str, int]:
    """The system's mark of the most resident memory of this process, if it has one."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return {"process": 1024 * int(line.split()[1])}
    try:
        import resource  # not on Windows
    except ImportError:
        return {}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def cpu_model() -> str:
    """Name of the processor, where the system tells it; else its architecture."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [n for n in info.read_text().splitlines() if n.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()
