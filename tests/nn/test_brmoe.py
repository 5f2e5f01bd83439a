"""The layer against a plain reference in float64, and what the method's description promises."""

from __future__ import annotations

import copy

import pytest
import torch
from brmoe_reference import Recorder, randomise
from golden import assert_close
from torch import nn

from avalanche_care.nn import Adapter, BRMoE, BRMoEConfig
from avalanche_care.nn.routing import select_routers

SMALL = {"bottleneck": 4, "shared_bottleneck": 6, "dropout": 0.0}


def grown(classes: list[int], dim: int = 24, **kwargs: object) -> Recorder:
    """A float64 layer with random weights everywhere, after ``len(classes)`` tasks."""
    torch.manual_seed(0)
    model = Recorder(BRMoE(dim, BRMoEConfig(**{**SMALL, **kwargs})).double())  # type: ignore[arg-type]
    if model.layer.shared is not None:
        randomise(model.layer.shared)
    for n in classes:
        model.expand(n)
        for part in (model.layer.expert, model.layer.router, model.layer.perceptron):
            randomise(part)
        model.keep()
    return model


SWITCHES: list[dict[str, object]] = [
    {},
    {"routing_input": "block"},
    {"perceptron_norm": False},
    {"routing_input": "block", "perceptron_norm": False, "normalised_entropy": True},
    {"normalised_entropy": True, "shared_bottleneck": 0},
]


def by_switch(switches: dict[str, object]) -> str:
    return "-".join(f"{k}={v}" for k, v in switches.items()) or "default"


@pytest.mark.parametrize("switches", SWITCHES, ids=by_switch)
@pytest.mark.parametrize(
    ("classes", "top_m", "top_k"),
    [
        ([5], 2, 3),
        ([1], 2, 3),
        ([1, 3, 4], 2, 3),
        ([7, 3, 3, 2], 2, 3),
        ([3, 5, 2, 4, 1], 3, 2),
        ([3] * 4, 9, 9),
        ([2] * 11, 2, 3),
        ([2] * 11, 1, 1),
        ([100, 6, 6, 5], 2, 3),
    ],
)
def test_equals_the_plain_reference(
    classes: list[int], top_m: int, top_k: int, switches: dict[str, object]
) -> None:
    model = grown(classes, top_m=top_m, top_k=top_k, **switches)
    h = torch.randn(6, 5, 24, dtype=torch.float64)
    tasks: list[int | None] = [None, *range(len(classes))]
    for task in tasks:
        expected, expected_logits = model(h, task)
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                out, logits = model.layer(h, task=task)
            assert_close(out, expected, relative=1e-12, what=f"task {task}")
            assert (logits is None) == (expected_logits is None)
            if logits is not None:
                assert_close(logits, expected_logits, relative=1e-12)


@pytest.mark.parametrize("switches", SWITCHES[:3], ids=by_switch)
@pytest.mark.parametrize("task", [None, 6])
def test_gradients_equal_the_plain_reference(task: int | None, switches: dict[str, object]) -> None:
    model = grown([4, 3, 3, 3, 3, 3, 2], **switches)
    newest = model.triplets[-1]
    h = torch.randn(6, 5, 24, dtype=torch.float64, requires_grad=True)
    out, logits = model(h, task)
    cotangent = torch.randn_like(out)
    loss = (out * cotangent).sum() + (0 if logits is None else logits.square().sum())
    layer = model.layer
    assert layer.shared is not None
    slow = [h, *newest[0].parameters(), *newest[1].parameters(), *layer.shared.parameters()]
    expected = torch.autograd.grad(loss, slow, allow_unused=True)
    out, logits = layer(h, task=task)
    loss = (out * cotangent).sum() + (0 if logits is None else logits.square().sum())
    fast = [h, *layer.expert.parameters(), *layer.router.parameters(), *layer.shared.parameters()]
    got = torch.autograd.grad(loss, fast, allow_unused=True)
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert_close(ours, theirs, relative=1e-11)


def test_fresh_layer_returns_exactly_zero() -> None:
    layer = BRMoE(24, BRMoEConfig(**SMALL))
    h = torch.randn(3, 5, 24)
    layer.expand(4)
    out, _ = layer(h, task=0)
    assert out.abs().max() == 0


def test_second_triplet_changes_the_output_only_through_the_old_expert() -> None:
    torch.manual_seed(0)
    layer = BRMoE(24, BRMoEConfig(**{**SMALL, "shared_bottleneck": 0}))
    h = torch.randn(3, 5, 24)
    layer.expand(4)
    randomise(layer.expert)
    old = layer.expert
    layer.expand(3)
    assert layer.expert(h).abs().max() == 0
    out, logits = layer(h, task=1)
    # Router 1 splits its mass of one over experts 0 and 1, router 0 gives expert 0 all of its own.
    first = (layer.router(layer.expert(h)[:, 0])).softmax(-1)[:, :1]  # (B, 1)
    assert_close(out, (1 + first)[..., None] * old(h), relative=1e-5)
    assert_close(logits, layer.perceptron.linear.bias.expand(3, -1), relative=1e-6)


@pytest.mark.parametrize(("top_m", "top_k"), [(1, 1), (2, 3), (3, 2), (5, 9)])
def test_gate_mass_and_reach(top_m: int, top_k: int) -> None:
    model = grown([3, 1, 4, 2, 5, 3, 3], top_m=top_m, top_k=top_k)
    layer = model.layer
    h = torch.randn(64, 3, 24, dtype=torch.float64)
    normalised = nn.functional.layer_norm(h, (24,), eps=1e-5)
    for task in (None, *range(7)):
        visible = 7 if task is None else task + 1
        gates, _, _ = layer._route(h[:, 0], normalised[:, 0], task, live=False)
        mass = 1 if visible == 1 else min(top_m, visible)
        torch.testing.assert_close(gates.sum(1), torch.full((64,), float(mass)).double())
        assert ((gates > 0).sum(1) <= top_m * top_k).all()
        assert gates.shape == (64, visible)


def test_selected_routers() -> None:
    entropies = torch.tensor([[0.3, 0.1, 0.5, 0.2], [0.2, 0.2, 0.1, 0.9]])
    for task, expected in ((None, [[1, 3], [2, 0]]), (3, [[3, 1], [3, 2]]), (0, [[0], [0]])):
        selected, use = select_routers(entropies, task, 2)
        assert selected.tolist() == expected
        assert use is None
    selected, use = select_routers(entropies, torch.tensor([3, 0]), 2)
    assert use is not None
    assert [selected[0].tolist(), use.tolist()] == [[3, 1], [[True, True], [True, False]]]
    assert selected[1, 0] == 0


def test_expert_initialisation_skips_the_previous_one() -> None:
    torch.manual_seed(0)
    layer = BRMoE(24, BRMoEConfig(**SMALL))  # type: ignore[arg-type]
    history: list[Adapter] = []
    for task in range(6):
        layer.expand(3)
        if task < 2:
            assert layer.expert.scale.abs().max() == 0
        else:
            for name, start in layer.expert.named_parameters():
                mean = torch.stack([e.get_parameter(name) for e in history[: task - 1]]).mean(0)
                assert_close(start, mean, relative=1e-5, what=f"task {task} {name}")
        randomise(layer.expert)
        history.append(copy.deepcopy(layer.expert))


def test_fresh_expert_initialisation() -> None:
    layer = BRMoE(24, BRMoEConfig(**SMALL, expert_init="fresh"))  # type: ignore[arg-type]
    for _ in range(4):
        layer.expand(3)
        assert layer.expert.scale.abs().max() == 0
        randomise(layer.expert)


def test_initial_values() -> None:
    torch.manual_seed(0)
    layer = BRMoE(768)
    layer.expand(10)
    assert layer.expert.down.weight.shape == (16, 768)
    assert layer.shared is not None
    assert layer.shared.down.weight.shape == (64, 768)
    gain = layer.perceptron.norm.weight
    assert abs(gain.mean().item()) < 0.003  # truncated normal around 0, not ones
    assert 0.018 < gain.std().item() < 0.022
    assert layer.perceptron.norm.bias.abs().max() == 0
    assert layer.perceptron.linear.bias.abs().max() > 0.001
    layer.expand(10)
    assert 0.018 < layer.router.weight.std().item() < 0.022
    assert layer.router.bias.abs().max() == 0


def test_parameter_count_of_the_paper() -> None:
    """100 tasks of 10 classes at ViT-B: 90,869,400 numbers in triplets, as table 6 rounds them."""
    layer = BRMoE(768)
    experts = routers = perceptrons = 0
    for task in range(100):
        layer._new_triplet(task + 1, 10)
        experts += count(layer.expert)
        routers += count(layer.router)
        perceptrons += count(layer.perceptron)
    assert (12 * experts, 12 * routers, 12 * perceptrons) == (33_196_800, 46_601_400, 11_071_200)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_size_does_not_grow_with_tasks() -> None:
    layer = BRMoE(24, BRMoEConfig(**SMALL))  # type: ignore[arg-type]
    layer.expand(3)
    layer.expand(3)
    modules, trainable = (
        len(list(layer.modules())),
        sum(p.requires_grad for p in layer.parameters()),
    )
    for _ in range(30):
        layer.expand(3)
    assert len(list(layer.modules())) == modules
    assert sum(p.requires_grad for p in layer.parameters()) == trainable


def test_only_selected_experts_run_on_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: multiply-adds on all tokens are the same at 12 tasks and at 48."""
    from torch.utils.flop_counter import FlopCounterMode

    def flops(tasks: int) -> int:
        model = grown([2] * tasks)
        h = torch.randn(4, 50, 24, dtype=torch.float64)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.layer(h)
        cls_only = 4 * 2 * tasks * 24 * 4  # (B, D) times (D, T r): every expert, one row
        return counter.get_total_flops() - cls_only

    few, many = flops(12), flops(48)
    on_all_tokens = 4 * 50 * 2 * 2 * 24 * (6 * 4 + 6)  # M K experts of width 4, shared of width 6
    assert few >= on_all_tokens
    assert many - few < 0.25 * on_all_tokens  # what is left grows on the CLS row only


def test_dropout_is_shared_by_routing_and_output() -> None:
    """With K = M = 1 and one expert, the CLS output must come from the mask the routing drew."""
    torch.manual_seed(0)
    layer = BRMoE(24, BRMoEConfig(bottleneck=8, shared_bottleneck=0, dropout=0.5)).train()
    layer.expand(3)
    randomise(layer.expert)
    h = torch.randn(200, 4, 24)
    out, logits = layer(h, task=0)
    assert_close(layer.perceptron(out[:, 0]), logits, relative=1e-4)
    tokens = layer.expert.eval()(h)
    assert not torch.allclose(out[:, 1], tokens[:, 1])
    assert_close(out.mean((0, 1)), tokens.mean((0, 1)), relative=0.2)


def test_frozen_experts_keep_dropout_in_training() -> None:
    model = grown([3] * 8, dropout=0.5)
    h = torch.randn(2, 4, 24, dtype=torch.float64)
    model.layer.train()
    with torch.no_grad():
        first, second = model.layer(h)[0], model.layer(h)[0]
        assert not torch.equal(first, second)
        model.layer.eval()
        assert torch.equal(model.layer(h)[0], model.layer(h)[0])


def test_frozen_dropout_can_be_switched_off() -> None:
    model = grown([3] * 8, dropout=0.5, frozen_dropout=False, shared_bottleneck=0)
    h = torch.randn(64, 4, 24, dtype=torch.float64)
    quiet = model.layer.eval()(h, task=6)[0]
    model.layer.train()
    with torch.no_grad():
        assert torch.equal(model.layer(h, task=6)[0], quiet)  # all of 0 .. 6 are frozen
    assert not torch.equal(model.layer(h, task=7)[0], model.layer(h, task=7)[0])  # 7 is not


def test_two_forwards_then_one_backward() -> None:
    """Refreshing the newest row must not invalidate what an earlier forward saved."""
    layer = grown([3] * 8).layer
    h = torch.randn(2, 4, 24, dtype=torch.float64, requires_grad=True)
    first = layer(h, task=7)[0].sum()
    with torch.no_grad():
        layer(h)
    (first + layer(h)[0].sum()).backward()
    assert h.grad is not None


def test_state_dict_round_trip_into_an_empty_layer() -> None:
    model = grown([5, 1, 3, 4])
    other = BRMoE(24, model.layer.config).double()
    other.load_state_dict(model.layer.state_dict())
    h = torch.randn(3, 5, 24, dtype=torch.float64)
    for task in (None, 0, 1, 2, 3):
        for ours, theirs in zip(other(h, task=task), model.layer(h, task=task), strict=True):
            assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    model.layer.expand(2)
    other.expand(2)
    assert torch.equal(other.expert.down.weight, model.layer.expert.down.weight)
    assert other.tasks == 5


def test_batches_do_not_mix_samples() -> None:
    layer = grown([3] * 9).layer
    h = torch.randn(7, 5, 24, dtype=torch.float64)
    with torch.no_grad():
        together = layer(h)[0]
        alone = torch.cat([layer(row[None])[0] for row in h])
    assert_close(together, alone, relative=1e-13)


def test_errors() -> None:
    layer = BRMoE(24)
    with pytest.raises(RuntimeError, match=r"no task yet: call expand"):
        layer(torch.zeros(1, 2, 24))
    with pytest.raises(ValueError, match="at least one class, got n_classes=0"):
        layer.expand(0)
    layer.expand(2)
    with pytest.raises(ValueError, match=r"task must be in \[0, 1\), got 1"):
        layer(torch.zeros(1, 2, 24), task=1)
    with pytest.raises(ValueError, match=r"top_m must be at least 1, got 0\n- routing_input"):
        BRMoEConfig(top_m=0, routing_input="both")
