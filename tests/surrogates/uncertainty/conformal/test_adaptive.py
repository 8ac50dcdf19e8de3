import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal

from surrogates.errors import CalibrationError
from surrogates.uncertainty.conformal.quantiles import conformal_quantile
from surrogates.uncertainty.conformal.rounds import AdaptiveLevel, ScorePool

shares = st.integers(0, 8).map(lambda missed: missed / 8)


@given(st.lists(shares, max_size=12), st.sampled_from([0.05, 0.3, 1.0]))
def test_the_level_follows_all_misses(missed: list[float], gamma: float) -> None:
    level = AdaptiveLevel.start(0.9, gamma=gamma)
    for share in missed:
        level = level.updated(share)
    assert level.alpha == pytest.approx(0.1 + gamma * (0.1 * len(missed) - sum(missed)))
    assert level.target == pytest.approx(0.1)


def test_a_round_returns_another_value() -> None:
    start = AdaptiveLevel.start(0.9)
    assert start.updated(0.5) != start
    assert start == AdaptiveLevel.start(0.9)


def test_the_quantile_is_conformal_between_an_infinite_and_an_empty_one() -> None:
    scores = normal(30, seed=0)
    for alpha in (0.05, 0.1, 0.7):
        found = AdaptiveLevel(0.1, alpha).quantile(scores)
        assert float(found) == float(conformal_quantile(scores, 1 - alpha))
    assert float(AdaptiveLevel(0.1, 0.01).quantile(scores)) == math.inf  # 30 are too few for 99 %
    assert [float(AdaptiveLevel(0.1, alpha).quantile(scores)) for alpha in (0.0, -0.2)] == [math.inf] * 2
    assert [float(AdaptiveLevel(0.1, alpha).quantile(scores)) for alpha in (1.0, 1.2)] == [-math.inf] * 2
    columns = AdaptiveLevel(0.1, -0.1).quantile(normal(30, 4, seed=0))
    assert columns.shape == (4,)


@given(st.lists(st.lists(st.floats(-50, 50), min_size=1, max_size=8), min_size=1, max_size=40), st.integers(0, 99))
def test_misses_stay_near_the_target_whatever_comes(rounds: list[list[float]], seed: int) -> None:
    """The bound of Gibbs and Candès, on sequences that were made to break it as well as on others."""
    scores, level, shares_missed = normal(20, seed=seed), AdaptiveLevel.start(0.9), []
    for new in rounds:
        missed = sum(score > float(level.quantile(scores)) for score in new) / len(new)
        shares_missed.append(missed)
        level = level.updated(missed)
        assert -0.3 - 1e-9 <= level.alpha <= 1.3 + 1e-9
    bound = (0.9 + 0.3) / (0.3 * len(rounds))
    assert abs(sum(shares_missed) / len(rounds) - 0.1) <= bound + 1e-9


def test_coverage_recovers_from_a_shift() -> None:
    """Designed scores are shifted, and half as wide again: static bounds miss them, adaptive ones do not."""
    static, adaptive = [], []
    for seed in range(60):
        drawn = normal(50 + 16 * 8, seed=seed)
        pool, level = ScorePool(drawn[:50]), AdaptiveLevel.start(0.9)
        for at in range(16):
            new = 0.5 + 1.5 * drawn[50 + 8 * at :][:8]
            covered = new <= level.quantile(pool.scores)
            if at >= 4:
                adaptive.append(float(covered.double().mean()))
                static.append(float((new <= conformal_quantile(pool.random, 0.9)).double().mean()))
            level = level.updated(float((~covered).double().mean()))
            pool = replace(pool, designed=(*pool.designed, new))
    assert sum(static) / len(static) < 0.75
    assert 0.87 <= sum(adaptive) / len(adaptive) <= 0.93


def test_a_pool_keeps_old_scores_of_picks_and_takes_new_ones_of_random_perturbations() -> None:
    pool = ScorePool(torch.zeros(3), (torch.ones(2), torch.full((1,), 2.0)))
    assert pool.scores.tolist() == [0, 0, 0, 1, 1, 2]
    assert [len(each) for each in pool.designed] == [2, 1]


def test_bad_input_is_refused() -> None:
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(CalibrationError, match="is not between 0 and 1"):
            AdaptiveLevel.start(level)
    for gamma in (0.0, -1.0, math.nan):
        with pytest.raises(CalibrationError, match="not positive"):
            AdaptiveLevel.start(0.9, gamma=gamma)
    for missed in (-0.1, 1.1, 3.0, math.nan):
        with pytest.raises(CalibrationError, match=r"missed share .* divide misses by picks"):
            AdaptiveLevel.start(0.9).updated(missed)
    bad = torch.tensor([math.nan])
    for use in (
        lambda: AdaptiveLevel.start(0.9).quantile(bad),
        lambda: AdaptiveLevel(0.1, -1.0).quantile(bad),
        lambda: ScorePool(bad),
        lambda: ScorePool(torch.zeros(2), (bad,)),
    ):
        with pytest.raises(CalibrationError, match="1 of 1 scores are NaN"):
            use()
