"""Class Gaussians against torch.cov, and their samples against the Gaussian they come from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avalanche_care.statistics import ClassGaussians, class_means

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


@every_case
def test_samples_have_these_moments(kind: str, n: int) -> None:
    """Every entry within 5 standard errors: a wrong sample passes 1 in 10^6 times per entry."""
    x = features(n)
    gaussians = ClassGaussians(covariance=kind, jitter=1e-2)
    gaussians.fit(0, x)
    mean, matrix = 0.85 * x.mean(0), covariance(x, kind, 1e-2)  # the factor is on the mean only
    draws = 40_000
    generator = torch.Generator().manual_seed(1)
    samples = gaussians.sample(0, draws, mean_scale=0.85, generator=generator)
    assert samples.shape == (draws, D)
    assert samples.dtype == x.dtype
    error = (samples.mean(0) - mean).abs() / (matrix.diag() / draws).sqrt()
    assert error.max() < 5
    # Var of an entry of the sample covariance of a Gaussian: (s_ij^2 + s_ii s_jj) / (n - 1).
    deviation = (matrix.square() + matrix.diag()[:, None] * matrix.diag()) / (draws - 1)
    assert ((torch.cov(samples.T) - matrix).abs() / deviation.sqrt()).max() < 5
    # Gaussian, not only of the right moments: kurtosis 3 in each direction.
    z = (samples - mean) / matrix.diag().sqrt()
    assert (z.pow(4).mean(0) - 3).abs().max() < 5 * (96 / draws) ** 0.5


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


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"covariance in \('full', 'diagonal'\).*got 'x' and 0.1"):
        ClassGaussians(covariance="x", jitter=0.1)
    with pytest.raises(ValueError, match="jitter >= 0, got 'full' and -1"):
        ClassGaussians(jitter=-1)
    with pytest.raises(ValueError, match="class in column 4 has no training images"):
        ClassGaussians().fit(4, features(0))


def test_class_means() -> None:
    x, columns = features(6), torch.tensor([2, 0, 2, 2, 5, 0])
    means = class_means(x, columns)
    assert sorted(means) == [0, 2, 5]
    torch.testing.assert_close(means[2], (x[0] + x[2] + x[3]) / 3)
    torch.testing.assert_close(means[0], (x[1] + x[5]) / 2)
    torch.testing.assert_close(means[5], x[4])
