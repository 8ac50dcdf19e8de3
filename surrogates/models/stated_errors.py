"""A calibrated surrogate that states how large its errors are, as it learnt from its held-out predictions.

The variances of an error law differ by readout; those stated here differ by combination and by the size of the
effect as well, see :mod:`surrogates.uncertainty.heteroscedastic`. The scale that states the errors of a cross-fit
is learnt from the evidence of the cross-fit: from predictions of models that had seen neither what they predict
nor what the cross-fit holds out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, novelty_code, seen_code
from surrogates.data.own_readouts import own_columns, own_marks
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.calibrated import FittedCalibrated
from surrogates.models.held_out import HeldOutFit
from surrogates.uncertainty.heteroscedastic import FEWEST_ERRORS, ErrorScale
from surrogates.uncertainty.readout_variance import Circumstances
from surrogates.uncertainty.stated import StatedPosterior


@dataclass(frozen=True)
class FittedStatedErrors:
    """A calibrated surrogate and the scales of its errors.

    Attributes:
        fitted: The surrogate.
        scales: Scale of each novelty class that has one, by the class's code.
    """

    fitted: FittedCalibrated
    scales: Mapping[int, ErrorScale]

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.fitted.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.fitted.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone."""
        return self.fitted.measured_alone

    def scale(self, code: int) -> ErrorScale | None:
        """Find the scale of a novelty class.

        Args:
            code: A value of :func:`surrogates.data.novelty.novelty_code`.

        Returns:
            Its own; that of doubles for larger combinations of parts that were all measured alone; otherwise
            ``None``, and the variances are those of the error law.
        """
        order = code // 16
        borrowed = self.scales.get(SEEN_DOUBLE) if order > 1 and code == seen_code(order) else None
        return self.scales.get(code, borrowed)

    def predict(self, batch: PerturbationBatch) -> StatedPosterior:
        """Predict as the surrogate does, with the variances that held-out errors of such predictions had.

        Args:
            batch: Ids of the vocabulary.

        Returns:
            The posterior.
        """
        posterior = self.fitted.predict(batch)
        variance = posterior.variance.clone()
        downwards, upwards = variance.sqrt(), variance.sqrt()
        codes = novelty_code(batch, self.measured_alone)
        for code in codes.unique().tolist():
            scale = self.scale(code)
            if scale is None:
                continue
            rows = torch.nonzero(codes == code).flatten()
            given = _circumstances(
                self.fitted, code, batch.rows(rows), posterior.mean[rows], posterior.scale[rows]
            )
            variance[rows] = scale.variance(given)
            downwards[rows], upwards[rows] = scale.reach(variance[rows])
        return StatedPosterior(posterior, variance, downwards, upwards)


def state_errors(fitted: FittedCalibrated) -> FittedStatedErrors:
    """Learn how large the errors of a surrogate are from the held-out predictions that it kept.

    Args:
        fitted: A surrogate with its error laws, or one of its cross-fits.

    Returns:
        The surrogate with a scale for each novelty class of at least 8 held-out predictions.
    """
    scales = {}
    for code, evidence in fitted.evidence.items():
        if len(evidence) < FEWEST_ERRORS:
            continue
        mean = evidence.mean + fitted.law(code).offset
        given = _circumstances(fitted, code, evidence.batch, mean, evidence.scale)
        scales[code] = ErrorScale.learn(evidence.measured - mean, given)
    return FittedStatedErrors(fitted, scales)


def state_cross_fits(fitted: FittedCalibrated) -> tuple[HeldOutFit, ...]:
    """Let each cross-fit state its errors as it learnt from its own evidence.

    Args:
        fitted: A surrogate with its error laws and cross-fits.

    Returns:
        The cross-fits.
    """
    return tuple(
        replace(fold, fitted=state_errors(fold.fitted)) if isinstance(fold.fitted, FittedCalibrated) else fold
        for fold in fitted.cross
    )


def _circumstances(
    fitted: FittedCalibrated,
    code: int,
    batch: PerturbationBatch,
    mean: Float[Tensor, "b g"],
    scale: Float[Tensor, "b"],
) -> Circumstances:
    """Describe predictions of one class; of parts that some model had not seen, the effects stay out of it."""
    every_part_seen = code == seen_code(code // 16)
    columns = own_columns(fitted.vocabulary, fitted.readouts)
    return Circumstances.of(
        mean,
        scale,
        batch,
        singles=fitted.singles,
        alone=fitted.measured_alone & every_part_seen,
        own=own_marks(batch, columns, len(fitted.readouts)),
    )
