from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal
from torch import Tensor

from inverse_design.problem.pair_means import Projection
from inverse_design.problem.score import LikelihoodScore, PairScore, ProductScore, RatioScore
from inverse_design.testing import check_pair_score
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance, squared_norm


def ratio_of(rows: Tensor, direction: Tensor) -> RatioScore:
    """The cosine of the sum of two rows with a direction."""
    none, no_basis = rows.new_zeros(len(rows), 0), rows.new_zeros(0, rows.shape[1])
    along = ProductScore(rows @ (direction / direction.norm()), none, none)
    return RatioScore(along, ProductScore(*squared_norm(rows, none, no_basis)))


def likelihood_of(entries: int, readouts: int, seed: int, coefficient_variance: float) -> LikelihoodScore:
    """An additive model with whitened rows, for a standard normal error law."""
    rows, target = normal(entries, readouts, seed=seed), normal(readouts, seed=seed + 1)
    none, no_basis = rows.new_zeros(entries, 0), rows.new_zeros(0, readouts)
    law = ErrorLaw(
        offset=torch.zeros(readouts).double(),
        covariance=FactorCovariance(torch.ones(readouts).double(), torch.zeros(readouts, 0).double()),
        coefficient_variance=coefficient_variance,
        degrees=torch.inf,
        temperature=0.5,
        support=9,
        origin="planted",
    )
    return LikelihoodScore(
        law=law,
        square=ProductScore(*squared_norm(rows - target / 2, none, no_basis)),
        scale=ProductScore(rows.new_full((entries,), 0.5), none, none),
        projection=Projection(rows @ target - rows.square().sum(1), rows, rows),
        singles=rows,
        log_prior=normal(entries, seed=seed + 2),
        constant=-3.0,
    )


def every_pair(score: PairScore) -> tuple[Tensor, Tensor]:
    first, second = torch.triu_indices(score.size, score.size, offset=1)
    return first, second


@given(st.integers(2, 20), st.integers(0, 10), st.integers(0, 99))
def test_double_blocks_hold_exact_scores(entries: int, columns: int, seed: int) -> None:
    factors = normal(2, entries, columns, seed=seed)
    score = ProductScore(normal(entries, seed=seed + 1), factors[0], factors[1])
    first, second = every_pair(score)
    start = entries // 3
    block = score.double_block(slice(start, entries), slice(start, None))
    assert block.shape == (entries - start, entries - start)
    inside = first >= start
    torch.testing.assert_close(
        block[first[inside] - start, second[inside] - start],
        score.exact(first[inside], second[inside]),
        rtol=1e-12,
        atol=1e-12,
    )


@given(st.integers(2, 15), st.integers(2, 8), st.integers(0, 99))
def test_ratios_are_cosines(entries: int, readouts: int, seed: int) -> None:
    rows, direction = normal(entries, readouts, seed=seed), normal(readouts, seed=seed + 1)
    score = ratio_of(rows, direction)
    check_pair_score(score)
    first, second = every_pair(score)
    wanted = torch.cosine_similarity(rows[first] + rows[second], direction[None], dim=1)
    torch.testing.assert_close(score.exact(first, second), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1.0, 1e6])
def test_a_correlation_does_not_depend_on_the_unit(unit: float) -> None:
    rows, direction = normal(7, 5, seed=3), normal(5, seed=4)
    first, second = every_pair(ratio_of(rows, direction))
    wanted = ratio_of(rows, direction).exact(first, second)
    scaled = ratio_of(rows * unit, direction)
    check_pair_score(scaled)
    torch.testing.assert_close(scaled.exact(first, second), wanted, rtol=1e-9, atol=1e-12)


def test_pairs_without_effect_correlate_with_nothing() -> None:
    rows = normal(4, 5, seed=3)
    rows[1] = -rows[0]
    score = ratio_of(rows, rows[0])
    assert float(score.exact(torch.tensor([0]), torch.tensor([1]))) == 0.0
    check_pair_score(score)
    nothing = ratio_of(torch.zeros(3, 5).double(), rows[0])
    assert nothing.block(0, 3).tolist() == torch.zeros(3, 3).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_a_correlation_never_exceeds_one(seed: int) -> None:
    """Rounding would carry a few of these beyond."""
    direction = normal(7, seed=seed)
    score = ratio_of(normal(30, seed=seed + 9).abs()[:, None] * direction, direction)
    exact = score.exact(*every_pair(score))
    assert float(exact.max()) <= 1.0
    torch.testing.assert_close(exact, torch.ones_like(exact), rtol=1e-9, atol=0)
    assert float(score.block(0, 30).abs().max()) <= 1.0


@given(st.integers(2, 15), st.integers(1, 8), st.integers(0, 99), st.sampled_from([0.0, 0.1, 2.0]))
def test_likelihoods_are_log_densities(entries: int, readouts: int, seed: int, scatter: float) -> None:
    score = likelihood_of(entries, readouts, seed, scatter)
    check_pair_score(score)
    assert isinstance(score, PairScore)
    rows, target = normal(entries, readouts, seed=seed), normal(readouts, seed=seed + 1)
    first, second = every_pair(score)
    for pair in range(len(first)):
        parts = rows[[int(first[pair]), int(second[pair])]]
        covariance = torch.eye(readouts).double() + scatter * parts.T @ parts
        gap = target - parts.sum(0)
        density = -0.25 * float(gap @ torch.linalg.solve(covariance, gap) + torch.logdet(covariance))
        wanted = density + float(score.log_prior[first[pair]] + score.log_prior[second[pair]]) - 3.0
        found = float(score.exact(first[pair : pair + 1], second[pair : pair + 1]))
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(st.integers(2, 15), st.integers(0, 99))
def test_the_bound_holds_for_large_numbers(entries: int, seed: int) -> None:
    score = likelihood_of(entries, 4, seed, 0.1)
    check_pair_score(replace(score, log_prior=score.log_prior * 1e6, constant=1e8))
    wide = normal(entries, 4, seed=seed) * 1e4
    none, no_basis = wide.new_zeros(entries, 0), wide.new_zeros(0, 4)
    check_pair_score(replace(score, square=ProductScore(*squared_norm(wide, none, no_basis))))


def test_blocks_below_the_diagonal_are_finite() -> None:
    """Entries opposite to half the target make the diagonal's "square" negative or huge; neither may be NaN."""
    score = likelihood_of(9, 3, 0, 0.3)
    assert bool(torch.isfinite(score.block(0, 9)).all())
    assert bool(torch.isfinite(ratio_of(normal(9, 3, seed=0), normal(3, seed=1)).block(0, 9)).all())
