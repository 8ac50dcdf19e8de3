import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal

from surrogates.evaluation.intervals import bootstrap_interval
from surrogates.evaluation.metrics import (
    expected_squared_errors,
    interval_coverage_rows,
    negative_log_likelihood,
    spread_error_correlation,
    squared_errors,
)
from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior, Scatter, isotropic


@st.composite
def posteriors(draw: st.DrawFn) -> GaussianPosterior:
    """Posteriors of one to three covariances of different rank, one scale and up to two scattered parts each."""
    b, g, seed = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.integers(0, 1000))
    ranks = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    covariances = tuple(
        FactorCovariance(normal(g, seed=seed + number).exp(), normal(g, rank, seed=seed + number + 10))
        for number, rank in enumerate(ranks)
    )
    group = torch.arange(b) % len(covariances)
    parts = torch.stack([torch.arange(b) % 2, torch.where(torch.arange(b) % 2 == 0, 2, -1)], dim=1)
    scatter = Scatter(normal(3, g, seed=seed + 21), parts, normal(b, seed=seed + 22).abs())
    return GaussianPosterior(
        normal(b, g, seed=seed),
        normal(b, seed=seed + 20).exp(),
        covariances,
        group,
        draw(st.sampled_from([scatter, None])),
    )


@given(posteriors(), st.integers(0, 99))
def test_the_likelihood_is_that_of_the_dense_normal(posterior: GaussianPosterior, seed: int) -> None:
    truth = posterior.mean + normal(*posterior.mean.shape, seed=seed)
    expected = []
    for row, group in enumerate(posterior.group.tolist()):
        covariance = posterior.covariances[group]
        dense = posterior.scale[row] * (covariance.diagonal.diag() + covariance.loadings @ covariance.loadings.T)
        if posterior.scatter is not None:
            along = posterior.scatter.directions[row]
            dense = dense + along @ along.T
        law = scipy.stats.multivariate_normal(posterior.mean[row].numpy(), dense.numpy())
        expected.append(-law.logpdf(truth[row].numpy()))
    assert negative_log_likelihood(posterior, truth).tolist() == pytest.approx(expected, rel=1e-8, abs=1e-8)


@given(posteriors(), st.floats(0.1, 10))
def test_the_unit_of_the_effects_shifts_the_likelihood(posterior: GaussianPosterior, unit: float) -> None:
    truth = posterior.mean + 1
    scatter = posterior.scatter
    other = GaussianPosterior(
        unit * posterior.mean,
        unit**2 * posterior.scale,
        posterior.covariances,
        posterior.group,
        None if scatter is None else replace(scatter, effects=unit * scatter.effects),
    )
    shift = posterior.mean.shape[1] * math.log(unit)
    torch.testing.assert_close(
        negative_log_likelihood(other, unit * truth), negative_log_likelihood(posterior, truth) + shift
    )


def test_the_likelihood_finds_the_right_scale() -> None:
    truth = 2 * normal(200, 10, seed=0)
    scores = [
        float(
            negative_log_likelihood(
                isotropic(torch.zeros_like(truth), torch.full((10,), s).double()), truth
            ).mean()
        )
        for s in (2.0, 4.0, 8.0)
    ]
    assert min(scores) == scores[1]
    entropy = 5 * (math.log(2 * math.pi * 4) + 1)
    assert scores[1] == pytest.approx(entropy, rel=0.01)


@given(posteriors(), st.floats(0.05, 0.95))
def test_coverage_counts_readouts_within_their_marginal_intervals(
    posterior: GaussianPosterior, level: float
) -> None:
    truth = posterior.mean + 2 * normal(*posterior.mean.shape, seed=1)
    standardised = ((truth - posterior.mean) / posterior.variance.sqrt()).abs().numpy()
    expected = (standardised <= scipy.stats.norm.ppf((1 + level) / 2)).mean(1)
    assert interval_coverage_rows(posterior, truth, level).tolist() == pytest.approx(expected.tolist())
    assert interval_coverage_rows(posterior, posterior.mean, level).tolist() == [1] * len(truth)


def test_an_honest_posterior_covers_its_level_and_predicts_its_errors() -> None:
    loadings = normal(30, 2, seed=0)
    posterior = GaussianPosterior(
        normal(4, 30, seed=1),
        torch.tensor([0.1, 1.0, 2.0, 5.0], dtype=torch.float64),
        (FactorCovariance(torch.ones(30, dtype=torch.float64), loadings),),
        torch.zeros(4, dtype=torch.int64),
    )
    draws = posterior.sample(2000, seed=2)
    covered = torch.stack([interval_coverage_rows(posterior, truth, 0.8) for truth in draws]).mean(0)
    torch.testing.assert_close(covered, torch.full((4,), 0.8).double(), rtol=0, atol=0.02)
    errors = torch.stack([squared_errors(posterior.mean, truth) for truth in draws]).mean(0)
    torch.testing.assert_close(errors, expected_squared_errors(posterior), rtol=0.1, atol=0)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=9), st.integers(0, 99))
def test_rank_correlation_agrees_with_scipy_on_every_draw(pairs: list[tuple[int, int]], seed: int) -> None:
    spread, errors = torch.tensor(pairs, dtype=torch.float64).T
    draws = torch.randint(len(pairs), (4, len(pairs)), generator=torch.Generator().manual_seed(seed))
    for drawn, value in zip(draws, spread_error_correlation(spread, errors)(draws), strict=True):
        one, other = spread[drawn].numpy(), errors[drawn].numpy()
        if np.ptp(one) == 0 or np.ptp(other) == 0:
            assert math.isnan(value)
        else:
            assert float(value) == pytest.approx(scipy.stats.spearmanr(one, other).statistic)


@given(st.integers(0, 1000))
def test_rank_correlation_knows_order_only(seed: int) -> None:
    spread, errors = normal(2, 12, seed=seed)
    every = torch.arange(12)[None]
    expected = spread_error_correlation(spread, errors)(every)
    torch.testing.assert_close(spread_error_correlation(spread.exp(), 3 * errors - 1)(every), expected)
    torch.testing.assert_close(spread_error_correlation(-spread, errors)(every), -expected)
    assert spread_error_correlation(errors, errors.exp())(every).item() == pytest.approx(1)


def test_a_model_equally_sure_of_everything_does_not_know_its_errors() -> None:
    posterior = isotropic(normal(5, 3, seed=0), torch.ones(3, dtype=torch.float64))
    statistic = spread_error_correlation(expected_squared_errors(posterior), normal(5, seed=1).square())
    assert statistic(torch.arange(5)[None]).isnan().all()
    assert all(math.isnan(bound) for bound in bootstrap_interval(statistic, 5, seed=0, n_boot=10))
