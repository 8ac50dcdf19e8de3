import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from strategies.exact_square import ExactSquare
from strategies.screens import normal

from inverse_design.acquisition.quadratic import ErrorAxes, NormalSquare
from inverse_design.problem.objective import squared_distance
from inverse_design.problem.target import AlignedProfile
from surrogates.errors import DataError
from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior


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


def test_moments_and_exponents_are_those_of_dense_matrices() -> None:
    square = made(5, 2)
    v, a = dense(square), square.gap[:, :, None]
    s = torch.tensor([0.7, -0.02, 3.0]).double()
    eye = torch.eye(5).double().expand(3, 5, 5)

    def logarithm(at: torch.Tensor) -> torch.Tensor:
        grown = eye + 2 * at[:, None, None] * v
        return -torch.linalg.slogdet(grown)[1] / 2 - at * (a.mT @ torch.linalg.solve(grown, a)).flatten()

    at = s.clone().requires_grad_()
    value = logarithm(at)
    (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), at)
    found = square.exponent(s)
    for mine, known in zip(found, (s * slope - value, -slope, curvature), strict=True):
        torch.testing.assert_close(mine, known.detach(), rtol=1e-6, atol=0.0)
    mean, variance = square.moments()
    drawn = simulated(square)
    torch.testing.assert_close(mean, drawn.mean(0), rtol=0.01, atol=0.0)
    torch.testing.assert_close(variance, drawn.var(0), rtol=0.03, atol=0.0)


@pytest.mark.parametrize("most", [2500, 1], ids=["turned", "not turned"])
def test_squares_in_other_axes_are_those_of_the_objective(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inverse_design.acquisition.quadratic._MOST_TURNED", most)
    target = AlignedProfile(
        torch.tensor([2, 0]), normal(2, seed=1), torch.zeros(2).double(), torch.tensor([2.0, 0.5]).double()
    )
    covariance = FactorCovariance(normal(4, seed=2).square() + 0.1, normal(4, 2, seed=3))
    scale = torch.tensor([1.0, 2.5, 0.3]).double()
    posterior = GaussianPosterior(normal(3, 4, seed=4), scale, (covariance,), torch.zeros(3, dtype=torch.int64))
    aimed = FactorCovariance(covariance.diagonal[target.columns], covariance.loadings[target.columns])
    gap = target.values - posterior.mean[:, target.columns]
    nothing = torch.zeros(3, 2, 0).double()
    mean, variance = ErrorAxes.of(aimed, target.weights).square(gap, nothing, scale).moments()
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
    q = at * float(square.moments()[0])
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


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 40), st.integers(0, 5), st.floats(0.0, 2.0), st.floats(0.1, 3.0), st.integers(0, 99))
def test_saddle_points_have_the_chances_of_the_exact_law(m: int, r: int, gap: float, at: float, seed: int) -> None:
    square = made(m, min(r, m), gap=gap, seed=seed)
    q = at * square.moments()[0][:1]
    below = ExactSquare.of(square).probability_below(q)
    seen = below > 1e-12  # nearer to nothing, half of its digits are gone
    found = square.scores(q.sqrt()).probability
    torch.testing.assert_close(found[seen], below[seen], rtol=0.1, atol=0.0)


@pytest.mark.parametrize("at", [0.05, 0.4, 1.0, 2.5])
def test_saddle_points_have_the_gains_of_the_exact_law_however_small(at: float) -> None:
    square = made(30, 3, gap=0.7, seed=5)
    distance = (at * square.moments()[0][:1]).sqrt()
    known = ExactSquare.of(square).root_shortfall(distance)
    assert at > 0.1 or float(known.max()) < 1e-8
    torch.testing.assert_close(square.scores(distance).expected, known, rtol=0.04, atol=0.0)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_with_few_readouts_gains_are_off_by_some_percent(m: int) -> None:
    square = made(m, 1, gap=0.7, seed=5)
    for at in (0.05, 0.3, 1.0, 4.0):
        distance = (at * square.moments()[0][:1]).sqrt()
        known = ExactSquare.of(square).root_shortfall(distance)
        torch.testing.assert_close(square.scores(distance).expected, known, rtol=0.08, atol=0.0)


def test_what_does_not_scatter_gains_what_it_is_nearer() -> None:
    still = NormalSquare(
        torch.tensor([[3.0, 4.0], [0.0, 0.0]]).double(), torch.zeros(2, 2).double(), torch.zeros(2, 2, 0).double()
    )
    for distance, known in ((7.0, [2.0, 7.0]), (4.0, [0.0, 4.0]), (0.0, [0.0, 0.0])):
        found = still.scores(torch.tensor([distance]).double())
        assert found.expected.tolist() == pytest.approx(known, rel=1e-3, abs=1e-8)


def test_a_singular_covariance_has_no_exact_law() -> None:
    with pytest.raises(DataError, match="singular"):
        ExactSquare.of(NormalSquare(torch.ones(1, 2).double(), torch.zeros(1, 2).double(), torch.zeros(1, 2, 0)))
