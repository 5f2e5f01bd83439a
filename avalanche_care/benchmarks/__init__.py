"""Data as Avalanche benchmarks: published data sets by name, your own images, and glyphs.

Names are imported on first use (PEP 562): the list of benchmarks must not cost the import of torch
and avalanche.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche_care._lazy import lazy_names

if TYPE_CHECKING:
    from avalanche_care.benchmarks._options import BenchmarkOptions as BenchmarkOptions
    from avalanche_care.benchmarks.catalogue import CARDS as CARDS
    from avalanche_care.benchmarks.catalogue import DatasetCard as DatasetCard
    from avalanche_care.benchmarks.catalogue import get_card as get_card
    from avalanche_care.benchmarks.checking.verify import verify_dataset as verify_dataset
    from avalanche_care.benchmarks.classic import SplitCIFAR100 as SplitCIFAR100
    from avalanche_care.benchmarks.classic import SplitCUB200 as SplitCUB200
    from avalanche_care.benchmarks.classic import SplitImageNetA as SplitImageNetA
    from avalanche_care.benchmarks.classic import SplitImageNetR as SplitImageNetR
    from avalanche_care.benchmarks.classic import SplitObjectNet as SplitObjectNet
    from avalanche_care.benchmarks.classic import SplitOmniBenchmark300 as SplitOmniBenchmark300
    from avalanche_care.benchmarks.classic import SplitVTAB as SplitVTAB
    from avalanche_care.benchmarks.curation import curate as curate
    from avalanche_care.benchmarks.dataset_record import DatasetRecord as DatasetRecord
    from avalanche_care.benchmarks.folders import benchmark_from_folders as benchmark_from_folders
    from avalanche_care.benchmarks.glyphs import GlyphBenchmark as GlyphBenchmark
    from avalanche_care.benchmarks.images import default_eval_transform as default_eval_transform
    from avalanche_care.benchmarks.images import default_train_transform as default_train_transform
    from avalanche_care.benchmarks.importing.download import download_dataset as download_dataset
    from avalanche_care.benchmarks.importing.own import import_data as import_data
    from avalanche_care.benchmarks.loading import load_benchmark as load_benchmark
    from avalanche_care.benchmarks.omnibenchmark import OmniBenchmark1K as OmniBenchmark1K
    from avalanche_care.benchmarks.omniglot import SplitOmniglot as SplitOmniglot
    from avalanche_care.benchmarks.pack import pack_folder as pack_folder
    from avalanche_care.benchmarks.packed import PackedImages as PackedImages
    from avalanche_care.benchmarks.protocol import Protocol as Protocol
    from avalanche_care.benchmarks.realms import read_realms as read_realms
    from avalanche_care.benchmarks.registry import available_benchmarks as available_benchmarks
    from avalanche_care.benchmarks.scenario import CILBenchmark as CILBenchmark
    from avalanche_care.benchmarks.scenario import class_incremental as class_incremental
    from avalanche_care.benchmarks.transforms import TransformFamily as TransformFamily
    from avalanche_care.benchmarks.transforms import (
        available_transform_families as available_transform_families,
    )
    from avalanche_care.benchmarks.transforms import transform_family as transform_family

_HOMES = {
    "BenchmarkOptions": "_options",
    "CARDS": "catalogue",
    "CILBenchmark": "scenario",
    "DatasetCard": "catalogue",
    "DatasetRecord": "dataset_record",
    "GlyphBenchmark": "glyphs",
    "OmniBenchmark1K": "omnibenchmark",
    "PackedImages": "packed",
    "Protocol": "protocol",
    "SplitCIFAR100": "classic",
    "SplitCUB200": "classic",
    "SplitImageNetA": "classic",
    "SplitImageNetR": "classic",
    "SplitObjectNet": "classic",
    "SplitOmniBenchmark300": "classic",
    "SplitOmniglot": "omniglot",
    "SplitVTAB": "classic",
    "TransformFamily": "transforms",
    "available_benchmarks": "registry",
    "available_transform_families": "transforms",
    "benchmark_from_folders": "folders",
    "class_incremental": "scenario",
    "curate": "curation",
    "default_eval_transform": "images",
    "default_train_transform": "images",
    "download_dataset": "importing.download",
    "get_card": "catalogue",
    "import_data": "importing.own",
    "load_benchmark": "loading",
    "pack_folder": "pack",
    "read_realms": "realms",
    "transform_family": "transforms",
    "verify_dataset": "checking.verify",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
