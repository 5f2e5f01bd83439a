"""Where and how the bank of frozen experts is stored: bfloat16, CPU, files."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from brmoe_reference import randomise
from tiny import tiny_images, tiny_vit

from avalanche_care.nn import BRMoE, BRMoEConfig, CaREModel
from avalanche_care.offload import Offload

SIZES = {"bottleneck": 4, "shared_bottleneck": 6}


def grown(tasks: int = 12, *, offload: Offload | None = None, **config: object) -> BRMoE:
    """The same random layer for the same ``tasks``, wherever it is stored."""
    torch.manual_seed(0)
    layer = BRMoE(24, BRMoEConfig(**{**SIZES, **config}), offload=offload)  # type: ignore[arg-type]
    if layer.shared is not None:
        randomise(layer.shared)
    for _ in range(tasks):
        layer.expand(3)
        for part in (layer.expert, layer.router, layer.perceptron):
            randomise(part)
    return layer.eval()


@pytest.fixture
def h() -> torch.Tensor:
    return torch.randn(64, 5, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["cpu", "files"])
def offload(request: pytest.FixtureRequest, tmp_path: Path) -> Offload:
    return Offload("cpu" if request.param == "cpu" else tmp_path)


def test_an_offloaded_bank_gives_the_same_numbers(offload: Offload, h: torch.Tensor) -> None:
    here, there = grown(), grown(offload=offload)
    for task in (None, 0, 5, 11):
        for ours, theirs in zip(there(h, task=task), here(h, task=task), strict=True):
            assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    h.requires_grad_()
    gradients = []
    for layer in (here, there):
        out, logits = layer(h, task=11)
        loss = out.square().sum() + logits.sum()
        gradients.append(torch.autograd.grad(loss, [h, *layer.expert.parameters()]))
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.equal(ours, theirs)


def test_an_offloaded_bank_stays_where_it_is(offload: Offload) -> None:
    layer = grown(3, offload=offload)
    before = {name: buffer.data_ptr() for name, buffer in layer.bank.named_buffers()}
    layer.to("meta")
    assert layer.expert.scale.is_meta
    assert layer.routing.router_weight.is_meta
    for name, buffer in layer.bank.named_buffers():
        assert buffer.data_ptr() == before[name]
        assert buffer.device.type == "cpu"


def test_rows_of_a_bank_on_another_device_are_fetched_once_each(h: torch.Tensor) -> None:
    """What a GPU would ask of an offloaded bank, with ``meta`` in its place."""
    layer = grown(4, offload=Offload("cpu"))
    index = torch.zeros(3, 2, dtype=torch.long, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):  # meta has no values to find
        layer.bank._rows("down_weight", index)
    chosen = torch.tensor([[3, 1], [1, 1]])
    assert torch.equal(layer.bank._rows("down_weight", chosen), layer.bank.down_weight[chosen])


def test_files_hold_the_bank(tmp_path: Path) -> None:
    layer = grown(5, offload=Offload(tmp_path))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) == sum(
        buffer.nbytes for buffer in layer.bank.buffers()
    )


def test_state_dict_round_trip(offload: Offload, h: torch.Tensor) -> None:
    here, there = grown(6), grown(2, offload=offload)
    there.load_state_dict(here.state_dict())
    assert torch.equal(there(h)[0], here(h)[0])
    torch.manual_seed(3)
    there.expand(2)
    torch.manual_seed(3)
    here.expand(2)
    assert torch.equal(there(h)[0], here(h)[0])


def test_a_copy_is_independent(offload: Offload, h: torch.Tensor) -> None:
    layer = grown(4, offload=offload)
    twin = copy.deepcopy(layer)
    expected = layer(h)[0]
    twin.expand(2)
    with torch.no_grad():
        twin.bank.up_weight.zero_()
    assert torch.equal(layer(h)[0], expected)


@pytest.mark.parametrize("where", ["nowhere/at/all", 7])
def test_an_unknown_place_is_refused(where: object) -> None:
    with pytest.raises(ValueError, match='offload: expected "cpu" or an existing directory'):
        CaREModel(tiny_vit(), BRMoEConfig(**SIZES), offload=where)  # type: ignore[arg-type]


def test_a_whole_model_in_files(tmp_path: Path) -> None:
    x = tiny_images(6, per_class=2).tensors[0]
    outputs = []
    for where in (None, tmp_path):
        torch.manual_seed(0)
        model = CaREModel(tiny_vit(), BRMoEConfig(**SIZES), offload=where)
        for task in range(4):
            model.expand(task, [2 * task, 2 * task + 1])
            for layer in model.layers():
                randomise(layer.expert)
        outputs.append(model.eval()(x))
    assert torch.equal(*outputs)


def test_bfloat16_is_half_the_memory_and_survives_conversion(h: torch.Tensor) -> None:
    full, half = grown(), grown(bank_dtype="bfloat16")
    size = [sum(b.nbytes for b in layer.bank.buffers()) for layer in (full, half)]
    assert size[1] * 2 == size[0]
    half.double()
    half.float()
    assert {buffer.dtype for buffer in half.bank.buffers()} == {torch.bfloat16}
    assert half.routing.router_weight.dtype == torch.float32
    assert half(h)[0].dtype == torch.float32
    other = BRMoE(24, half.config)
    other.load_state_dict(half.state_dict())
    assert torch.equal(other.eval()(h)[0], half(h)[0])


def test_bfloat16_is_a_rounding_of_the_experts_only(h: torch.Tensor) -> None:
    full, half = grown(), grown(bank_dtype="bfloat16")
    with torch.no_grad():
        for name, buffer in full.bank.named_buffers():
            buffer.copy_(getattr(half.bank, name))
        full._folded_version = full._newest_version()  # keep the rounded rows
    assert torch.equal(full(h, task=None)[0], half(h, task=None)[0])


def test_unknown_bank_dtype() -> None:
    with pytest.raises(ValueError, match=r"bank_dtype must be one of .*got 'int8'"):
        BRMoEConfig(bank_dtype="int8")
