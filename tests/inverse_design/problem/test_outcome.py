import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import normal, pairs_of, planted_screen
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import (
    Correlation,
    Distance,
    Objective,
    SignedProjection,
    SquaredDistance,
    form_on,
    quadratic_form,
    squared_distance,
    traces,
)
from inverse_design.problem.target import AlignedProfile
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.calibrated import Calibrated
from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior, Interval, Outcome

READOUTS = 6
WHOLE = AlignedProfile.exact(range(READOUTS), normal(READOUTS, seed=5))
PART = AlignedProfile(
    columns=torch.tensor([4, 0, 3]),
    values=torch.tensor([1.5, -0.7, 0.4]).double(),
    variance=torch.tensor([0.0, 0.1, 0.3]).double(),
    weights=torch.tensor([1.0, 2.0, 0.5]).double(),
)
targets = pytest.mark.parametrize("target", [WHOLE, PART], ids=["whole", "part"])


def posterior(*, rank: int = 2, seed: int = 0, size: float = 1.0) -> GaussianPosterior:
    """Four perturbations of two classes, of ranks ``rank`` and zero."""
    return GaussianPosterior(
        mean=normal(4, READOUTS, seed=seed),
        scale=torch.tensor([1.0, 0.5, 2.0, 1.5]).double() * size,
        covariances=(
            FactorCovariance(normal(READOUTS, seed=seed + 1).abs() + 0.1, 0.7 * normal(READOUTS, rank, seed=seed)),
            FactorCovariance.independent(normal(READOUTS, seed=seed + 2).abs() + 0.1),
        ),
        group=torch.tensor([0, 1, 0, 1]),
    )


@dataclass(frozen=True)
class Plain:
    """Effects with a variance and no factor at all."""

    mean: Tensor
    variance: Tensor
    factor: None = None

    @property
    def scale(self) -> Tensor:
        return self.mean.new_ones(len(self.mean))

    def sample(self, count: int, *, seed: int) -> Tensor:
        return self.mean + self.variance.sqrt() * normal(count, *self.mean.shape, seed=seed)

    def interval(self, level: float) -> Interval:
        return Interval(self.mean, self.mean, level)


def distances(target: AlignedProfile, draws: Tensor) -> Tensor:
    return Distance(target).measured(draws.flatten(0, 1)).reshape(draws.shape[:2])


def dense(given: GaussianPosterior, row: int) -> Tensor:
    its = given.covariances[int(given.group[row])]
    return given.scale[row] * (torch.diag(its.diagonal) + its.loadings @ its.loadings.T)


def squares_by_hand(given: GaussianPosterior, target: AlignedProfile) -> tuple[Tensor, Tensor]:
    """Mean and variance of the weighted squared distance, from dense matrices."""
    columns, weight = target.columns, torch.diag(target.weights)
    means, variances = [], []
    for row in range(len(given.mean)):
        spread = weight @ dense(given, row)[columns][:, columns]
        gap = target.values - given.mean[row, columns]
        means.append(gap @ weight @ gap + spread.trace())
        variances.append(2 * (spread @ spread).trace() + 4 * gap @ spread @ weight @ gap)
    return torch.stack(means), torch.stack(variances)


@targets
@given(rank=st.integers(0, 8), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_the_square_has_the_moments_of_dense_matrices(target: AlignedProfile, rank: int, seed: int) -> None:
    drawn = posterior(rank=rank, seed=seed)
    mean, variance = squares_by_hand(drawn, target)
    found = squared_distance(drawn, target)
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.variance, variance)
    root = Distance(target).predicted(drawn)
    total = target.weights.sum()
    torch.testing.assert_close(root.mean, (mean / total).sqrt())
    torch.testing.assert_close(root.variance, variance / (4 * mean * total))


@targets
def test_the_moments_are_those_of_draws(target: AlignedProfile) -> None:
    drawn = posterior()
    effects = drawn.sample(40_000, seed=0)
    gap = (target.values - effects[..., target.columns]).square() * target.weights
    found = squared_distance(drawn, target)
    torch.testing.assert_close(found.mean, gap.sum(2).mean(0), rtol=0.03, atol=0)
    torch.testing.assert_close(found.variance, gap.sum(2).var(0), rtol=0.08, atol=0)
    distance = distances(target, effects)
    torch.testing.assert_close(
        Distance(target).predicted(drawn).mean, distance.square().mean(0).sqrt(), rtol=0.02, atol=0
    )


@targets
def test_the_variance_of_the_distance_is_that_of_small_errors(target: AlignedProfile) -> None:
    sure = posterior(size=1e-3)
    distance = distances(target, sure.sample(20_000, seed=1))
    found = Distance(target).predicted(sure)
    torch.testing.assert_close(found.variance, distance.var(0), rtol=0.06, atol=0)
    torch.testing.assert_close(found.mean, distance.mean(0), rtol=0.01, atol=0)


@targets
def test_a_distance_is_a_weighted_mean_over_readouts(target: AlignedProfile) -> None:
    effects = normal(5, READOUTS, seed=3)
    weights = target.weights / target.weights.sum()
    by_hand = [
        math.sqrt(sum(
            float(weight) * (float(value) - float(row[column])) ** 2
            for column, value, weight in zip(target.columns, target.values, weights, strict=True)
        ))
        for row in effects
    ]  # fmt: skip
    assert Distance(target).measured(effects).tolist() == pytest.approx(by_hand)


@targets
@given(factor=st.floats(0.01, 100))
@settings(max_examples=20)
def test_the_unit_of_weights_does_not_matter(target: AlignedProfile, factor: float) -> None:
    other = replace(target, weights=target.weights * factor)
    one, two = (Distance(each).predicted(posterior()) for each in (target, other))
    torch.testing.assert_close(one.mean, two.mean)
    torch.testing.assert_close(one.variance, two.variance)
    effects = normal(5, READOUTS, seed=3)
    torch.testing.assert_close(Distance(target).measured(effects), Distance(other).measured(effects))


@targets
def test_a_sure_prediction_is_as_far_as_its_mean(target: AlignedProfile) -> None:
    sure = Plain(posterior().mean, torch.zeros(4, READOUTS).double())
    found = Distance(target).predicted(sure)
    torch.testing.assert_close(found.mean, Distance(target).measured(sure.mean))
    assert found.variance.tolist() == [0.0] * 4
    wide = target.values.new_zeros(1, READOUTS)
    wide[0, target.columns] = target.values
    there = Distance(target).predicted(Plain(wide, torch.zeros_like(wide)))
    assert (there.mean.tolist(), there.variance.tolist()) == ([0.0], [0.0])


@targets
def test_a_covariance_without_factors_is_one_of_rank_zero(target: AlignedProfile) -> None:
    with_factor = posterior(rank=0)
    plain = Plain(with_factor.mean, with_factor.variance)
    rows = normal(4, len(target.columns), seed=8)
    for one, two in zip(traces(with_factor, target), traces(plain, target), strict=True):
        torch.testing.assert_close(one, two)
    torch.testing.assert_close(
        form_on(with_factor, target, rows),
        form_on(plain, target, rows),
    )


@given(rank=st.integers(0, 8), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_forms_are_those_of_dense_matrices(rank: int, seed: int) -> None:
    drawn, rows = posterior(rank=rank, seed=seed), normal(4, READOUTS, seed=seed + 5)
    by_hand = torch.stack([row @ dense(drawn, number) @ row for number, row in enumerate(rows)])
    torch.testing.assert_close(quadratic_form(drawn, rows), by_hand)


# --- outcomes of objectives -----------------------------------------------------------------------------------

SCREEN = planted_screen(alone=range(7), together=pairs_of(7, 14), readouts=READOUTS, bend=0.5, standard_error=0.2)
FITTED = Calibrated(Interaction(components=3, leading=2)).fit(SCREEN, seed=0)
PAIRS = SCREEN.vocabulary.dosed(torch.combinations(torch.arange(7), 2))


@pytest.mark.parametrize(
    "make",
    [
        SignedProjection,
        lambda target: Correlation(target, "pearson"),
        lambda target: Correlation(target, "cosine"),
    ],
)
@targets
def test_what_is_predicted_of_a_direction_is_its_utility(
    make: type[SignedProjection], target: AlignedProfile
) -> None:
    objective = make(target)
    outcome = objective.outcome
    assert isinstance(outcome, Outcome)
    assert isinstance(objective, Objective)
    utility, found = objective.utility(FITTED, PAIRS), outcome.predicted(FITTED.predict(PAIRS))
    assert torch.equal(found.mean, utility.mean)
    assert torch.equal(found.variance, utility.variance)
    # What is measured of the expected effect is what was predicted.
    torch.testing.assert_close(outcome.measured(FITTED.predict(PAIRS).mean), found.mean)


@targets
def test_what_is_measured_of_a_direction_is_what_numpy_says(target: AlignedProfile) -> None:
    effects = normal(5, READOUTS, seed=3)
    rows, wanted, weights = effects[:, target.columns].numpy(), target.values.numpy(), target.weights.numpy()
    projection = SignedProjection(target).measured(effects)
    np.testing.assert_allclose(projection.numpy(), rows @ (wanted * weights))
    for number, row in enumerate(rows):
        together = np.cov(row, wanted, aweights=weights)
        pearson = together[0, 1] / math.sqrt(together[0, 0] * together[1, 1])
        assert float(Correlation(target, "pearson").measured(effects)[number]) == pytest.approx(pearson)
        cosine = (weights * row * wanted).sum() / math.sqrt((weights * row**2).sum() * (weights * wanted**2).sum())
        assert float(Correlation(target, "cosine").measured(effects)[number]) == pytest.approx(cosine)


@targets
def test_targets_that_are_states_are_judged_by_distance(target: AlignedProfile) -> None:
    for objective in (SquaredDistance(target), TargetLikelihood(target, torch.zeros(7).double())):
        outcome = objective.outcome
        assert isinstance(outcome, Distance)
        assert outcome.target is target
        assert outcome.name == "distance"
    square = -SquaredDistance(target).utility(FITTED, PAIRS).mean
    root = Distance(target).predicted(FITTED.predict(PAIRS)).mean
    torch.testing.assert_close(root.square() * target.weights.sum(), square)
    names = [each.name for each in (SignedProjection(target), Correlation(target, "cosine"))]
    assert names == ["projection", "cosine"]
