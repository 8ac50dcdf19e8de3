"""Intervals of designed batches over the rounds of a campaign: a level that follows the misses, and its health.

Designed candidates are harder to predict than random ones, so that intervals calibrated by random ones miss them
too often. After each round the miscoverage ``alpha`` at which the next intervals are made is moved by the misses,

    alpha <- alpha + gamma (target - missed share)

[Gibbs & Candès 2021, with the misses of a batch averaged]. Whatever the designs do, ``alpha`` stays between
``-gamma`` and ``1 + gamma``, so that over ``T`` rounds the share of misses is off the target by at most

    (max(alpha_1, 1 - alpha_1) + gamma) / (gamma T)

[their proposition 4.1]. That may be kept by infinite bounds: report how many are.

Two questions have tests. Are the errors of designed candidates those of random ones? And did the intervals of
designed candidates miss more often than they say? The first two rounds are never trusted, whatever the tests say:
in simulated campaigns no kind of interval that is calibrated by random perturbations and past picks held in both
of them with finite bounds, and so few misses do not show it (``python -m benchmarks design_shift``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.errors import CalibrationError
from surrogates.summary import summary
from surrogates.uncertainty.conformal.quantiles import (
    attainable_level,
    conformal_quantile,
    least_count,
    refuse_nan,
    require_level,
)


@dataclass(frozen=True)
class AdaptiveLevel:
    """The level at which the intervals of the next round are to be made."""

    target: float  # share of misses that is meant, between 0 and 1: 0.1 for 90 % intervals
    alpha: float  # share at which the next intervals are made; outside 0 to 1 they are infinite or empty
    # How far a round moves it, positive. The default suits campaigns of few rounds of few picks.
    gamma: float = 0.3

    def __post_init__(self) -> None:
        """Refuse a target that is no share, and a step that is none."""
        require_level(1 - self.target)
        if not self.gamma > 0:
            raise CalibrationError(f"gamma {self.gamma} is not positive; 0.3 suits few rounds of few picks")

    @classmethod
    def start(cls, level: float, *, gamma: float = 0.3) -> "AdaptiveLevel":
        """Begin a campaign."""
        require_level(level)
        return cls(1 - level, 1 - level, gamma)

    def updated(self, missed: float) -> "AdaptiveLevel":
        """Learn from a round."""
        if not 0 <= missed <= 1:
            raise CalibrationError(f"missed share {missed} is not between 0 and 1; divide misses by picks")
        return replace(self, alpha=self.alpha + self.gamma * (self.target - missed))

    def quantile(self, scores: Float[Tensor, "n *g"]) -> Float[Tensor, "*g"]:
        """Bound the scores of the next round."""
        if 0 < self.alpha < 1:
            return conformal_quantile(scores, 1 - self.alpha)
        refuse_nan(scores)
        return torch.full(scores.shape[1:], torch.inf if self.alpha <= 0 else -torch.inf, dtype=scores.dtype)


@dataclass(frozen=True)
class ScorePool:
    """Scores of random held-out perturbations, and those of past designs, each by a model that had not seen it."""

    random: Float[Tensor, "n"]  # scores of random held-out perturbations, larger is worse
    # Scores of the picks of each past round, as they were before the model was fitted to them.
    designed: tuple[Float[Tensor, "_b"], ...] = ()
    __repr__ = summary

    def __post_init__(self) -> None:
        """Refuse scores that are not numbers."""
        for scores in (self.random, *self.designed):
            refuse_nan(scores)

    @property
    def scores(self) -> Float[Tensor, "m"]:
        """All scores, random ones first, then round after round."""
        return torch.cat([self.random, *self.designed])


FIRST_TRUSTED_ROUND = 3
_SIGNIFICANCE = 0.05
_PERMUTATIONS = 199


@dataclass(frozen=True)
class Health:
    """What the measurements so far say of the intervals of the coming round.

    The tests are repeated each round without correction: over a long campaign they are too strict rather than
    too lax.
    """

    level: float  # nominal probability of the intervals
    adaptive: bool  # whether their level follows the misses
    rounds: int  # number of past rounds of designs
    random: int  # number of random held-out perturbations
    picked: int  # number of designed candidates that were measured
    missed: int  # how many of these were outside their intervals
    # How surprising the order of the random scores is, if they are exchangeable; ``nan`` for fewer than two.
    p_random: float
    # The same of random scores followed by those of designed candidates; ``nan`` before any pick.
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
    """Judge the intervals of the coming round by those of past rounds."""
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
