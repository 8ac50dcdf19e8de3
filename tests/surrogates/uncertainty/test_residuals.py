import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies.screens import normal
from torch import Tensor
from torch.distributions import MultivariateNormal, StudentT

from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance, LawChoice, StandardResiduals


def law_of(
    g: int, rank: int, tau2: float, degrees: float = math.inf, temperature: float = 1.0, seed: int = 0
) -> ErrorLaw:
    covariance = FactorCovariance(normal(g, seed=seed).exp(), normal(g, rank, seed=seed + 1))
    return ErrorLaw(torch.zeros(g, dtype=torch.float64), covariance, tau2, degrees, temperature, 0, "")


def dense(covariance: FactorCovariance) -> Tensor:
    return covariance.diagonal.diag() + covariance.loadings @ covariance.loadings.T


def inner_products(
    law: ErrorLaw, parts: Tensor, miss: Tensor
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """What ``log_density`` asks for, of one target and one candidate."""
    white, rows = law.covariance.whiten(miss[None])[0], law.covariance.whiten(parts)
    gram = rows @ rows.T
    return (
        white.square().sum(),
        tuple(rows @ white),
        tuple(gram[first, second] for first in range(len(parts)) for second in range(first, len(parts))),
    )


laws = st.tuples(st.integers(1, 6), st.integers(0, 3), st.sampled_from([0.0, 1e-3, 0.4]), st.integers(0, 99))


@given(laws, st.integers(1, 4), st.sampled_from([0.3, 1.0, 7.0]))
@settings(deadline=None)
def test_normal_density_is_the_dense_one(drawn: tuple[int, int, float, int], count: int, scale: float) -> None:
    g, rank, tau2, seed = drawn
    law = law_of(g, rank, tau2, seed=seed)
    parts, miss = normal(count, g, seed=seed + 2), 2 * normal(g, seed=seed + 3)
    found = law.log_density(*inner_products(law, parts, miss), torch.tensor(scale, dtype=torch.float64))
    full = scale * dense(law.covariance) + tau2 * parts.T @ parts
    expected = MultivariateNormal(torch.zeros_like(miss), full).log_prob(miss)
    # The constant of the class, which log_density leaves out.
    constant = -(law.covariance.log_determinant + g * math.log(2 * math.pi)) / 2
    torch.testing.assert_close(found + constant, expected, rtol=1e-7, atol=1e-7)


@given(laws, st.sampled_from([1, 2]), st.sampled_from([0.3, 1.0, 7.0]), st.sampled_from([0.9, 4.0, 60.0]))
@settings(deadline=None)
def test_student_density_is_the_dense_one(
    drawn: tuple[int, int, float, int], count: int, scale: float, degrees: float
) -> None:
    g, rank, tau2, seed = drawn
    law = law_of(g, rank, tau2, degrees, seed=seed)
    parts, miss = normal(count, g, seed=seed + 2), 2 * normal(g, seed=seed + 3)
    found = law.log_density(*inner_products(law, parts, miss), torch.tensor(scale, dtype=torch.float64))
    full = scale * dense(law.covariance) + tau2 * parts.T @ parts
    expected = stats.multivariate_t(np.zeros(g), full.numpy(), df=degrees).logpdf(miss.numpy())
    constant = (
        math.lgamma((degrees + g) / 2)
        - math.lgamma(degrees / 2)
        - (law.covariance.log_determinant + g * math.log(degrees * math.pi)) / 2
    )
    assert float(found) + constant == pytest.approx(float(expected), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("tau2", [0.0, 0.4])
def test_with_one_readout_the_student_law_is_torchs(tau2: float) -> None:
    law = law_of(1, 1, tau2, 3.0)
    part, misses = normal(1, 1, seed=4), torch.linspace(-4, 4, 9, dtype=torch.float64)
    full = 2.5 * dense(law.covariance) + tau2 * part.square()
    expected = StudentT(3.0, 0.0, float(full.sqrt())).log_prob(misses)
    found = torch.stack(
        [
            law.log_density(*inner_products(law, part, miss[None]), torch.tensor(2.5, dtype=torch.float64))
            for miss in misses
        ]
    )
    torch.testing.assert_close(found - found[0], expected - expected[0])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("tau2", [0.0, 0.2])
def test_targets_by_candidates_are_scored_as_one_by_one(count: int, tau2: float) -> None:
    law = law_of(4, 2, tau2, 5.0, temperature=0.3)
    n, c = 3, 5
    predictions, targets = normal(c, 4, seed=1), normal(n, 4, seed=2)
    parts, scale = normal(c, count, 4, seed=3), 1 + normal(c, seed=4).abs()
    each = [[inner_products(law, parts[b], targets[a] - predictions[b]) for b in range(c)] for a in range(n)]
    slow = torch.tensor([[float(law.log_density(*each[a][b], scale[b])) for b in range(c)] for a in range(n)])
    square = torch.stack([torch.stack([form[0] for form in row]) for row in each])
    projections = tuple(
        torch.stack([torch.stack([form[1][k] for form in row]) for row in each]) for k in range(count)
    )
    gram = tuple(torch.stack([form[2][k] for form in each[0]]) for k in range(len(each[0][0][2])))
    together = law.log_density(square, projections, gram, scale)
    torch.testing.assert_close(together, slow.to(torch.float64), rtol=1e-5, atol=1e-5)


def test_the_temperature_is_a_power() -> None:
    law = law_of(3, 1, 0.2, 4.0)
    form = (*inner_products(law, normal(2, 3, seed=5), normal(3, seed=6)), torch.tensor(1.5, dtype=torch.float64))
    torch.testing.assert_close(law.with_temperature(0.3).log_density(*form), 0.3 * law.log_density(*form))


@given(
    n=st.sampled_from([1, 2, 5]),
    g=st.sampled_from([1, 2, 5, 40]),
    rank=st.sampled_from([0, 1, 4, 5, 80]),
    shrinkage=st.sampled_from([0.0, 0.5, 1.0]),
    size=st.sampled_from([0.0, 1e-8, 1.0, 1e8]),
)
@settings(deadline=None)
def test_any_number_of_residuals_gives_a_proper_law(
    n: int, g: int, rank: int, shrinkage: float, size: float
) -> None:
    law = StandardResiduals.of(size * normal(n, g, seed=n), 1 + normal(n, seed=3).abs()).law(
        LawChoice(rank, shrinkage)
    )
    covariance = law.covariance
    assert covariance.loadings.shape == (g, min(rank, n - 1, g))
    assert bool((covariance.diagonal > 0).all())
    assert math.isfinite(covariance.log_determinant)
    assert bool(torch.isfinite(covariance.whiten(normal(2, g, seed=4))).all())
    assert law.support == n


@pytest.mark.parametrize("n", [1, 2, 5])
def test_five_thousand_readouts(n: int) -> None:
    residuals = normal(n, 5000, seed=0)
    law = StandardResiduals.of(residuals, torch.ones(n, dtype=torch.float64)).law(LawChoice(80, 0.5, 0.0, 1.5))
    assert law.covariance.loadings.shape == (5000, n - 1)
    assert law.degrees == 7500
    white = law.covariance.whiten(residuals)
    assert bool(torch.isfinite(white).all())
    assert math.isfinite(law.covariance.log_determinant)


@given(st.integers(1, 30), st.floats(-5, 5))
@settings(deadline=None)
def test_offsets_are_shrunk_as_by_ten_zeros(n: int, bias: float) -> None:
    law = StandardResiduals.of(
        torch.full((n, 3), bias, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    ).law(LawChoice())
    torch.testing.assert_close(law.offset, torch.full((3,), bias * n / (n + 10), dtype=torch.float64))


def test_without_factors_and_shrinkage_variances_are_mean_squares() -> None:
    residuals, scale = normal(20, 4, seed=1), 1 + normal(20, seed=2).abs()
    law = StandardResiduals.of(residuals, scale).law(LawChoice(0, 0.0))
    standard = (residuals - law.offset) / scale.sqrt()[:, None]
    torch.testing.assert_close(law.covariance.diagonal, standard.square().mean(0))


def test_full_shrinkage_makes_variances_equal() -> None:
    residuals = normal(20, 4, seed=1) * torch.tensor([0.1, 1.0, 2.0, 5.0], dtype=torch.float64)
    law = StandardResiduals.of(residuals, torch.ones(20, dtype=torch.float64)).law(LawChoice(1, 1.0))
    assert float(law.covariance.diagonal.max() - law.covariance.diagonal.min()) < 1e-12
    assert float(law.covariance.diagonal[0]) > 0


def test_residuals_of_wide_predictions_count_in_their_own_units() -> None:
    rows = normal(30, 6, seed=1)
    residuals = torch.cat([rows, -rows])  # without an offset
    scale = 1 + normal(30, seed=2).abs().repeat(2)
    plain = StandardResiduals.of(residuals, torch.ones(60, dtype=torch.float64)).law(LawChoice(2, 0.1))
    wide = StandardResiduals.of(residuals * scale.sqrt()[:, None], scale).law(LawChoice(2, 0.1))
    torch.testing.assert_close(dense(wide.covariance), dense(plain.covariance))


def test_row_order_does_not_matter() -> None:
    residuals, scale = normal(15, 6, seed=1), 1 + normal(15, seed=2).abs()
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    first = StandardResiduals.of(residuals, scale).law(LawChoice(3, 0.1))
    second = StandardResiduals.of(residuals[order], scale[order]).law(LawChoice(3, 0.1))
    torch.testing.assert_close(dense(first.covariance), dense(second.covariance))


def test_a_planted_factor_covariance_is_recovered() -> None:
    planted = FactorCovariance(0.5 + normal(30, seed=1).abs(), 2 * normal(30, 2, seed=2))
    residuals = planted.draw(2000, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(2000, dtype=torch.float64)

    def miss(choice: LawChoice) -> float:
        return float((dense(StandardResiduals.of(residuals, ones).law(choice).covariance) - dense(planted)).norm())

    assert miss(LawChoice(2, 0.0)) < 0.1 * float(dense(planted).norm())
    assert miss(LawChoice(2, 0.0)) < 0.2 * miss(LawChoice(0, 0.0))


def test_choices_are_carried_over() -> None:
    law = StandardResiduals.of(normal(5, 4, seed=0), torch.ones(5, dtype=torch.float64)).law(
        LawChoice(1, 0.5, 0.02, 1.5),
        temperature=0.4,
        origin="double",
    )
    assert (law.coefficient_variance, law.degrees, law.temperature, law.origin) == (0.02, 6.0, 0.4, "double")


def test_factors_are_leading_directions_and_the_rest_is_divided_by_what_is_left_of_n() -> None:
    residuals = normal(12, 7, seed=1)
    law = StandardResiduals.of(residuals, torch.ones(12, dtype=torch.float64)).law(LawChoice(3, 0.0))
    standard = residuals - law.offset
    values, vectors = torch.linalg.eigh(standard.T @ standard / 12)
    lead = vectors[:, -3:]
    loadings = law.covariance.loadings
    torch.testing.assert_close(loadings @ loadings.T, (lead * values[-3:]) @ lead.T)
    rest = standard - standard @ lead @ lead.T
    torch.testing.assert_close(law.covariance.diagonal, rest.square().sum(0) / 9)


@given(
    n=st.sampled_from([2, 9, 40]),
    g=st.sampled_from([1, 3, 40]),
    decay=st.sampled_from([1.0, 0.8, 0.3]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_laws_are_those_of_singular_vectors(n: int, g: int, decay: float, seed: int) -> None:
    residuals = normal(n, n, seed=seed) * decay ** torch.arange(n) @ normal(n, g, seed=seed + 1)
    scale = 1 + normal(n, seed=seed + 2).abs()
    most = min(n - 1, g, 5)
    found, choice = StandardResiduals.of(residuals, scale, most=most), LawChoice(most, 0.1)
    rows = (residuals - found.offset) / scale.sqrt()[:, None]
    _, values, directions = torch.linalg.svd(rows, full_matrices=False)
    lead = directions[:most]
    covariance = (lead.T * values[:most].square() / n) @ lead
    loadings = found.law(choice).covariance.loadings
    torch.testing.assert_close(loadings @ loadings.T, covariance, rtol=0, atol=1e-10 * float(covariance.max()))
    rest = (rows - rows @ lead.T @ lead).square().sum(0) / (n - most)
    diagonal = (0.9 * rest + 0.1 * rest.mean()).clamp(min=1e-6 * float(rows.square().mean()))
    floored = diagonal.clamp(min=max(float(rest.mean()) * 1e-3, 1e-12))
    torch.testing.assert_close(found.law(choice).covariance.diagonal, floored, rtol=1e-8, atol=0)
