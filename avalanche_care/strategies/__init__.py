"""Methods as Avalanche strategies: one module each, with its configuration and its strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche_care._lazy import lazy_names

if TYPE_CHECKING:
    from avalanche_care.strategies.aper import APERStrategy as APERStrategy
    from avalanche_care.strategies.aper_config import APERAdapterConfig as APERAdapterConfig
    from avalanche_care.strategies.aper_config import APERFinetuneConfig as APERFinetuneConfig
    from avalanche_care.strategies.aper_config import APERSSFConfig as APERSSFConfig
    from avalanche_care.strategies.aper_config import APERVPTDeepConfig as APERVPTDeepConfig
    from avalanche_care.strategies.aper_config import APERVPTShallowConfig as APERVPTShallowConfig
    from avalanche_care.strategies.avalanche_l2p import learning_to_prompt as learning_to_prompt
    from avalanche_care.strategies.care import CaREStrategy as CaREStrategy
    from avalanche_care.strategies.care_config import CaREConfig as CaREConfig
    from avalanche_care.strategies.coda_prompt import CODAPromptConfig as CODAPromptConfig
    from avalanche_care.strategies.coda_prompt import CODAPromptStrategy as CODAPromptStrategy
    from avalanche_care.strategies.dualprompt import DualPromptConfig as DualPromptConfig
    from avalanche_care.strategies.dualprompt import DualPromptStrategy as DualPromptStrategy
    from avalanche_care.strategies.ease import EASEStrategy as EASEStrategy
    from avalanche_care.strategies.ease_config import EASEConfig as EASEConfig
    from avalanche_care.strategies.ewc import EWCConfig as EWCConfig
    from avalanche_care.strategies.ewc import EWCStrategy as EWCStrategy
    from avalanche_care.strategies.fetril import FeTrILConfig as FeTrILConfig
    from avalanche_care.strategies.fetril import FeTrILStrategy as FeTrILStrategy
    from avalanche_care.strategies.finetune import FinetuneConfig as FinetuneConfig
    from avalanche_care.strategies.finetune import FinetuneStrategy as FinetuneStrategy
    from avalanche_care.strategies.fsa import FSAConfig as FSAConfig
    from avalanche_care.strategies.fsa import FSAStrategy as FSAStrategy
    from avalanche_care.strategies.joint import JointConfig as JointConfig
    from avalanche_care.strategies.joint import JointStrategy as JointStrategy
    from avalanche_care.strategies.l2p import L2PConfig as L2PConfig
    from avalanche_care.strategies.l2p import L2PStrategy as L2PStrategy
    from avalanche_care.strategies.lwf import LwFConfig as LwFConfig
    from avalanche_care.strategies.lwf import LwFStrategy as LwFStrategy
    from avalanche_care.strategies.phases import Computation as Computation
    from avalanche_care.strategies.phases import Phase as Phase
    from avalanche_care.strategies.phases import TrainingPhase as TrainingPhase
    from avalanche_care.strategies.ranpac import RanPACStrategy as RanPACStrategy
    from avalanche_care.strategies.ranpac_config import RanPACConfig as RanPACConfig
    from avalanche_care.strategies.registry import Method as Method
    from avalanche_care.strategies.registry import available_methods as available_methods
    from avalanche_care.strategies.registry import get_method as get_method
    from avalanche_care.strategies.registry import register as register
    from avalanche_care.strategies.replay import ReplayConfig as ReplayConfig
    from avalanche_care.strategies.replay import ReplayStrategy as ReplayStrategy
    from avalanche_care.strategies.simplecil import SimpleCILConfig as SimpleCILConfig
    from avalanche_care.strategies.simplecil import SimpleCILStrategy as SimpleCILStrategy
    from avalanche_care.strategies.slda import SLDAConfig as SLDAConfig
    from avalanche_care.strategies.slda import SLDAStrategy as SLDAStrategy
    from avalanche_care.strategies.template import PTMStrategy as PTMStrategy

_HOMES = {
    "APERAdapterConfig": "aper_config",
    "APERFinetuneConfig": "aper_config",
    "APERSSFConfig": "aper_config",
    "APERStrategy": "aper",
    "APERVPTDeepConfig": "aper_config",
    "APERVPTShallowConfig": "aper_config",
    "CODAPromptConfig": "coda_prompt",
    "CODAPromptStrategy": "coda_prompt",
    "CaREConfig": "care_config",
    "CaREStrategy": "care",
    "Computation": "phases",
    "DualPromptConfig": "dualprompt",
    "DualPromptStrategy": "dualprompt",
    "EASEConfig": "ease_config",
    "EASEStrategy": "ease",
    "EWCConfig": "ewc",
    "EWCStrategy": "ewc",
    "FSAConfig": "fsa",
    "FSAStrategy": "fsa",
    "FeTrILConfig": "fetril",
    "FeTrILStrategy": "fetril",
    "FinetuneConfig": "finetune",
    "FinetuneStrategy": "finetune",
    "JointConfig": "joint",
    "JointStrategy": "joint",
    "L2PConfig": "l2p",
    "L2PStrategy": "l2p",
    "LwFConfig": "lwf",
    "LwFStrategy": "lwf",
    "Method": "registry",
    "PTMStrategy": "template",
    "Phase": "phases",
    "RanPACConfig": "ranpac_config",
    "RanPACStrategy": "ranpac",
    "ReplayConfig": "replay",
    "ReplayStrategy": "replay",
    "SLDAConfig": "slda",
    "SLDAStrategy": "slda",
    "SimpleCILConfig": "simplecil",
    "SimpleCILStrategy": "simplecil",
    "TrainingPhase": "phases",
    "available_methods": "registry",
    "get_method": "registry",
    "learning_to_prompt": "avalanche_l2p",
    "register": "registry",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
