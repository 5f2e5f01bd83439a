"""The released training procedure, step by step, on four tiny tasks (format in tests/data)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from golden import assert_close, metadata, small_vit, tensors, under
from torch import Tensor
from torch.utils.data import TensorDataset

from avalanche_care import CaREConfig, CaREStrategy
from avalanche_care.benchmarks import CILBenchmark, Protocol, class_incremental
from avalanche_care.nn import BRMoE, BRMoEConfig, CaREModel

FILE = "training_trajectory"
PARTS = ("expert", "router", "perceptron")


class Trajectory(SupervisedPlugin[Any], supports_distributed=False):
    """Starts each task at the recorded values and keeps every loss and learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[list[float]] = []
        self.lrs: list[list[float]] = []

    def before_training_exp(self, strategy: CaREStrategy, *args: Any, **kwargs: Any) -> None:
        task = strategy.task
        init = under(f"task{task}.init", tensors(FILE))
        for i, layer in enumerate(strategy.model.layers()):
            own = under(f"block{i}", init)
            for part in (*PARTS, "shared") if task == 0 else PARTS:
                module = getattr(layer, part)
                if part == "expert" and task >= 2:  # not copied: ours must start there by itself
                    for name, value in under("expert", own).items():
                        assert_close(module.get_parameter(name), value, relative=1e-4, what=name)
                    continue
                module.load_state_dict(under(part, own))
        with torch.no_grad():
            strategy.model.head.weight[-len(init["classifier"]) :] = init["classifier"]
        self.losses.append([])
        self.lrs.append([])
        expected = under(f"task{task}", tensors(FILE))
        x, y = expected["images"].split(4), expected["labels"].split(4)
        # The benchmark groups images by class; the recording took them in stored order.
        strategy.dataloader = [(*batch, torch.zeros(4)) for batch in zip(x, y, strict=True)]

    def after_training_iteration(self, strategy: CaREStrategy, *args: Any, **kwargs: Any) -> None:
        self.losses[-1].append(strategy.loss.item())
        self.lrs[-1].append(strategy.optimizer.param_groups[0]["lr"])


@pytest.fixture
def case() -> dict[str, Any]:
    meta: dict[str, Any] = metadata(FILE, "meta")
    return meta


def benchmark_of(case: dict[str, Any]) -> CILBenchmark:
    everything = tensors(FILE)
    images = torch.cat([everything[f"task{task}.images"] for task in range(4)])
    labels = torch.cat([everything[f"task{task}.labels"] for task in range(4)])
    dataset = TensorDataset(images, labels)
    dataset.targets = labels.tolist()  # type: ignore[attr-defined]
    first, later = case["task_classes"][:2]
    protocol = Protocol(first, later, n_classes=len(set(labels.tolist())), class_order_seed=None)
    return class_incremental(dataset, dataset, protocol, name="trajectory")


def test_training_trajectory(case: dict[str, Any]) -> None:
    config = CaREConfig(
        brmoe=BRMoEConfig(
            bottleneck=case["expert_dim"],
            shared_bottleneck=case["shared_dim"],
            top_m=case["top_m"],
            top_k=case["top_k"],
            dropout=case["dropout"],
        ),
        epochs=case["epochs"],
        lr=case["lr"],
        batch_size=case["batch_size"],
        momentum=case["momentum"],
        weight_decay=case["weight_decay"],
        scale=case["scale"],
        margin=case["margin"],
        ema_decay=case["ema_momentum"],
        alignment_epochs=0,
    )
    everything = tensors(FILE)
    recorder = Trajectory()
    backbone = small_vit(case, under("timm", everything))
    strategy = CaREStrategy(model=backbone, config=config, plugins=[recorder], evaluator=None)
    for task, experience in enumerate(benchmark_of(case).train_stream):
        strategy.train(experience)
        expected = under(f"task{task}", everything)
        assert_close(torch.tensor(recorder.lrs[task]).double(), expected["lrs"], relative=1e-7)
        assert_close(torch.tensor(recorder.losses[task]), expected["losses"], relative=1e-4)
        check_parameters(strategy, under("final", expected))
        check_features(strategy.model, expected["images"], expected["final.features"])


def check_parameters(strategy: CaREStrategy, final: dict[str, Tensor]) -> None:
    assert_close(strategy.model.head.weight, final.pop("classifier"), relative=1e-4)
    final.pop("features")
    assert len(final) > 100
    for name, value in final.items():
        block, _, rest = name.partition(".")
        ours = strategy.model.blocks[int(block.removeprefix("block"))].get_parameter(rest)
        assert_close(ours, value, relative=1e-4, what=name)


def check_features(model: CaREModel, images: Tensor, expected: Tensor) -> None:
    """Compare; a sample that is off must owe it to a routing decision that rounding can flip."""
    model.eval()
    precise = copy.deepcopy(model).double()
    margins = [decision_margins(layer) for layer in precise.layers()]
    with torch.no_grad():
        features = model.features(images)
        exact = precise.features(images.double())
    assert_close(exact, expected.double(), relative=1e-4, what="evaluated in float64")
    error = (features - expected).abs().amax(1) / expected.abs().max()  # (B,)
    narrowest = torch.stack([m[0] for m in margins]).amin(0)  # (B,) over blocks
    off = error > 1e-4
    assert off.sum() <= 1
    assert (narrowest[off] < 1e-6).all(), f"margins {narrowest[off]} of samples {off.nonzero()}"


def decision_margins(layer: BRMoE) -> list[Tensor]:
    """Make a layer note, per sample, by how little a router or an expert missed being selected."""
    found: list[Tensor] = []
    routing = layer.routing
    entropies, scores = routing.entropies, routing.scores

    def noting_entropies(*args: Any) -> Tensor:
        out = entropies(*args)  # (B, T)
        found.append(gap(-out, layer.config.top_m))
        return out

    def noting_scores(*args: Any) -> Tensor:
        out = scores(*args)  # (B, M, T), and again of those selected
        found[0] = torch.minimum(found[0], gap(out, layer.config.top_k).amin(1))
        return out

    routing.entropies, routing.scores = noting_entropies, noting_scores  # type: ignore[method-assign]
    return found


def gap(values: Tensor, k: int) -> Tensor:
    """Difference between the k-th and the (k + 1)-th largest entry of the last axis."""
    if values.shape[-1] <= k:
        return values.new_full(values.shape[:-1], torch.inf)
    best = values.topk(k + 1).values
    return torch.where(best[..., -1].isinf(), torch.inf, best[..., -2] - best[..., -1])
