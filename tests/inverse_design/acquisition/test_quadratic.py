import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from strategies.screens import normal

from inverse_design.acquisition.exact_square import ExactSquare
from inverse_design.acquisition.quadratic import MatchedSquare, NormalSquare
from inverse_design.problem.outcome import squared_distance
from inverse_design.problem.target import AlignedProfile
from surrogates.errors import DataError
from surrogates.uncertainty.covariance import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic


def made(m: int, r: int, *, gap: float = 1.0, seed: int = 0) -> NormalSquare:
    diagonal = normal(3, m, seed=seed + 1).square() + 0.1
    return NormalSquare(gap * normal(3, m, seed=seed), diagonal, normal(3, m, r, seed=seed + 2))


def simulated(square: NormalSquare, count: int = 100_000) -> torch.Tensor:
    b, m, r = square.factor.shape
    own = square.diagonal.sqrt() * normal(count, b, m, seed=11)
    shared = torch.einsum("sbr,bmr->sbm", normal(count, b, r, seed=12), square.factor)
    return (square.gap - own - shared).square().sum(2)


def dense(square: NormalSquare) -> torch.Tensor:
    return torch.diag_embed(square.diagonal) + square.factor @ square.factor.mT


def test_cumulants_are_those_of_dense_matrices() -> None:
    square = made(5, 2)
    v, a = dense(square), square.gap[:, :, None]
    power = torch.eye(5).double().expand(3, 5, 5)
    for r, (found, factorial) in enumerate(zip(square.cumulants(), (1, 1, 2), strict=True), 1):
        form = (a.mT @ power @ a).flatten()
        power = power @ v
        trace = power.diagonal(dim1=1, dim2=2).sum(1)
        torch.testing.assert_close(found, 2 ** (r - 1) * factorial * (trace + r * form))


def test_the_first_two_cumulants_are_those_of_the_objective() -> None:
    target = AlignedProfile(
        torch.tensor([2, 0]), normal(2, seed=1), torch.zeros(2).double(), torch.tensor([2.0, 0.5]).double()
    )
    covariance = FactorCovariance(normal(4, seed=2).square() + 0.1, normal(4, 2, seed=3))
    scale = torch.tensor([1.0, 2.5, 0.3]).double()
    posterior = GaussianPosterior(normal(3, 4, seed=4), scale, (covariance,), torch.zeros(3, dtype=torch.int64))
    mean, variance, _ = NormalSquare.between(posterior, target).cumulants()
    known = squared_distance(posterior, target)
    torch.testing.assert_close(mean, known.mean)
    torch.testing.assert_close(variance, known.variance)


@pytest.mark.parametrize("m", [1, 2, 11])
def test_the_exact_law_is_the_one_drawn(m: int) -> None:
    square = made(m, min(m, 2))
    drawn, law = simulated(square), ExactSquare.of(square)
    for share in (0.1, 0.3, 0.8):
        q = drawn.quantile(share, dim=0)
        torch.testing.assert_close(
            law.probability_below(q), torch.full((3,), share).double(), rtol=0.0, atol=0.005
        )
        torch.testing.assert_close(law.shortfall(q), (q - drawn).clamp(min=0).mean(0), rtol=0.04, atol=0.0)
        torch.testing.assert_close(
            law.root_shortfall(q.sqrt()), (q.sqrt() - drawn.sqrt()).clamp(min=0).mean(0), rtol=0.04, atol=0.0
        )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.just(0.0) | st.floats(0.05, 6.0), st.floats(0.01, 3.0))
def test_equal_variances_make_a_noncentral_chi_square(m: int, gap: float, at: float) -> None:
    square = NormalSquare(
        torch.full((1, m), gap).double(), 2 * torch.ones(1, m).double(), torch.zeros(1, m, 0).double()
    )
    q = at * float(square.cumulants()[0])
    known = stats.ncx2(m, m * gap**2 / 2, scale=2.0) if gap else stats.chi2(m, scale=2.0)
    if (below := known.cdf(q)) > 1e-13:  # scipy itself is no better than this
        found = float(ExactSquare.of(square).probability_below(torch.tensor([q]).double()))
        assert found == pytest.approx(below, rel=1e-5, abs=1e-12)


def test_far_below_its_mean_the_exact_law_keeps_its_digits() -> None:
    square = NormalSquare(torch.zeros(1, 20).double(), torch.ones(1, 20).double(), torch.zeros(1, 20, 0).double())
    q = torch.tensor([0.01], dtype=torch.float64)
    assert float(ExactSquare.of(square).probability_below(q)) == pytest.approx(stats.chi2(20).cdf(0.01), rel=1e-9)
    by_hand, _ = integrate.quad(lambda x: stats.chi2(20).cdf(x) * 1e25, 0, 0.01)
    assert float(ExactSquare.of(square).shortfall(q)) * 1e25 == pytest.approx(by_hand, rel=1e-7)


@pytest.mark.parametrize("m", [1, 3, 11, 60])
def test_matched_laws_agree_with_the_exact_one(m: int) -> None:
    square = made(m, min(m, 2), gap=0.7, seed=5)
    exact, two, three = ExactSquare.of(square), MatchedSquare.of_two(square), MatchedSquare.of_three(square)
    mean, variance, _ = square.cumulants()
    deviation = variance.sqrt()
    for level in (-0.5, 0.0, 1.0):
        q = (mean + level * deviation).clamp(min=float(mean.min()) * 0.2)
        truth = exact.shortfall(q) / deviation
        torch.testing.assert_close(two.shortfall(q) / deviation, truth, rtol=0.0, atol=0.06)
        torch.testing.assert_close(three.shortfall(q) / deviation, truth, rtol=0.0, atol=0.02)
        torch.testing.assert_close(three.probability_below(q), exact.probability_below(q), rtol=0.0, atol=0.08)
        roots = three.root_shortfall(q.sqrt()), exact.root_shortfall(q.sqrt())
        torch.testing.assert_close(roots[0], roots[1], rtol=0.05, atol=0.02 * float(mean.max().sqrt()))


def test_three_moments_are_closer_than_two() -> None:
    square = made(11, 2, gap=2.0, seed=8)
    exact, two, three = ExactSquare.of(square), MatchedSquare.of_two(square), MatchedSquare.of_three(square)
    mean, variance, _ = square.cumulants()
    levels = [mean + level * variance.sqrt() for level in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    errors = [
        sum(float((law.probability_below(q) - exact.probability_below(q)).abs().sum()) for q in levels)
        for law in (two, three)
    ]
    assert errors[1] < errors[0]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 200), st.floats(0.05, 5), st.floats(0.0, 9.0), st.floats(0.2, 3.0))
def test_the_shortfall_of_a_distance_is_an_integral(shape: float, scale: float, shift: float, at: float) -> None:
    law = MatchedSquare(*(torch.tensor([each], dtype=torch.float64) for each in (shape, scale, shift)))
    distance, known = at * math.sqrt(shift + shape * scale), stats.gamma(shape, loc=shift, scale=scale)
    low = min(distance, math.sqrt(shift))
    by_hand, _ = integrate.quad(lambda x: known.cdf(x * x), low, distance, limit=200)
    found = float(law.root_shortfall(torch.tensor([distance], dtype=torch.float64)))
    assert found == pytest.approx(by_hand, rel=1e-3, abs=1e-6 * distance)


@pytest.mark.parametrize("matched", [MatchedSquare.of_two, MatchedSquare.of_three])
def test_what_does_not_scatter_gains_what_it_is_nearer(matched: Callable[[NormalSquare], MatchedSquare]) -> None:
    target = AlignedProfile.exact([0, 1], torch.tensor([3.0, 4.0]).double())
    still = isotropic(torch.zeros(1, 2).double(), torch.zeros(2).double())
    law = matched(NormalSquare.between(still, target))
    assert float(law.root_shortfall(torch.tensor([7.0]).double())) == pytest.approx(2.0, rel=1e-3)
    assert float(law.root_shortfall(torch.tensor([4.0]).double())) == pytest.approx(0.0, abs=1e-8)


def test_a_singular_covariance_has_no_exact_law() -> None:
    with pytest.raises(DataError, match="singular"):
        ExactSquare.of(NormalSquare(torch.ones(1, 2).double(), torch.zeros(1, 2).double(), torch.zeros(1, 2, 0)))
