from dataclasses import replace
from functools import cache

import pytest
import torch
from strategies.judged import QUICK
from strategies.screens import normal, pairs_of, planted_screen

from inverse_design.problem.objective import Distance
from inverse_design.problem.target import AlignedProfile
from inverse_design.validate.coverage import (
    HeldOutClass,
    implied_distances,
    judge_intervals,
    judge_posterior,
    percent,
    standing_behind,
)
from surrogates.data.novelty import SEEN_DOUBLE, double_splits
from surrogates.data.screen import Screen
from surrogates.errors import CalibrationError
from surrogates.models.wrappers.conformal import FittedConformal, conformal
from surrogates.uncertainty.posterior import Interval


@cache
def screen() -> Screen:
    # The tenth was never measured alone: classes with unseen parts are learnt as well.
    return planted_screen(alone=range(9), together=[*pairs_of(9, 30), (0, 9)], readouts=6)


@cache
def judged() -> tuple[FittedConformal, HeldOutClass]:
    split = next(double_splits(screen(), seed=0))
    calibrated = conformal(QUICK.fit(screen().rows(split.train), seed=0))
    own = torch.zeros(len(split.test), 6, dtype=torch.bool)
    own[:, 2] = True
    own[0] = False
    states = split.test[:3]
    held = HeldOutClass(
        code=SEEN_DOUBLE,
        batch=screen().batch.rows(split.test),
        effects=screen().effects[split.test],
        own=own,
        states=screen().effects[states],
        asks=states[:, None] != split.test,
    )
    return calibrated, held


def test_numbers_are_those_of_a_slow_loop() -> None:
    calibrated, held = judged()
    posterior = calibrated.predict(held.batch)
    columns = judge_intervals(calibrated, posterior, held, [0.8])
    for row in range(len(held.batch)):
        batch = held.batch.rows(torch.tensor([row]))
        interval, band = calibrated.interval(batch, 0.8), calibrated.band(batch, 0.8)
        truth = held.effects[row]
        within = [bool(interval.lower[0, g] <= truth[g] <= interval.upper[0, g]) for g in range(6)]
        assert float(columns["coverage_80_all"][row]) == pytest.approx(sum(within) / 6)
        most = int(posterior.mean[row].abs().argmax())
        assert float(columns["coverage_80_responding"][row]) == within[most]
        width = float((interval.upper - interval.lower)[0, most])
        assert float(columns["width_80_responding"][row]) == pytest.approx(width)
        if row:
            assert float(columns["coverage_80_own"][row]) == within[2]
        at_once = all(bool(band.lower[0, g] <= truth[g] <= band.upper[0, g]) for g in range(6))
        assert float(columns["band_coverage_80"][row]) == at_once
        assert float(columns["band_width_80"][row]) == pytest.approx(float((band.upper - band.lower).mean()))
        found = []
        for state, asks in zip(held.states, held.asks[:, row], strict=True):
            if asks:
                outcome = Distance(AlignedProfile.exact(range(6), state))
                bounds, distance = (
                    calibrated.scalar(outcome, batch, 0.8),
                    float((state - truth).square().mean().sqrt()),
                )
                implied = implied_distances(band, state)
                found.append(
                    (
                        float(bounds.lower[0] <= distance <= bounds.upper[0]),
                        float(bounds.upper[0] - bounds.lower[0]),
                        float(implied[1][0] - implied[0][0]),
                    )
                )
        means = [sum(each) / len(found) for each in zip(*found, strict=True)]
        for name, mean in zip(("distance_coverage", "distance_width", "implied_width"), means, strict=True):
            assert float(columns[f"{name}_80"][row]) == pytest.approx(mean)
    assert bool(columns["coverage_80_own"][:1].isnan().all())


def test_a_perturbation_is_never_its_own_target() -> None:
    _, held = judged()
    for state, asks in zip(held.states, held.asks, strict=True):
        for effect in held.effects[asks]:
            assert not torch.equal(effect, state)
    assert held.asks.sum(0).min() == 2


def test_what_a_band_implies_is_reached_and_never_passed() -> None:
    lower, target = normal(2, 4, seed=0), normal(4, seed=1)
    band = Interval(lower, lower + 1.5, 0.9)
    low, high = implied_distances(band, target)
    inside = lower[:, None] + 1.5 * torch.rand(2, 500, 4, generator=torch.Generator().manual_seed(0)).double()
    distances = (inside - target).square().mean(2).sqrt()
    assert bool((low[:, None] <= distances).all() and (distances <= high[:, None]).all())
    nearest = target.clamp(lower, lower + 1.5)
    torch.testing.assert_close((nearest - target).square().mean(1).sqrt(), low)
    farthest = torch.where((lower - target).abs() > (lower + 1.5 - target).abs(), lower, lower + 1.5)
    torch.testing.assert_close((farthest - target).square().mean(1).sqrt(), high)


def test_bounds_by_what_stands_behind_a_class_are_the_same() -> None:
    calibrated, held = judged()
    small = standing_behind(calibrated, SEEN_DOUBLE, 0.9)
    assert len(small.codes) < len(calibrated.codes)
    assert set(small.codes.tolist()) == {SEEN_DOUBLE}
    for kind in ("interval", "band"):
        one, other = getattr(small, kind)(held.batch, 0.9), getattr(calibrated, kind)(held.batch, 0.9)
        torch.testing.assert_close(one.lower, other.lower)
        torch.testing.assert_close(one.upper, other.upper)
    borrowing = standing_behind(calibrated, SEEN_DOUBLE, 0.97)  # more than its own class has
    assert len(set(borrowing.codes.tolist())) > 1
    torch.testing.assert_close(
        borrowing.interval(held.batch, 0.97).upper, calibrated.interval(held.batch, 0.97).upper
    )
    with pytest.raises(CalibrationError, match="levels up to"):
        standing_behind(calibrated, SEEN_DOUBLE, 0.999)


def test_posteriors_are_judged_by_their_own_intervals() -> None:
    calibrated, held = judged()
    posterior = calibrated.predict(held.batch)
    columns = judge_posterior(posterior, held, [0.5])
    interval = posterior.interval(0.5)
    within = (interval.lower <= held.effects) & (held.effects <= interval.upper)
    torch.testing.assert_close(columns["posterior_coverage_50_all"], within.double().mean(1))
    torch.testing.assert_close(columns["sharpness"], posterior.variance.sqrt().mean(1))
    torch.testing.assert_close(columns["error"], (posterior.mean - held.effects).square().sum(1))
    torch.testing.assert_close(columns["pit"].sum(1), torch.ones(len(held.batch)).double())
    wide = judge_posterior(replace(posterior, variance=posterior.variance * 1e6), held, [0.5])
    assert wide["posterior_coverage_50_all"].tolist() == [1.0] * len(held.batch)


def test_levels_in_names() -> None:
    assert [percent(level) for level in (0.5, 0.9, 0.975, 0.999)] == ["50", "90", "97.5", "99.9"]
