"""How large the errors of a prediction are: by readout, and by how hard the combination is.

The variance of the error of readout ``g`` of combination ``i`` is ``s_i h_ig``. The readout variance ``h`` is that
of :mod:`surrogates.uncertainty.readout_variance`. The factor ``s_i`` is learnt from the logarithms of the mean
squared held-out errors in units of ``h``, by Bayesian regression on two terms: traits of the combination, and its
entries, as combinations of one gene are hard, or easy, together. How much each term varies is chosen by the
marginal likelihood.

A band holds all readouts at once, so that it is made by the few that are missed most. Beside the standard
deviation it therefore knows how heavy the tails of each readout's errors are, the lower and the upper one apart
where held-out errors say that this makes bands narrower: a readout that is silent unless it is activated is missed
on one side only. And it has a floor, a share of what is usual for the combination, which is chosen alike.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.uncertainty.conformal import conformal_quantile
from surrogates.uncertainty.marginal_likelihood import column_prior, maximise_evidence
from surrogates.uncertainty.readout_variance import Circumstances, ReadoutVariance

FEWEST_ERRORS = 8
_FEWEST_TO_COMPARE = 12
_MOST_ENTRIES = 500
# Ratios of squared errors below this share of their mean are as good as none.
_SMALLEST_RATIO = 1e-4
_FLOORS = (0.1, 0.3, 1.0)
_BAND_LEVEL = 0.9
_TAIL_POWER = 4
_TAIL_PRIOR = 10.0  # rows of the usual tail that are added to those of each readout


@dataclass(frozen=True)
class CombinationFactor:
    """How much larger, or smaller, the errors of a combination are than those of others.

    Attributes:
        level: Logarithm of the factor of an average combination.
        lowest: Smallest trait of those it was learnt from; traits beyond are taken for it.
        highest: Largest trait of those.
        centre: Mean of each trait.
        weights: What each trait adds to the logarithm of the factor, per unit.
        entries: What each entry adds.
    """

    level: float
    lowest: Float[Tensor, "t"]
    highest: Float[Tensor, "t"]
    centre: Float[Tensor, "t"]
    weights: Float[Tensor, "t"]
    entries: Float[Tensor, "v"]

    def of(self, given: Circumstances) -> Float[Tensor, "b"]:
        """Evaluate the factor.

        Args:
            given: What is known of some predictions.

        Returns:
            Positive factors.
        """
        traits = given.traits.clamp(self.lowest, self.highest) - self.centre
        return (self.level + traits @ self.weights + given.entries @ self.entries).exp()

    @classmethod
    def learn(
        cls, ratios: Float[Tensor, "n"], given: Circumstances
    ) -> tuple["CombinationFactor", Float[Tensor, "n"]]:
        """Learn from held-out errors.

        Args:
            ratios: Mean squared error of each combination, in units of what its readouts let expect.
            given: What was known of those predictions.

        Returns:
            The factor, of mean ratio one to the squared errors, and the factors of the given combinations with
            each left out of the regression. With fewer than 12 of them all are alike.
        """
        logs = ratios.clamp(min=max(_SMALLEST_RATIO * float(ratios.mean()), torch.finfo(ratios.dtype).tiny)).log()
        mean, traits = logs.mean(), given.traits
        centre, width = traits.mean(0), traits.std(0)
        scale = torch.where(width > 1e-9 * (1 + centre.abs()), width, torch.inf)
        counts = given.entries.sum(0)
        kept = counts.argsort(descending=True, stable=True)[:_MOST_ENTRIES]
        kept = kept[counts[kept] > 1]
        design = torch.cat([(traits - centre) / scale, given.entries[:, kept]], dim=1)
        if len(logs) >= _FEWEST_TO_COMPARE:
            learnt, left_out = _regression(design, (traits.shape[1], len(kept)), logs - mean)
        else:
            learnt, left_out = design.new_zeros(design.shape[1]), torch.zeros_like(logs)
        told = (mean + left_out).exp()
        gain = (ratios / told).mean().clamp(min=torch.finfo(ratios.dtype).tiny)
        entries = counts.new_zeros(len(counts))
        entries[kept] = learnt[traits.shape[1] :]
        factor = cls(
            level=float(mean + gain.log()),
            lowest=traits.amin(0),
            highest=traits.amax(0),
            centre=centre,
            weights=learnt[: traits.shape[1]] / scale,
            entries=entries,
        )
        return factor, told * gain


def _regression(
    design: Float[Tensor, "n p"], sizes: tuple[int, int], values: Float[Tensor, "n"]
) -> tuple[Float[Tensor, "p"], Float[Tensor, "n"]]:
    """Posterior mean of the weights, and predictions of each row by all others."""
    weights = maximise_evidence(design, sizes, values[:, None])
    root = column_prior(design, sizes, weights).sqrt()
    scaled = design * root
    chol = torch.linalg.cholesky(torch.eye(len(root), dtype=root.dtype) + scaled.T @ scaled)
    learnt = torch.cholesky_solve((scaled.T @ values)[:, None], chol)[:, 0]
    onto = torch.linalg.solve_triangular(chol, scaled.T, upper=False)
    leverage = onto.square().sum(0)
    fitted = scaled @ learnt
    return root * learnt, (fitted - leverage * values) / (1 - leverage).clamp(min=1e-6)


@dataclass(frozen=True)
class ErrorScale:
    """How large the errors of one novelty class are.

    Attributes:
        readouts: Variance of each readout.
        factor: By how much a combination departs from it.
        lower: How heavy the lower tail of each readout's errors is, in standard deviations.
        upper: The same of the upper tail.
        floor: Share of the mean over readouts that is added to the reach of each.
        support: Number of held-out perturbations it was learnt from.
    """

    readouts: ReadoutVariance
    factor: CombinationFactor
    lower: Float[Tensor, "g"]
    upper: Float[Tensor, "g"]
    floor: float
    support: int

    def variance(self, given: Circumstances) -> Float[Tensor, "b g"]:
        """State the variance of each error.

        Args:
            given: What is known of some predictions.

        Returns:
            Variances, positive.
        """
        return self.factor.of(given)[:, None] * self.readouts.of(given)

    def reach(self, variance: Float[Tensor, "b g"]) -> tuple[Float[Tensor, "b g"], Float[Tensor, "b g"]]:
        """Say how far below and above the prediction a band goes, up to a factor that is the same for all.

        Args:
            variance: What :meth:`variance` states.

        Returns:
            Distances downwards and upwards, positive.
        """
        spread = variance.sqrt()
        return _with_floor(spread * self.lower, self.floor), _with_floor(spread * self.upper, self.floor)

    @classmethod
    def learn(cls, residuals: Float[Tensor, "n g"], given: Circumstances) -> "ErrorScale":
        """Learn from held-out errors of one novelty class.

        Args:
            residuals: Measured minus predicted, of at least 8 perturbations that the models had not seen.
            given: What was known of those predictions.

        Returns:
            The scale.
        """
        readouts, expected = ReadoutVariance.learn(residuals, given)
        factor, factors = CombinationFactor.learn((residuals.square() / expected).mean(1), given)
        spread = (factors[:, None] * expected).sqrt()
        standard = residuals / spread
        # One row that is missed by far must not widen its own bound: each row is judged by the others.
        below, above = _Tail.of(-standard), _Tail.of(standard)
        both = _Tail((below.weight + above.weight) / 2, (below.left_out + above.left_out) / 2)
        choices = [(pair, floor) for pair in ((both, both), (below, above)) for floor in _FLOORS]

        def width(choice: tuple[tuple[_Tail, _Tail], float]) -> float:
            (lower, upper), floor = choice
            return _band_width(residuals, spread * _root(lower.left_out), spread * _root(upper.left_out), floor)

        (lower, upper), floor = min(choices, key=width)
        return cls(readouts, factor, _root(lower.weight), _root(upper.weight), floor, len(residuals))


@dataclass(frozen=True)
class _Tail:
    """Mean fourth powers of errors on one side, shrunk to that of all readouts; and the same without each row."""

    weight: Float[Tensor, "g"]
    left_out: Float[Tensor, "n g"]

    @classmethod
    def of(cls, standard: Float[Tensor, "n g"]) -> "_Tail":
        powers = standard.clamp(min=0).pow(_TAIL_POWER)
        usual = powers.mean().clamp(min=torch.finfo(powers.dtype).tiny)
        total, n = powers.sum(0) + _TAIL_PRIOR * usual, len(powers) + _TAIL_PRIOR
        return cls(total / n, (total - powers) / (n - 1))


def _root(weight: Float[Tensor, "*n g"]) -> Float[Tensor, "*n g"]:
    return weight.pow(1 / _TAIL_POWER)


def _with_floor(reach: Float[Tensor, "b g"], floor: float) -> Float[Tensor, "b g"]:
    return reach + floor * reach.mean(1, keepdim=True)


def _band_width(
    residuals: Float[Tensor, "n g"], lower: Float[Tensor, "n g"], upper: Float[Tensor, "n g"], floor: float
) -> float:
    """Mean width of a band at 90 %, were it calibrated on these rows."""
    down, up = _with_floor(lower, floor), _with_floor(upper, floor)
    largest = torch.maximum(residuals / up, -residuals / down).amax(1)
    return float(conformal_quantile(largest, _BAND_LEVEL) * (up + down).mean())
