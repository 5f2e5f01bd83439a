"""Data as Avalanche benchmarks: the split protocol, image folders and packed files, and glyphs.

Names are imported on first use (PEP 562): the list of benchmarks must not cost the import of torch
and avalanche.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche_care._lazy import lazy_names

if TYPE_CHECKING:
    from avalanche_care.benchmarks.folders import benchmark_from_folders as benchmark_from_folders
    from avalanche_care.benchmarks.glyphs import GlyphBenchmark as GlyphBenchmark
    from avalanche_care.benchmarks.images import default_eval_transform as default_eval_transform
    from avalanche_care.benchmarks.images import default_train_transform as default_train_transform
    from avalanche_care.benchmarks.pack import pack_folder as pack_folder
    from avalanche_care.benchmarks.packed import PackedImages as PackedImages
    from avalanche_care.benchmarks.protocol import Protocol as Protocol
    from avalanche_care.benchmarks.registry import available_benchmarks as available_benchmarks
    from avalanche_care.benchmarks.scenario import CILBenchmark as CILBenchmark
    from avalanche_care.benchmarks.scenario import class_incremental as class_incremental

_HOMES = {
    "CILBenchmark": "scenario",
    "GlyphBenchmark": "glyphs",
    "PackedImages": "packed",
    "Protocol": "protocol",
    "available_benchmarks": "registry",
    "benchmark_from_folders": "folders",
    "class_incremental": "scenario",
    "default_eval_transform": "images",
    "default_train_transform": "images",
    "pack_folder": "pack",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
