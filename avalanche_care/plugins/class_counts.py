"""How many images of each class an evaluation saw, and how many it got right."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.evaluation.metric_utils import get_metric_name
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["ClassCounts"]


class ClassCounts(PluginMetric[float]):
    """Correct and total test images per class of one ``strategy.eval`` call.

    Every accuracy in :mod:`avalanche_care.metrics` follows from these two vectors, so a single pass
    over a ``seen_stream`` experience gives a whole row of the accuracy matrix. The counts stay on
    the device of the predictions and are read once, when the evaluation ends.

    Works with every Avalanche strategy whose ``mb_output`` is ``(B, classes)``; give it to
    ``EvaluationPlugin(counts, loggers=[...])``. Loggers get one value, the share of all images that
    was right, as ``Top1_Acc_Seen/eval_phase/<stream>_stream``. A list of experiences is counted as
    one set of images. Classes are told apart by label, so it needs labels that are unique across
    tasks (class-incremental, not task-incremental with labels from 0 in each task).

    Attributes:
        correct: Right predictions per class, int64, shape (C,); C is 1 + the largest class of the
            last evaluation. None before the first evaluation.
        correct_top5: Images per class whose label is among the five highest outputs, likewise. Of
            equal outputs the lower label counts as the higher one.
        total: Images per class, likewise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.correct: NDArray[np.int64] | None = None
        self.correct_top5: NDArray[np.int64] | None = None
        self.total: NDArray[np.int64] | None = None
        self._counts: Tensor | None = None  # (3, C): top 1, top 5, total; on the device

    def __str__(self) -> str:
        return "Top1_Acc_Seen"

    def reset(self) -> None:
        """Forget everything that was counted."""
        self.correct = self.correct_top5 = self.total = self._counts = None

    def result(self) -> float | None:
        """Share of right predictions in the last evaluation, in [0, 1]; None if there was none."""
        if self.correct is None or self.total is None or not self.total.sum():
            return None
        return float(self.correct.sum() / self.total.sum())

    def before_eval(self, strategy: Any) -> None:
        """Start a new count."""
        self.reset()

    def before_eval_exp(self, strategy: Any) -> None:
        """Make room for the classes of this experience."""
        # Asking the experience, and not the labels of each batch, spares a wait for the GPU.
        classes = getattr(strategy.experience, "classes_in_this_experience", None)
        if classes is None:
            classes = strategy.experience.dataset.targets.uniques
        width = 1 + max((int(c) for c in classes), default=-1)
        if self._counts is None:
            self._counts = torch.zeros(3, width, dtype=torch.int64, device=strategy.device)
        elif width > self._counts.shape[1]:
            more = width - self._counts.shape[1]
            self._counts = torch.nn.functional.pad(self._counts, (0, more))

    def after_eval_iteration(self, strategy: Any) -> None:
        """Count one batch."""
        output, labels = strategy.mb_output, strategy.mb_y
        if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != len(labels):
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"ClassCounts needs mb_output of shape ({len(labels)}, classes), got {got}; "
                "make the strategy's forward return the logits of all classes"
            )
        # A head narrower than the labels is no error: a class without a logit is never predicted.
        top1 = output.argmax(dim=1) == labels  # (B,)
        top5 = _among_top5(output, labels)
        counted = torch.stack([top1, top5, torch.ones_like(top1)]).long()  # (3, B)
        if self._counts is not None:  # before_eval_exp has made it
            self._counts = self._counts.to(labels.device).index_add_(1, labels, counted)

    def after_eval(self, strategy: Any) -> list[MetricValue] | None:
        """Read the counts from the device and hand the accuracy to the loggers."""
        if self._counts is None:
            return None
        self.correct, self.correct_top5, self.total = self._counts.cpu().numpy()
        self._counts = None
        accuracy = self.result()
        if accuracy is None:
            return None
        name = get_metric_name(self, strategy, add_experience=False, add_task=False)
        return [MetricValue(self, name, accuracy, strategy.clock.train_iterations)]


def _among_top5(output: Tensor, labels: Tensor) -> Tensor:
    """Whether fewer than five outputs are ahead of the label's, (B,).

    Args:
        output: (B, C).
        labels: (B,), of any size: a label without an output is not among the five.
    """
    if not output.shape[1]:
        return torch.zeros_like(labels, dtype=torch.bool)
    known = labels < output.shape[1]
    column = labels.where(known, 0)[:, None]  # (B, 1)
    own = output.gather(1, column)  # (B, 1)
    earlier = torch.arange(output.shape[1], device=output.device) < column  # (B, C)
    ahead = (output > own) | ((output == own) & earlier)
    return (ahead.sum(1) < 5) & known & ~own[:, 0].isnan()
