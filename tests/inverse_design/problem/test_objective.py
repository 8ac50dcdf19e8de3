from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen
from strategies.streamed import Streamed
from torch import Tensor

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.objective import (
    Correlation,
    Objective,
    SignedProjection,
    SquaredDistance,
    quadratic_form,
)
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.scan import search_pairs
from inverse_design.testing import check_pair_score
from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.base import Surrogate, single_effects
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.calibrated import FittedCalibrated, HeldOutError
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance
from surrogates.uncertainty.posterior import Interval, isotropic

GENES, READOUTS = 8, 6
BASES: dict[str, Surrogate] = {
    "additive": Additive(),
    "scaled": ScaledAdditive(),
    "interaction": Interaction(components=4, leading=2),
}
TARGET = AlignedProfile(
    columns=torch.tensor([4, 0, 3, 2]),
    values=torch.tensor([1.5, -0.7, 0.4, 2.0]).double(),
    variance=torch.zeros(4).double(),
    weights=torch.tensor([1.0, 2.0, 0.5, 3.0]).double(),
)
EVEN = AlignedProfile.exact([4, 0, 3, 2], TARGET.values)
OBJECTIVES: dict[str, Objective] = {
    "distance": SquaredDistance(TARGET),
    "projection": SignedProjection(TARGET),
    "pearson": Correlation(TARGET, "pearson"),
    "cosine": Correlation(TARGET, "cosine"),
}


@cache
def screen() -> Screen:
    return planted_screen(alone=range(GENES), together=pairs_of(GENES, 14), readouts=READOUTS, bend=0.6)


def law(rank: int, seed: int) -> ErrorLaw:
    covariance = FactorCovariance(
        normal(READOUTS, seed=seed).abs() * 0.2 + 0.05, 0.4 * normal(READOUTS, rank, seed=seed + 1)
    )
    return ErrorLaw(0.3 * normal(READOUTS, seed=seed + 2), covariance, 0.0, torch.inf, 1.0, 14, "planted")


@cache
def calibrated(base: str) -> FittedCalibrated:
    """A model whose laws of singles and doubles differ, also in rank."""
    return FittedCalibrated(
        BASES[base].fit(screen(), seed=0),
        {SEEN_DOUBLE: law(3, seed=10), SEEN_SINGLE: law(1, seed=20)},
        single_effects(screen())[0],
        None,
        HeldOutError(1.0, 1.0, 0),
    )


def space_of(**rules: tuple[str, ...]) -> CombinationSpace:
    return CombinationSpace.of(
        screen().vocabulary, orders=(1, 2), constraints=Constraints(**rules), measured=screen().batch
    )


def everything() -> PerturbationBatch:
    space = space_of()
    return space.batch(0, space.size)


def dense(fitted: FittedCalibrated, batch: PerturbationBatch) -> tuple[Tensor, Tensor]:
    """Mean and dense covariance of the target's readouts."""
    posterior = fitted.predict(batch)
    columns = TARGET.columns
    shared = [torch.diag(each.diagonal) + each.loadings @ each.loadings.T for each in posterior.covariances]
    covariance = posterior.scale[:, None, None] * torch.stack(shared)[posterior.group]
    return posterior.mean[:, columns], covariance[:, columns][:, :, columns]


def correlation(row: Tensor, kind: str) -> Tensor:
    """The weighted correlation with the target, written out."""
    wanted, weights = TARGET.values, TARGET.weights
    if kind == "pearson":
        row = row - (weights * row).sum() / weights.sum()
        wanted = wanted - (weights * wanted).sum() / weights.sum()
    along = (weights * row * wanted).sum()
    return along / ((weights * row * row).sum() * (weights * wanted * wanted).sum()).sqrt()


@pytest.mark.parametrize("base", BASES)
def test_squared_distance_has_the_moments_of_a_quadratic_form(base: str) -> None:
    utility = SquaredDistance(TARGET).utility(calibrated(base), everything())
    mean, covariance = dense(calibrated(base), everything())
    weights = torch.diag(TARGET.weights)
    for row in range(len(mean)):
        gap, inner = TARGET.values - mean[row], weights @ covariance[row]
        expected = -(gap @ weights @ gap) - inner.trace()
        variance = 2 * (inner @ inner).trace() + 4 * gap @ inner @ weights @ gap
        assert float(utility.mean[row]) == pytest.approx(float(expected), rel=1e-10)
        assert float(utility.variance[row]) == pytest.approx(float(variance), rel=1e-10)


def test_squared_distance_agrees_with_draws() -> None:
    batch = everything().rows(torch.tensor([1, 9, 20]))
    utility = SquaredDistance(TARGET).utility(calibrated("interaction"), batch)
    draws = calibrated("interaction").predict(batch).sample(40_000, seed=0)[:, :, TARGET.columns]
    worth = -((TARGET.values - draws).square() * TARGET.weights).sum(2)
    torch.testing.assert_close(worth.mean(0), utility.mean, rtol=0.02, atol=0)
    torch.testing.assert_close(worth.var(0), utility.variance, rtol=0.06, atol=0)


@pytest.mark.parametrize("base", BASES)
def test_a_projection_is_a_linear_form(base: str) -> None:
    utility = SignedProjection(TARGET).utility(calibrated(base), everything())
    mean, covariance = dense(calibrated(base), everything())
    direction = TARGET.values * TARGET.weights
    torch.testing.assert_close(utility.mean, mean @ direction)
    torch.testing.assert_close(utility.variance, torch.einsum("m,bmk,k->b", direction, covariance, direction))


def test_plain_correlations_are_those_of_numpy() -> None:
    mean, _ = dense(calibrated("interaction"), everything())
    pearson = Correlation(EVEN, "pearson").utility(calibrated("interaction"), everything()).mean
    cosine = Correlation(EVEN, "cosine").utility(calibrated("interaction"), everything()).mean
    wanted = np.corrcoef(np.vstack([EVEN.values.numpy(), mean.numpy()]))[0, 1:]
    np.testing.assert_allclose(pearson.numpy(), wanted, rtol=1e-10)
    torch.testing.assert_close(cosine, torch.cosine_similarity(mean, EVEN.values[None], dim=1))


@pytest.mark.parametrize("kind", ["pearson", "cosine"])
@pytest.mark.parametrize("base", BASES)
def test_weighted_correlations_and_their_first_order_variance(base: str, kind: str) -> None:
    utility = OBJECTIVES[kind].utility(calibrated(base), everything())
    mean, covariance = dense(calibrated(base), everything())
    for row in range(len(mean)):
        value = correlation(mean[row], kind)
        gradient = torch.zeros(len(TARGET.values), dtype=torch.float64)
        for readout in range(len(gradient)):
            step = torch.zeros_like(gradient)
            step[readout] = 1e-5
            gradient[readout] = (correlation(mean[row] + step, kind) - correlation(mean[row] - step, kind)) / 2e-5
        assert float(utility.mean[row]) == pytest.approx(float(value), rel=1e-10)
        variance = float(gradient @ covariance[row] @ gradient)
        assert float(utility.variance[row]) == pytest.approx(variance, rel=1e-6, abs=1e-12)


def test_weight_two_counts_like_the_readout_twice() -> None:
    doubled = AlignedProfile.exact([4, 0, 3, 2, 0], torch.cat([TARGET.values, TARGET.values[1:2]]))
    weighted = AlignedProfile(EVEN.columns, EVEN.values, EVEN.variance, torch.tensor([1.0, 2, 1, 1]).double())
    fitted = calibrated("interaction")
    for kind in (SquaredDistance, SignedProjection, lambda target: Correlation(target, "pearson")):
        twice, once = (kind(each).pair_score(fitted, space_of()) for each in (doubled, weighted))
        first, second = torch.triu_indices(GENES, GENES, offset=1)
        torch.testing.assert_close(twice.exact(first, second), once.exact(first, second))


def test_the_planted_interactions_are_active() -> None:
    """What follows compares pair scores where products of scores and scales matter."""
    fitted = calibrated("interaction")
    assert float(fitted.pair_factors().basis.abs().max()) > 0.1
    assert float(fitted.pair_factors().scores.abs().max()) > 0.1
    assert float(fitted.predict(everything()).scale.max()) > 1.2


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_pair_scores_are_expected_utilities(base: str, name: str) -> None:
    fitted, space = calibrated(base), space_of(excluded=("G03",))
    score = OBJECTIVES[name].pair_score(fitted, space)
    assert score is not None
    assert score.size == GENES - 1
    check_pair_score(score)
    first, second = torch.triu_indices(score.size, score.size, offset=1)
    batch = space.vocabulary.dosed(space.entries[torch.stack([first, second], dim=1)])
    utility = OBJECTIVES[name].utility(fitted, batch).mean
    torch.testing.assert_close(score.exact(first, second), utility, rtol=1e-9, atol=1e-9)
    quick = score.block(0, score.size)[first, second].double()
    assert float((quick - utility).abs().max()) <= score.error + 1e-9


@pytest.mark.parametrize("rules", [{}, {"required": ("G05",)}, {"excluded": ("G00", "G06")}], ids=str)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_search_finds_what_spelling_out_finds(name: str, rules: dict[str, tuple[str, ...]]) -> None:
    fitted, space = calibrated("interaction"), space_of(**rules)
    score = OBJECTIVES[name].pair_score(fitted, space)
    assert score is not None
    found = search_pairs(score, 6, space=space).top
    start, stop = space.span(2)
    batch = space.batch(start, stop)
    utility = OBJECTIVES[name].utility(fitted, batch).mean
    utility = torch.where(space.valid(batch), utility, -torch.inf)
    best = utility.argsort(descending=True)[: min(6, space.count_valid_of(2))]
    assert found.index.tolist() == (best + start).tolist()
    torch.testing.assert_close(found.score, utility[best])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_models_without_factors_have_no_pair_score(name: str) -> None:
    plain = Streamed().fit(screen(), seed=0)
    whole = calibrated("additive")
    fitted = FittedCalibrated(plain, whole.laws, whole.singles, None, whole.held_out)
    assert OBJECTIVES[name].pair_score(fitted, space_of()) is None
    assert len(OBJECTIVES[name].utility(fitted, everything()).mean) == len(everything())


@dataclass(frozen=True)
class Diagonal:
    """A posterior without a factor."""

    mean: Tensor
    variance: Tensor
    scale: Tensor
    factor: None = None

    def sample(self, count: int, *, seed: int) -> Tensor:
        return self.mean + self.variance.sqrt() * normal(count, *self.mean.shape, seed=seed)

    def interval(self, level: float) -> Interval:
        return isotropic(self.mean, self.variance[0]).interval(level)


def test_quadratic_forms_of_independent_readouts() -> None:
    posterior = Diagonal(normal(3, 4, seed=0), normal(3, 4, seed=1).square(), torch.ones(3).double())
    rows = normal(3, 4, seed=2)
    wanted = torch.stack(
        [row @ torch.diag(each) @ row for row, each in zip(rows, posterior.variance, strict=True)]
    )
    torch.testing.assert_close(quadratic_form(posterior, rows), wanted)
