"""Re-aligning the classifier with Gaussians of all classes seen."""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import cos, pi
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor
from torch.utils.data import DataLoader

from avalanche_care.alignment import align_head
from avalanche_care.offload import Offload
from avalanche_care.statistics import COVARIANCES, ClassGaussians, require_finite

DECAYS = ("none", "released", "intended")
PERIOD = 5  # epochs of half a cosine, whatever the number of epochs


def mean_scales(task_of: Tensor, decay: str) -> Tensor:
    """Return the factor on every class mean, (C,).

    ``"intended"``: ``0.9 + 0.1 (task(c) + 1) / (t + 1)``, as in SLCA (Zhang et al., ICCV 2023),
    from which the released code derives. ``"released"``: what the released code computes. It takes
    the task size as a negative number, so that class 0 has ``0.9 + 0.1 / (t + 1)`` and the factor
    falls to about 0.8 for the newest classes: ``0.9 + 0.1 (1 - ceil(c / size)) / (t + 1)``.
    ``"none"``: 1.

    Args:
        task_of: the task of every class, in column order, (C,).
        decay: one of the three.
    """
    t = int(task_of[-1])
    if decay == "intended":
        return 0.9 + 0.1 * (task_of + 1) / (t + 1)
    if decay == "released":
        size = int((task_of == t).sum())
        column = torch.arange(len(task_of), device=task_of.device)
        return 0.9 + 0.1 * (1 + torch.div(column, -size, rounding_mode="floor")) / (t + 1)
    return torch.ones(len(task_of), device=task_of.device)


class ClassifierAlignmentPlugin(SupervisedPlugin[Any]):
    """Fit a Gaussian per new class, then train the head on samples of all classes.

    As in the released CaRE code (the paper does not mention this step): every epoch draws
    ``5 * batch`` features per class, shuffles them all, and takes one SGD step per ``5 * batch`` of
    them on the head's weights; the loss is the cross-entropy of scaled cosines over all classes
    seen; the learning rate is half a cosine over 5 epochs, however many epochs there are.

    Only Gaussians are kept between experiences, never an image. Works with any strategy whose model
    has ``features(x)`` and a :class:`avalanche_care.nn.CosineHead` named ``head``.

    Args:
        epochs: alignment epochs; 0 fits the Gaussians and leaves the head alone.
        lr: learning rate.
        batch_size: B above; None: the strategy's ``train_mb_size``.
        covariance: ``"full"`` or ``"diagonal"``.
        decay: factor on the class means, see :func:`mean_scales`.
        scale: of the cosines.
        momentum: of SGD.
        weight_decay: of SGD.
        offload: where the Gaussians live while they are not used, ``"cpu"`` or a directory, see
            :class:`avalanche_care.offload.Offload`; None: where the model is. The numbers are the
            same.
        automatic: act after every training experience. A strategy with phases of its own passes
            False and calls :meth:`fit` and :meth:`align` itself.

    Raises:
        ValueError: naming every argument that is out of range.
    """

    def __init__(
        self,
        *,
        epochs: int = 30,
        lr: float = 0.005,
        batch_size: int | None = None,
        covariance: str = "full",
        decay: str = "released",
        scale: float = 20.0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        offload: str | os.PathLike[str] | None = None,
        automatic: bool = True,
    ) -> None:
        super().__init__()
        positive = {"lr": lr, "scale": scale, "batch_size": 1 if batch_size is None else batch_size}
        least = {"epochs": epochs, "momentum": momentum, "weight_decay": weight_decay}
        problems = [f"{k} must be positive, got {v}" for k, v in positive.items() if v <= 0]
        problems += [f"{k} must not be negative, got {v}" for k, v in least.items() if v < 0]
        for name, value, allowed in (
            ("decay", decay, DECAYS),
            ("covariance", covariance, COVARIANCES),
        ):
            if value not in allowed:
                problems.append(f"{name} must be one of {allowed}, got {value!r}")
        if problems:
            raise ValueError("; ".join(problems))
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.decay = decay
        self.scale = scale
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.automatic = automatic
        self.gaussians = ClassGaussians(
            covariance=covariance, offload=None if offload is None else Offload(offload)
        )

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Fit and align, if automatic."""
        if self.automatic:
            loader = DataLoader(strategy.experience.dataset.eval(), strategy.eval_mb_size)
            batches = ((batch[0], batch[1]) for batch in loader)
            self.fit(strategy.model, batches, device=strategy.device)
            self.align(strategy.model, batch_size=strategy.train_mb_size)

    @torch.no_grad()
    def fit(
        self,
        model: Any,
        batches: Iterable[tuple[Tensor, Tensor]],
        *,
        device: torch.device | str = "cpu",
        **features: Any,
    ) -> None:
        """Fit the Gaussians of the classes in ``batches``, replacing earlier ones of theirs.

        Args:
            model: it is put in eval mode meanwhile.
            batches: images (B, C, H, W) and labels (B,), with the test transform.
            device: where the model is.
            features: passed on to ``model.features``, such as ``task=3``.

        Raises:
            ValueError: if a class of the newest task has no image, or a feature is not finite;
                nothing is changed then.
        """
        found, labels = [], []
        training = model.training
        model.eval()
        try:
            for x, y in batches:
                found.append(model.features(x.to(device), **features))
                labels.append(model.head.columns(y.to(device)))
        finally:
            model.train(training)
        columns = torch.cat(labels)
        every = torch.cat(found)  # (n, D)
        require_finite(every, columns, model.head.labels)
        newest = model.head.columns_of(model.head.tasks - 1)
        for column in sorted({*range(newest.start, newest.stop), *columns.tolist()}):
            self.gaussians.fit(column, every[columns == column])

    def align(self, model: Any, *, batch_size: int) -> None:
        """Train the head's weights on samples of every class seen.

        Args:
            model: whose ``head`` to align.
            batch_size: B, used if the plugin was not given one.

        Raises:
            RuntimeError: if a class has no Gaussian yet.
            NonFiniteLossError: if the head became NaN or infinite; it is then what it was before
                that epoch.
        """
        head = model.head
        align_head(
            head,
            self.gaussians,
            rates=[self.learning_rate(epoch) for epoch in range(self.epochs)],
            rows=5 * (self.batch_size or batch_size),
            mean_scale=mean_scales(head.task_of, self.decay),
            scale=self.scale,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )

    def learning_rate(self, epoch: int) -> float:
        """Return ``lr (1 + cos(pi epoch / 5)) / 2``."""
        return self.lr * (1 + cos(pi * epoch / PERIOD)) / 2
