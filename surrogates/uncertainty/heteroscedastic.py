"""How large the errors of a prediction are: by readout, and by how hard the combination is.

The variance of the error of readout ``g`` of combination ``i`` is ``s_i h_ig``. The readout variance ``h`` is that
of :mod:`surrogates.uncertainty.readout_variance`. The factor ``s_i`` is learnt from the logarithms of the mean
squared held-out errors in units of ``h``, by Bayesian regression on two terms: traits of the combination, and its
entries, as combinations of one gene are hard, or easy, together. How much each term varies is chosen by the
marginal likelihood.

Where that says more than the errors bear out, simpler forms of the same stand beside it: without factors, and with
one variance for each readout.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.uncertainty.marginal_likelihood import column_prior, maximise_evidence
from surrogates.uncertainty.readout_variance import Circumstances, ReadoutVariance
from surrogates.uncertainty.tails import Tails

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
    def alike(cls, ratios: Float[Tensor, "n"], given: Circumstances) -> "CombinationFactor":
        """Take the mean: the errors of all combinations are alike.

        Args:
            ratios: Mean squared error of each combination, in units of what its readouts let expect.
            given: What was known of those predictions.

        Returns:
            The same factor for all.
        """
        traits = given.traits
        nothing = torch.zeros_like(traits[0])
        level = float(ratios.mean().clamp(min=_SMALLEST_FACTOR).log())
        entries = torch.zeros_like(given.entries[0])
        return cls(level, traits.amin(0), traits.amax(0), nothing, nothing, entries)

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
            each left out of the regression.
        """
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
        tails: How far a band of all readouts goes.
        support: Number of held-out perturbations it was learnt from.
    """

    readouts: ReadoutVariance
    factor: CombinationFactor
    tails: Tails
    support: int

    def variance(self, given: Circumstances) -> Float[Tensor, "b g"]:
        """State the variance of each error.

        Args:
            given: What is known of some predictions.

        Returns:
            Variances, positive.
        """
        return self.factor.of(given)[:, None] * self.readouts.of(given)

    @classmethod
    def learn(cls, residuals: Float[Tensor, "n g"], given: Circumstances) -> dict[Form, "ErrorScale"]:
        """Learn from held-out errors of one novelty class.

        Args:
            residuals: Measured minus predicted, of at least 8 perturbations that the models had not seen.
            given: What was known of those predictions.

        Returns:
            A scale of each form, the simplest first. Fewer than 12 perturbations are not compared with each other:
            there are no factors.
        """
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
