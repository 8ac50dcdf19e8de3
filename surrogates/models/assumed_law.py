"""The error law where no prediction could be held out: what other screens and the measurement tell stands in."""

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE
from surrogates.data.screen import Screen
from surrogates.models.public_law import BORROWED, SingleSpread, public_law
from surrogates.models.singles import single_effects
from surrogates.uncertainty.covariance import FactorCovariance
from surrogates.uncertainty.residuals import ErrorLaw

# How far the likelihood of many correlated readouts is trusted when no held-out perturbation can tell.
_EFFECTIVE_READOUTS = 50.0


def laws_without_held_out(screen: Screen) -> dict[int, ErrorLaw]:
    """Lend doubles the variance that public screens let expect, and seen singles the noise of two measurements.

    Without standard errors nothing is known of the noise: half the mean square of the single effects stands in.

    Args:
        screen: Measured effects in one context.

    Returns:
        Laws of doubles of seen singles and of seen singles.

    Raises:
        DataError: If nothing in the screen was measured alone.
    """
    if screen.standard_errors is None:
        effects = screen.effects[screen.single_rows[screen.single_rows >= 0]]
        alone = _diagonal_law(effects.square().mean(0) / 2, "no held-out data")
    else:
        alone = _diagonal_law(2 * screen.standard_errors.square().mean(0), "standard errors")
    spread = SingleSpread.of(*single_effects(screen))
    return {SEEN_DOUBLE: _diagonal_law(2 * public_law().ratio * spread.variance, BORROWED), SEEN_SINGLE: alone}


def _diagonal_law(variance: Float[Tensor, "g"], origin: str) -> ErrorLaw:
    g = len(variance)
    floor = variance.mean() * 1e-3 + torch.finfo(torch.float64).eps
    return ErrorLaw(
        offset=torch.zeros(g, dtype=torch.float64),
        covariance=FactorCovariance.independent(variance.clamp(min=float(floor))),
        coefficient_variance=0.0,
        degrees=float("inf"),
        temperature=min(1.0, _EFFECTIVE_READOUTS / g),
        support=0,
        origin=origin,
    )
