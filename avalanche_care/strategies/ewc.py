"""EWC: hold the weights that mattered. Avalanche's implementation, in its online form.

Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, arXiv
1612.00796; online: Schwarz et al., "Progress & Compress", ICML 2018, arXiv 1805.06370, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.training.plugins import EWCPlugin
from avalanche.training.utils import ParamData
from torch import Tensor, nn

from avalanche_care.nn.vit import FrozenViT
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.sequential import SequentialConfig, SequentialStrategy


@dataclass(frozen=True)
class EWCConfig(SequentialConfig):
    """Training and the penalty; see :class:`SequentialConfig` for the former.

    Attributes:
        ewc_lambda: weight of the penalty. Avalanche leaves out the papers' factor of 1/2, and its
            importances are squared gradients of the mean loss of a batch, not of an image: they
            shrink as ``batch_size`` grows. So it is not comparable with other implementations', and
            the default is ours, for a linear head. Steps grow without bound where ``lr`` times it
            times an importance is more than about 2: then it, or ``lr``, has to be lower.
        decay_factor: gamma of the online form: what is left of the earlier importances when those
            of another experience are added. 1: all experiences count alike.
    """

    ewc_lambda: float = 100.0
    decay_factor: float = 1.0

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not 0 <= self.ewc_lambda < math.inf:
            problems.append(f"ewc_lambda must not be negative, got {self.ewc_lambda}")
        if not 0 <= self.decay_factor <= 1:
            problems.append(f"decay_factor must be in [0, 1], got {self.decay_factor}")
        return problems


class OnlineEWCPlugin(EWCPlugin):
    """Avalanche's online EWC that keeps nothing of frozen parameters and can be saved.

    Avalanche's keeps two tensors as large as every parameter, and goes through all of them in each
    step: for a frozen ViT-B/16, 690 MB of zeros and copies. It still makes them for a moment after
    each experience.

    Args:
        ewc_lambda: weight of the penalty.
        decay_factor: gamma.
    """

    def __init__(self, ewc_lambda: float, decay_factor: float) -> None:
        super().__init__(ewc_lambda, mode="online", decay_factor=decay_factor)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Make room for new classes, whose rows have no importance."""
        # Avalanche does it too, in a way that PyTorch has deprecated and would read otherwise.
        shapes = {name: p.shape for name, p in strategy.model.named_parameters()}
        for kept in (self.saved_params, self.importances):
            for entries in kept.values():
                for name, entry in entries.items():
                    more = shapes[name][0] - entry.shape[0] if entry.shape else 0
                    if more:
                        zeros = entry.data.new_zeros(more, *entry.shape[1:])
                        grown = torch.cat([entry.data, zeros])
                        entries[name] = _kept(name, grown)

    def compute_importances(
        self, model: nn.Module, criterion: Any, optimizer: Any, *args: Any, **kwargs: Any
    ) -> dict[str, ParamData]:
        """Compute Avalanche's importances, of what trains."""
        # Of the optimizer only zero_grad() is needed, and after a resume there is none.
        found = super().compute_importances(model, criterion, model, *args, **kwargs)
        model.zero_grad()
        return {name: found[name] for name, p in model.named_parameters() if p.requires_grad}

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Compute importances, and keep the parameters' values."""
        super().after_training_exp(strategy, **kwargs)
        task = strategy.clock.train_exp_counter
        saved, important = self.saved_params[task], self.importances[task]
        self.saved_params[task] = {name: saved[name] for name in important}

    def state_dict(self) -> dict[str, Any]:
        """Return the importances; the kept values are the model's own between experiences."""
        tasks = [*self.importances]
        tensors = {n: p.data for task in tasks for n, p in self.importances[task].items()}
        return {"task": tasks[-1] if tasks else -1, "importances": tensors}

    def load_state_dict(self, state: dict[str, Any], model: nn.Module) -> None:
        """Restore what :meth:`state_dict` returned.

        Args:
            state: it is copied.
            model: as it is after that task.
        """
        self.importances.clear()
        self.saved_params.clear()
        task, parameters = state["task"], dict(model.named_parameters())
        for name, value in state["importances"].items():
            self.importances[task][name] = _kept(name, value.to(parameters[name].device, copy=True))
            self.saved_params[task][name] = _kept(name, parameters[name].detach().clone())


def _kept(name: str, value: Tensor) -> ParamData:
    return ParamData(name, value.shape, init_tensor=value, device=value.device)


@register("ewc", config=EWCConfig, paper="Schwarz et al., ICML 2018", trains="linear head")
class EWCStrategy(SequentialStrategy):
    """Fine-tuning with a quadratic penalty on moving weights that mattered before.

    Avalanche's ``EWCPlugin(mode="online")``: after each experience it takes the squared gradients
    of its training images as importances, and adds ``ewc_lambda * sum(importance * (weight -
    weight after the last experience)**2)`` to the loss. The rows of new classes are free.

    Args:
        model: a frozen ViT.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.

    Attributes:
        consolidation: the plugin.
    """

    config: EWCConfig

    def __init__(
        self, *, model: FrozenViT, config: EWCConfig | None = None, **base_kwargs: Any
    ) -> None:
        config = config or EWCConfig()
        self.consolidation = OnlineEWCPlugin(config.ewc_lambda, config.decay_factor)
        super().__init__(
            model=model, config=config, own_plugins=[self.consolidation], **base_kwargs
        )

    def method_state(self) -> dict[str, Any]:
        """Return the importances."""
        return self.consolidation.state_dict()

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`method_state` returned."""
        self.consolidation.load_state_dict(state, self.model)
