import torch
from strategies.screens import normal

from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.heteroscedastic import StatedPosterior
from surrogates.uncertainty.posterior import GaussianPosterior, Posterior


def posterior(rank: int = 2) -> StatedPosterior:
    covariance = FactorCovariance(normal(4, seed=1).exp(), normal(4, rank, seed=2))
    base = GaussianPosterior(normal(3, 4, seed=3), normal(3, seed=4).exp(), (covariance,), torch.zeros(3).long())
    variance = normal(3, 4, seed=5).exp()
    return StatedPosterior(base, variance, variance, variance)


def test_variances_are_those_stated_and_correlations_those_of_the_base() -> None:
    stated = posterior()
    assert isinstance(stated, Posterior)
    factor = stated.factor
    assert factor is not None
    for row in range(3):
        before, after = stated.base.factor[row], factor[row]  # type: ignore[index]
        whole = before @ before.T + (stated.base.variance[row] - before.square().sum(1)).diag()
        scaled = after @ after.T + (stated.variance[row] - after.square().sum(1)).diag()
        torch.testing.assert_close(torch.diagonal(scaled), stated.variance[row])
        deviations = [each.diagonal().sqrt() for each in (whole, scaled)]
        torch.testing.assert_close(
            whole / torch.outer(deviations[0], deviations[0]), scaled / torch.outer(deviations[1], deviations[1])
        )


def test_draws_and_intervals_have_the_stated_variance() -> None:
    stated = posterior()
    draws = stated.sample(20_000, seed=1)
    torch.testing.assert_close(draws.var(0), stated.variance, rtol=0.06, atol=0.0)
    torch.testing.assert_close(draws.mean(0), stated.mean, rtol=0.0, atol=0.05)
    interval = stated.interval(0.9)
    inside = ((draws > interval.lower) & (draws < interval.upper)).double().mean(0)
    assert float((inside - 0.9).abs().max()) < 0.015


def test_the_scale_says_how_much_wider_the_whole_is() -> None:
    stated = posterior()
    torch.testing.assert_close(
        stated.scale * (stated.base.variance / stated.base.scale[:, None]).sum(1), stated.variance.sum(1)
    )
