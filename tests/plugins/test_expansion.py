"""Growth on strategies that are not ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.supervised import Naive
from tiny import QUICK_CARE, Predictions, snapshot, tiny_benchmark, tiny_vit
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_care.nn import CaREModel
from avalanche_care.plugins import (
    ClassifierAlignmentPlugin,
    SharedExpertEMAPlugin,
    TripletExpansionPlugin,
)


class CurrentColumns(nn.Module):
    """Cross-entropy over the newest task's columns."""

    def __init__(self, model: CaREModel) -> None:
        super().__init__()
        self.head = [model.head]

    def forward(self, output: Tensor, labels: Tensor) -> Tensor:
        (head,) = self.head
        if not torch.is_grad_enabled():
            return F.cross_entropy(output, labels)
        first = int(head.classes_of(head.tasks - 1)[0])
        return F.cross_entropy(output[:, first:], labels - first)


class Moves(SupervisedPlugin[Any], supports_distributed=False):
    """Notes the trainable parameters before an experience's first step and after its last."""

    def __init__(self) -> None:
        super().__init__()
        self.old: dict[str, Tensor] = {}
        self.new: dict[str, Tensor] = {}
        self.optimized: set[int] = set()

    def own(self, strategy: Any) -> dict[str, Tensor]:
        named = strategy.model.named_parameters()
        return {name: p.detach().clone() for name, p in named if p.requires_grad}

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.old = self.own(strategy)
        groups = strategy.optimizer.param_groups
        self.optimized = {id(p) for group in groups for p in group["params"]}

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.new = self.own(strategy)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_our_plugins_on_naive(optimizer: str) -> None:
    torch.manual_seed(0)
    model = CaREModel(tiny_vit(), QUICK_CARE["brmoe"])
    backbone = snapshot(model.backbone)
    moves, predictions = Moves(), Predictions()
    maker = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    strategy = Naive(
        model=model,
        optimizer=maker(model.parameters(), lr=0.005),
        criterion=CurrentColumns(model),
        train_mb_size=4,
        train_epochs=12,
        eval_mb_size=16,
        plugins=[
            moves,
            predictions,
            TripletExpansionPlugin(),
            SharedExpertEMAPlugin(),
            ClassifierAlignmentPlugin(automatic=True, epochs=5, lr=0.05),
        ],
        evaluator=None,
    )
    benchmark = tiny_benchmark()
    moved: set[str] = set()
    for task, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        assert model.tasks == task + 1
        trainable = {id(p) for p in model.parameters() if p.requires_grad}
        assert trainable <= moves.optimized
        moved |= {n for n, v in moves.old.items() if not torch.equal(v, moves.new[n])}
        assert not torch.equal(moves.old["head.weight"], moves.new["head.weight"])
        strategy.eval(benchmark.seen_stream[task])
        assert predictions.total == 12 * (task + 1)
        assert model.tasks == task + 1
    # Over all experiences: by chance, none of an expert's four units may react to two classes.
    parts = ("expert.scale", "expert.down.weight", "router.weight")
    assert {f"blocks.{block}.{part}" for block in (0, 1) for part in parts} <= moved
    assert predictions.accuracy >= 0.8  # chance is 1 / 6
    for name, value in backbone.items():
        assert torch.equal(value, model.backbone.state_dict()[name]), name


def test_the_same_experience_twice_on_naive() -> None:
    model = CaREModel(tiny_vit(), QUICK_CARE["brmoe"])
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        criterion=nn.CrossEntropyLoss(),
        plugins=[TripletExpansionPlugin()],
        evaluator=None,
    )
    benchmark = tiny_benchmark()
    strategy.train(benchmark.train_stream[0])
    with pytest.raises(ValueError, match="learned already, as task 0"):
        strategy.train(benchmark.train_stream[0])
