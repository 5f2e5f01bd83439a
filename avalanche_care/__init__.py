"""Class-incremental learning on frozen, pre-trained vision transformers, for Avalanche.

The names below are imported on first use, so that ``import avalanche_care`` costs nothing: neither
torch nor avalanche is loaded until something that needs them is touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche_care._lazy import lazy_names
from avalanche_care._version import __version__

if TYPE_CHECKING:
    from avalanche_care.experiments import load as load
    from avalanche_care.strategies import CaREConfig as CaREConfig
    from avalanche_care.strategies import CaREStrategy as CaREStrategy

_HOMES = {
    "CaREConfig": "strategies",
    "CaREStrategy": "strategies",
    "alignment": "",
    "benchmarks": "",
    "experiments": "",
    "load": "experiments",
    "losses": "",
    "memory": "",
    "metrics": "",
    "nn": "",
    "offload": "",
    "plugins": "",
    "statistics": "",
    "strategies": "",
}

__all__ = ["CaREConfig", "CaREStrategy", "__version__", "load"]
__getattr__, __dir__ = lazy_names(__name__, _HOMES, eager=["__version__"])
