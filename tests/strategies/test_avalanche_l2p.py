"""Avalanche's own L2P: broken without the shim, itself with it, and where it differs from ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.supervised import LearningToPrompt
from timm.models.vision_transformer import VisionTransformer
from tiny import Predictions, tiny_vit
from torch import Tensor

from avalanche_care.benchmarks import CILBenchmark
from avalanche_care.nn import FrozenViT, L2PModel
from avalanche_care.nn.weights import state_sha256
from avalanche_care.plugins import silent_evaluator
from avalanche_care.strategies import L2PConfig, L2PStrategy, learning_to_prompt
from avalanche_care.strategies.avalanche_l2p import NAME, avalanche_models

LEARNED = {"prompt.prompt", "prompt.prompt_key", "head.weight", "head.bias"}


def small(backbone: FrozenViT | None = None, *plugins: Any, **options: Any) -> LearningToPrompt:
    """Avalanche's L2P with six classes, few prompts and short training."""
    settings = {"pool_size": 6, "prompt_length": 2, "top_k": 3, "lr": 0.05, **options}
    return learning_to_prompt(
        backbone or tiny_vit(),
        num_classes=6,
        train_mb_size=4,
        train_epochs=6,
        eval_mb_size=64,
        plugins=list(plugins),
        evaluator=silent_evaluator(),
        **settings,
    )


def vit(**arguments: Any) -> FrozenViT:
    """A ViT of one block, for images of 16 x 16 pixels, with no parameter at its usual start."""
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "num_heads": 2, "depth": 1}
    made = VisionTransformer(**{**sizes, "num_classes": 0, **arguments})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return FrozenViT(made)


def images(benchmark: CILBenchmark) -> Tensor:
    """The test images of all classes, (B, 3, 16, 16)."""
    return torch.stack([image for image, *_ in benchmark.seen_stream[-1].dataset])


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_base_patch16_224"])
def test_without_the_shim_it_cannot_be_built(name: str, pretrained: bool) -> None:
    """If this fails, Avalanche or timm has mended it: see how much of the shim is still needed."""
    with pytest.raises(TypeError, match="'PretrainedCfg' object is not subscriptable"):
        LearningToPrompt(model_name=name, pretrained=pretrained, num_classes=6)


def test_its_head_is_as_wide_as_that_of_a_base_vit_whatever_the_model() -> None:
    """The second reason for the shim; the model is the one that Avalanche tests its L2P with."""
    strategy = LearningToPrompt(
        model_name="simpleMLP",
        num_classes=6,
        use_cls_features=False,
        use_vit=False,
        evaluator=silent_evaluator(),
    )
    assert strategy.model.head.in_features == 768


def test_it_learns_and_only_its_own_parts_move(benchmark: CILBenchmark) -> None:
    backbone, predictions = tiny_vit(), Predictions()
    given = state_sha256(backbone)
    strategy = small(backbone, predictions)
    assert type(strategy) is LearningToPrompt
    before = {name: value.clone() for name, value in strategy.model.state_dict().items()}
    assert before.keys() > LEARNED
    strategy.train(benchmark.train_stream[0])
    strategy.eval(benchmark.test_stream[0])
    assert predictions.accuracy >= 0.9
    for experience in benchmark.train_stream[1:]:
        strategy.train(experience)
    for name, value in strategy.model.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in LEARNED), name
    assert {n for n, p in strategy.model.named_parameters() if p.requires_grad} == LEARNED
    assert state_sha256(backbone) == given
    assert not any(module.training for module in backbone.modules())


@pytest.mark.parametrize(
    "arguments",
    [
        *({"embed_dim": 64 * heads, "num_heads": heads} for heads in (2, 3, 6, 12)),
        {"init_values": 0.1},
        {"qkv_bias": False, "patch_size": 4},
        {"num_classes": 5},
    ],
    ids=["micro", "tiny", "small", "base", "layer scale", "small patches", "classifier"],
)
def test_it_has_the_given_backbone(arguments: dict[str, Any], benchmark: CILBenchmark) -> None:
    backbone = vit(**arguments)
    strategy = small(backbone)
    x = images(benchmark)
    with torch.no_grad():
        assert torch.equal(strategy.original_vit(x)["pre_logits"], backbone(x))
    assert strategy.model.blocks is strategy.original_vit.blocks  # one copy for both
    strategy.train_epochs = 1
    strategy.train(benchmark.train_stream[0])
    strategy.eval(benchmark.test_stream[0])
    assert torch.isfinite(strategy.model.head.weight).all()


def test_with_the_same_parameters_it_computes_what_ours_does(benchmark: CILBenchmark) -> None:
    backbone = tiny_vit()
    strategy = small(backbone)
    strategy.train(benchmark.train_stream)
    ours = L2PModel(backbone, pool=6, length=2, top_k=3)
    ours.expand(0, range(6))
    copy_parameters(strategy.model, ours)
    x = images(benchmark)
    strategy.model.eval()
    with torch.no_grad():
        query = strategy.original_vit(x)["pre_logits"]
        theirs, found = strategy.model(x, cls_features=query), ours.prompted(x)
        torch.testing.assert_close(theirs["logits"], ours(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(theirs["prompt_idx"], found.chosen)
    assert theirs["reduce_sim"].item() == pytest.approx(found.match.item(), rel=1e-5)


def copy_parameters(theirs: Any, ours: L2PModel) -> None:
    with torch.no_grad():
        ours.prompts.copy_(theirs.prompt.prompt)
        ours.keys.copy_(theirs.prompt.prompt_key)
        ours.head.weight.copy_(theirs.head.weight[: ours.head.n_classes])
        ours.head.bias.copy_(theirs.head.bias[: ours.head.n_classes])


class SameRows(SupervisedPlugin[Any], supports_distributed=False):
    """Gives new rows of our head the initial values that theirs have."""

    def __init__(self, rows: Any) -> None:
        super().__init__()
        self.weight, self.bias = rows.weight.detach().clone(), rows.bias.detach().clone()

    def phase_start(self, strategy: Any) -> None:
        head, new = strategy.model.head, strategy.allowed_columns
        with torch.no_grad():
            head.weight[new], head.bias[new] = self.weight[new], self.bias[new]


class SameBatches(SupervisedPlugin[Any], supports_distributed=False):
    """An order of the images per epoch, whatever was drawn before."""

    def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        torch.manual_seed(strategy.clock.train_exp_epochs)


def test_from_the_same_start_it_learns_what_ours_does(benchmark: CILBenchmark) -> None:
    """So initial values, defaults and the classes that are predicted are all that differs."""
    theirs = small(None, SameBatches(), lr=0.01)
    config = {"pool": 6, "length": 2, "top_k": 3, "lr": 0.01, "batch_size": 4, "epochs": 6}
    ours = L2PStrategy(
        model=tiny_vit(),
        config=L2PConfig(**config),
        plugins=[SameBatches(), SameRows(theirs.model.head)],
        evaluator=None,
    )
    copy_parameters(theirs.model, ours.model)
    for strategy in (theirs, ours):
        strategy.train(benchmark.train_stream)
    model: Any = theirs.model
    for one, other in (
        (model.prompt.prompt, ours.model.prompts),
        (model.prompt.prompt_key, ours.model.keys),
        (model.head.weight, ours.model.head.weight),
        (model.head.bias, ours.model.head.bias),
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_its_prompts_per_task_do_not_work(benchmark: CILBenchmark) -> None:
    strategy = small(use_prompt_mask=True, train_prompt_mask=True)
    with pytest.raises(TypeError, match=r"arange\(\)"):
        strategy.train(benchmark.train_stream[0])


def test_all_defaults_are_avalanches() -> None:
    strategy = learning_to_prompt(tiny_vit(), num_classes=6, evaluator=silent_evaluator())
    pool: Any = strategy.model.prompt
    assert (pool.pool_size, pool.length, pool.top_k) == (20, 5, 5)
    assert pool.prompt.shape == (20, 5, 16)
    assert strategy.sim_coefficient == 0.1
    assert strategy.optimizer.defaults["lr"] == 0.03
    assert type(strategy.optimizer) is torch.optim.Adam
    sizes = (strategy.train_mb_size, strategy.eval_mb_size, strategy.train_epochs)
    assert sizes == (1, 1, 1)
    values = pool.prompt.detach()
    assert -1 <= values.min() < -0.9
    assert 0.9 < values.max() < 1


def test_it_predicts_classes_to_come(benchmark: CILBenchmark) -> None:
    """Why it is no registered method: those have a column per class seen, and refuse bad labels."""
    predictions = Predictions()
    strategy = small(None, predictions)
    with torch.no_grad():
        strategy.model.head.bias[5] = 1e3  # no gradient ever comes here before the last task
    strategy.train(benchmark.train_stream[0])
    strategy.eval(benchmark.test_stream[0])
    outputs = torch.stack(list(predictions.outputs.values()))
    assert outputs.shape[1] == 6
    assert (outputs.argmax(1) == 5).all()
    strategy.train(benchmark.train_stream[0])  # the same classes again: no error


@pytest.mark.parametrize(
    "arguments",
    [
        {"reg_tokens": 2},
        {"global_pool": "avg"},
        {"global_pool": "avg", "fc_norm": False},
        {"global_pool": "avg", "class_token": False},
        {"no_embed_class": True},
        {"pre_norm": True},
        {"img_size": (16, 32)},
        {"pos_embed": "none"},
        {"fc_norm": True},
    ],
    ids=str,
)
def test_a_vit_that_it_would_compute_otherwise_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Avalanche's L2P needs a plain ViT, and VisionTransforme"):
        small(vit(**arguments))


@pytest.mark.parametrize("name", ["drop_rate", "drop_path_rate"])
def test_dropout_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected no dropout, got .*{name}=0.1"):
        small(**{name: 0.1})


def test_nothing_is_left_in_avalanche() -> None:
    before = set(vars(avalanche_models))
    small()
    with pytest.raises(TypeError, match="pool_sice"):
        small(pool_sice=3)
    assert set(vars(avalanche_models)) == before
    assert NAME not in before
