"""A calibrated surrogate that states how large its errors are, as it learnt from its held-out predictions.

The variances of an error law differ by readout; those stated here differ by combination and by the size of the
effect as well, see :mod:`surrogates.uncertainty.heteroscedastic`. The scale that states the errors of a cross-fit
is learnt from the evidence of the cross-fit: from predictions of models that had seen neither what they predict
nor what the cross-fit holds out.
"""

from collections.abc import Collection, Mapping, Sequence
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
from surrogates.uncertainty.readout_variance import Circumstances, left_out_mean_squares
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
        downwards = (variance / posterior.scale[:, None]).sqrt()
        upwards, learnt = downwards.clone(), torch.zeros(len(batch), dtype=torch.bool)
        codes = novelty_code(batch, self.measured_alone)
        for code in codes.unique().tolist():
            scale = self.scale(code)
            if scale is None:
                continue
            rows = torch.nonzero(codes == code).flatten()
            given = _circumstances(
                self.fitted, code, batch.rows(rows), posterior.mean[rows], posterior.scale[rows]
            )
            variance[rows], learnt[rows] = scale.variance(given), True
            downwards[rows], upwards[rows] = scale.reach(variance[rows])
        return StatedPosterior(posterior, variance, downwards, upwards, learnt)

    def only(self, codes: Collection[int]) -> "FittedStatedErrors":
        """Keep the scales of some novelty classes.

        Args:
            codes: Which.

        Returns:
            The same surrogate with those.
        """
        return replace(self, scales={code: scale for code, scale in self.scales.items() if code in codes})


@dataclass(frozen=True)
class StatedErrors:
    """A calibrated surrogate and its cross-fits, which all state their errors.

    Attributes:
        whole: The surrogate.
        folds: Its cross-fits, each with the perturbations that it has not seen.
    """

    whole: FittedStatedErrors
    folds: tuple[HeldOutFit, ...]

    @classmethod
    def of(cls, fitted: FittedCalibrated) -> "StatedErrors":
        """Learn how large the errors of a surrogate are from the held-out predictions that it kept.

        Args:
            fitted: A surrogate with its error laws and cross-fits.

        Returns:
            Scales of the novelty classes of which they foretell held-out errors better than one variance for each
            readout would.
        """
        stating = [
            _learn(fold.fitted) if isinstance(fold.fitted, FittedCalibrated) else None for fold in fitted.cross
        ]
        codes = _foretold(fitted.cross, stating)
        folds = tuple(
            fold if each is None else replace(fold, fitted=each.only(codes))
            for fold, each in zip(fitted.cross, stating, strict=True)
        )
        return cls(_learn(fitted).only(codes), folds)


def state_errors(fitted: FittedCalibrated) -> FittedStatedErrors:
    """Let a surrogate state its errors.

    Args:
        fitted: A surrogate with its error laws and cross-fits.

    Returns:
        The surrogate, as in :class:`StatedErrors`.
    """
    return StatedErrors.of(fitted).whole


def _learn(fitted: FittedCalibrated) -> FittedStatedErrors:
    """Learn a scale for each novelty class of at least 8 held-out predictions."""
    scales = {}
    for code, evidence in fitted.evidence.items():
        if len(evidence) < FEWEST_ERRORS:
            continue
        mean = evidence.mean + fitted.law(code).offset
        given = _circumstances(fitted, code, evidence.batch, mean, evidence.scale)
        scales[code] = ErrorScale.learn(evidence.measured - mean, given)
    return FittedStatedErrors(fitted, scales)


def _foretold(folds: Sequence[HeldOutFit], stating: Sequence[FittedStatedErrors | None]) -> set[int]:
    """Find the classes of which learnt variances foretell held-out errors, by their log density.

    They are compared with the mean square of each readout over the other perturbations of the class.
    """
    squares: dict[int, list[Float[Tensor, "_ g"]]] = {}
    variances: dict[int, list[Float[Tensor, "_ g"]]] = {}
    for fold, each in zip(folds, stating, strict=True):
        if each is None:
            continue
        posterior, codes = each.predict(fold.batch), fold.codes
        for code in codes.unique().tolist():
            rows = (codes == code) & posterior.learnt
            squares.setdefault(code, []).append((fold.effects - posterior.mean)[rows].square())
            variances.setdefault(code, []).append(posterior.variance[rows])
    foretold = set()
    for code, parts in squares.items():
        found, learnt = torch.cat(parts), torch.cat(variances[code])
        if len(found) >= FEWEST_ERRORS:
            others, moves = left_out_mean_squares(found)
            gain = (_density(found, learnt) - _density(found, others))[moves]
            if float(gain.sum()) > 0:
                foretold.add(code)
    return foretold


def _density(squares: Float[Tensor, "n g"], variance: Float[Tensor, "n g"]) -> Float[Tensor, "n g"]:
    """Log density of centred normal errors, up to a constant."""
    return -(variance.log() + squares / variance) / 2


def _circumstances(
    fitted: FittedCalibrated,
    code: int,
    batch: PerturbationBatch,
    mean: Float[Tensor, "b g"],
    scale: Float[Tensor, "b"],
) -> Circumstances:
    """Describe predictions of one class.

    Which parts the model had not seen, held-out predictions do not say, and an entry makes other errors where it is
    not seen: so in classes with unseen parts neither their effects nor their names count.
    """
    every_part_seen = code == seen_code(code // 16)
    columns = own_columns(fitted.vocabulary, fitted.readouts)
    given = Circumstances.of(
        mean,
        scale,
        batch,
        singles=fitted.singles,
        alone=fitted.measured_alone & every_part_seen,
        own=own_marks(batch, columns, len(fitted.readouts)),
    )
    return given if every_part_seen else replace(given, entries=torch.zeros_like(given.entries))
