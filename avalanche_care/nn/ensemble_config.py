"""The settings of EASE's classifier."""

from __future__ import annotations

from dataclasses import dataclass

from avalanche_care.checked import CheckedConfig


@dataclass(frozen=True)
class EnsembleConfig(CheckedConfig):
    """How EASE's subspaces are combined.

    Attributes:
        alpha: weight of the subspaces that are not a class's own.
        divide_alpha: divide ``alpha`` by the number of those subspaces, T - 1, as released; False:
            as the paper's formula has it.
        reweight: sum up one cosine per subspace, with those weights. False: a single cosine of
            all subspaces side by side, as released for OmniBenchmark.
        similar_to: which newer classes a synthesised prototype in subspace j is made of:
            ``"later"`` for all classes from task j on, as released (``recalc_sim``); ``"newest"``
            for those of task j only, so that a prototype never changes.
        softmax_over: what similarities are normalised over: ``"new"`` classes, as released, or the
            ``"old"`` classes of the task, as the paper's formula is read.
        max_adapters: tasks that train an adapter; later ones only add class means in the subspaces
            that there are, and the last of those is their own. None: all. The released settings
            for OmniBenchmark have 1 (``moni_adam``), which makes EASE an APER.
        pretrained: the backbone without an adapter is a subspace too (``use_init_ptm``). There are
            class means of all classes in it.
        beta: its weight, where subspaces are reweighted.
    """

    alpha: float = 0.1
    divide_alpha: bool = True
    reweight: bool = True
    similar_to: str = "later"
    softmax_over: str = "new"
    max_adapters: int | None = None
    pretrained: bool = False
    beta: float = 1.0

    def _problems(self) -> list[str]:
        """Say what is wrong with the values."""
        problems = []
        for name, allowed in (
            ("similar_to", ("later", "newest")),
            ("softmax_over", ("new", "old")),
        ):
            if getattr(self, name) not in allowed:
                problems.append(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        for name in ("alpha", "beta"):
            if not 0 <= getattr(self, name) < float("inf"):
                problems.append(f"{name} must not be negative, got {getattr(self, name)}")
        if self.max_adapters is not None and self.max_adapters < 1:
            problems.append(f"max_adapters must be at least 1 or None, got {self.max_adapters}")
        return problems
