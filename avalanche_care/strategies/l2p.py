"""L2P: a pool of prompts, chosen by a query from the frozen network.

Wang, Zhang, Lee, Zhang, Sun, Ren, Su, Perot, Dy and Pfister, "Learning to Prompt for Continual
Learning", CVPR 2022, arXiv 2112.08654.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from avalanche_care.nn.l2p import POSITIONS, L2PFeatures, L2PModel
from avalanche_care.nn.prompts import RANGES
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.strategies.phases import TrainingPhase
from avalanche_care.strategies.prompts import CHOICES, PromptConfig, PromptStrategy
from avalanche_care.strategies.registry import register

logger = logging.getLogger(__name__)

_PORT = {"epochs": 5, "batch_size": 16}  # PILOT; lr is 0.03 per 256 images, for 16
_WITHOUT_RELEASE: dict[str, Any] = {}  # no configuration was released: PILOT's for ImageNet-R

PRESETS: dict[str, dict[str, Any]] = {
    # JH-LEE/l2p-pytorch, which reproduces the paper's 83.8 (83.77); PILOT does not clip.
    "cifar100/B0-Inc10": {**_PORT, "clip_norm": 1.0},
    "cifar100/B0-Inc5": _PORT,
    # google-research/l2p, the authors' own configuration for CIFAR-100 (8 x 16 images a step).
    "jax/cifar100": {
        "length": 10,
        "top_k": 4,
        "pull": 1.0,
        "choice": "batch-leaks-task-identity",
        "init": "small",
        "position": "none",
        "epochs": 5,
        "lr": 0.015,
        "batch_size": 128,
        "clip_norm": 1.0,
    },
    # The same for the five data sets, with prompts of their own for every task.
    "jax/five-datasets": {
        "pool": 20,
        "length": 10,
        "top_k": 4,
        "pull": 0.5,
        "prompts_per_task": True,
        "init": "small",
        "position": "none",
        "epochs": 5,
        "lr": 0.015,
        "batch_size": 128,
        "clip_norm": 1.0,
    },
    **dict.fromkeys(
        (
            *(f"imagenet-r/B0-Inc{n}" for n in (4, 5, 10, 20, 40)),
            *(f"imagenet-a/B0-Inc{n}" for n in (4, 20)),
            *(f"objectnet/B0-Inc{n}" for n in (4, 10, 20)),
            *(f"omnibenchmark/B0-Inc{n}" for n in (5, 30)),
            *(f"omnibenchmark1k/{p}" for p in ("B0-Inc5", "B0-Inc10", "B100-Inc3", "B100-Inc6")),
            "vtab/B0-Inc10",
            "cub/B0-Inc10",
            "cub/B0-Inc20",
        ),
        _WITHOUT_RELEASE,
    ),
}


@dataclass(frozen=True)
class L2PConfig(PromptConfig):
    """How L2P is trained and how it predicts.

    The defaults are PILOT's for ImageNet-R, from which the tables of later papers come; the
    preset for CIFAR-100 is the PyTorch port's, which reaches the paper's number, but with the
    choice made per image. ``"jax/cifar100"`` is the authors' own configuration.

    Attributes:
        pool: number of prompts M. It does not grow.
        length: tokens of a prompt L: 5 in the paper and the ports, 10 in the official code.
        top_k: prompts per image k: 5 in the paper and the ports, 4 in the official code.
        pull: weight lambda of the cosines between queries and chosen keys: 0.5 in the paper, 0.1 in
            the ports, 1.0 in the official code.
        choice: who chooses the prompts. ``"per-image"``, as the paper has it;
            ``"batch-in-training"``: images of a training batch get what most of them chose;
            ``"batch-leaks-task-identity"``: in prediction too, as in the official code and the
            ports. Then the accuracy depends on how the test set is sorted and batched, and is not
            one of class-incremental learning.
        prompts_per_task: in training, task t has prompts t k to (t + 1) k - 1 for itself ("prompt
            mask"), as in the official code for five data sets; when the pool is used up, images
            choose. In prediction they always choose.
        init: initial values of prompts and keys: ``"symmetric"``, in [-1, 1), as in the ports;
            ``"small"``, in [0, 0.01), as in the official code.
        position: position embedding of the prompts: ``"cls"``, that of the CLS token, as in the
            ports; ``"none"``, as in the official code.
        epochs: per task.
        lr: learning rate of Adam, constant. The originals scale 0.03 by batch size / 256.
        batch_size: images per step.
        clip_norm: largest norm of the gradient; None: it is not clipped, as in PILOT. The official
            code and its port have 1.0.
    """

    title: ClassVar[str] = "L2P"

    epochs: int = 10
    lr: float = 0.001875
    batch_size: int = 32
    clip_norm: float | None = None
    pool: int = 10
    length: int = 5
    top_k: int = 5
    pull: float = 0.1
    choice: str = "per-image"
    prompts_per_task: bool = False
    init: str = "symmetric"
    position: str = "cls"

    def _may_be_zero(self) -> tuple[str, ...]:
        return ("pull",)

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        yield from self._not_among(choice=CHOICES, init=tuple(RANGES), position=POSITIONS)
        if self.top_k > self.pool:
            yield f"top_k must not exceed pool, got {self.top_k} of {self.pool}"

    @staticmethod
    def presets() -> dict[str, dict[str, Any]]:
        """Return the settings that differ from the defaults, by preset."""
        return PRESETS


@register("l2p", config=L2PConfig, paper="Wang et al., CVPR 2022", trains="prompts, keys, head")
class L2PStrategy(PromptStrategy):
    """L2P as an Avalanche strategy.

    The prompts that are chosen first are pulled to the queries, and are mostly chosen ever after:
    in the originals too, all tasks soon share the same k prompts. How often each was chosen is
    logged (level INFO) after every task.

    Args:
        model: a frozen ViT.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.
    """

    model: L2PModel
    config: L2PConfig
    _found: L2PFeatures | None = None  # of the mini-batch in training
    _times_chosen: Tensor | None = None  # (M,), in this experience

    def __init__(
        self, *, model: FrozenViT, config: L2PConfig | None = None, **base_kwargs: Any
    ) -> None:
        config = config or L2PConfig()
        prompts = L2PModel(
            model,
            pool=config.pool,
            length=config.length,
            top_k=config.top_k,
            init=config.init,
            position=config.position,
        )
        super().__init__(model=prompts, config=config, **base_kwargs)

    def prediction(self) -> dict[str, Any]:
        """Return whether a batch chooses its prompts together."""
        return {"majority": True} if self.config.choice == CHOICES[2] else {}

    def training_features(self) -> Tensor:
        """Return the features of the mini-batch with its prompts, (B, D)."""
        self._found = found = self.model.prompted(
            self.mb_x,
            task=self.task if self.config.prompts_per_task else None,
            majority=self.config.choice != CHOICES[0],
        )
        if self._times_chosen is None:
            self._times_chosen = found.chosen.new_zeros(self.model.pool)
        ones = torch.ones_like(found.chosen).flatten()
        self._times_chosen.scatter_add_(0, found.chosen.flatten(), ones)
        return found.features

    def regularisation(self) -> Tensor:
        """Return the pull of the chosen keys towards the queries (section 4)."""
        if self._found is None:
            raise RuntimeError("regularisation() needs training_features() before it")
        return -self.config.pull * self._found.match

    def _run_epochs(self, phase: TrainingPhase, **kwargs: Any) -> None:
        self._times_chosen = None
        super()._run_epochs(phase, **kwargs)
        if self._times_chosen is not None and logger.isEnabledFor(logging.INFO):
            counts = self._times_chosen.tolist()
            logger.info("task %d: times that each prompt was chosen: %s", self.task, counts)

    def _train_cleanup(self) -> None:
        super()._train_cleanup()
        self._found = self._times_chosen = None
