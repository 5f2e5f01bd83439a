"""Plain PyTorch: the frozen ViT and everything that is plugged into it. Never imports avalanche."""

from avalanche_care.nn.adapter import Adapter, Perceptron
from avalanche_care.nn.aper import APERModel
from avalanche_care.nn.brmoe import BRMoE
from avalanche_care.nn.brmoe_config import BRMoEConfig
from avalanche_care.nn.care import CaREFeatures, CaREModel
from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.nn.coda_prompt import CODAPromptModel
from avalanche_care.nn.dualprompt import DualPromptModel
from avalanche_care.nn.ease import EASEModel
from avalanche_care.nn.ensemble_config import EnsembleConfig
from avalanche_care.nn.fetril import FeTrILModel
from avalanche_care.nn.heads import CosineHead, GrowingHead, LinearHead
from avalanche_care.nn.l2p import L2PModel
from avalanche_care.nn.linear import LinearClassifier
from avalanche_care.nn.ranpac import RanPACModel
from avalanche_care.nn.released import ReleasedCheckpoint, load_released_checkpoint
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.nn.weights import BackboneInfo

__all__ = [
    "APERModel",
    "Adapter",
    "BRMoE",
    "BRMoEConfig",
    "BackboneInfo",
    "CODAPromptModel",
    "CaREFeatures",
    "CaREModel",
    "CosineHead",
    "DualPromptModel",
    "EASEModel",
    "EnsembleConfig",
    "FeTrILModel",
    "FrozenClassifier",
    "FrozenViT",
    "GrowingHead",
    "L2PModel",
    "LinearClassifier",
    "LinearHead",
    "Perceptron",
    "RanPACModel",
    "ReleasedCheckpoint",
    "load_released_checkpoint",
]
