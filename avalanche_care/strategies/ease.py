"""EASE: an adapter per task, and a classifier on the subspaces of all of them.

Zhou, Sun, Ye and Zhan, "Expandable Subspace Ensemble for Pre-Trained Model-Based Class-Incremental
Learning", CVPR 2024, arXiv 2403.12030.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.nn.ease import EASEModel
from avalanche_care.nn.heads import ProxyHead
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.plugins.expansion import ExpansionPlugin
from avalanche_care.statistics import require_finite
from avalanche_care.strategies.collecting import require_images
from avalanche_care.strategies.ease_config import EASEConfig
from avalanche_care.strategies.phases import Computation, Phase, TrainingPhase
from avalanche_care.strategies.registry import register
from avalanche_care.strategies.template import PTMStrategy


@register(
    "ease",
    config=EASEConfig,
    paper="Zhou et al., CVPR 2024",
    trains="adapter per block, a new one per task",
)
class EASEStrategy(PTMStrategy):
    """Train new adapters on every experience, and classify by class means in all their subspaces.

    Adapters are trained behind a cosine head over the experience's classes, which is discarded.
    Then the class means of these classes are computed with all adapters, the old ones too; what
    their means with later adapters would be is put together from newer classes, see
    :mod:`avalanche_care.nn.subspaces`. No image and no old adapter takes part in training.

    The class means take a pass of every image per adapter, so a run of T experiences takes O(T²)
    passes, as does their evaluation; a training step costs the same at any T.

    Args:
        model: a frozen ViT.
        config: settings; None: the defaults.
        base_kwargs: further arguments of :class:`PTMStrategy`.
    """

    model: EASEModel
    config: EASEConfig
    _proxy: ProxyHead | None = None

    def __init__(
        self, *, model: FrozenViT, config: EASEConfig | None = None, **base_kwargs: Any
    ) -> None:
        config = config or EASEConfig()
        ease = EASEModel(
            model,
            bottleneck=config.bottleneck,
            scale=config.scale,
            dropout=config.dropout,
            config=config.ensemble(),
        )
        super().__init__(model=ease, config=config, own_plugins=[ExpansionPlugin()], **base_kwargs)

    def phases(self) -> list[Phase]:
        """Return the training, if the task has adapters of its own, and the class means."""
        config, means = self.config, Computation("prototypes", self._fit_prototypes)
        if not self.model.adapts:
            return [means]
        epochs, lr = self.train_epochs, config.lr
        if self.task > 0:
            epochs, lr = config.later_epochs or epochs, config.later_lr or lr
        return [TrainingPhase("training", epochs, lr), means]

    def _run_epochs(self, phase: TrainingPhase, **kwargs: Any) -> None:
        columns, weight = self.allowed_columns, self.model.head.weight
        proxy = ProxyHead(
            weight.shape[1], columns.stop - columns.start, scale=self.config.head_scale
        )
        self._proxy = proxy.to(weight)
        try:
            super()._run_epochs(phase, **kwargs)
        finally:
            self._proxy = None

    def build_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Return SGD or Adam over the newest adapters and the temporary head."""
        config = self.config
        proxy = [] if self._proxy is None else [*self._proxy.parameters()]
        parameters = [*self.model.petl.parameters(), *proxy]
        if config.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=lr, weight_decay=config.weight_decay)
        return torch.optim.SGD(
            parameters, lr=lr, momentum=config.momentum, weight_decay=config.weight_decay
        )

    @property
    def allowed_columns(self) -> slice:
        """The columns of the current experience: its adapters learn no others."""
        return self.model.head.columns_of(self.task)

    def prediction(self) -> dict[str, Any]:
        """Return how much is computed at once."""
        return {"rows": self.config.rows}

    def forward(self) -> Tensor:
        """Return the temporary head's logits (training) or prediction scores, (B, classes seen)."""
        if not self.is_training or self._proxy is None:
            return self.model.predict(self.mb_x, **self.prediction())
        head, logits = self.model.head, self._proxy(self.model.features(self.mb_x))
        everything = logits.new_full((len(logits), head.n_classes), torch.finfo(logits.dtype).min)
        everything[:, self.allowed_columns] = logits
        return head.in_label_order(everything)

    def training_loss(self) -> Tensor:
        """Return the cross-entropy over the current experience's classes."""
        labels = self.model.head.labels[self.allowed_columns]
        targets = self.mb_columns - self.allowed_columns.start
        return F.cross_entropy(self.mb_output[:, labels], targets)

    def _fit_prototypes(self) -> None:
        """Compute class means of the experience's classes in all subspaces.

        Sums are kept in place of features, which would be T times as many as images.
        """
        model, head, columns = self.model, self.model.head, self.allowed_columns
        sums = head.weight.new_zeros(())  # (classes of the task, subspaces, D), the backbone's last
        counts = head.weight.new_zeros(columns.stop - columns.start)
        model.keep_adapters()
        with self.evaluating():
            for x, y in self.clean_batches():
                found = head.columns(y)  # (B,)
                head.refuse_earlier(found, columns)
                index = found - columns.start
                features = model.all_features(x, rows=self.config.rows)  # (B, subspaces, D)
                require_finite(features.flatten(1), found, head.labels)
                chosen = F.one_hot(index, len(counts)).T.to(features)  # (classes, B)
                part = (chosen @ features.flatten(1)).unflatten(1, features.shape[1:])
                sums = sums + part
                counts = counts + chosen.sum(1)
        require_images(self, counts)
        means = sums / counts[:, None, None]
        if head.config.pretrained:
            head.set_means(means[:, :-1], means[:, -1])
        else:
            head.set_means(means)
