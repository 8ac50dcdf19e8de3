"""How large the errors of a prediction are: by readout, and by how hard the combination is.

The variance of the error of readout ``g`` of combination ``i`` is ``s_i h_ig``. The readout variance ``h`` is that
of :mod:`surrogates.uncertainty.readout_variance`. The factor ``s_i`` is learnt from the logarithms of the mean
squared held-out errors in units of ``h``, by Bayesian regression on two terms: traits of the combination, and its
entries, as combinations of one gene are hard, or easy, together. The marginal likelihood chooses how much each
term varies. Where that says more than the errors bear out, simpler forms are used: without factors, or with one
variance for each readout. How errors go together stays as it was.

A band over all readouts is made by the few that are missed most. It therefore knows how heavy the tails of each
readout's errors are, lower and upper apart where that makes bands narrower (a readout that is silent unless it is
activated is missed on one side only), and it has a floor, a share of what is usual for the perturbation: a readout
that was silent so far need not stay so. Both are chosen with each held-out perturbation judged by the others.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Literal

import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.summary import summary
from surrogates.uncertainty.conformal.quantiles import conformal_quantile
from surrogates.uncertainty.marginal_likelihood import (
    evidence_of_products,
    many_features,
    maximise_evidence,
    prior_of_squares,
)
from surrogates.uncertainty.posterior import Interval, Posterior
from surrogates.uncertainty.readout_variance import Circumstances, ReadoutVariance, sums_over_others

_FLOORS = (0.1, 0.3, 1.0)
_BAND_LEVEL = 0.9
_PRIOR_ROWS = 10.0  # of the usual tail, added to the rows of each readout


@dataclass(frozen=True)
class Tails:
    """How heavy the tails of errors are."""

    # Fourth root of the mean fourth power of each readout's errors below zero, in standard deviations.
    lower: Float[Tensor, "g"]
    upper: Float[Tensor, "g"]  # the same above zero
    floor: float  # share of the mean over readouts that is added to the reach of each

    def reach(self, spread: Float[Tensor, "b g"]) -> tuple[Float[Tensor, "b g"], Float[Tensor, "b g"]]:
        """Say how far below and above the prediction a band goes, up to a factor that is the same for all."""
        return _with_floor(spread * self.lower, self.floor), _with_floor(spread * self.upper, self.floor)

    @classmethod
    def learn(cls, errors: Float[Tensor, "n g"], spread: Float[Tensor, "n g"], same: Int[Tensor, "n"]) -> "Tails":
        """Learn from held-out errors, by the width that a band at 90 % would have."""
        standard = errors / spread
        below, above = _OneTail.of(-standard, same), _OneTail.of(standard, same)
        both = _OneTail((below.every + above.every) / 2, (below.left_out + above.left_out) / 2)
        choices = [
            cls(_root(lower.every), _root(upper.every), floor)
            for lower, upper in ((both, both), (below, above))
            for floor in _FLOORS
        ]
        widths = [
            _band_width(errors, spread * _root(lower.left_out), spread * _root(upper.left_out), floor)
            for lower, upper in ((both, both), (below, above))
            for floor in _FLOORS
        ]
        return choices[widths.index(min(widths))]


@dataclass(frozen=True)
class _OneTail:
    """Mean fourth powers above zero, shrunk to that of all readouts; and the same without each perturbation."""

    every: Float[Tensor, "g"]
    left_out: Float[Tensor, "n g"]

    @classmethod
    def of(cls, standard: Float[Tensor, "n g"], same: Int[Tensor, "n"]) -> "_OneTail":
        powers = standard.clamp(min=0).square().square()
        usual = _PRIOR_ROWS * powers.mean().clamp(min=torch.finfo(powers.dtype).tiny)
        others = sums_over_others(torch.ones_like(powers[:, :1]), same)
        return cls(
            (powers.sum(0) + usual) / (len(powers) + _PRIOR_ROWS),
            (sums_over_others(powers, same) + usual) / (others + _PRIOR_ROWS),
        )


def _root(powers: Float[Tensor, "*n g"]) -> Float[Tensor, "*n g"]:
    return powers.sqrt().sqrt()


def _with_floor(reach: Float[Tensor, "b g"], floor: float) -> Float[Tensor, "b g"]:
    return reach + floor * reach.mean(1, keepdim=True)


def _band_width(
    errors: Float[Tensor, "n g"], lower: Float[Tensor, "n g"], upper: Float[Tensor, "n g"], floor: float
) -> float:
    """Mean width of a band at 90 %, were it calibrated on these rows."""
    down, up = _with_floor(lower, floor), _with_floor(upper, floor)
    largest = torch.maximum(errors / up, -errors / down).amax(1)
    # Of too few rows for the level the largest error counts.
    reach = min(float(conformal_quantile(largest, _BAND_LEVEL)), float(largest.max()))
    return reach * float((up + down).mean())


FEWEST_ERRORS = 8
_FEWEST_TO_COMPARE = 12
_MOST_ENTRIES = 500
# Ratios of squared errors below this share of their mean are as good as none.
_SMALLEST_RATIO = 1e-4
_SMALLEST_FACTOR = 1e-12

# One variance for each readout; variances that know the size of effects; and factors of combinations on top.
Form = Literal["readouts", "effects", "combinations"]


@dataclass(frozen=True)
class CombinationFactor:
    """How much larger, or smaller, the errors of a combination are than those of others."""

    level: float  # logarithm of the factor of an average combination
    lowest: Float[Tensor, "t"]  # smallest trait of those it was learnt from; traits beyond are taken for it
    highest: Float[Tensor, "t"]  # largest trait of those
    centre: Float[Tensor, "t"]  # mean of each trait
    weights: Float[Tensor, "t"]  # what each trait adds to the logarithm of the factor, per unit
    entries: Float[Tensor, "v"]  # what each entry adds

    def of(self, given: Circumstances) -> Float[Tensor, "b"]:
        """Evaluate the factor."""
        traits = given.traits.clamp(self.lowest, self.highest) - self.centre
        return (self.level + traits @ self.weights + given.entries @ self.entries).exp()

    @classmethod
    def alike(cls, ratios: Float[Tensor, "n"], given: Circumstances) -> "CombinationFactor":
        """Take the mean: the errors of all combinations are alike."""
        traits = given.traits
        nothing = torch.zeros_like(traits[0])
        level = float(ratios.mean().clamp(min=_SMALLEST_FACTOR).log())
        entries = torch.zeros_like(given.entries[0])
        return cls(level, traits.amin(0), traits.amax(0), nothing, nothing, entries)

    @classmethod
    def learn(
        cls, ratios: Float[Tensor, "n"], given: Circumstances
    ) -> tuple["CombinationFactor", Float[Tensor, "n"]]:
        """Learn from held-out errors."""
        logs = ratios.clamp(min=max(_SMALLEST_RATIO * float(ratios.mean()), _SMALLEST_FACTOR)).log()
        mean, traits = logs.mean(), given.traits
        centre, width = traits.mean(0), traits.std(0)
        scale = torch.where(width > 1e-9 * (1 + centre.abs()), width, torch.inf)
        counts = given.entries.sum(0)
        kept = counts.argsort(descending=True, stable=True)[:_MOST_ENTRIES]
        kept = kept[counts[kept] > 1]
        design = torch.cat([(traits - centre) / scale, given.entries[:, kept]], dim=1)
        learnt, left_out = _regression(design, (traits.shape[1], len(kept)), logs - mean)
        told = (mean + left_out).exp()
        gain = (ratios / told).mean().clamp(min=_SMALLEST_FACTOR)
        entries = torch.zeros_like(counts)
        entries[kept] = learnt[traits.shape[1] :]
        factor = replace(
            cls.alike(ratios, given),
            level=float(mean + gain.log()),
            centre=centre,
            weights=learnt[: traits.shape[1]] / scale,
            entries=entries,
        )
        return factor, told * gain


def _regression(
    design: Float[Tensor, "n p"], sizes: tuple[int, int], values: Float[Tensor, "n"]
) -> tuple[Float[Tensor, "p"], Float[Tensor, "n"]]:
    """Posterior mean of the weights, and predictions of each row by all others."""
    n, rows = len(design), scipy.sparse.csr_array(design.numpy())  # of marks, hardly any is not zero
    gram, onto = torch.from_numpy((rows.T @ rows).toarray()), torch.from_numpy(rows.T @ values.numpy())
    if many_features(*design.shape):
        weights = maximise_evidence(design, sizes, values[:, None])
    else:
        weights = evidence_of_products(n, gram, onto[:, None], values.square().sum(), sizes)
    root = prior_of_squares(gram.diagonal() / n, sizes, weights).sqrt()[:, None]
    chol = torch.linalg.cholesky(torch.eye(len(root), dtype=root.dtype) + root * gram * root.T)
    covariance = root * torch.cholesky_inverse(chol) * root.T
    learnt = covariance @ onto
    leverage = torch.from_numpy(rows.multiply(rows @ covariance.numpy()).sum(1))
    return learnt, (design @ learnt - leverage * values) / (1 - leverage).clamp(min=1e-6)


@dataclass(frozen=True)
class ErrorScale:
    """How large the errors of one novelty class are."""

    readouts: ReadoutVariance  # variance of each readout
    factor: CombinationFactor  # by how much a combination departs from it
    tails: Tails  # how far a band of all readouts goes
    support: int  # number of held-out perturbations it was learnt from

    def variance(self, given: Circumstances) -> Float[Tensor, "b g"]:
        """State the variance of each error."""
        return self.factor.of(given)[:, None] * self.readouts.of(given)

    @classmethod
    def learn(cls, residuals: Float[Tensor, "n g"], given: Circumstances) -> dict[Form, "ErrorScale"]:
        """Learn from held-out errors of one novelty class."""
        squares = residuals.square()

        def alike(readouts: ReadoutVariance, expected: Float[Tensor, "n g"]) -> ErrorScale:
            factor = CombinationFactor.alike((squares / expected).mean(1), given)
            spread = (math.exp(factor.level) * expected).sqrt()
            return cls(readouts, factor, Tails.learn(residuals, spread, given.same), len(residuals))

        effects = ReadoutVariance.learn(residuals, given)
        scales: dict[Form, ErrorScale] = {
            "readouts": alike(*ReadoutVariance.without_effects(residuals, given)),
            "effects": alike(*effects),
        }
        if len(residuals) >= _FEWEST_TO_COMPARE:
            readouts, expected = effects
            factor, factors = CombinationFactor.learn((squares / expected).mean(1), given)
            tails = Tails.learn(residuals, (factors[:, None] * expected).sqrt(), given.same)
            scales["combinations"] = cls(readouts, factor, tails, len(residuals))
        return scales


@dataclass(frozen=True)
class StatedPosterior:
    """A posterior with other variances, and the same mean and correlations."""

    base: Posterior  # the posterior that it is made of, of positive variances
    variance: Float[Tensor, "b g"]  # variance of each effect
    # How far below the mean a band goes that holds all readouts at once, up to a factor that is the same for all
    # perturbations.
    downwards: Float[Tensor, "b g"]
    upwards: Float[Tensor, "b g"]  # how far above
    __repr__ = summary

    @property
    def mean(self) -> Float[Tensor, "b g"]:
        """Expected effects."""
        return self.base.mean

    @property
    def scale(self) -> Float[Tensor, "b"]:
        """How much wider than a shared covariance each perturbation's distribution is, in all its readouts."""
        return self.base.scale * self.variance.sum(1) / self.base.variance.sum(1)

    @property
    def factor(self) -> Float[Tensor, "b g r"] | None:
        """Low-rank part of each perturbation's covariance, or ``None``."""
        factor = self.base.factor
        return None if factor is None else factor * self._ratio[:, :, None]

    def sample(self, count: int, *, seed: int) -> Float[Tensor, "s b g"]:
        """Draw effects."""
        return self.mean + self._ratio * (self.base.sample(count, seed=seed) - self.mean)

    def interval(self, level: float) -> Interval:
        """Central normal interval of each effect on its own."""
        spread = NormalDist().inv_cdf((1 + level) / 2) * self.variance.sqrt()
        return Interval(self.mean - spread, self.mean + spread, level)

    @cached_property
    def _ratio(self) -> Float[Tensor, "b g"]:
        """Standard deviation of each effect in units of what it was."""
        tiny = torch.finfo(self.variance.dtype).tiny
        return (self.variance / self.base.variance.clamp(min=tiny)).sqrt()
