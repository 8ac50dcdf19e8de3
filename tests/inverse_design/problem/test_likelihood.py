import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import multivariate_t
from strategies.planted_laws import (
    BASES,
    GENES,
    LAWS,
    PART,
    PRIOR,
    READOUTS,
    WHOLE,
    calibrated,
    law,
    screen,
    space_of,
)
from strategies.streamed import Streamed
from torch import Tensor
from torch.distributions import MultivariateNormal

from inverse_design.problem.likelihood import TargetLikelihood, law_on
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.scan import search_pairs
from inverse_design.testing import check_pair_score
from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.uncertainty.error_model import FactorCovariance


def everything() -> PerturbationBatch:
    space = space_of()
    return space.batch(0, space.size)


def dense_density(fitted: FittedCalibrated, batch: PerturbationBatch, target: AlignedProfile) -> Tensor:
    """The tempered log density of the target, candidate by candidate, from dense covariances."""
    columns, m = target.columns, len(target.columns)
    posterior = fitted.predict(batch)
    densities = []
    for row, genes in enumerate(batch.genes.tolist()):
        parts = [gene for gene in genes if gene >= 0]
        its = fitted.laws[SEEN_DOUBLE if len(parts) == 2 else SEEN_SINGLE]
        error = torch.diag(its.covariance.diagonal) + its.covariance.loadings @ its.covariance.loadings.T
        error = error[columns][:, columns] + torch.diag(target.variance)
        error = error / torch.outer(target.weights.sqrt(), target.weights.sqrt())
        singles = fitted.singles[parts][:, columns]
        shape = posterior.scale[row] * error + its.coefficient_variance * singles.T @ singles
        mean = posterior.mean[row, columns]
        if math.isinf(its.degrees):
            density = float(MultivariateNormal(mean, shape).log_prob(target.values))
        else:
            degrees = its.degrees * m / READOUTS
            density = multivariate_t(mean.numpy(), shape.numpy(), degrees).logpdf(target.values.numpy())
        densities.append(fitted.laws[SEEN_DOUBLE].temperature * (density + m / 2 * math.log(2 * math.pi)))
    return torch.tensor(densities, dtype=torch.float64)


@pytest.mark.parametrize("target", [WHOLE, PART], ids=["whole", "part"])
@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.parametrize("base", BASES)
def test_the_utility_is_the_tempered_density_of_singles_and_pairs(
    base: str, kind: str, target: AlignedProfile
) -> None:
    fitted = calibrated(base, kind)
    utility = TargetLikelihood(target, torch.zeros(GENES).double()).utility(fitted, everything())
    torch.testing.assert_close(utility.mean, dense_density(fitted, everything(), target), rtol=1e-9, atol=1e-9)


def test_singles_that_borrow_the_law_of_doubles_scatter_along_their_one_effect() -> None:
    fitted = calibrated("interaction", "scattered student")
    borrowed = replace(fitted, laws={SEEN_DOUBLE: fitted.laws[SEEN_DOUBLE]})
    batch = everything().rows(slice(0, GENES))
    utility = TargetLikelihood(PART, torch.zeros(GENES).double()).utility(borrowed, batch)
    same = replace(fitted, laws=dict.fromkeys((SEEN_DOUBLE, SEEN_SINGLE), fitted.laws[SEEN_DOUBLE]))
    torch.testing.assert_close(utility.mean, dense_density(same, batch, PART), rtol=1e-9, atol=1e-9)


def test_the_log_prior_of_a_candidate_is_the_sum_over_its_parts() -> None:
    fitted, batch = calibrated("scaled", "normal"), everything()
    flat = TargetLikelihood(PART, torch.zeros(GENES).double()).utility(fitted, batch)
    prior = TargetLikelihood(PART, PRIOR).utility(fitted, batch)
    sums = torch.tensor([sum(float(PRIOR[g]) for g in row if g >= 0) for row in batch.genes.tolist()])
    torch.testing.assert_close(prior.mean - flat.mean, sums.double(), rtol=1e-6, atol=1e-6)
    assert torch.equal(prior.variance, flat.variance)


def test_the_variance_is_that_of_the_square_under_the_posterior_of_the_mean() -> None:
    """For a normal law, where the log density is minus the square times temperature over twice the scale."""
    fitted, batch = calibrated("interaction", "normal"), everything().rows(torch.tensor([12, 20, 30]))
    utility = TargetLikelihood(WHOLE, PRIOR).utility(fitted, batch)
    posterior = fitted.predict(batch)
    excess = posterior.scale - 1
    assert float(excess.min()) > 0.01
    its = fitted.laws[SEEN_DOUBLE]
    draws = its.covariance.draw(3 * 40_000, generator=torch.Generator().manual_seed(0)).view(40_000, 3, READOUTS)
    gaps = WHOLE.values - posterior.mean - draws * excess.sqrt()[:, None]
    dense = torch.diag(its.covariance.diagonal) + its.covariance.loadings @ its.covariance.loadings.T
    square = (gaps @ torch.linalg.inv(dense) * gaps).sum(2)
    density = -its.temperature / 2 * square / posterior.scale
    torch.testing.assert_close(utility.variance, density.var(0), rtol=0.06, atol=0)


def test_the_variance_of_a_student_density_follows_its_slope() -> None:
    batch = everything().rows(slice(GENES, None))
    normal_law, student = (calibrated("interaction", kind) for kind in ("normal", "student"))
    flat = TargetLikelihood(WHOLE, torch.zeros(GENES).double())
    posterior, its = student.predict(batch), student.laws[SEEN_DOUBLE]
    gap = its.covariance.whiten(WHOLE.values - posterior.mean)
    ratio = (flat.utility(student, batch).variance / flat.utility(normal_law, batch).variance).sqrt()
    quad = gap.square().sum(1) / posterior.scale

    def density(at: Tensor) -> Tensor:
        return -(its.degrees + READOUTS) / 2 * torch.log1p(at / its.degrees)

    slope = (density(quad + 1e-5) - density(quad - 1e-5)) / 2e-5
    torch.testing.assert_close(ratio, -2 * slope, rtol=1e-6, atol=0)


def test_the_law_of_a_part_is_the_marginal() -> None:
    whole = law(3, 10, **LAWS["scattered student"])
    part = law_on(whole, PART)
    dense = torch.diag(whole.covariance.diagonal) + whole.covariance.loadings @ whole.covariance.loadings.T
    root = PART.weights.sqrt()
    wanted = (dense[PART.columns][:, PART.columns] + torch.diag(PART.variance)) / torch.outer(root, root)
    found = torch.diag(part.covariance.diagonal) + part.covariance.loadings @ part.covariance.loadings.T
    torch.testing.assert_close(found, wanted)
    assert torch.equal(part.offset, whole.offset[PART.columns])
    assert part.degrees == pytest.approx(3.0 * 4 / 6)
    assert (part.temperature, part.coefficient_variance) == (0.4, 0.05)


@pytest.mark.parametrize("target", [WHOLE, PART], ids=["whole", "part"])
@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.parametrize("base", BASES)
def test_pair_scores_are_utilities(base: str, kind: str, target: AlignedProfile) -> None:
    fitted, space = calibrated(base, kind), space_of(excluded=("G03",))
    objective = TargetLikelihood(target, PRIOR)
    score = objective.pair_score(fitted, space)
    assert score is not None
    check_pair_score(score)
    first, second = torch.triu_indices(score.size, score.size, offset=1)
    batch = space.vocabulary.dosed(space.entries[torch.stack([first, second], dim=1)])
    utility = objective.utility(fitted, batch).mean
    torch.testing.assert_close(score.exact(first, second), utility, rtol=1e-9, atol=1e-9)
    quick = score.block(0, score.size)[first, second].double()
    assert float((quick - utility).abs().max()) <= score.error + 1e-9


@pytest.mark.parametrize("rules", [{}, {"required": ("G05",)}, {"measured": "keep"}], ids=str)
@pytest.mark.parametrize("kind", LAWS)
def test_the_search_finds_what_spelling_out_finds(kind: str, rules: dict[str, Any]) -> None:
    fitted, space = calibrated("interaction", kind), space_of(**rules)
    objective = TargetLikelihood(PART, PRIOR)
    score = objective.pair_score(fitted, space)
    assert score is not None
    found = search_pairs(score, 7, space=space).top
    start, stop = space.span(2)
    batch = space.batch(start, stop)
    utility = torch.where(space.valid(batch), objective.utility(fitted, batch).mean, -torch.inf)
    best = utility.argsort(descending=True)[: min(7, space.count_valid_of(2))]
    assert found.index.tolist() == (best + start).tolist()
    torch.testing.assert_close(found.score, utility[best])


def test_classes_compare_alike_in_any_unit() -> None:
    """Singles and doubles have laws of their own; their order must not hang on the unit of the effects."""
    fitted = calibrated("scaled", "scattered student")
    fitted = replace(fitted, laws={**fitted.laws, SEEN_SINGLE: fitted.laws[SEEN_SINGLE].with_temperature(1.0)})
    utility = TargetLikelihood(WHOLE, PRIOR).utility(fitted, everything()).mean
    unit = math.log(2)
    rescaled = replace(screen(), effects=screen().effects * unit)
    laws = {
        code: replace(
            each,
            offset=each.offset * unit,
            covariance=FactorCovariance(each.covariance.diagonal * unit**2, each.covariance.loadings * unit),
        )
        for code, each in fitted.laws.items()
    }
    other = FittedCalibrated(
        ScaledAdditive().fit(rescaled, seed=0), laws, fitted.singles * unit, None, fitted.held_out
    )
    target = replace(WHOLE, values=WHOLE.values * unit)
    difference = TargetLikelihood(target, PRIOR).utility(other, everything()).mean - utility
    torch.testing.assert_close(difference, difference[:1].expand(len(difference)), rtol=0, atol=1e-9)


def test_a_student_law_of_many_degrees_is_the_normal_one() -> None:
    """Also across classes, which have constants of their own."""
    fitted = calibrated("scaled", "normal")
    nearly = replace(fitted.laws[SEEN_DOUBLE], degrees=1e9)
    student = replace(fitted, laws={**fitted.laws, SEEN_DOUBLE: nearly})
    objective = TargetLikelihood(WHOLE, PRIOR)
    torch.testing.assert_close(
        objective.utility(student, everything()).mean,
        objective.utility(fitted, everything()).mean,
        rtol=1e-4,
        atol=1e-4,
    )


def test_models_without_factors_have_no_pair_score() -> None:
    whole = calibrated("additive", "normal")
    plain = FittedCalibrated(Streamed().fit(screen(), seed=0), whole.laws, whole.singles, None, whole.held_out)
    assert TargetLikelihood(WHOLE, PRIOR).pair_score(plain, space_of()) is None
