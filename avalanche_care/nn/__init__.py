"""Plain PyTorch: the frozen ViT and everything that is plugged into it. Never imports avalanche."""

from avalanche_care.nn.adapter import Adapter, Perceptron
from avalanche_care.nn.brmoe import BRMoE
from avalanche_care.nn.brmoe_config import BRMoEConfig
from avalanche_care.nn.care import CaREFeatures, CaREModel
from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.heads import CosineHead, GrowingHead, LinearHead
from avalanche_care.nn.released import ReleasedCheckpoint, load_released_checkpoint
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.nn.weights import BackboneInfo

__all__ = [
    "Adapter",
    "BRMoE",
    "BRMoEConfig",
    "BackboneInfo",
    "CaREFeatures",
    "CaREModel",
    "CosineHead",
    "FrozenClassifier",
    "FrozenViT",
    "GrowingHead",
    "LinearHead",
    "Perceptron",
    "ReleasedCheckpoint",
    "load_released_checkpoint",
]
