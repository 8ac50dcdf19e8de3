"""Adaptive conformal inference for designed batches, and batches of which a part is drawn with known probability.

Designed candidates are harder to predict than random ones, so that intervals calibrated by random ones miss them
too often. After each round the miscoverage ``alpha`` at which the next intervals are made is moved by the misses,

    alpha <- alpha + gamma (target - missed share)

[Gibbs & Candès 2021, with the misses of a batch averaged]. Whatever the designs do, ``alpha`` stays between
``-gamma`` and ``1 + gamma``, so that over ``T`` rounds the share of misses is off the target by at most

    (max(alpha_1, 1 - alpha_1) + gamma) / (gamma T)

[their proposition 4.1]. That says nothing of the first rounds, see
:mod:`surrogates.uncertainty.conformal.exchangeability`, and it may be kept by infinite bounds: report how many
are.

Greedy picks say nothing of what was not picked. Drawn picks do, and their logged probabilities make the weights of
inverse-propensity bounds. They come first, from all candidates; greedy ones fill the rest.
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.errors import CalibrationError, DataError
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

        Args:
            level: Nominal probability of the intervals, between 0 and 1.
            gamma: How far a round moves it, positive.

        Returns:
            The level itself, as nothing was missed yet.

        Raises:
            CalibrationError: If the level is no probability or the step not positive.
        """
        require_level(level)
        return cls(1 - level, 1 - level, gamma)

    def updated(self, missed: float) -> "AdaptiveLevel":
        """Learn from a round.

        Args:
            missed: Share of its picks that were outside their intervals, from 0 to 1.

        Returns:
            The level for the next round.

        Raises:
            CalibrationError: If it is no share.
        """
        if not 0 <= missed <= 1:
            raise CalibrationError(f"missed share {missed} is not between 0 and 1; divide misses by picks")
        return replace(self, alpha=self.alpha + self.gamma * (self.target - missed))

    def quantile(self, scores: Float[Tensor, "n *g"]) -> Float[Tensor, "*g"]:
        """Bound the scores of the next round.

        Args:
            scores: One per calibration perturbation (and column), larger is worse; those of a :class:`ScorePool`.

        Returns:
            The conformal quantile at level ``1 - alpha``: infinite if ``alpha <= 0`` or there are too few scores
            for so high a level; minus infinite if ``alpha >= 1``, which no score is below: an empty set.

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

    def joined(self, scores: Float[Tensor, "b"]) -> "ScorePool":
        """Add a round.

        Args:
            scores: Of its picks, by the model that proposed them.

        Returns:
            The scores for the next round.

        Raises:
            CalibrationError: If a score is NaN.
        """
        return replace(self, designed=(*self.designed, scores))

    def rescored(self, random: Float[Tensor, "n"]) -> "ScorePool":
        """Judge the random held-out perturbations by a newer model; picks keep their scores, it has seen them.

        Args:
            random: Scores of the random held-out perturbations, which the newer model has not seen either.

        Returns:
            The scores with these.

        Raises:
            CalibrationError: If a score is NaN.
        """
        return replace(self, random=random)


@runtime_checkable
class DrawLaw(Protocol):
    """How likely candidates are to be drawn, given their utility."""

    def log_weights(self, utility: Float[Tensor, "c"]) -> Float[Tensor, "c"]:
        """Give the logarithm of each candidate's weight, up to a common constant; minus infinity excludes it."""
        ...


@dataclass(frozen=True)
class Softmax:
    """Weights ``exp(utility / temperature)``."""

    temperature: float  # utility that makes a candidate ``e`` times as likely, positive; infinite draws uniformly

    def __post_init__(self) -> None:
        """Refuse a temperature that orders nothing."""
        if not self.temperature > 0:
            raise DataError(f"temperature {self.temperature} is not positive; a greedy batch needs no law")

    def log_weights(self, utility: Float[Tensor, "c"]) -> Float[Tensor, "c"]:
        """Give the logarithm of each candidate's weight, up to a common constant."""
        return utility.double() / self.temperature


@dataclass(frozen=True)
class MixedBatch:
    """Candidates to be measured, and how each came to be chosen.

    Attributes:
        numbers: Of the candidates: the drawn ones in their order, then the greedy ones, best first.
        drawn: Which were drawn with a known probability; the others were taken for their utility.
        log_probability: Natural logarithm of the probability of each draw, given those before it; ``nan`` for the
            greedy picks, so that no weight can be made of them unawares.
    """

    numbers: Int[Tensor, "b"]
    drawn: Bool[Tensor, "b"]
    log_probability: Float[Tensor, "b"]
    __repr__ = summary


def mixed_batch(
    utility: Float[Tensor, "c"], count: int, *, share: float, law: DrawLaw, generator: torch.Generator
) -> MixedBatch:
    """Draw a share of a batch, and take the best of the rest.

    Draw ``t`` takes candidate ``x`` among those left, ``R_t``, with probability ``w_x / sum_{z in R_t} w_z``
    [Luce 1959; Plackett 1975]. Sorting ``log w`` plus standard Gumbel noise draws all of them at once [Yellott
    1977].

    Args:
        utility: Of each candidate, larger is better; finite.
        count: Size of the batch.
        share: Of the batch that is drawn, from 0 to 1; rounded up.
        law: How likely each candidate is to be drawn.
        generator: Source of randomness.

    Returns:
        The batch; each candidate is in it at most once.

    Raises:
        DataError: If there are too few candidates or what may be drawn is too small, the share is not one, or a
            utility is not finite.
    """
    _require_batch(utility, count, share)
    log_weights = law.log_weights(utility)
    draws = math.ceil(share * count - 1e-9)
    possible = int((log_weights > -torch.inf).sum())
    if draws > possible:
        raise DataError(f"{draws} candidates are to be drawn, and the law may draw {possible}; widen it")
    uniform = torch.rand(len(utility), generator=generator, dtype=torch.float64)
    gumbel = -(-uniform.clamp(min=torch.finfo(torch.float64).tiny).log()).log()
    drawn = (log_weights + gumbel).topk(draws).indices
    left = utility.double().clone()
    left[drawn] = -torch.inf
    greedy = left.topk(count - draws).indices
    none = torch.full((count - draws,), torch.nan, dtype=torch.float64)
    return MixedBatch(
        torch.cat([drawn, greedy]),
        torch.arange(count) < draws,
        torch.cat([log_probabilities(log_weights, drawn), none]),
    )


def log_probabilities(log_weights: Float[Tensor, "c"], drawn: Int[Tensor, "d"]) -> Float[Tensor, "d"]:
    """Give the probability of each draw without replacement, given those before it."""
    left = log_weights.double().clone()
    logs = []
    for number in drawn:
        logs.append(left[number] - left.logsumexp(0))
        left[number] = -torch.inf
    return torch.stack(logs) if logs else left.new_zeros(0)


def _require_batch(utility: Float[Tensor, "c"], count: int, share: float) -> None:
    if not 0 <= share <= 1:
        raise DataError(f"share {share} is not between 0 and 1; 0.25 draws a quarter of the batch")
    if not 1 <= count <= len(utility):
        raise DataError(f"a batch of {count} cannot be taken from {len(utility)} candidates")
    if not utility.isfinite().all():
        raise DataError(f"{int((~utility.isfinite()).sum())} of {len(utility)} utilities are not finite")
