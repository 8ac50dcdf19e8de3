import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import SignedProjection, SquaredDistance
from inverse_design.problem.target import AlignedProfile
from inverse_design.recommend.picked_bounds import (
    Replayed,
    as_near_as_noise,
    may_have_made,
    picked_bounds,
    replayed,
)
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.uncertainty.posterior import ScalarPosterior

GENES, READOUTS = 10, 6
TARGET = AlignedProfile.exact(range(READOUTS), normal(READOUTS, seed=4))
PRIOR = torch.zeros(GENES).double()


@cache
def screen() -> Screen:
    return planted_screen(
        alone=range(GENES), together=pairs_of(GENES, 26), readouts=READOUTS, noise=0.2, standard_error=0.2
    )


@cache
def model() -> FittedCalibrated:
    return Calibrated(ScaledAdditive()).fit(screen(), seed=0)


def picks(*pairs: tuple[int, int]) -> PerturbationBatch:
    return screen().vocabulary.dosed(torch.tensor(pairs))


@pytest.mark.parametrize("by", [SquaredDistance(TARGET), TargetLikelihood(TARGET, PRIOR)], ids=["near", "likely"])
def test_for_a_state_every_held_out_double_is_a_target_once(by: SquaredDistance | TargetLikelihood) -> None:
    slow = []
    for fold in model().cross:
        rows = torch.nonzero(fold.codes == SEEN_DOUBLE).flatten().tolist()
        for made in [None, *rows]:
            values = TARGET.values if made is None else fold.effects[made]
            asked = replace(by, target=AlignedProfile.exact(range(READOUTS), values))
            among = [row for row in rows if row != made]
            worth = [float(asked.utility(fold.fitted, fold.batch.rows(torch.tensor([row]))).mean) for row in among]
            best = among[worth.index(max(worth))]
            predicted = asked.outcome.predicted(fold.fitted.predict(fold.batch.rows(torch.tensor([best]))))
            measured = (values - fold.effects[best]).square().mean().sqrt()
            slow.append(float((measured - predicted.mean) / predicted.variance.sqrt()))
    found = replayed(by, model(), SEEN_DOUBLE)
    assert len(found) == 26 + len(model().cross)
    assert found.error.tolist() == pytest.approx(slow)


def test_for_a_direction_the_best_of_small_groups_counts() -> None:
    found = replayed(SignedProjection(TARGET), model(), SEEN_DOUBLE)
    assert 10 <= len(found) <= 13  # 26 doubles in pairs, fold by fold
    assert not len(replayed(SignedProjection(TARGET), model(), 16))  # no single was held out by this surrogate


def test_bounds_leave_as_much_on_either_side_as_the_level_says() -> None:
    error = torch.arange(-9.0, 10.0).double()
    low, high = Replayed(error).bounds(ScalarPosterior(torch.tensor([5.0]).double(), torch.ones(1).double()), 0.9)
    assert (low.tolist(), high.tolist()) == ([-4.0], [14.0])  # 19 errors: the outermost on either side
    low, high = Replayed(error).bounds(ScalarPosterior(torch.tensor([5.0]).double(), torch.ones(1).double()), 0.5)
    assert (low.tolist(), high.tolist()) == ([0.0], [10.0])


def test_designed_picks_are_never_bounded_more_narrowly_than_random_ones_and_misses_widen_the_bounds() -> None:
    ranker, batch = SquaredDistance(TARGET), picks((0, 1), (2, 5), (3, 4))
    predicted = ranker.outcome.predicted(model().predict(batch)).mean
    wide, narrow = (predicted - 9.0, predicted + 9.0), (predicted - 1e-6, predicted + 1e-6)
    assert torch.equal(picked_bounds(ranker, model(), batch, wide, level=0.9).lower, wide[0])
    stated = picked_bounds(ranker, model(), batch, narrow, level=0.9)
    assert bool((stated.lower < narrow[0]).all())
    assert bool((stated.upper > narrow[1]).all())
    assert any("31 replayed rounds" in note for note in stated.notes)
    held = picked_bounds(ranker, model(), batch, narrow, level=0.8, missed=(0.0,))
    missed = picked_bounds(ranker, model(), batch, narrow, level=0.8, missed=(0.6,))
    assert torch.equal(held.lower, picked_bounds(ranker, model(), batch, narrow, level=0.8).lower)
    assert bool((missed.lower < held.lower).all())
    assert any("after the misses of past rounds" in note for note in missed.notes)


def test_too_few_rounds_leave_the_bounds_of_random_candidates_and_are_told() -> None:
    few = planted_screen(alone=range(5), together=pairs_of(5, 6), readouts=READOUTS)
    fitted = Calibrated(ScaledAdditive()).fit(few, seed=0)
    batch = few.vocabulary.dosed(torch.tensor([[0, 1]]))
    random = (torch.zeros(1).double(), torch.ones(1).double())
    stated = picked_bounds(SquaredDistance(TARGET), fitted, batch, random, level=0.9)
    assert (stated.lower.tolist(), stated.upper.tolist()) == ([0.0], [1.0])
    assert any("19 are needed" in note for note in stated.notes)


def test_what_may_have_made_the_target_is_as_near_as_noise() -> None:
    made = next(pair for pair in pairs_of(GENES, 45) if f"G0{min(pair)}+G0{max(pair)}" not in screen().labels)
    values = 0.8 * (screen().effects[made[0]] + screen().effects[made[1]])
    near = AlignedProfile.exact(range(READOUTS), values)
    every = picks(*[(i, j) for i in range(GENES) for j in range(i + 1, GENES)])
    may = may_have_made(TargetLikelihood(near, PRIOR), model(), every, level=0.9)
    assert 1 <= int(may.sum()) <= 5
    labels = [model().vocabulary.perturbation(genes).label for genes in every.genes[may]]
    assert f"G0{min(made)}+G0{max(made)}" in labels
    far = AlignedProfile.exact(range(READOUTS), values + 20.0)
    assert not bool(may_have_made(TargetLikelihood(far, PRIOR), model(), every, level=0.9).any())
    lower = torch.full((2,), 1.0).double()
    found = as_near_as_noise(lower, torch.tensor([True, False]), near, screen(), level=0.9)
    noise = 0.2 * (normal(20_000, READOUTS, seed=3).square().mean(1)).sqrt()
    assert found.tolist() == [pytest.approx(float(noise.quantile(0.05)), rel=0.1), 1.0]
    assert math.isclose(
        float(as_near_as_noise(lower, torch.tensor([True, False]), near, _bare(), level=0.9)[0]), 0
    )


def _bare() -> Screen:
    return planted_screen(alone=range(GENES), together=[], readouts=READOUTS)
