from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import normal
from torch import Tensor

from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior, Posterior, Scatter, isotropic


def posterior_of(
    ranks: list[int], group: list[int], g: int = 4, seed: int = 0, *, scattered: float = 0.5
) -> GaussianPosterior:
    """Perturbations of one or two parts, whose coefficients are scattered; not at all in the first."""
    covariances = tuple(
        FactorCovariance(normal(g, seed=seed + rank).exp(), normal(g, rank, seed=seed + 50 + rank))
        for rank in ranks
    )
    b = len(group)
    mean, scale = normal(b, g, seed=seed + 98), 1 + normal(b, seed=seed + 99).abs()
    genes = torch.stack([torch.arange(b) % 3, torch.where(torch.arange(b) % 2 == 0, 3, -1)], dim=1)
    scatter = (
        Scatter(normal(4, g, seed=seed + 97), genes, scattered * torch.arange(b).double()) if scattered else None
    )
    return GaussianPosterior(mean, scale, covariances, torch.tensor(group, dtype=torch.int64), scatter)


def dense(posterior: GaussianPosterior, row: int) -> Tensor:
    covariance = posterior.covariances[int(posterior.group[row])]
    full = posterior.scale[row] * (covariance.diagonal.diag() + covariance.loadings @ covariance.loadings.T)
    for gene in posterior.scatter.genes[row].tolist() if posterior.scatter else []:
        part = posterior.scatter.effects[gene] * (gene >= 0)
        full = full + posterior.scatter.deviation[row] ** 2 * torch.outer(part, part)
    return full


@given(
    ranks=st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True),
    data=st.data(),
    seed=st.integers(0, 20),
    scattered=st.sampled_from([0.0, 0.7]),
)
@settings(deadline=None, max_examples=30)
def test_variance_and_factor_are_those_of_each_rows_dense_covariance(
    ranks: list[int], data: st.DataObject, seed: int, scattered: float
) -> None:
    group = data.draw(st.lists(st.integers(0, len(ranks) - 1), min_size=1, max_size=5))
    posterior = posterior_of(ranks, group, seed=seed, scattered=scattered)
    for row in range(len(group)):
        full = dense(posterior, row)
        torch.testing.assert_close(posterior.variance[row], full.diagonal())
        rest = posterior.scale[row] * posterior.covariances[group[row]].diagonal
        factor = posterior.factor[row]
        torch.testing.assert_close(factor @ factor.T + rest.diag(), full)


def test_samples_have_each_rows_mean_and_covariance() -> None:
    posterior = posterior_of([2, 0], [1, 0, 1, 0])
    draws = posterior.sample(40_000, seed=1)
    assert draws.shape == (40_000, 4, 4)
    for row in range(4):
        full = dense(posterior, row)
        centred = draws[:, row] - posterior.mean[row]
        spread = full.diagonal().sqrt()
        assert (centred.mean(0).abs() < 0.03 * spread).all()
        torch.testing.assert_close(
            centred.T @ centred / len(draws), full, rtol=0, atol=0.04 * float(full.diagonal().max())
        )


def test_rows_are_drawn_independently() -> None:
    posterior = posterior_of([1], [0, 0])
    draws = posterior.sample(40_000, seed=1) - posterior.mean
    cross = torch.einsum("sg,sh->gh", draws[:, 0], draws[:, 1]) / len(draws)
    assert float(cross.abs().max()) < 0.04 * float(posterior.variance.max())


def test_the_seed_fixes_the_draws() -> None:
    posterior = posterior_of([1], [0, 0])
    assert torch.equal(posterior.sample(3, seed=5), posterior.sample(3, seed=5))
    assert not torch.equal(posterior.sample(3, seed=5), posterior.sample(3, seed=6))


@pytest.mark.parametrize(("count", "group"), [(3, []), (0, [0, 1])])
def test_nothing_can_be_drawn(count: int, group: list[int]) -> None:
    assert posterior_of([1, 2], group).sample(count, seed=0).shape == (count, len(group), 4)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_intervals_cover_what_they_say(level: float) -> None:
    posterior = posterior_of([2, 0], [1, 0])
    interval = posterior.interval(level)
    assert interval.level == level
    half = NormalDist().inv_cdf(0.5 + level / 2) * posterior.variance.sqrt()
    torch.testing.assert_close(interval.upper - posterior.mean, half)
    torch.testing.assert_close(posterior.mean - interval.lower, half)
    draws = posterior.sample(20_000, seed=2)
    inside = ((draws > interval.lower) & (draws < interval.upper)).to(torch.float64).mean(0)
    assert float((inside - level).abs().max()) < 0.015


def test_isotropic_has_the_given_variance_everywhere() -> None:
    variance = torch.tensor([0.5, 2.0], dtype=torch.float64)
    posterior = isotropic(normal(3, 2, seed=0), variance)
    assert isinstance(posterior, Posterior)
    assert torch.equal(posterior.variance, variance.expand(3, 2))
    assert torch.equal(posterior.scale, torch.ones(3, dtype=torch.float64))
    assert posterior.factor.shape == (3, 2, 0)
