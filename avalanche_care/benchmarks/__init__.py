"""Data as Avalanche benchmarks: the split protocol, image folders, and the embedded glyphs.

Names are imported on first use (PEP 562): the list of benchmarks must not cost the import of torch
and avalanche.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche_care._lazy import lazy_names

if TYPE_CHECKING:
    from avalanche_care.benchmarks.folders import benchmark_from_folders as benchmark_from_folders
    from avalanche_care.benchmarks.folders import default_eval_transform as default_eval_transform
    from avalanche_care.benchmarks.folders import default_train_transform as default_train_transform
    from avalanche_care.benchmarks.glyphs import GlyphBenchmark as GlyphBenchmark
    from avalanche_care.benchmarks.protocol import Protocol as Protocol
    from avalanche_care.benchmarks.registry import available_benchmarks as available_benchmarks
    from avalanche_care.benchmarks.scenario import CILBenchmark as CILBenchmark
    from avalanche_care.benchmarks.scenario import class_incremental as class_incremental

_HOMES = {
    "CILBenchmark": "scenario",
    "GlyphBenchmark": "glyphs",
    "Protocol": "protocol",
    "available_benchmarks": "registry",
    "benchmark_from_folders": "folders",
    "class_incremental": "scenario",
    "default_eval_transform": "folders",
    "default_train_transform": "folders",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
