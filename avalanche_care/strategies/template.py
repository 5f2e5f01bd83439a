"""The Avalanche strategy that all methods on a frozen backbone share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from avalanche.benchmarks.utils.data_loader import SingleDatasetDataLoader
from avalanche.core import BasePlugin
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins.evaluation import default_evaluator
from torch import Tensor
from torch.nn import functional as F

from avalanche_care.losses import NonFiniteLossError
from avalanche_care.nn.classifier import FrozenClassifier
from avalanche_care.plugins.silent import silent_evaluator
from avalanche_care.strategies.phases import Phase, TrainingPhase
from avalanche_care.strategies.run_state import ResumableTemplate

logger = logging.getLogger(__name__)

LOADER_OPTIONS = ("num_workers", "pin_memory")
"""Options of ``train`` that also hold where training images are read with the test transform."""

UNSEEN = -100  # stands for the labels that a loss leaves out


class PTMStrategy(ResumableTemplate):
    """Base of the methods on a frozen, pre-trained backbone.

    A method declares its :meth:`phases` for an experience and its optimizer; this class runs them.
    It differs from Avalanche's template where that does not fit hundreds of tasks: the optimizer is
    built anew for every training phase (Avalanche's update is quadratic in the number of
    parameters), nothing is adapted at evaluation, and bad input ends in one clear error.

    Plugins may have three more callbacks: ``phase_start(strategy)`` and ``phase_end(strategy)``
    around each phase, where ``strategy.phase`` says which, and whether it ``trains``; and
    ``phase_complete(strategy)`` after all plugins have had the latter, when the strategy can be
    saved (:meth:`run_state`).

    ``mb_output`` has one column per class seen, in label order.

    Args:
        model: a frozen backbone with what the method adds to it, and a head.
        config: the method's settings; has ``batch_size``, and ``epochs`` if it trains.
        own_plugins: the method's plugins, called after the user's.
        train_mb_size: images per training step; None: ``config.batch_size``.
        train_epochs: epochs per experience; None: ``config.epochs``.
        eval_mb_size: images per evaluation step; None: ``train_mb_size``.
        device: where the model runs.
        plugins: Avalanche plugins; the list is copied.
        evaluator: Avalanche's evaluation plugin, or a function that makes one; None: no output.
        eval_every: as in Avalanche, -1 for never.
        peval_mode: as in Avalanche.
        base_kwargs: further arguments of Avalanche's template.
    """

    model: FrozenClassifier
    phase: Phase | None = None

    def __init__(
        self,
        *,
        model: FrozenClassifier,
        config: Any,
        own_plugins: Sequence[BasePlugin[Any]] = (),
        train_mb_size: int | None = None,
        train_epochs: int | None = None,
        eval_mb_size: int | None = None,
        device: str | torch.device = "cpu",
        plugins: Sequence[BasePlugin[Any]] | None = None,
        evaluator: EvaluationPlugin | Callable[[], EvaluationPlugin] | None = default_evaluator,
        eval_every: int = -1,
        peval_mode: str = "epoch",
        **base_kwargs: Any,
    ) -> None:
        if train_mb_size is None:
            train_mb_size = config.batch_size
        if train_epochs is None:
            train_epochs = getattr(config, "epochs", 1)
        if train_mb_size < 1 or train_epochs < 1:
            raise ValueError(
                "train_mb_size and train_epochs must be at least 1, got "
                f"{train_mb_size} and {train_epochs}"
            )
        super().__init__(
            model=model,
            optimizer=torch.optim.SGD([torch.zeros(1)], lr=0.0),  # each phase makes its own
            train_mb_size=train_mb_size,
            train_epochs=train_epochs,
            eval_mb_size=eval_mb_size,
            device=device,
            plugins=[*(plugins or []), *own_plugins],
            evaluator=silent_evaluator() if evaluator is None else evaluator,
            eval_every=eval_every,
            peval_mode=peval_mode,
            **base_kwargs,
        )
        self.config = config
        self._loader_kwargs: dict[str, Any] = {}
        self._in_train = False
        self._stop_training = False

    # What a method declares

    def phases(self) -> list[Phase]:
        """Return what to do with the current experience, in order."""
        raise NotImplementedError

    def build_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Return a new optimizer over what trains now."""
        raise NotImplementedError

    def training_loss(self) -> Tensor:
        """Return the loss of the current mini-batch, a scalar."""
        raise NotImplementedError

    def prediction(self) -> dict[str, Any]:
        """Return how the model predicts now: arguments of its ``predict``, as plain values."""
        return {}

    # Facts about the state

    @property
    def task(self) -> int:
        """Index of the newest task, counted from 0; -1 before the first."""
        return self.model.tasks - 1

    @property
    def allowed_columns(self) -> slice:
        """The head's columns that targets may have in training: those of all classes seen."""
        return slice(0, self.model.head.n_classes)

    @property
    def mb_columns(self) -> Tensor:
        """The head's column of each target of the mini-batch, (B,).

        A target that has none among the :attr:`allowed_columns` stands in the first of them:
        :meth:`check_loss` refuses such a batch, and does so in the step's only wait for the device.
        """
        return self.model.head.find(self.mb_y).clamp_min(self.allowed_columns.start)

    # Training

    def train(self, experiences: Any, eval_streams: Any = None, **kwargs: Any) -> Any:
        """Train on an experience, or on several in turn; see Avalanche's ``train``.

        Raises:
            ValueError: if an experience is empty or has classes that were seen before.
            NonFiniteLossError: if the loss is NaN or infinite.
        """
        self._in_train = True
        try:
            return super().train(experiences, eval_streams, **kwargs)
        except BaseException:
            self._train_cleanup()  # a failed run must not keep training images either
            self.phases_done = 0
            raise
        finally:
            self._in_train = False
            self.phase = None

    def _before_training_exp(self, **kwargs: Any) -> None:
        experience = self.experience
        if experience is None or not len(experience.dataset):
            index = getattr(experience, "current_experience", "?")
            raise ValueError(f"experience {index} is empty: expected at least one training image")
        super()._before_training_exp(**kwargs)

    def model_adaptation(self, model: FrozenClassifier | None = None) -> FrozenClassifier:
        """Return the model as it is: growth belongs to training, see the expansion plugin."""
        return self.model if model is None else model

    def check_model_and_optimizer(self, **kwargs: Any) -> None:
        """Let each phase make its optimizer; there is nothing to check before."""
        self.model = self.model_adaptation()

    def make_optimizer(self, **kwargs: Any) -> None:
        """Build a fresh optimizer with ``lr``; Avalanche's bookkeeping by name is not needed."""
        self.optimizer = self.build_optimizer(kwargs["lr"])
        self.optimized_param_id: dict[str, Tensor] = {}

    def _train_exp(self, experience: Any, eval_streams: Any = None, **kwargs: Any) -> None:
        self._loader_kwargs = {k: v for k, v in kwargs.items() if k in LOADER_OPTIONS}
        if self._resumed is not None:  # whatever was drawn and counted to get here is undone
            self._restore_moment(self._resumed)
            self._resumed = None
        for phase in self.phases()[self.phases_done :]:
            self.phase = phase
            self.notify("phase_start")
            if isinstance(phase, TrainingPhase):
                self._run_epochs(phase, **kwargs)
            else:
                phase.run()
            self.notify("phase_end")
            self.phase = None
            self.phases_done += 1
            self.notify("phase_complete")
        self.phases_done = 0

    def _run_epochs(self, phase: TrainingPhase, **kwargs: Any) -> None:
        self.make_optimizer(lr=phase.lr)
        for epoch in range(phase.epochs):
            for group in self.optimizer.param_groups:
                group["lr"] = phase.learning_rate(epoch)
            self._before_training_epoch(**kwargs)
            if self._stop_training:
                self._stop_training = False
                break
            self.training_epoch(**kwargs)
            self._after_training_epoch(**kwargs)

    def notify(self, event: str) -> None:
        """Call ``event(strategy)`` on every plugin that has it."""
        for plugin in self.plugins:
            hook = getattr(plugin, event, None)
            if hook is not None:
                hook(self)

    def backward(self) -> None:
        """Run the backward pass, unless the loss is not finite or a label is out of place."""
        self.check_loss()
        super().backward()

    def check_loss(self) -> None:
        """Stop before a bad loss or label reaches any parameter.

        A GPU works ahead of this program, and asking it for a result makes the program wait. So all
        that has to be known in a step is asked for at once, here.

        Raises:
            ValueError: if a label is not among those that this experience may have.
            NonFiniteLossError: naming the batch, if the loss is NaN or infinite.
        """
        allowed = (self.model.head.find(self.mb_y) >= self.allowed_columns.start).all()
        if torch.isfinite(self.loss).all() & allowed:
            return
        self._check_labels()
        name = self.phase.name if self.phase else "training"
        raise NonFiniteLossError(
            f"the loss is {self.loss.item()} in experience {self.clock.train_exp_counter}, phase "
            f"{name!r}, epoch {self.clock.train_exp_epochs} of the experience, iteration "
            f"{self.clock.train_epoch_iterations} (labels {self.mb_y.tolist()}). No parameter has "
            "been updated with it. Lower the learning rate, or look for NaN in these images."
        )

    def _check_labels(self) -> None:
        head = self.model.head
        head.refuse_earlier(head.columns(self.mb_y), self.allowed_columns)

    def criterion(self) -> Tensor:
        """Return the method's loss in training, the cross-entropy of seen classes in evaluation.

        In evaluation, images of classes that were never learned have no finite loss and are left
        out of it (they do count as wrong in every accuracy).
        """
        if self.is_training:
            return self.training_loss()
        seen = self.model.head.find(self.mb_y) >= 0  # (B,)
        targets = self.mb_y.where(seen, UNSEEN)
        loss = F.cross_entropy(self.mb_output, targets, ignore_index=UNSEEN, reduction="sum")
        return loss / seen.sum().clamp_min(1)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the model in eval mode without gradients for a while."""
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(training)

    def clean_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the experience's training images with the test transform, and labels."""
        if self.experience is None:
            raise RuntimeError("clean_batches() needs an experience: call it in a training phase")
        options = self._obtain_common_dataloader_parameters(**self._loader_kwargs)
        loader = SingleDatasetDataLoader(
            self.experience.dataset.eval(), batch_size=self.eval_mb_size, **options
        )
        for batch in loader:
            x, y = (part.to(self.device, non_blocking=True) for part in batch[:2])
            yield x, y

    # Evaluation

    def eval(self, experiences: Any, **kwargs: Any) -> Any:
        """Evaluate on an experience or on several; see Avalanche's ``eval``.

        Classes that were not learned yet are evaluated too: all their images count as wrong, and a
        warning is logged. The state of PyTorch's random numbers stays as it is, so that training
        goes on in the same way however often there is an evaluation.

        Raises:
            RuntimeError: if nothing was learned yet.
        """
        if self.task < 0:
            if self._in_train:  # Avalanche's eval_every evaluates once before the first experience
                return {}
            raise RuntimeError(
                "nothing has been learned yet, so there are no classes to predict: call "
                "strategy.train(experience) first"
            )
        if isinstance(experiences, Iterator):
            experiences = list(experiences)  # it is walked twice
        several = experiences if isinstance(experiences, Iterable) else [experiences]
        known = set(self.model.head.labels.tolist())
        unseen = sorted({c for e in several for c in e.classes_in_this_experience} - known)
        if unseen:
            logger.warning(
                "evaluating %d classes that have not been learned yet, starting with %s: all "
                "their images count as wrong. benchmark.seen_stream[t] has the classes seen after "
                "task t.",
                len(unseen),
                unseen[:5],
            )
        with torch.random.fork_rng(devices=()):  # a data loader draws a seed
            return super().eval(experiences, **kwargs)
