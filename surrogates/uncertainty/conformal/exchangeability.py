"""Health of a campaign's intervals: for which candidates they hold, by how many measurements.

Two questions, each with a test. Are the errors of designed candidates those of random ones? If not, only
intervals whose level follows the misses (:mod:`.adaptive`) have a claim. And did the
intervals of designed candidates miss more often than they say? The first two rounds are never trusted, whatever
the tests say: in simulated campaigns no kind of interval that is calibrated by random perturbations and past
picks held in both of them with finite bounds, and so few misses do not show it
(``python -m benchmarks design_shift``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float
from torch import Tensor

from surrogates.errors import CalibrationError
from surrogates.uncertainty.conformal.adaptive import ScorePool
from surrogates.uncertainty.conformal.quantiles import attainable_level, least_count, refuse_nan, require_level

FIRST_TRUSTED_ROUND = 3
_SIGNIFICANCE = 0.05
_PERMUTATIONS = 199


@dataclass(frozen=True)
class Health:
    """What the measurements so far say of the intervals of the coming round.

    The tests are repeated each round without correction: over a long campaign they are too strict rather than
    too lax.

    Attributes:
        p_random: How surprising the order of the random scores is, if they are exchangeable; ``nan`` for fewer
            than two.
        p_designed: The same of random scores followed by those of designed candidates; ``nan`` before any pick.
    """

    level: float  # nominal probability of the intervals
    adaptive: bool  # whether their level follows the misses
    rounds: int  # number of past rounds of designs
    random: int  # number of random held-out perturbations
    picked: int  # number of designed candidates that were measured
    missed: int  # how many of these were outside their intervals
    p_random: float
    p_designed: float
    p_missed: float  # probability of as many misses or more at the nominal level (exact binomial)

    @property
    def holds_for_random(self) -> bool:
        """Whether intervals can be trusted for randomly drawn candidates."""
        return self.random >= least_count(self.level) and not self.p_random <= _SIGNIFICANCE

    @property
    def holds_for_designed(self) -> bool:
        """Whether intervals can be trusted for designed candidates; never in the first two rounds."""
        as_promised = self.p_missed > _SIGNIFICANCE
        alike = not self.p_designed <= _SIGNIFICANCE
        return self.rounds + 1 >= FIRST_TRUSTED_ROUND and as_promised and (self.adaptive or alike)

    @property
    def line(self) -> str:
        """For whom the intervals hold, in words."""
        return f"{self._of_random}; {self._of_designed}"

    @property
    def _of_random(self) -> str:
        count = f"{self.random} held out"
        if self.random < least_count(self.level):
            return (
                f"intervals are not calibrated: {count} support levels up to {attainable_level(self.random):.3g}"
            )
        if self.holds_for_random:
            return f"intervals are calibrated for random candidates ({count})"
        return f"intervals are not calibrated, random errors drift ({count}, p = {self.p_random:.2g})"

    @property
    def _of_designed(self) -> str:
        if self.rounds + 1 < FIRST_TRUSTED_ROUND:
            return f"for designed ones not before round {FIRST_TRUSTED_ROUND} (this is round {self.rounds + 1})"
        misses = f"{self.missed} of {self.picked} missed, {(1 - self.level) * self.picked:.1f} expected"
        if not self.p_missed > _SIGNIFICANCE:
            return f"for designed ones they are too narrow ({misses}, p = {self.p_missed:.2g})"
        if not self.holds_for_designed:
            return (
                f"designed ones err differently (p = {self.p_designed:.2g}) and need a level that follows misses"
            )
        return f"for designed ones they have held so far ({misses})"


def campaign_health(pool: ScorePool, missed: Sequence[int], level: float, *, adaptive: bool, seed: int) -> Health:
    """Judge the intervals of the coming round by those of past rounds.

    Raises:
        CalibrationError: If the level is no probability, or misses do not fit the rounds.
    """
    require_level(level)
    sizes = [len(scores) for scores in pool.designed]
    if len(missed) != len(sizes) or any(not 0 <= m <= size for m, size in zip(missed, sizes, strict=True)):
        raise CalibrationError(
            f"misses {list(missed)} of rounds with {sizes} picks; give one count for each round"
        )
    picked, total = sum(sizes), sum(missed)
    return Health(
        level=level,
        adaptive=adaptive,
        rounds=len(sizes),
        random=len(pool.random),
        picked=picked,
        missed=total,
        p_random=order_p_value(pool.random, seed=seed),
        p_designed=order_p_value(pool.scores, seed=seed) if picked else math.nan,
        p_missed=_too_many(total, picked, 1 - level),
    )


def order_p_value(scores: Float[Tensor, "n"], *, seed: int, permutations: int = _PERMUTATIONS) -> float:
    """Test whether scores are exchangeable, by how much their mean rank shifts at some moment.

    The statistic is the largest ``sqrt(k (n - k) / n) |mean of the first k - mean of the rest|`` over ``k``; its
    distribution under exchangeability is that over random orders (MAPIE's permutation test of a fixed dataset).
    The martingales of that library could be watched at any time, but hardly move within two rounds of a few picks.

    Raises:
        CalibrationError: If a score is NaN.
    """
    from mapie.exchangeability_testing import (  # type: ignore[import-untyped]  # noqa: PLC0415 - takes seconds
        PValuePermutationTest,
    )
    from mapie.regression import SplitConformalRegressor  # type: ignore[import-untyped]  # noqa: PLC0415
    from sklearn.dummy import DummyRegressor  # noqa: PLC0415

    refuse_nan(scores)
    if len(scores) < 2:
        return math.nan
    # The test wants predictions and truths: around a prediction of zero, the absolute error of a rank is the rank.
    zero = DummyRegressor(strategy="constant", constant=0.0).fit([[0.0]], [0.0])
    test = PValuePermutationTest(
        mapie_estimator=SplitConformalRegressor(zero, prefit=True),
        task="regression",
        random_state=seed,
        num_permutations=permutations,
        warn=False,
    )
    test.run(np.zeros((len(scores), 1)), scipy.stats.rankdata(scores.numpy()))
    return float(test.p_values[-1])


def _too_many(missed: int, picked: int, share: float) -> float:
    return float(scipy.stats.binomtest(missed, picked, share, alternative="greater").pvalue) if picked else 1.0
