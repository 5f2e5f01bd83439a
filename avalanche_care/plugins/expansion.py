"""Growing a model before the optimizer is built."""

from __future__ import annotations

from typing import Any

from avalanche.core import SupervisedPlugin


class ExpansionPlugin(SupervisedPlugin[Any]):
    """Let the model grow by the classes of every new experience.

    Runs in ``before_train_dataset_adaptation``: later, in ``before_training_exp``, the optimizer
    exists already and new parameters would not be trained. Nothing grows at evaluation.

    Works with any strategy whose model has ``expand(task, classes)``, Avalanche's ``Naive``
    included.
    """

    def before_train_dataset_adaptation(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Expand the model to the experience that is about to be trained."""
        classes = strategy.experience.classes_in_this_experience
        strategy.model.expand(strategy.clock.train_exp_counter, sorted(classes))


class TripletExpansionPlugin(ExpansionPlugin):
    """Add an expert, a router and a class perceptron per block, and head rows, per experience.

    CaRE's growth (arXiv 2602.03473, section 3.2), for a model that is a
    :class:`avalanche_care.nn.CaREModel`.
    """
