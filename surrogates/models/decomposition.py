"""Why a prediction is unsure: what more data would tell, and what they would not."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.novelty import novelty_code
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.calibrated import FittedCalibrated
from surrogates.models.stated_errors import state_errors
from surrogates.uncertainty.mixture import Mixture

_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Decomposition:
    """Variances of the effects of some perturbations, by where they come from.

    Attributes:
        epistemic: Of the model: how much the members of an ensemble disagree, or how much wider a Bayesian model
            is here than where it is surest; no more than held-out errors show. More data would remove it.
        aleatoric: What held-out errors show beyond that: departures that no member foresees, and measurement
            noise.
        measurement: The part of ``aleatoric`` that is the noise of one measurement, from the standard errors of
            the screen's combinations; zero where there are none.
    """

    epistemic: Float[Tensor, "b g"]
    aleatoric: Float[Tensor, "b g"]
    measurement: Float[Tensor, "b g"]

    @property
    def total(self) -> Float[Tensor, "b g"]:
        """Variance of what will be measured."""
        return self.epistemic + self.aleatoric


def decompose(fitted: FittedCalibrated, batch: PerturbationBatch, screen: Screen) -> Decomposition:
    """Take the uncertainty of predictions apart.

    The total is what the surrogate states of its errors, see :mod:`surrogates.models.stated_errors`: held-out
    errors hold both parts. What the model says of its own doubt is epistemic, the rest aleatoric. (Kendall and Gal
    2017 name the parts; the sum is the variance of the mixture of Lakshminarayanan 2017.)

    Args:
        fitted: A surrogate with its error laws and held-out predictions.
        batch: Perturbations.
        screen: What it was fitted to, for the standard errors.

    Returns:
        The parts.
    """
    total = state_errors(fitted).predict(batch).variance
    # The noise was measured: whatever else is found, it stays.
    noise = torch.minimum(measurement_variance(screen), total)
    epistemic = torch.minimum(_epistemic(fitted, batch), total - noise)
    return Decomposition(epistemic, total - epistemic, noise)


def _epistemic(fitted: FittedCalibrated, batch: PerturbationBatch) -> Float[Tensor, "b g"]:
    parts = []
    for rows in torch.arange(len(batch)).split(_ROWS_AT_ONCE):
        some = batch.rows(rows)
        posterior = fitted.base.predict(some)
        laws = [
            fitted.law(code).covariance.variance for code in novelty_code(some, fitted.measured_alone).tolist()
        ]
        excess = (posterior.scale - 1).clamp(min=0)[:, None] * torch.stack(laws)
        parts.append(excess + posterior.epistemic if isinstance(posterior, Mixture) else excess)
    return torch.cat(parts)


def measurement_variance(screen: Screen) -> Float[Tensor, "g"]:
    """Take the mean squared standard error of combinations, or of all conditions where there are none.

    Args:
        screen: Measured effects.

    Returns:
        Variance of one measurement of each readout; zero where the screen has no standard errors.
    """
    if screen.standard_errors is None:
        return torch.zeros(len(screen.readouts), dtype=torch.float64)
    together = screen.batch.order > 1
    rows = together if bool(together.any()) else torch.ones_like(together)
    return screen.standard_errors[rows].square().mean(0)
