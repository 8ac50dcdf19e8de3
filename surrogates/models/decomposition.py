"""Why a prediction is unsure: what more data would tell, and what they would not."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.novelty import novelty_code
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.calibrated import FittedCalibrated
from surrogates.uncertainty.mixture import Mixture

_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Decomposition:
    """Variances of the effects of some perturbations, by where they come from.

    Attributes:
        epistemic: Of the model: how much the members of an ensemble disagree, or how much wider a Bayesian model
            is here than where it is surest. More data would remove it.
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

    Held-out errors hold both parts. Their mean square, the error law's variance, less the mean epistemic variance
    of the same held-out perturbations is aleatoric. (Kendall and Gal 2017 name the parts; the sum is the variance
    of the mixture of Lakshminarayanan 2017.)

    Args:
        fitted: A surrogate with its error laws and cross-fits.
        batch: Perturbations.
        screen: What it was fitted to, for the standard errors.

    Returns:
        The parts.
    """
    codes = novelty_code(batch, fitted.measured_alone)
    epistemic = _epistemic(fitted, batch)
    aleatoric = torch.empty_like(epistemic)
    noise = measurement_variance(screen)
    for code in codes.unique().tolist():
        law = fitted.law(code).covariance.variance
        held_out = [
            _epistemic(fold.fitted, fold.batch.rows(rows))
            for fold in fitted.cross
            if isinstance(fold.fitted, FittedCalibrated)
            and len(rows := torch.nonzero(fold.codes == code).flatten())
        ]
        known = torch.cat(held_out).mean(0) if held_out else torch.zeros_like(law)
        # The noise was measured: whatever else is found, it stays.
        aleatoric[codes == code] = torch.maximum((law - known).clamp(min=0), torch.minimum(noise, law))
    return Decomposition(epistemic, aleatoric, torch.minimum(noise, aleatoric))


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
