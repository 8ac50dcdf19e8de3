"""The error law where no prediction could be held out: what is known of the measurement stands in."""

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE
from surrogates.data.screen import Screen
from surrogates.uncertainty.covariance import FactorCovariance
from surrogates.uncertainty.residuals import ErrorLaw

# How far the likelihood of many correlated readouts is trusted when no held-out perturbation can tell.
_EFFECTIVE_READOUTS = 50.0


def laws_without_held_out(screen: Screen) -> dict[int, ErrorLaw]:
    """The law of a perturbation that was itself measured is the noise of two measurements.

    Of predictions nothing is known, nor of the noise without standard errors; half the mean square of the single
    effects stands for both.

    Args:
        screen: Measured effects in one context.

    Returns:
        Laws of doubles of seen singles and of seen singles.
    """
    effects = screen.effects[screen.single_rows[screen.single_rows >= 0]]
    unknown = _diagonal_law(effects.square().mean(0) / 2, "no held-out data")
    if screen.standard_errors is None:
        return {SEEN_DOUBLE: unknown, SEEN_SINGLE: unknown}
    noise = 2 * screen.standard_errors.square().mean(0)
    return {SEEN_DOUBLE: unknown, SEEN_SINGLE: _diagonal_law(noise, "standard errors")}


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
