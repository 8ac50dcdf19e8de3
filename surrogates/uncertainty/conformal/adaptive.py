"""Adaptive conformal inference for designed batches.

Designed candidates are harder to predict than random ones, so that intervals calibrated by random ones miss them
too often. After each round the miscoverage ``alpha`` at which the next intervals are made is moved by the misses,

    alpha <- alpha + gamma (target - missed share)

[Gibbs & Candès 2021, with the misses of a batch averaged]. Whatever the designs do, ``alpha`` stays between
``-gamma`` and ``1 + gamma``, so that over ``T`` rounds the share of misses is off the target by at most

    (max(alpha_1, 1 - alpha_1) + gamma) / (gamma T)

[their proposition 4.1]. That says nothing of the first rounds, see
:mod:`surrogates.uncertainty.conformal.exchangeability`, and it may be kept by infinite bounds: report how many
are.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.errors import CalibrationError
from surrogates.summary import summary
from surrogates.uncertainty.conformal.quantiles import conformal_quantile, refuse_nan, require_level


@dataclass(frozen=True)
class AdaptiveLevel:
    """The level at which the intervals of the next round are to be made.

    Attributes:
        target: Share of misses that is meant, between 0 and 1: 0.1 for 90 % intervals.
        alpha: Share at which the next intervals are made; outside 0 to 1 they are infinite or empty.
        gamma: How far a round moves it, positive. The default suits campaigns of few rounds of few picks.
    """

    target: float
    alpha: float
    gamma: float = 0.3

    def __post_init__(self) -> None:
        """Refuse a target that is no share, and a step that is none."""
        require_level(1 - self.target)
        if not self.gamma > 0:
            raise CalibrationError(f"gamma {self.gamma} is not positive; 0.3 suits few rounds of few picks")

    @classmethod
    def start(cls, level: float, *, gamma: float = 0.3) -> "AdaptiveLevel":
        """Begin a campaign.

        Raises:
            CalibrationError: If the level is no probability or the step not positive.
        """
        require_level(level)
        return cls(1 - level, 1 - level, gamma)

    def updated(self, missed: float) -> "AdaptiveLevel":
        """Learn from a round.

        Raises:
            CalibrationError: If it is no share.
        """
        if not 0 <= missed <= 1:
            raise CalibrationError(f"missed share {missed} is not between 0 and 1; divide misses by picks")
        return replace(self, alpha=self.alpha + self.gamma * (self.target - missed))

    def quantile(self, scores: Float[Tensor, "n *g"]) -> Float[Tensor, "*g"]:
        """Bound the scores of the next round.

        Raises:
            CalibrationError: If a score is NaN.
        """
        if 0 < self.alpha < 1:
            return conformal_quantile(scores, 1 - self.alpha)
        refuse_nan(scores)
        return torch.full(scores.shape[1:], torch.inf if self.alpha <= 0 else -torch.inf, dtype=scores.dtype)


@dataclass(frozen=True)
class ScorePool:
    """Scores of random held-out perturbations, and those of past designs, each by a model that had not seen it.

    Attributes:
        random: Scores of random held-out perturbations, larger is worse.
        designed: Scores of the picks of each past round, as they were before the model was fitted to them.
    """

    random: Float[Tensor, "n"]
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
