"""What is wrong with the input ends in one clear error, and what was learned stays usable."""

from __future__ import annotations

import copy
import logging
import re
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from tiny import (
    QUICK_CARE,
    Predictions,
    snapshot,
    tiny_benchmark,
    tiny_care,
    tiny_images,
    tiny_strategy,
    tiny_vit,
    with_targets,
)
from torch import Tensor

from avalanche_care import CaREConfig, CaREStrategy
from avalanche_care.benchmarks import CILBenchmark
from avalanche_care.losses import NonFiniteLossError
from avalanche_care.nn import BRMoEConfig, CaREModel
from avalanche_care.strategies.registry import available_methods, get_method

METHODS = sorted(available_methods())
every_method = pytest.mark.parametrize("method", METHODS)


def with_classes(experience: Any, classes: list[int]) -> Any:
    """The experience, claiming to have other classes."""
    other = copy.copy(experience)
    other.classes_in_this_experience = classes
    return other


def empty(experience: Any) -> Any:
    other = copy.copy(experience)
    other._dataset = experience.dataset.subset([])
    return other


@every_method
def test_empty_experience(method: str, benchmark: CILBenchmark) -> None:
    strategy = tiny_strategy(method)
    with pytest.raises(ValueError, match="experience 0 is empty: expected at least one training"):
        strategy.train(empty(benchmark.train_stream[0]))
    assert strategy.task == -1
    strategy.train(benchmark.train_stream[0])  # the failure left nothing behind
    assert strategy.task == 0


def test_label_outside_the_protocol() -> None:
    data = tiny_images(6)
    data.targets[3] = 6  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"training set has labels outside \[0, 6\).*: 6"):
        tiny_benchmark(train=data)


@every_method
@pytest.mark.parametrize(
    "announced", [0, 1]
)  # the other label is above or below all that are known
def test_label_that_the_experience_does_not_announce(
    method: str, announced: int, benchmark: CILBenchmark
) -> None:
    start = LastGood()
    strategy = tiny_strategy(method, plugins=[start])
    other = 1 - announced
    with pytest.raises(ValueError, match=rf"labels \[{other}\] are not among the 1 classes"):
        strategy.train(with_classes(benchmark.train_stream[0], [announced]))
    assert_same(start.state, snapshot(strategy.model))


@pytest.mark.parametrize("method", ["care", "finetune"])
def test_label_of_an_earlier_experience(method: str) -> None:
    """CaRE's loss has no place for it; fine-tuning has, as replay would need it."""
    data = tiny_images(6)
    benchmark = tiny_benchmark(train=data)
    strategy = tiny_strategy(method)
    strategy.train(benchmark.train_stream[0])
    second = benchmark.train_stream[1]
    both = copy.copy(second)
    both._dataset = second.dataset.concat(benchmark.train_stream[0].dataset)
    if method == "finetune":
        strategy.train(both)
        return
    with pytest.raises(ValueError, match=r"experience \[2, 3\], got \[[01, ]+\] of earlier ones"):
        strategy.train(both)
    strategy.train(second)  # the same experience goes on
    assert strategy.task == 1


@pytest.mark.parametrize(
    "method", ["care", "simplecil", "aper-adapter", "ease", "ranpac", "fsa", "fetril", "slda"]
)
def test_announced_class_without_images(method: str, benchmark: CILBenchmark) -> None:
    """A class mean of nothing would be NaN, or a random row that images are compared with."""
    strategy = tiny_strategy(method)
    with pytest.raises(ValueError, match=r"(column 2 has|classes \[2\] have) no training images"):
        strategy.train(with_classes(benchmark.train_stream[0], [0, 1, 2]))


@every_method
def test_class_in_two_experiences(method: str, benchmark: CILBenchmark) -> None:
    strategy = tiny_strategy(method)
    strategy.train(benchmark.train_stream[0])
    before = snapshot(strategy.model)
    with pytest.raises(ValueError, match=r"classes \[1\] were learned in an earlier experience"):
        strategy.train(with_classes(benchmark.train_stream[1], [1, 2, 3]))
    assert_same(before, snapshot(strategy.model))
    strategy.train(benchmark.train_stream[1])
    assert strategy.model.head.labels.tolist() == [0, 1, 2, 3]


@every_method
def test_the_same_experience_twice(method: str, benchmark: CILBenchmark) -> None:
    strategy = tiny_strategy(method)
    strategy.train(benchmark.train_stream[:2])
    before = snapshot(strategy.model)
    for task in (0, 1):
        with pytest.raises(ValueError, match=f"learned already, as task {task}: train on each onc"):
            strategy.train(benchmark.train_stream[task])
    assert_same(before, snapshot(strategy.model))


@every_method
def test_evaluation_before_training(method: str, benchmark: CILBenchmark) -> None:
    strategy = tiny_strategy(method)
    with pytest.raises(RuntimeError, match=r"nothing has been learned yet.*strategy\.train"):
        strategy.eval(benchmark.test_stream)
    strategy.train(benchmark.train_stream[0])
    strategy.eval(benchmark.test_stream[:1])


@every_method
def test_evaluation_on_unseen_classes(
    method: str, benchmark: CILBenchmark, caplog: pytest.LogCaptureFixture
) -> None:
    predictions = Predictions()
    strategy = tiny_strategy(method, plugins=[predictions])
    strategy.train(benchmark.train_stream[0])
    with caplog.at_level(logging.WARNING, logger="avalanche_care"):
        strategy.eval(benchmark.test_stream[:1])
    assert not caplog.records
    right = predictions.correct
    assert right > 0
    with caplog.at_level(logging.WARNING, logger="avalanche_care"):
        strategy.eval(benchmark.test_stream)
    (record,) = caplog.records
    assert "evaluating 4 classes that have not been learned yet" in record.getMessage()
    assert "[2, 3, 4, 5]" in record.getMessage()
    assert (predictions.correct, predictions.total) == (right, 36)
    assert all(torch.isfinite(torch.tensor(predictions.losses)))


class LastGood(SupervisedPlugin[Any], supports_distributed=False):
    """The state after the last optimizer step."""

    def __init__(self) -> None:
        super().__init__()
        self.state: dict[str, Tensor] = {}

    def phase_start(self, strategy: Any) -> None:
        self.state = snapshot(strategy.model)

    def after_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.state = snapshot(strategy.model)


@pytest.mark.parametrize(("task", "amp"), [(0, "none"), (1, "none"), (1, "float16")])
def test_nan_loss(task: int, amp: str) -> None:
    data = tiny_images(6)
    images, good = data.tensors[0], data.tensors[0].clone()
    last = LastGood()
    benchmark = tiny_benchmark(train=data)
    strategy = tiny_care(plugins=[last], amp=amp, batch_size=2)
    for experience in benchmark.train_stream[:task]:
        strategy.train(experience)
    mine = benchmark.train_stream[task].dataset
    bad = images.eq(mine[5][0]).flatten(1).all(1).nonzero().item()
    label = mine[5][1]
    images[bad, 0, 3, 3] = torch.nan
    with pytest.raises(NonFiniteLossError) as caught:
        strategy.train(benchmark.train_stream[task])
    message = str(caught.value)
    phase = "training" if task == 0 else "phase 1"
    found = re.search(
        rf"the loss is nan in experience {task}, phase '{phase}', epoch 0 of the experience, "
        r"iteration (\d) \(labels \[(\d, \d)\]\)",
        message,
    )
    assert found, message
    assert str(label) in found[2]
    parameters = dict(strategy.model.named_parameters())
    for name, value in parameters.items():
        assert torch.isfinite(value).all(), name
        # The released EMA rule has moved the shared expert for this very forward pass already.
        if not (task and ".shared." in name):
            assert torch.equal(value, last.state[name]), name

    images.copy_(good)
    strategy.train(benchmark.train_stream[task])  # the same experience goes on
    assert strategy.task == task
    strategy.train(benchmark.train_stream[task + 1])
    assert strategy.task == task + 1
    strategy.eval(benchmark.seen_stream[task + 1])


def test_nan_loss_of_the_linear_head() -> None:
    data = tiny_images(6)
    data.tensors[0][::2] = torch.inf
    with pytest.raises(NonFiniteLossError, match=r"Lower the learning rate, or look for NaN"):
        tiny_strategy("finetune").train(tiny_benchmark(train=data).train_stream[0])


def test_nan_image_of_a_method_without_loss(benchmark: CILBenchmark) -> None:
    data = tiny_images(6)
    data.tensors[0][0, 0, 0, 0] = torch.nan
    with pytest.raises((NonFiniteLossError, ValueError)):
        tiny_strategy("simplecil").train(tiny_benchmark(train=data).train_stream)


def test_another_experience_cannot_replace_an_unfinished_one(benchmark: CILBenchmark) -> None:
    strategy = tiny_care(lr=1e30)
    with pytest.raises(NonFiniteLossError):
        strategy.train(benchmark.train_stream[0])
    with pytest.raises(ValueError, match=r"task 0 has classes \[0, 1\], got \[2, 3\].*broken off"):
        strategy.train(benchmark.train_stream[1])


@every_method
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 24, 24), "expected images of 16x16 pixels, got 24x24. Resize them"),
        ((1, 16, 16), r"expected 3 channels, got shape .*Turn grey-scale into colour"),
    ],
    ids=["size", "grey"],
)
def test_images_of_another_shape(method: str, shape: tuple[int, int, int], message: str) -> None:
    data = tiny_images(6, shape=shape)
    strategy = tiny_strategy(method)
    with pytest.raises(ValueError, match=message):
        strategy.train(tiny_benchmark(train=data, test=data).train_stream[0])
    good = tiny_benchmark()
    strategy.train(good.train_stream[0])
    with pytest.raises(ValueError, match=message):
        strategy.eval(tiny_benchmark(train=data, test=data).test_stream[:1])
    strategy.eval(good.test_stream[:1])


def test_config_that_disagrees_with_the_model() -> None:
    config = CaREConfig(**QUICK_CARE)
    for model in (
        CaREModel(tiny_vit(), BRMoEConfig(bottleneck=3)),
        CaREModel(tiny_vit(), config.brmoe, scale=10.0),
    ):
        with pytest.raises(ValueError, match=r"the model has .* and scale .*make them agree"):
            CaREStrategy(model=model, config=config, evaluator=None)
    CaREStrategy(model=CaREModel(tiny_vit(), config.brmoe), config=config, evaluator=None)


def test_settings_of_a_model_given_without_config() -> None:
    model = CaREModel(tiny_vit(), BRMoEConfig(bottleneck=3), scale=10.0)
    strategy = CaREStrategy(model=model, evaluator=None)
    assert strategy.config.brmoe == model.config
    assert strategy.config.scale == 10.0
    assert strategy.alignment.scale == 10.0


def test_no_epochs_are_refused() -> None:
    with pytest.raises(ValueError, match="train_epochs must be at least 1, got 16 and 0"):
        CaREStrategy(model=tiny_vit(), train_epochs=0, evaluator=None)


def test_settings_are_reported_all_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"FinetuneConfig cannot be used:\n- epochs must .*\n- lr must .*got -1"
    ):
        get_method("finetune").config(epochs=0, lr=-1)
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        get_method("simplecil").config(batch_size=0)


def test_method_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="no method 'simplecill'; did you mean 'simplecil'"):
        get_method("simplecill")
    with pytest.raises(ValueError, match=r"no method 'xyz'; expected one of \['aper-adapter'"):
        get_method("xyz")


def test_data_that_lack_a_class() -> None:
    few = tiny_images(6)
    keep = few.tensors[1] != 4
    with pytest.raises(ValueError, match=r"without a training image: 4"):
        tiny_benchmark(train=with_targets(few.tensors[0][keep], few.tensors[1][keep]))


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0, msg=name)
