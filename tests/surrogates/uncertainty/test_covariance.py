import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import normal
from torch import Tensor

from surrogates.uncertainty.error_model import FactorCovariance


@st.composite
def covariances(draw: st.DrawFn) -> FactorCovariance:
    g, r, seed = draw(st.integers(1, 8)), draw(st.integers(0, 10)), draw(st.integers(0, 99))
    spread = draw(st.sampled_from([0.1, 1.0, 30.0]))
    return FactorCovariance(normal(g, seed=seed).exp(), spread * normal(g, r, seed=seed + 1))


def dense(covariance: FactorCovariance) -> Tensor:
    return covariance.diagonal.diag() + covariance.loadings @ covariance.loadings.T


@given(covariances())
@settings(deadline=None)
def test_variance_is_the_dense_diagonal(covariance: FactorCovariance) -> None:
    torch.testing.assert_close(covariance.variance, dense(covariance).diagonal())


@given(covariances())
@settings(deadline=None)
def test_log_determinant_is_the_dense_one(covariance: FactorCovariance) -> None:
    assert covariance.log_determinant == pytest.approx(float(torch.logdet(dense(covariance))), abs=1e-8)


@given(covariances(), st.integers(0, 5))
@settings(deadline=None)
def test_whitened_inner_products_are_mahalanobis_products(covariance: FactorCovariance, b: int) -> None:
    rows = normal(b, len(covariance.diagonal), seed=7)
    white = covariance.whiten(rows)
    solved = torch.cholesky_solve(rows.T, torch.linalg.cholesky(dense(covariance)))
    torch.testing.assert_close(white @ white.T, rows @ solved, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("rank", [0, 1, 3, 6, 9])
def test_with_equal_variances_whitening_is_the_symmetric_inverse_root(rank: int) -> None:
    covariance = FactorCovariance(torch.full((6,), 0.7, dtype=torch.float64), normal(6, rank, seed=1))
    values, vectors = torch.linalg.eigh(dense(covariance))
    root = (vectors * values.rsqrt()) @ vectors.T
    rows = normal(4, 6, seed=2)
    torch.testing.assert_close(covariance.whiten(rows), rows @ root)


def test_draws_have_the_covariance_and_follow_the_generator() -> None:
    covariance = FactorCovariance(torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64), normal(3, 2, seed=3))
    draws = covariance.draw(100_000, generator=torch.Generator().manual_seed(0))
    again = covariance.draw(100_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draws, again)
    torch.testing.assert_close(draws.mean(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=0.03)
    torch.testing.assert_close(draws.T @ draws / len(draws), dense(covariance), rtol=0.03, atol=0.03)
