"""Tensors outside the training device: the same values, no copies on growth, no stray files."""

from __future__ import annotations

import copy
import errno
import gc
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_care.memory import TensorMemory
from avalanche_care.offload import Offload

resource = pytest.importorskip("resource")  # to bound the size of files


@pytest.fixture(params=["cpu", "files"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    return "cpu" if request.param == "cpu" else tmp_path


@pytest.fixture
def full_disk() -> Iterator[int]:
    """No file can be larger than this many bytes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = 64 * 1024
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (100 * torch.randn(shape, generator=generator)).to(dtype)


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


every_dtype = pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]
)


@every_dtype
@pytest.mark.parametrize("shape", [(3, 4), (7,), (1, 2, 3), (0, 5), (2, 0), ()])
def test_put_gives_the_same_values(
    where: str | Path, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    tensor = numbers(*shape, dtype=dtype)
    kept = Offload(where).put("a", tensor)
    assert kept.dtype == dtype
    assert torch.equal(kept, tensor)
    assert kept.device.type == "cpu"
    kept.zero_()
    assert torch.equal(tensor, numbers(*shape, dtype=dtype))  # a copy


@every_dtype
def test_growing_row_by_row(where: str | Path, dtype: torch.dtype) -> None:
    store = Offload(where)
    kept = store.put("a", torch.empty(0, 3, 2, dtype=dtype))
    expected = torch.empty(0, 3, 2, dtype=dtype)
    for step, rows in enumerate((1, 2, 0, 1)):
        kept = store.grow("a", kept, rows)
        expected = torch.cat([expected, torch.zeros(rows, 3, 2, dtype=dtype)])
        assert torch.equal(kept, expected)
        kept[-1] = expected[-1] = numbers(3, 2, dtype=dtype, seed=step)
    assert torch.equal(kept, expected)
    assert kept.dtype == dtype


def test_values_are_in_files_named_after_the_tensors(tmp_path: Path) -> None:
    store = Offload(tmp_path)
    kept = [store.put("blocks.0.down", numbers(5, 3)), store.put("../a b", numbers(4))]
    assert [len(path.relative_to(tmp_path).parts) for path in files(tmp_path)] == [2, 2]
    scratch = files(tmp_path)[0].parent
    assert scratch.name.startswith("avalanche-care-")
    content = bytearray((scratch / "blocks.0.down.bin").read_bytes())
    on_disk = torch.frombuffer(content, dtype=torch.float32)
    assert torch.equal(on_disk.view(5, 3), kept[0])
    assert sorted(path.stat().st_size for path in files(tmp_path)) == [16, 60]


def test_mapped_growth_copies_nothing(tmp_path: Path) -> None:
    """No operation makes a tensor but the mapping itself, and the old rows are shared."""
    store = Offload(tmp_path)
    old = store.put("a", numbers(1000, 8))
    with TensorMemory() as memory:
        new = store.grow("a", old, 1)
    assert memory.peak == new.nbytes  # the mapping; a copy of the rows would come on top
    new[3] = 7
    assert torch.equal(old[3], torch.full((8,), 7.0))
    assert len(files(tmp_path)) == 1


def test_putting_again_overwrites_in_place(where: str | Path) -> None:
    store = Offload(where)
    first = store.put("a", numbers(3, 4))
    second = store.put("a", numbers(3, 4, seed=1))
    assert second.data_ptr() == first.data_ptr()
    assert torch.equal(first, numbers(3, 4, seed=1))


@pytest.mark.parametrize("other", [(2, 4), (9, 4), (4, 3)])
def test_another_shape_leaves_the_earlier_tensor_alone(
    where: str | Path, other: tuple[int, int]
) -> None:
    store = Offload(where)
    first = store.put("a", numbers(3, 4))
    second = store.put("a", numbers(*other, seed=1))
    assert torch.equal(first, numbers(3, 4))
    assert torch.equal(second, numbers(*other, seed=1))
    assert torch.equal(store.put("a", first[:2]), first[:2])  # a part of what it replaces
    assert store.put("a", first[:2].double()).dtype == torch.float64


def test_growing_a_tensor_from_elsewhere_brings_it_in(where: str | Path) -> None:
    """A buffer may have been loaded, cast or moved since it was stored."""
    other = numbers(3, 4, seed=1)
    for choose in (
        lambda kept: other,
        lambda kept: other.double(),
        lambda kept: kept[:2],
        lambda kept: kept.view(torch.int32),
    ):
        store = Offload(where)
        kept = store.put("a", numbers(3, 4))
        old = choose(kept)
        expected = torch.cat([old, old.new_zeros(2, 4)])
        new = store.grow("a", old, 2)
        assert torch.equal(new, expected)
        assert new.dtype == old.dtype
        new.zero_()
        assert torch.equal(kept, numbers(3, 4))


def test_gradients_stay_outside(where: str | Path) -> None:
    store = Offload(where)
    parameter = torch.nn.Parameter(numbers(3, 4))
    assert not store.put("a", parameter).requires_grad
    assert not store.grow("a", parameter, 1).requires_grad


# Copies of the store, and its end


class Holder(torch.nn.Module):
    def __init__(self, store: Offload) -> None:
        super().__init__()
        self.store = store
        self.register_buffer("rows", store.put("rows", numbers(3, 4)))


def pickled(holder: Holder) -> Any:
    file = io.BytesIO()
    torch.save(holder, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
def test_a_copy_is_independent(where: str | Path, duplicate: Any) -> None:
    holder = Holder(Offload(where))
    other = duplicate(holder)
    other.rows.zero_()
    other.rows = other.store.grow("rows", other.rows, 1)
    assert torch.equal(holder.rows, numbers(3, 4))
    assert torch.equal(other.rows, torch.zeros(4, 4))
    del other
    gc.collect()
    holder.rows = holder.store.grow("rows", holder.rows, 1)
    assert torch.equal(holder.rows[:3], numbers(3, 4))


def test_a_copy_of_a_mapped_tensor_is_in_memory_until_it_grows(tmp_path: Path) -> None:
    holder = Holder(Offload(tmp_path))
    other = copy.deepcopy(holder)
    assert len(files(tmp_path)) == 1
    other.rows = other.store.grow("rows", other.rows, 1)
    assert len({path.parent for path in files(tmp_path)}) == 2


def test_files_go_with_the_store_and_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    store = Offload(tmp_path)
    kept = store.put("a", numbers(3, 4))
    assert len(files(tmp_path)) == 2
    del store
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert torch.equal(kept, numbers(3, 4))  # the system keeps what is mapped


def test_files_go_when_the_process_ends_but_not_when_a_forked_child_does(tmp_path: Path) -> None:
    code = """
import os, sys, torch
from avalanche_care.offload import Offload
store = Offload(sys.argv[1])
kept = store.put("a", torch.ones(3))
child = os.fork()
if not child:
    del store
    sys.exit()
os.waitpid(child, 0)
assert len(os.listdir(sys.argv[1])) == 1
store.grow("a", kept, 1)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert list(tmp_path.iterdir()) == []


# Bad places and full disks


def test_bad_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    expected = 'offload: expected "cpu" or an existing directory, got '
    with pytest.raises(ValueError, match=f"{expected}'gpu': it does not exist"):
        Offload("gpu")
    with pytest.raises(ValueError, match=f"{expected}.*file'.*: it is a file"):
        Offload(tmp_path / "file")
    with pytest.raises(ValueError, match=f"{expected}7: its type is int"):
        Offload(7)  # type: ignore[arg-type]

    def refuse(**_: Any) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)  # root may write anywhere
    with pytest.raises(ValueError, match=f"{expected}.*nothing can be written there.*denied"):
        Offload(tmp_path)


@pytest.mark.parametrize("fallback", [False, True])
def test_a_full_disk_is_an_error_and_changes_nothing(
    tmp_path: Path, full_disk: int, fallback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fallback:
        monkeypatch.delattr(os, "posix_fallocate")
    store = Offload(tmp_path)
    fits = full_disk // 1024 - 1
    kept = store.put("a", numbers(fits, 256))  # rows of 1 KiB
    message = rf"no room for {2 * 1024:,} more bytes in {tmp_path}"
    with pytest.raises(OSError, match=message):
        store.grow("a", kept, 2)
    with pytest.raises(OSError, match="no room for 102,400 more bytes"):
        store.put("a", numbers(100, 256))
    with pytest.raises(OSError, match="no room for 102,400 more bytes"):
        store.put("b", numbers(100, 256))
    assert torch.equal(kept, numbers(fits, 256))
    assert [(path.name, path.stat().st_size) for path in files(tmp_path)] == [
        ("a.bin", kept.nbytes)
    ]
    grown = store.grow("a", kept, 1)
    assert torch.equal(grown, torch.cat([kept, torch.zeros(1, 256)]))


def test_a_file_that_could_not_be_mapped_is_not_taken_for_the_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: Any, **__: Any) -> None:
        raise RuntimeError("no address space")

    store = Offload(tmp_path)
    kept = store.put("a", numbers(3, 4))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "from_file", cannot)
        with pytest.raises(RuntimeError, match="no address space"):
            store.put("a", numbers(5, 4))
    assert torch.equal(store.grow("a", kept, 1)[:3], numbers(3, 4))


@pytest.mark.parametrize("lack", ["", "function", "EINVAL", "EOPNOTSUPP"])
def test_space_is_reserved(tmp_path: Path, lack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system, or the file system, cannot do it by itself."""

    def cannot(*_: Any) -> None:
        raise OSError(getattr(errno, lack), "not here")

    if lack == "function":
        monkeypatch.delattr(os, "posix_fallocate")
    elif lack:
        monkeypatch.setattr(os, "posix_fallocate", cannot)
    store = Offload(tmp_path)
    kept = store.put("a", numbers(300, 1000))
    grown = store.grow("a", kept, 500)  # more than one block of zeros
    (file,) = files(tmp_path)
    assert file.stat().st_blocks * 512 >= file.stat().st_size == grown.nbytes  # no holes
    assert torch.equal(grown, torch.cat([numbers(300, 1000), torch.zeros(500, 1000)]))
