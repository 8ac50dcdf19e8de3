import math
import subprocess
import sys

import pytest
import torch
from scipy.stats import binom, rankdata
from strategies.screens import normal
from torch import Tensor

from surrogates.errors import CalibrationError
from surrogates.uncertainty.conformal.rounds import ScorePool, campaign_health, order_p_value


def shift_statistic(scores: Tensor) -> float:
    """The largest scaled difference of mean ranks before and after a moment."""
    ranks, n = torch.tensor(rankdata(scores.numpy())), len(scores)
    return max(math.sqrt(k * (n - k) / n) * abs(float(ranks[:k].mean() - ranks[k:].mean())) for k in range(1, n))


def pool_of(rounds: int, shift: float, *, seed: int = 0, random: int = 50) -> ScorePool:
    drawn = normal(random + 8 * rounds, seed=seed)
    return ScorePool(drawn[:random], tuple(shift + each for each in drawn[random:].split(8) if len(each)))


def test_the_p_value_is_the_share_of_orders_that_shift_as_much() -> None:
    scores = torch.cat([normal(12, seed=1), 0.8 + normal(6, seed=2)])
    generator = torch.Generator().manual_seed(0)
    reached = sum(
        shift_statistic(scores[torch.randperm(18, generator=generator)]) >= shift_statistic(scores)
        for _ in range(400)
    )
    found = order_p_value(scores, seed=0, permutations=400)
    assert found == pytest.approx((1 + reached) / 401, abs=0.06)
    assert found == order_p_value(scores, seed=0, permutations=400)


def test_only_the_ranks_of_scores_matter() -> None:
    scores = normal(30, seed=3)
    larger = torch.where(scores == scores.max(), torch.inf, scores.exp() - 9)
    assert order_p_value(scores, seed=0) == order_p_value(larger, seed=0)


def test_p_values_of_exchangeable_scores_are_seldom_small() -> None:
    found = torch.tensor([order_p_value(normal(20, seed=seed), seed=seed, permutations=39) for seed in range(100)])
    assert float((found <= 0.1).double().mean()) <= 0.17
    assert float(found.mean()) == pytest.approx(0.5, abs=0.1)


def test_a_shift_of_designed_scores_is_found() -> None:
    assert order_p_value(pool_of(2, 1.5).scores, seed=0) <= 0.01
    assert order_p_value(pool_of(2, 0.0).scores, seed=0) > 0.05
    assert math.isnan(order_p_value(torch.zeros(1), seed=0))


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("rounds", [0, 1])
def test_the_first_two_rounds_are_never_trusted(rounds: int, *, adaptive: bool) -> None:
    health = campaign_health(pool_of(rounds, 0.0), [0] * rounds, 0.9, adaptive=adaptive, seed=0)
    assert health.holds_for_random
    assert not health.holds_for_designed
    assert health.line == (
        "intervals are calibrated for random candidates (50 held out);"
        f" for designed ones not before round 3 (this is round {rounds + 1})"
    )


def test_from_the_third_round_on_misses_decide() -> None:
    pool = pool_of(2, 0.0)
    good = campaign_health(pool, [1, 1], 0.9, adaptive=False, seed=0)
    assert good.holds_for_designed
    assert good.line.endswith("for designed ones they have held so far (2 of 16 missed, 1.6 expected)")
    bad = campaign_health(pool, [4, 2], 0.9, adaptive=True, seed=0)
    assert bad.p_missed == pytest.approx(float(binom.sf(5, 16, 0.1)))
    assert not bad.holds_for_designed
    assert "too narrow (6 of 16 missed, 1.6 expected, p = 0.0033)" in bad.line


def test_where_designs_err_differently_only_adaptive_intervals_are_trusted() -> None:
    pool = pool_of(3, 1.5)
    static, adaptive = (campaign_health(pool, [1, 1, 0], 0.9, adaptive=each, seed=0) for each in (False, True))
    assert static.p_designed == adaptive.p_designed <= 0.05
    assert adaptive.holds_for_designed
    assert not static.holds_for_designed
    assert "designed ones err differently (p = 0.005) and need a level that follows misses" in static.line


def test_too_few_or_drifting_random_scores_are_said() -> None:
    few = campaign_health(pool_of(0, 0.0, random=8), [], 0.9, adaptive=True, seed=0)
    assert not few.holds_for_random
    assert few.line.startswith("intervals are not calibrated: 8 held out support levels up to 0.889;")
    drift = campaign_health(ScorePool(torch.arange(40.0)), [], 0.9, adaptive=True, seed=0)
    assert not drift.holds_for_random
    assert drift.line.startswith("intervals are not calibrated, random errors drift (40 held out, p = 0.005)")
    assert not campaign_health(ScorePool(torch.zeros(0)), [], 0.9, adaptive=True, seed=0).holds_for_random


def test_bad_input_is_refused() -> None:
    pool = pool_of(2, 0.0)
    for missed in ([1], [1, 9], [-1, 0], [1, 1, 1]):
        with pytest.raises(
            CalibrationError, match=r"of rounds with \[8, 8\] picks; give one count for each round"
        ):
            campaign_health(pool, missed, 0.9, adaptive=True, seed=0)
    with pytest.raises(CalibrationError, match=r"level 1\.5"):
        campaign_health(pool, [0, 0], 1.5, adaptive=True, seed=0)
    with pytest.raises(CalibrationError, match="NaN"):
        order_p_value(torch.tensor([0.0, math.nan]), seed=0)


def test_the_slow_import_waits_for_its_use() -> None:
    code = "import sys, surrogates.uncertainty.conformal.rounds; sys.exit('mapie' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
