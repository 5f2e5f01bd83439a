"""Class Gaussians against torch.cov, and their samples against the Gaussian they come from."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from avalanche_care.memory import TensorMemory
from avalanche_care.offload import Offload
from avalanche_care.statistics import BLOCK, ClassGaussians, class_means

D = 6


def features(n: int, seed: int = 0, dim: int = D) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    offset = 3 * torch.randn(dim, generator=generator, dtype=torch.float64)
    return torch.randn(n, dim, generator=generator, dtype=torch.float64) @ mixing + offset


def covariance(x: Tensor, kind: str, jitter: float) -> Tensor:
    eye = torch.eye(x.shape[1]).to(x)
    spread = torch.zeros_like(eye) if len(x) == 1 else torch.cov(x.T)
    return (spread if kind == "full" else spread * eye) + jitter * eye


every_case = pytest.mark.parametrize(
    ("kind", "n"), [(k, n) for k in ("full", "diagonal") for n in (1, 2, 4, 6, 7, 50)]
)


@every_case
def test_moments_are_those_of_the_features(kind: str, n: int) -> None:
    x = features(n)
    gaussians = ClassGaussians(covariance=kind, jitter=1e-4)
    gaussians.fit(3, x)
    torch.testing.assert_close(gaussians.mean(3), x.mean(0))
    torch.testing.assert_close(gaussians.matrix(3), covariance(x, kind, 1e-4))
    assert 3 in gaussians
    assert 2 not in gaussians
    assert len(gaussians) == 1


def standard_errors(samples: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """Errors of the moments of N samples of N(mean, matrix), in standard errors of each.

    Of an entry of the mean it is sqrt(s_ii / N), of an entry of the sample covariance of a Gaussian
    sqrt((s_ij^2 + s_ii s_jj) / (N - 1)), of the fourth moment of z sqrt(96 / N).
    """
    draws, variance = len(samples), matrix.diag()
    first = (samples.mean(0) - mean).abs() / (variance / draws).sqrt()
    deviation = (matrix.square() + variance[:, None] * variance) / (draws - 1)
    second = (torch.cov(samples.T) - matrix).abs() / deviation.sqrt()
    z = (samples - mean) / variance.sqrt()
    fourth = (z.pow(4).mean(0) - 3).abs() / (96 / draws) ** 0.5
    return torch.cat([first, second.flatten(), fourth])


def within_confidence(errors: Tensor, confidence: float = 1 - 1e-5) -> bool:
    """Whether all errors are what a right sampler gives, but for a chance of 1 - confidence.

    The bound on each of m errors is the normal quantile at 1 - (1 - confidence) / (2 m)
    (Bonferroni): 5.3 for m = 48.
    """
    tail = torch.tensor((1 - confidence) / (2 * len(errors)), dtype=torch.float64)
    return bool(errors.max() < -torch.special.ndtri(tail))


@every_case
def test_samples_have_these_moments(kind: str, n: int) -> None:
    x = features(n)
    gaussians = ClassGaussians(covariance=kind, jitter=1e-2)
    gaussians.fit(0, x)
    generator = torch.Generator().manual_seed(1)
    samples = gaussians.sample(0, 40_000, mean_scale=0.85, generator=generator)
    assert samples.shape == (40_000, D)
    assert samples.dtype == x.dtype
    mean, matrix = 0.85 * x.mean(0), covariance(x, kind, 1e-2)  # the factor is on the mean only
    assert within_confidence(standard_errors(samples, mean, matrix))
    assert not within_confidence(standard_errors(samples, x.mean(0), matrix))


def shuffled(classes: int, each: int, seed: int = 0) -> Tensor:
    order = torch.randperm(classes * each, generator=torch.Generator().manual_seed(seed))
    return order // each


SIZES = (1, 2, 5, 6, 7, 50)
"""Training images of the classes below: one, fewer than D, D, and more."""


def several(kind: str = "full", *, offload: Offload | None = None) -> ClassGaussians:
    """A class of every size; the last one's images are all the same in half of the features."""
    gaussians = ClassGaussians(covariance=kind, jitter=1e-2, offload=offload)
    for c, n in enumerate(SIZES):
        x = features(n, seed=c)
        if c == len(SIZES) - 1:
            x[:, ::2] = 2.0
        gaussians.fit(c, x)
    return gaussians


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_every_class_of_a_shuffled_stream_has_its_moments(kind: str) -> None:
    gaussians = several(kind)
    columns, scale = shuffled(len(SIZES), 20_000), torch.linspace(0.8, 1, len(SIZES))
    generator = torch.Generator().manual_seed(2)
    samples = torch.cat(list(gaussians.draw(columns, 80, mean_scale=scale, generator=generator)))
    for c, factor in enumerate(scale.double()):
        mean, matrix = factor * gaussians.mean(c), gaussians.matrix(c)
        assert within_confidence(standard_errors(samples[columns == c], mean, matrix)), c


@pytest.mark.parametrize("n", [1, 9])
@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_without_variance_only_the_jitter_is_left(kind: str, n: int) -> None:
    gaussians = ClassGaussians(covariance=kind, jitter=0.25)
    gaussians.fit(0, torch.full((n, D), 3.0))
    torch.testing.assert_close(gaussians.matrix(0), 0.25 * torch.eye(D))
    samples = gaussians.sample(0, 40_000, generator=torch.Generator().manual_seed(0))
    errors = standard_errors(samples, torch.full((D,), 3.0), 0.25 * torch.eye(D))
    assert within_confidence(errors)


def test_no_jitter_stays_in_the_span_of_the_features() -> None:
    gaussians = ClassGaussians(jitter=0.0)
    x = features(2)
    gaussians.fit(0, x)
    offsets = gaussians.sample(0, 100) - x.mean(0)
    direction = (x[1] - x[0]) / (x[1] - x[0]).norm()
    torch.testing.assert_close(offsets, (offsets @ direction)[:, None] * direction)


# The stream


@pytest.mark.parametrize("kind", ["full", "diagonal"])
@pytest.mark.parametrize("block", [64, BLOCK])
def test_the_stream_of_a_seed_is_the_same_whatever_the_chunk(
    kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avalanche_care.statistics.BLOCK", block)
    gaussians, columns = several(kind), shuffled(len(SIZES), 50)
    streams = []
    for chunk in (300, 1, 7, 63, 64, 65, 150, 1000):
        generator = torch.Generator().manual_seed(3)
        chunks = list(gaussians.draw(columns, chunk, generator=generator))
        sizes = [len(rows) for rows in chunks]
        assert sizes == [len(part) for part in columns.split(chunk)]
        streams.append(torch.cat(chunks))
        assert torch.equal(streams[0], streams[-1])
    assert len(streams[0].unique(dim=0)) == len(columns)  # no block repeats another's noise


def test_memory_is_that_of_a_block_however_long_the_stream() -> None:
    dim, gaussians = 64, ClassGaussians()
    for c in range(4):
        gaussians.fit(c, features(20, seed=c, dim=dim))
    peaks = []
    for blocks in (2, 9):
        columns = shuffled(4, blocks * BLOCK // 4)
        with TensorMemory() as memory:
            for _ in gaussians.draw(columns, 100):
                pass
        peaks.append(memory.peak - columns.nbytes)  # which class each is
    # e, e', the samples, and those of the block before, of which the caller still has the last.
    bound = BLOCK * (20 + 3 * dim) * 8
    assert 0.9 * bound < max(peaks) < 1.1 * bound
    assert peaks == pytest.approx([bound, bound], rel=0.1)


class Operations(TorchDispatchMode):
    """The names of all operations run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


FACTORISATIONS = ("linalg", "qr", "cholesky", "svd", "eig", "lu_factor", "inverse", "solve")


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_sampling_factorises_nothing(kind: str) -> None:
    def factorising(names: set[str]) -> list[str]:
        plain = {name.replace("sqrt", "") for name in names}
        return [name for name in plain if any(word in name for word in FACTORISATIONS)]

    with Operations() as fitting:
        gaussians = several(kind)
    with Operations() as sampling:
        list(gaussians.draw(shuffled(len(SIZES), 9), 4))
        gaussians.sample(3, 5)
    assert "aten::normal_" in sampling.names
    assert factorising(sampling.names) == []
    assert bool(factorising(fitting.names)) == (kind == "full")


def test_the_classes_are_drawn_where_they_are_asked_for() -> None:
    gaussians = several()
    chunks = gaussians.draw(shuffled(len(SIZES), 4), 10, device="meta")
    assert [(rows.device.type, len(rows)) for rows in chunks] == [
        ("meta", 10),
        ("meta", 10),
        ("meta", 4),
    ]


# What is kept


def test_bytes_of_a_class_at_full_width() -> None:
    """169 images, the mean of OmniBenchmark-1K, at D = 768: a fifth of a covariance matrix."""
    gaussians = ClassGaussians()
    gaussians.fit(0, torch.randn(169, 768))
    assert gaussians.bytes_of(0) == 4 * (169 + 1) * 768 <= 550_000
    gaussians.fit(0, torch.randn(1000, 768))
    assert gaussians.bytes_of(0) == 4 * (768 + 1) * 768
    diagonal = ClassGaussians(covariance="diagonal")
    diagonal.fit(0, torch.randn(169, 768))
    assert diagonal.bytes_of(0) == 4 * 2 * 768


def test_the_factor_of_many_images_is_the_cholesky_factor() -> None:
    x = features(50)
    gaussians = ClassGaussians(jitter=0.0)
    gaussians.fit(0, x)
    factor = gaussians.state_dict()["factors"][0]
    lower = factor.T * factor.diag().sign()  # a Cholesky factor has a positive diagonal
    torch.testing.assert_close(lower, torch.linalg.cholesky(torch.cov(x.T)))


def test_a_single_image_leaves_the_jitter() -> None:
    gaussians = ClassGaussians()
    gaussians.fit(0, features(1))
    torch.testing.assert_close(gaussians.matrix(0), 1e-4 * torch.eye(D).double())


@pytest.mark.parametrize("n", [2, 4, 50])
def test_no_feature_is_kept(n: int) -> None:
    x = features(n)
    gaussians = ClassGaussians()
    gaussians.fit(0, x)
    centred = x - x.mean(0)
    stored = gaussians.state_dict()
    rows = torch.cat([stored["means"][0][None], stored["factors"][0]])
    assert len(rows) <= 1 + min(n, D)
    for row in rows:
        for kept in (x, centred, centred / (n - 1) ** 0.5 if n > 2 else x):
            assert (row - kept).abs().amax(1).min() > 1e-3
    for tensor in (*stored["means"].values(), *stored["factors"].values()):
        assert tensor.untyped_storage().nbytes() == 8 * tensor.numel()  # no view of all features


def test_fitting_again_replaces_and_is_of_its_own_class_only() -> None:
    gaussians = ClassGaussians()
    gaussians.fit(0, features(9, seed=1))
    gaussians.fit(1, features(5, seed=2))
    gaussians.fit(0, features(3, seed=3))
    assert len(gaussians) == 2
    torch.testing.assert_close(gaussians.mean(0), features(3, seed=3).mean(0))
    torch.testing.assert_close(gaussians.matrix(1), covariance(features(5, seed=2), "full", 1e-4))


def test_fitting_keeps_no_graph_and_does_not_change_the_features() -> None:
    x = features(5).requires_grad_()
    gaussians = ClassGaussians()
    gaussians.fit(0, x)
    assert not gaussians.sample(0, 2).requires_grad
    assert torch.equal(x, features(5))


def test_global_random_state_is_used_without_a_generator() -> None:
    gaussians = ClassGaussians()
    gaussians.fit(0, features(5))
    torch.manual_seed(0)
    first = gaussians.sample(0, 4)
    assert not torch.equal(first, gaussians.sample(0, 4))
    torch.manual_seed(0)
    assert torch.equal(first, gaussians.sample(0, 4))


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_state_round_trip(kind: str) -> None:
    gaussians = ClassGaussians(covariance=kind, jitter=0.5)
    for c, n in enumerate((1, 4, 9)):
        gaussians.fit(c, features(n, seed=c))
    other = ClassGaussians()
    other.load_state_dict(gaussians.state_dict())
    assert (other.covariance, other.jitter, len(other)) == (kind, 0.5, 3)
    for c in range(3):
        draws = []
        for source in (gaussians, other):
            draws.append(source.sample(c, 5, generator=torch.Generator().manual_seed(c)))
        assert torch.equal(*draws)
    other.fit(0, features(4, seed=8))
    torch.testing.assert_close(gaussians.mean(0), features(1, seed=0).mean(0))


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_offloaded_statistics_give_the_same_numbers(kind: str, tmp_path: Path) -> None:
    columns = shuffled(len(SIZES), 30)
    streams = []
    for offload in (None, Offload("cpu"), Offload(tmp_path)):
        gaussians = several(kind, offload=offload)
        gaussians.fit(2, features(5, seed=9))  # in place
        gaussians.fit(3, features(3, seed=8))  # smaller
        generator = torch.Generator().manual_seed(4)
        streams.append(torch.cat(list(gaussians.draw(columns, 16, generator=generator))))
        assert torch.equal(streams[0], streams[-1])
    mapped = [
        Path(t.untyped_storage().filename).name for t in gaussians.state_dict()["means"].values()
    ]
    assert mapped == [f"mean.{c}.bin" for c in range(len(SIZES))]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.bin")) == sum(
        gaussians.bytes_of(c) for c in range(len(SIZES))
    )


@pytest.mark.parametrize("source", [None, "cpu", "files"])
@pytest.mark.parametrize("target", [None, "cpu", "files"])
def test_state_goes_between_places(source: str | None, target: str | None, tmp_path: Path) -> None:
    stores = [tmp_path if place == "files" else place for place in (source, target)]
    first, second = (several(offload=Offload(store) if store else None) for store in stores)
    second.fit(1, features(3, seed=9))
    state = first.state_dict()
    second.load_state_dict(state)
    expected = several()
    first.fit(0, features(1, seed=9))  # in place, if in a store
    for c in range(len(SIZES)):
        assert torch.equal(second.mean(c), expected.mean(c))
        assert torch.equal(second.matrix(c), expected.matrix(c))


def test_a_deep_copy_is_independent(tmp_path: Path) -> None:
    first = several(offload=Offload(tmp_path))
    second = copy.deepcopy(first)
    first.fit(0, features(1, seed=9))
    assert torch.equal(second.mean(0), several().mean(0))
    second.fit(1, features(2, seed=9))
    assert torch.equal(first.mean(1), several().mean(1))


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"covariance in \('full', 'diagonal'\).*got 'x' and 0.1"):
        ClassGaussians(covariance="x", jitter=0.1)
    with pytest.raises(ValueError, match="jitter >= 0, got 'full' and -1"):
        ClassGaussians(jitter=-1)
    with pytest.raises(ValueError, match="class in column 4 has no training images"):
        ClassGaussians().fit(4, features(0))
    with pytest.raises(ValueError, match="at least one sample at a time, got 0"):
        several().sample(0, 0)


def test_class_means() -> None:
    x, columns = features(6), torch.tensor([2, 0, 2, 2, 5, 0])
    means = class_means(x, columns)
    assert sorted(means) == [0, 2, 5]
    torch.testing.assert_close(means[2], (x[0] + x[2] + x[3]) / 3)
    torch.testing.assert_close(means[0], (x[1] + x[5]) / 2)
    torch.testing.assert_close(means[5], x[4])
