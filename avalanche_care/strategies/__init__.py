"""Methods as Avalanche strategies: one module each, with its configuration and its strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche_care._lazy import lazy_names

if TYPE_CHECKING:
    from avalanche_care.strategies.care import CaREStrategy as CaREStrategy
    from avalanche_care.strategies.care_config import CaREConfig as CaREConfig
    from avalanche_care.strategies.finetune import FinetuneConfig as FinetuneConfig
    from avalanche_care.strategies.finetune import FinetuneStrategy as FinetuneStrategy
    from avalanche_care.strategies.phases import Computation as Computation
    from avalanche_care.strategies.phases import Phase as Phase
    from avalanche_care.strategies.phases import TrainingPhase as TrainingPhase
    from avalanche_care.strategies.registry import Method as Method
    from avalanche_care.strategies.registry import available_methods as available_methods
    from avalanche_care.strategies.registry import get_method as get_method
    from avalanche_care.strategies.registry import register as register
    from avalanche_care.strategies.simplecil import SimpleCILConfig as SimpleCILConfig
    from avalanche_care.strategies.simplecil import SimpleCILStrategy as SimpleCILStrategy
    from avalanche_care.strategies.template import PTMStrategy as PTMStrategy

_HOMES = {
    "CaREConfig": "care_config",
    "CaREStrategy": "care",
    "Computation": "phases",
    "FinetuneConfig": "finetune",
    "FinetuneStrategy": "finetune",
    "Method": "registry",
    "PTMStrategy": "template",
    "Phase": "phases",
    "SimpleCILConfig": "simplecil",
    "SimpleCILStrategy": "simplecil",
    "TrainingPhase": "phases",
    "available_methods": "registry",
    "get_method": "registry",
    "register": "registry",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
