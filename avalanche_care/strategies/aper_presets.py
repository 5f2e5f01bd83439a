"""APER's settings per data set: those of the runs that made the published numbers.

They are the configurations of the released code (RevisitingCIL, in21k weights), and where its logs
record other values, the logs'. The recipe goes with the data set and not with the number of classes
per task, so one entry serves several protocols. PILOT, a later library of the same authors, has its
own for two protocols (in1k-ft weights); what it does not list is as above.

All of them anneal to 0 and have momentum 0.9.
"""

from __future__ import annotations

from typing import Any

PROTOCOLS = {
    "cifar100": ("B0-Inc5", "B0-Inc10"),
    "cub": ("B0-Inc10", "B0-Inc20"),
    "imagenet-r": ("B0-Inc4", "B0-Inc5", "B0-Inc10", "B0-Inc20"),
    "imagenet-a": ("B0-Inc4", "B0-Inc10", "B0-Inc20"),
    "objectnet": ("B0-Inc4", "B0-Inc10", "B0-Inc20"),
    "omnibenchmark": ("B0-Inc5", "B0-Inc30"),
    "omnibenchmark1k": ("B0-Inc5", "B0-Inc10", "B100-Inc3", "B100-Inc6"),
    "vtab": ("B0-Inc10",),
}

# What a data set's runs changed from the variant's defaults. OmniBenchmark-1K has OmniBenchmark's:
# the settings of APER's numbers there, which CaRE's authors made, are not recorded.
_LONG_DEEP = {"epochs": 20, "lr": 0.01, "batch_size": 48}
_RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "adapter": {"imagenet-r": {"lr": 0.05, "batch_size": 24, "weight_decay": 5e-3}},
    "ssf": {},
    "vpt-shallow": {},
    # The configuration for ObjectNet says batches of 128, its log 48.
    "vpt-deep": dict.fromkeys(("objectnet", "omnibenchmark", "omnibenchmark1k"), _LONG_DEEP),
    # The configurations for CIFAR-100 and VTAB say what all others do, their logs say this.
    "finetune": {
        "cifar100": {"epochs": 20, "batch_size": 48, "weight_decay": 0.05},
        "vtab": {"weight_decay": 0.05},
    },
}

_PILOT: dict[str, dict[str, dict[str, Any]]] = {
    "adapter": {
        "cifar100/B0-Inc10": {},
        "imagenet-r/B0-Inc20": {
            "epochs": 10,
            "lr": 0.05,
            "batch_size": 16,
            "weight_decay": 5e-3,
        },
    },
    "ssf": {},
    "vpt-shallow": {},  # the file for ImageNet-R cannot be used as released
    "vpt-deep": {
        "imagenet-r/B0-Inc20": {"epochs": 20, "lr": 0.05, "batch_size": 24, "tokens": 30},
    },
    "finetune": {
        "cifar100/B0-Inc10": {"epochs": 6, "batch_size": 128, "weight_decay": 0.05},
        "imagenet-r/B0-Inc20": {"epochs": 5, "batch_size": 144, "weight_decay": 5e-3},
    },
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    kind: {
        f"{name}/{protocol}": recipes.get(name, {})
        for name, protocols in PROTOCOLS.items()
        for protocol in protocols
    }
    | _PILOT[kind]
    for kind, recipes in _RECIPES.items()
}
"""By variant and preset, the settings that differ from the variant's defaults."""
