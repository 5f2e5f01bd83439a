"""The settings of APER's variants."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from avalanche_care.checked import CheckedConfig
from avalanche_care.strategies.aper_presets import PRESETS
from avalanche_care.strategies.presets import HasPresets


@dataclass(frozen=True)
class APERConfig(HasPresets, CheckedConfig):
    """How the network is adapted on the first task; the fields that all variants share.

    The defaults are what the released code's CIFAR-100 configuration has, or its log where they
    differ: the logs go with the published numbers.

    Attributes:
        epochs: on the first task.
        lr: learning rate of the first epoch, annealed to 0 by half a cosine.
        batch_size: images per step.
        momentum: of SGD.
        weight_decay: of SGD, on all that trains: the temporary head and its scale too.
        head_scale: what the learnable scale of the temporary head starts at. The paper does not
            mention it; the released code has 1, so that the network hardly moves on a small first
            task and the method then equals SimpleCIL. A larger value is another method.
        kind: how the network is adapted; fixed by the class, not a field.
    """

    kind: ClassVar[str]

    epochs: int = 20
    lr: float = 0.01
    batch_size: int = 48
    momentum: float = 0.9
    weight_decay: float = 5e-4
    head_scale: float = 1.0

    def _problems(self) -> list[str]:
        """Say what is wrong with the values."""
        problems = []
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(entry.default, int) and not isinstance(value, int):
                problems.append(f"{entry.name} must be an integer, got {value!r}")
            if entry.name in ("momentum", "dropout"):
                if not 0 <= value < 1:
                    problems.append(f"{entry.name} must be in [0, 1), got {value}")
            elif entry.name in ("weight_decay", "std"):
                if not 0 <= value < math.inf:
                    problems.append(f"{entry.name} must not be negative, got {value}")
            elif not 0 < value < math.inf:
                problems.append(f"{entry.name} must be positive, got {value}")
        return problems

    def options(self) -> dict[str, Any]:
        """Return the variant's own fields: arguments of :func:`build_petl`."""
        shared = {entry.name for entry in fields(APERConfig)}
        own = [entry.name for entry in fields(self) if entry.name not in shared]
        return {name: getattr(self, name) for name in own}

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Return the settings that differ from the defaults, by preset."""
        return PRESETS[cls.kind]


@dataclass(frozen=True)
class APERAdapterConfig(APERConfig):
    """APER with an adapter in every block.

    Attributes:
        bottleneck: hidden width r of an adapter.
        scale: s, fixed factor on what it adds.
        dropout: of its hidden units, in training.
    """

    kind = "adapter"
    title = "APER (adapter)"

    bottleneck: int = 64
    scale: float = 0.1
    dropout: float = 0.1


@dataclass(frozen=True)
class APERSSFConfig(APERConfig):
    """APER with a scale and a shift after every operation.

    Attributes:
        std: standard deviation of their initial values around 1 and 0.
    """

    kind = "ssf"
    title = "APER (ssf)"

    std: float = 0.02


@dataclass(frozen=True)
class APERVPTShallowConfig(APERConfig):
    """APER with prompt tokens before the first block.

    Attributes:
        tokens: how many.
    """

    kind = "vpt-shallow"
    title = "APER (vpt-shallow)"

    tokens: int = 5


@dataclass(frozen=True)
class APERVPTDeepConfig(APERConfig):
    """APER with prompt tokens of its own before every block.

    Attributes:
        tokens: how many per block.
    """

    kind = "vpt-deep"
    title = "APER (vpt-deep)"

    epochs: int = 5
    lr: float = 0.05
    batch_size: int = 16
    tokens: int = 5


@dataclass(frozen=True)
class APERFinetuneConfig(APERConfig):
    """APER with all weights of a copy of the network.

    The defaults are those of all data sets but CIFAR-100 and VTAB, see ``aper_presets``.
    """

    kind = "finetune"
    title = "APER (finetune)"

    epochs: int = 5
    batch_size: int = 128
