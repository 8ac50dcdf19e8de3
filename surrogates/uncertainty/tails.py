"""How far a band goes that holds all readouts at once.

Such a band is made by the few readouts that are missed most. Beside the standard deviation it therefore knows how
heavy the tails of each readout's errors are, the lower and the upper one apart where held-out errors say that this
makes bands narrower: a readout that is silent unless it is activated is missed on one side only. And it has a
floor, a share of what is usual for the perturbation: a readout that was silent in the rows at hand need not stay
so. The floor is chosen alike, each held-out perturbation judged by the tails of the others.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.uncertainty.conformal import conformal_quantile
from surrogates.uncertainty.left_out import sums_over_others

_FLOORS = (0.1, 0.3, 1.0)
_BAND_LEVEL = 0.9
_PRIOR_ROWS = 10.0  # of the usual tail, added to the rows of each readout


@dataclass(frozen=True)
class Tails:
    """How heavy the tails of errors are.

    Attributes:
        lower: Fourth root of the mean fourth power of each readout's errors below zero, in standard deviations.
        upper: The same above zero.
        floor: Share of the mean over readouts that is added to the reach of each.
    """

    lower: Float[Tensor, "g"]
    upper: Float[Tensor, "g"]
    floor: float

    def reach(self, spread: Float[Tensor, "b g"]) -> tuple[Float[Tensor, "b g"], Float[Tensor, "b g"]]:
        """Say how far below and above the prediction a band goes, up to a factor that is the same for all.

        Args:
            spread: Standard deviation of each error.

        Returns:
            Distances downwards and upwards, positive.
        """
        return _with_floor(spread * self.lower, self.floor), _with_floor(spread * self.upper, self.floor)

    @classmethod
    def learn(cls, errors: Float[Tensor, "n g"], spread: Float[Tensor, "n g"], same: Int[Tensor, "n"]) -> "Tails":
        """Learn from held-out errors, by the width that a band at 90 % would have.

        Args:
            errors: Measured minus predicted, of two or more perturbations.
            spread: Standard deviation of each error, positive.
            same: Number of the perturbation of each row, from zero.

        Returns:
            The tails.
        """
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
