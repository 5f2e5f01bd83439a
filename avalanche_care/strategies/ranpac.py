"""RanPAC: adapt on the first task, then ridge regression on random features of all tasks.

McDonnell, Gong, Parvaneh, Abbasnejad and van den Hengel, "RanPAC: Random Projections and
Pre-trained Models for Continual Learning", NeurIPS 2023, arXiv 2307.02251.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avalanche_care.nn.moments import ROWS, RunningMoments
from avalanche_care.nn.ranpac import RanPACModel
from avalanche_care.nn.ridge import (
    best_ridge,
    holdout_errors,
    n_fit,
    running_errors,
    solve_ridge,
)
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.expansion import ExpansionPlugin
from avalanche_care.strategies.collecting import experience_features
from avalanche_care.strategies.first_session import FirstSessionStrategy
from avalanche_care.strategies.phases import Computation
from avalanche_care.strategies.ranpac_config import PRECISIONS, RanPACConfig
from avalanche_care.strategies.registry import register


@register(
    "ranpac",
    config=RanPACConfig,
    paper="McDonnell et al., NeurIPS 2023",
    trains="adapter per block, first task",
)
class RanPACStrategy(FirstSessionStrategy):
    """Ridge regression onto one-hot targets, from running sums of random features.

    The network is adapted on the first experience only (algorithm 1, phase 1). After every
    experience the classifier is ``W_o = (G + ridge I)^-1 Q`` (equation 5), with G and Q summed over
    all training images so far: exactly what regression on all of them at once gives. One
    factorisation of an M x M matrix per experience; no image's features are kept.

    Args:
        model: a frozen ViT; it stays as it is.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.

    Attributes:
        moments: the sums; None before the first experience.
        held: with ``ridge_choice="running"``, their part of the held-out images.
        ridges: the regulariser of every experience's solution.
    """

    model: RanPACModel
    config: RanPACConfig

    def __init__(
        self, *, model: FrozenViT, config: RanPACConfig | None = None, **base_kwargs: Any
    ) -> None:
        config = config or RanPACConfig()
        network = RanPACModel(
            model,
            config.projection,
            seed=config.projection_seed,
            kind=config.tuning,
            **config.tuning_options(),
        )
        super().__init__(
            model=network, config=config, own_plugins=[ExpansionPlugin()], **base_kwargs
        )
        self.moments: RunningMoments | None = None
        self.held: RunningMoments | None = None
        self.ridges: list[float] = []

    def computations(self) -> list[Computation]:
        """Return the one: regression."""
        return [Computation("ridge regression", self._regress)]

    @torch.no_grad()
    def _regress(self) -> None:
        head = self.model.head
        features, columns = experience_features(self, self.model.adapted_features)
        if self.config.ridge is None:  # what is held out is a random part
            order = torch.randperm(len(features)).to(features.device)
            features, columns = features[order], columns[order]
        self.moments = self._add(self.moments, features, columns)
        if self.config.ridge is None and self.config.ridge_choice == "running":
            cut = n_fit(len(features))
            self.held = self._add(self.held, features[cut:], columns[cut:])
        chosen = self._choose_ridge(features, columns)
        solution, used = solve_ridge(self.moments.gram, self.moments.sums, chosen)
        head.weight.copy_(solution)
        head.weight.requires_grad_(False)
        self.ridges.append(used)

    def _new_moments(self) -> RunningMoments:
        dtype = PRECISIONS[self.config.precision]
        return RunningMoments(self.model.head.dim, dtype=dtype, device=self.device)

    def _add(
        self, moments: RunningMoments | None, features: Tensor, columns: Tensor
    ) -> RunningMoments:
        """Add adapted features (n, D) to sums of random ones, and return the sums."""
        moments = moments or self._new_moments()
        moments.expand(self.model.head.n_classes)
        for some, own in zip(features.split(ROWS), columns.split(ROWS), strict=True):
            moments.add(torch.cat([*self.model.lift(some)], dim=1), own)
        return moments

    def _choose_ridge(self, features: Tensor, columns: Tensor) -> float:
        """Return this task's regulariser, given its images in random order.

        A single image leaves nothing to fit on once it is held out. The regulariser is then that
        of the task before, or 1 in the first task.
        """
        if self.config.ridge is not None:
            return self.config.ridge
        if self.held is not None and self.moments is not None:
            fit = self.moments.without(self.held)
            if fit.counts.sum() > 0:
                return best_ridge(running_errors(fit, self.held))
        elif n_fit(len(features)):
            first = int(columns.min())  # of the task's classes, unless earlier ones come again
            errors = holdout_errors(
                self.model.lift,
                features,
                columns - first,
                self.model.head.n_classes - first,
                dtype=PRECISIONS[self.config.precision],
            )
            return best_ridge(errors)
        return self.ridges[-1] if self.ridges else 1.0

    def method_state(self) -> dict[str, Any]:
        """Return the sums and the regularisers."""
        sums = {"moments": self.moments, "held": self.held}
        state = {name: each.state_dict() for name, each in sums.items() if each is not None}
        return {**state, "ridges": list(self.ridges)}

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`method_state` returned."""
        self.ridges = list(state["ridges"])
        for name in ("moments", "held"):
            sums = self._new_moments() if name in state else None
            if sums is not None:
                sums.load_state_dict(state[name])
            setattr(self, name, sums)
