from dataclasses import replace
from functools import cache

import pytest
import torch
from strategies.screens import pairs_of, planted_screen

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Distance, SquaredDistance
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.first_rows import Bench, FirstRows, first_rows
from inverse_design.search.identification import Identification, Total, identify
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.wrappers.automatic import best_with_experts
from surrogates.models.wrappers.calibrated import Calibrated, Expert, FittedCalibrated
from surrogates.models.wrappers.stated_errors import StatedErrors

GENES, READOUTS = 8, 6
PRIOR = torch.linspace(-0.2, 0.2, GENES).double()
SCREEN = planted_screen(
    alone=range(GENES), together=[*pairs_of(GENES, 14), (0, 1, 2)], readouts=READOUTS, noise=0.5, bend=0.3
)
PART = AlignedProfile(
    columns=torch.tensor([4, 0, 3]),
    values=torch.zeros(3).double(),
    variance=torch.tensor([0.0, 0.1, 0.3]).double(),
    weights=torch.tensor([1.0, 2.0, 0.5]).double(),
)
SPACE = CombinationSpace.of(SCREEN.vocabulary, measured=SCREEN.batch, orders=(2,))


@cache
def fitted(experts: int) -> FittedCalibrated:
    one, other = (Calibrated(base, folds=3).fit(SCREEN, seed=0) for base in (ScaledAdditive(), Additive()))
    if experts == 0:
        return one
    both = best_with_experts([one, other])
    cross = tuple(
        replace(
            fold,
            fitted=replace(
                fold.fitted,
                experts=(Expert(0.7, one.cross[number].fitted), Expert(0.3, other.cross[number].fitted)),
            ),
        )
        for number, fold in enumerate(both.cross)
    )
    return replace(both, cross=cross, experts=(Expert(0.7, one), Expert(0.3, other)))


@cache
def stated(experts: int) -> StatedErrors:
    return StatedErrors.of(fitted(experts))


@cache
def found(experts: int) -> Identification:
    return identify(TargetLikelihood(PART, PRIOR), fitted(experts), SPACE, seed=0)


def test_sums_of_experts_are_kept_beside_each_target() -> None:
    assert {len(each.log_sums) for each in found(0).totals} == {0}
    assert {len(each.log_sums) for each in found(2).totals} == {2}
    some = found(2).rows(found(2).fold == 1)
    assert some.totals == tuple(
        each for each, fold in zip(found(2).totals, found(2).fold.tolist(), strict=True) if fold == 1
    )


@pytest.mark.parametrize("experts", [0, 2])
def test_probabilities_are_those_among_all_candidates_and_the_rows(experts: int) -> None:
    """Against the density of each candidate under each expert, one by one."""
    whole, asked = fitted(experts), found(experts)
    every = SPACE.batch(0, SPACE.size)
    every = every.rows(torch.nonzero(SPACE.valid(every)).flatten())
    for number in (0, 5, 9):
        fold, made = whole.cross[int(asked.fold[number])], int(asked.row[number])
        bench = Bench.of(stated(experts).folds[int(asked.fold[number])].fitted, fold.batch, fold.effects, SPACE)
        likelihood = TargetLikelihood(replace(PART, values=fold.effects[made, PART.columns]), PRIOR)
        wanted = torch.zeros(len(fold.batch)).double()
        for expert in fold.fitted.experts or (Expert(1.0, fold.fitted),):
            density = likelihood.utility(expert.fitted, fold.batch).mean
            total = torch.cat([likelihood.utility(expert.fitted, every).mean, density]).logsumexp(0)
            wanted += expert.weight * (density - total).exp()
        posterior = bench.log_posterior(likelihood, made, asked.totals[number])
        torch.testing.assert_close(posterior.exp(), wanted, rtol=1e-4, atol=1e-9)
        assert not bool(bench.inside.any())  # measured ones are left out of the space


@pytest.mark.parametrize("objective", [TargetLikelihood(PART, PRIOR), SquaredDistance(PART)])
def test_each_held_out_double_is_a_target_once(objective: TargetLikelihood | SquaredDistance) -> None:
    whole, asked = fitted(2), found(2)
    rows = first_rows(objective, PRIOR, stated(2), SPACE, asked, seed=0)
    assert len(rows) == len(asked) == 14
    for number, (fold, made) in enumerate(zip(asked.fold.tolist(), asked.row.tolist(), strict=True)):
        held = whole.cross[fold]
        target = replace(PART, values=held.effects[made, PART.columns])
        stating = stated(2).folds[fold].fitted
        bench = Bench.of(stating, held.batch, held.effects, SPACE)
        worth = bench.log_posterior(TargetLikelihood(target, PRIOR), made, asked.totals[number])
        if isinstance(objective, SquaredDistance):
            worth = SquaredDistance(target).utility(held.fitted, held.batch).mean
        order = worth.argsort(descending=True).tolist()
        other = next(each for each in order if each != made)
        measured = Distance(target).measured(held.effects)
        expected = Distance(target).predicted(stating.predict(held.batch)).mean
        assert bool(rows.made[number]) == (order[0] == made)
        assert float(rows.measured[number]) == (
            0.0 if order[0] == made else pytest.approx(float(measured[order[0]]))
        )
        assert float(rows.other_measured[number]) == pytest.approx(float(measured[other]))
        assert float(rows.other_expected[number]) == pytest.approx(float(expected[other]))
    assert bool((rows.probability <= 1).all())
    assert bool(rows.made.any())


def test_a_row_without_another_has_no_other() -> None:
    fold = stated(0).folds[0]
    alone = torch.tensor([0])
    bench = Bench.of(fold.fitted, fold.batch.rows(alone), fold.effects[alone], SPACE)
    row = bench.first(TargetLikelihood(PART, PRIOR), PRIOR, 0, Total(0.0))
    assert bool(row.made[0])
    assert bool(row.other_expected.isnan().all())
    assert isinstance(row, FirstRows)
