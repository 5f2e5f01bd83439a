"""A ViT of width 16, images of 16 x 16 pixels, and strategies on them that train in no time."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.utils.data import TensorDataset

from avalanche_care import CaREConfig, CaREStrategy
from avalanche_care.benchmarks import CILBenchmark, Protocol, class_incremental
from avalanche_care.nn import BRMoEConfig, FrozenViT
from avalanche_care.strategies.registry import get_method

SHAPE = (3, 16, 16)
QUICK_CARE: dict[str, Any] = {
    "brmoe": BRMoEConfig(bottleneck=4, shared_bottleneck=6),
    "epochs": 2,
    "lr": 0.002,
    "batch_size": 8,
    "alignment_epochs": 1,
}

QUICK: dict[str, dict[str, Any]] = {
    "care": QUICK_CARE,
    "ease": {"epochs": 2, "rows": 1000},  # all adapters at once, so that calls do not grow
    "l2p": {"epochs": 6, "lr": 0.05, "batch_size": 4, "pool": 6, "length": 2, "top_k": 3},
    "dualprompt": {
        "epochs": 6,
        "lr": 0.05,
        "batch_size": 4,
        "general_blocks": (0,),
        "expert_blocks": (1,),
    },
    "coda-prompt": {
        "epochs": 8,
        "lr": 0.05,
        "batch_size": 4,
        "blocks": (0, 1),
        "components_per_task": 2,
    },
    "ranpac": {"epochs": 2, "projection": 64},
    "joint": {"epochs": 6, "lr": 0.02, "batch_size": 4},
    "replay": {"epochs": 6, "lr": 0.05, "batch_size": 4, "memory": 7},
    "lwf": {"epochs": 6, "lr": 0.05, "batch_size": 4},
    "ewc": {"epochs": 6, "lr": 0.05, "batch_size": 4, "ewc_lambda": 10.0},
}
"""What a method needs to learn the tiny images on the tiny ViT; the others are quick anyway."""


def quick_settings(name: str) -> dict[str, Any]:
    """Settings of any method with which it trains in no time."""
    known = {field.name for field in fields(get_method(name).config)}
    return QUICK.get(name, {"epochs": 2} if "epochs" in known else {})


def tiny_vit(seed: int = 0, *, depth: int = 2) -> FrozenViT:
    """Random weights, the same at every call; the global random state is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vit = VisionTransformer(
            img_size=16, patch_size=8, embed_dim=16, depth=depth, num_heads=2, num_classes=0
        )
        with torch.no_grad():  # timm's initial values are too small for the features to differ
            for parameter in vit.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(4.0)
    return FrozenViT(vit)


def tiny_images(
    n_classes: int, per_class: int = 6, *, split: int = 0, shape: tuple[int, int, int] = SHAPE
) -> TensorDataset:
    """A random image per class plus noise; ``split`` changes the noise only."""
    means = torch.randn(n_classes, *shape, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(n_classes).repeat_interleave(per_class)
    noise = torch.Generator().manual_seed(100 + split)
    images = means[labels] + 0.1 * torch.randn(len(labels), *shape, generator=noise)
    return with_targets(images, labels)


def with_targets(images: Tensor, labels: Tensor) -> TensorDataset:
    """A data set that says which labels it has, as torchvision's do."""
    dataset = TensorDataset(images, labels)
    dataset.targets = labels.tolist()  # type: ignore[attr-defined]
    return dataset


def tiny_benchmark(
    protocol: str = "B0-Inc2",
    n_classes: int = 6,
    *,
    train: TensorDataset | None = None,
    test: TensorDataset | None = None,
) -> CILBenchmark:
    """Six images per class and split, unless data are given."""
    return class_incremental(
        train or tiny_images(n_classes),
        test or tiny_images(n_classes, split=1),
        Protocol.parse(protocol, n_classes=n_classes),
        name="tiny",
    )


def tiny_care(
    *, plugins: list[Any] | None = None, eval_mb_size: int = 64, **config: Any
) -> CaREStrategy:
    """CaRE on the tiny ViT."""
    return CaREStrategy(
        model=tiny_vit(),
        config=CaREConfig(**{**QUICK_CARE, **config}),
        plugins=plugins,
        eval_mb_size=eval_mb_size,
        evaluator=None,
    )


def tiny_strategy(name: str, **kwargs: Any) -> Any:
    """Any registered method on the tiny ViT, with short training."""
    method = get_method(name)
    config = method.config(**quick_settings(name))
    kwargs = {"evaluator": None, "eval_mb_size": 64, **kwargs}
    return method.strategy(model=tiny_vit(), config=config, **kwargs)


class Predictions(SupervisedPlugin[Any], supports_distributed=False):
    """Keeps every output of an evaluation by the image it belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[bytes, Tensor] = {}
        self.correct = self.total = 0
        self.losses: list[float] = []

    def before_eval(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.__init__()  # type: ignore[misc]

    def after_eval_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        for image, output in zip(strategy.mb_x, strategy.mb_output, strict=True):
            self.outputs[image.numpy().tobytes()] = output.clone()
        self.correct += int((strategy.mb_output.argmax(1) == strategy.mb_y).sum())
        self.total += len(strategy.mb_y)
        self.losses.append(strategy.loss.item())

    @property
    def accuracy(self) -> float:
        return self.correct / self.total


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of everything in a module's state."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
