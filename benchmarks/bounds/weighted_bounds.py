"""Conformal bounds for candidates that a design with known probabilities has drawn.

Calibration perturbations were drawn from one distribution, ``P``, and the next batch is drawn from another, ``Q``,
that prefers what looks good. Scores are then exchangeable only up to the likelihood ratio ``w = dQ / dP``. With
scores ``V_i`` and weights ``w_i`` the score of a new candidate ``x`` is, with probability at least ``level``, not
above

    the level-quantile of  sum_i p_i(x) δ(V_i) + p_new(x) δ(inf),
    p_i(x) = w_i / (sum_j w_j + w(x)),    p_new(x) = w(x) / (sum_j w_j + w(x))

[Tibshirani 2019]. The candidate's own weight lies at infinity: a candidate that the calibration set could hardly
have held has no finite bound. Greedy picks have no likelihood ratio at all: the random picks of a batch are drawn
with logged probabilities.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.errors import CalibrationError, DataError
from surrogates.summary import summary
from surrogates.uncertainty.conformal.quantiles import refuse_nan, require_level

# With equal weights the mass of k scores is meant exactly: k of n + 1.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class WeightedBound:
    """How far each new candidate may be from its prediction.

    Attributes:
        quantile: For each candidate; infinite where the weight of the finite scores is not enough.
    """

    quantile: Float[Tensor, "b"]
    level: float  # nominal probability that a candidate's score is not above it
    count: int  # number of calibration perturbations
    effective_count: float  # number of equally weighted ones of the same information

    @property
    def share_infinite(self) -> float:
        """Share of the candidates of which nothing is said; ``nan`` without candidates."""
        return float(self.quantile.isinf().double().mean())

    @property
    def line(self) -> str:
        """What stands behind the bounds, in words."""
        return (
            f"{self.level:.0%} bounds from {self.count} held-out perturbations, worth {self.effective_count:.1f}"
            f" after weighting; {self.share_infinite:.0%} of {len(self.quantile)} candidates have no finite bound"
        )


@dataclass(frozen=True)
class ProposalLog:
    """With which probabilities perturbations were proposed when the calibration set was drawn, and are now.

    Probabilities of one distribution may share an unknown factor, as those of a softmax before it is normalised
    do: it cancels. Of a calibration set that several distributions drew, each a part, take as ``then`` the mean
    probability over these, whichever drew a perturbation; the guarantee is then approximate (the exact one sums
    over orders [Prinster 2024]).

    Attributes:
        then: Of each calibration perturbation, under the distribution that drew the calibration set.
        now: Of the same, under the present design, as if they were still to be had.
        new_then: Of each new candidate, under the distribution that drew the calibration set.
        new_now: Of the same, under the present design.
    """

    then: Float[Tensor, "n"]
    now: Float[Tensor, "n"]
    new_then: Float[Tensor, "b"]
    new_now: Float[Tensor, "b"]

    def __post_init__(self) -> None:
        """Refuse what is no probability, and what was measured or proposed against all odds."""
        _require_not_negative(self.then, "probabilities of calibration perturbations")
        _require_not_negative(self.now, "present probabilities of calibration perturbations")
        _require_not_negative(self.new_then, "former probabilities of new candidates")
        _require_not_negative(self.new_now, "present probabilities of new candidates")
        _refuse_impossible(self.then == 0, "calibration perturbations were measured", "when they were drawn")
        _refuse_impossible(self.new_now == 0, "candidates are proposed", "under the present design")

    @property
    def weights(self) -> Float[Tensor, "n"]:
        """Likelihood ratio of each calibration perturbation."""
        return self.now.double() / self.then.double()

    @property
    def new_weights(self) -> Float[Tensor, "b"]:
        """Likelihood ratio of each new candidate; infinite if the calibration set could not have held it."""
        return self.new_now.double() / self.new_then.double()

    def bound(self, scores: Float[Tensor, "n"], level: float) -> WeightedBound:
        """Bound the scores of the new candidates.

        Args:
            scores: Of the calibration perturbations, larger is worse; may be infinite.
            level: Nominal probability, between 0 and 1.

        Returns:
            A bound for each candidate, and how many perturbations are behind it.

        Raises:
            CalibrationError: If the level is no probability, a score is NaN, or the present design could propose
                none of the calibration perturbations.
        """
        return weighted_bound(scores, self.weights, self.new_weights, level)


def weighted_bound(
    scores: Float[Tensor, "n"], weights: Float[Tensor, "n"], new: Float[Tensor, "b"], level: float
) -> WeightedBound:
    """Bound the scores of new candidates by weighted calibration scores.

    Raises:
        CalibrationError: If the level is no probability, a score is NaN, or weights are negative, NaN, or all
            zero.
    """
    require_level(level)
    refuse_nan(scores)
    _require_not_negative(new, "weights of new candidates")
    count = effective_count(weights)
    ascending, order = scores.sort()
    mass = weights.double()[order].cumsum(0)
    needed = level * (mass[-1] + new.double()) * (1 - _ROUNDING)
    rank = torch.searchsorted(mass, needed)
    padded = torch.cat([ascending, ascending.new_full((1,), torch.inf)])
    return WeightedBound(padded[rank], level, len(scores), count)


def effective_count(weights: Float[Tensor, "n"]) -> float:
    """Count the equally weighted perturbations that weighted ones stand for [Kish 1965].

    Raises:
        CalibrationError: If there are no weights, or they are negative, not finite, or all zero.
    """
    _require_not_negative(weights, "weights of calibration perturbations")
    if weights.isinf().any():
        raise CalibrationError("a weight of a calibration perturbation is infinite; likelihood ratios are finite")
    if not weights.any():
        raise CalibrationError(
            f"all {len(weights)} weights are zero: the present design proposes nothing like the calibration"
            " perturbations; measure some that it could propose"
        )
    scaled = weights.double() / weights.max()
    return float(scaled.sum().square() / scaled.square().sum())


def _require_not_negative(numbers: Float[Tensor, "n"], what: str) -> None:
    bad = torch.nonzero(numbers.isnan() | (numbers < 0)).flatten()
    if len(bad):
        raise CalibrationError(
            f"{len(bad)} of {len(numbers)} {what} are negative or NaN, the first at {int(bad[0])}:"
            f" {float(numbers[bad[0]]):g}"
        )


def _refuse_impossible(impossible: Bool[Tensor, "n"], what: str, when: str) -> None:
    if impossible.any():
        raise CalibrationError(
            f"{int(impossible.sum())} {what} although their probability was zero {when}, the first at"
            f" {int(impossible.int().argmax())}: log the probability with which each was proposed"
        )


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
        utility: Of each candidate of the pool, larger is better; finite.
        count: Size of the batch.
        share: Of the batch that is drawn, from 0 to 1; rounded up.
        law: How likely each candidate is to be drawn.
        generator: Source of randomness.

    Returns:
        The batch; each candidate is in it at most once.

    Raises:
        DataError: If the pool or what the law may draw is too small, the share is not one, or a utility is not
            finite.
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
