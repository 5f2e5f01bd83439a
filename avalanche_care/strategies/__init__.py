"""Methods as Avalanche strategies: one module each, with its configuration and its strategy."""

from avalanche_care.strategies.care import CaREConfig, CaREStrategy
from avalanche_care.strategies.finetune import FinetuneConfig, FinetuneStrategy
from avalanche_care.strategies.registry import Method, available_methods, get_method, register
from avalanche_care.strategies.simplecil import SimpleCILConfig, SimpleCILStrategy
from avalanche_care.strategies.template import (
    Computation,
    NonFiniteLossError,
    Phase,
    PTMStrategy,
    TrainingPhase,
)

__all__ = [
    "CaREConfig",
    "CaREStrategy",
    "Computation",
    "FinetuneConfig",
    "FinetuneStrategy",
    "Method",
    "NonFiniteLossError",
    "PTMStrategy",
    "Phase",
    "SimpleCILConfig",
    "SimpleCILStrategy",
    "TrainingPhase",
    "available_methods",
    "get_method",
    "register",
]
