from functools import cache

import torch
from strategies.judged import QUICK
from strategies.screens import pairs_of, planted_screen

from inverse_design.problem.objective import Distance
from inverse_design.problem.target import AlignedProfile
from inverse_design.validate.coverage import CachedFit, CachedOutcome, remembered
from surrogates.data.screen import Screen
from surrogates.models.wrappers.conformal import FittedConformal, conformal
from surrogates.uncertainty.posterior import Posterior, ScalarPosterior


@cache
def screen() -> Screen:
    return planted_screen(alone=range(8), together=pairs_of(8, 20), readouts=5)


@cache
def calibrated() -> FittedConformal:
    return conformal(QUICK.fit(screen(), seed=0))


class Counting(Distance):
    """A distance that counts how often it is predicted."""

    asked = 0

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        type(self).asked += 1
        return super().predicted(posterior)


def test_bounds_are_the_same_and_predicted_once() -> None:
    batch = screen().batch.rows(torch.arange(8, 20))
    quick = remembered(calibrated())
    target = AlignedProfile.exact(range(5), screen().effects[9])
    outcome = CachedOutcome(Counting(target))
    for level in (0.5, 0.8):
        assert torch.equal(quick.interval(batch, level).lower, calibrated().interval(batch, level).lower)
        assert torch.equal(quick.band(batch, level).upper, calibrated().band(batch, level).upper)
        one, other = quick.scalar(outcome, batch, level), calibrated().scalar(Distance(target), batch, level)
        assert torch.equal(one.lower, other.lower)
        assert torch.equal(one.upper, other.upper)
        if level == 0.5:
            first = Counting.asked
    assert Counting.asked == first == len(outcome.known)
    assert outcome.name == "distance"
    assert torch.equal(outcome.measured(screen().effects), Distance(target).measured(screen().effects))


def test_the_same_batch_gives_the_same_object() -> None:
    fit = CachedFit(calibrated().fitted)
    batch = screen().batch.rows(torch.arange(3))
    assert fit.predict(batch) is fit.predict(screen().batch.rows(torch.arange(3)))
    assert fit.predict(batch) is not fit.predict(screen().batch.rows(torch.arange(4)))
    assert fit.vocabulary == calibrated().vocabulary
    assert fit.readouts == calibrated().readouts
    assert torch.equal(fit.measured_alone, calibrated().measured_alone)
