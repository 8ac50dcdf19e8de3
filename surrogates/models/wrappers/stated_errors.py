"""A calibrated surrogate that states how large its errors are, as learnt from its held-out predictions.

The variances of an error model differ by readout; those stated here differ by combination and by the size of the
effect as well, see :mod:`surrogates.uncertainty.heteroscedastic`. The scale that states the errors of a cross-fit
is learnt from predictions of models that had seen neither what they predict nor what the cross-fit holds out.
``decompose`` splits a prediction's uncertainty into what more data would remove and what they would not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, class_distance, novelty_code, own_columns, own_marks, seen_code
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.cross_fitting import HeldOutFit
from surrogates.summary import summary
from surrogates.uncertainty.heteroscedastic import FEWEST_ERRORS, ErrorScale, Form, StatedPosterior
from surrogates.uncertainty.posterior import Mixture
from surrogates.uncertainty.readout_variance import Circumstances


@dataclass(frozen=True)
class FittedStatedErrors:
    """A calibrated surrogate and the scales of its errors."""

    fitted: FittedCalibrated  # the surrogate
    scales: Mapping[int, ErrorScale]  # scale of each novelty class that has one, by the class's code

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
        """Find the scale of a novelty class."""
        if code in self.scales:
            return self.scales[code]
        if _every_part_seen(code):
            return self.scales.get(SEEN_DOUBLE) if code // 16 > 1 else None
        alike = [known for known in self.scales if not _every_part_seen(known)]
        return self.scales[min(alike, key=lambda known: class_distance(known, code))] if alike else None

    def predict(self, batch: PerturbationBatch) -> StatedPosterior:
        """Predict as the surrogate does, with the variances that held-out errors of such predictions had."""
        posterior = self.fitted.predict(batch)
        variance = posterior.variance.clone()
        downwards, upwards = variance.sqrt(), variance.sqrt()
        codes = novelty_code(batch, self.measured_alone)
        for code in codes.unique().tolist():
            rows, scale = torch.nonzero(codes == code).flatten(), self.scale(code)
            if scale is not None:
                some, mean = batch.rows(rows), posterior.mean[rows]
                variance[rows] = scale.variance(
                    _circumstances(self.fitted, code, some, mean, posterior.scale[rows])
                )
            if self.scales:
                nearest = min(self.scales, key=lambda known: class_distance(known, code))
                downwards[rows], upwards[rows] = self.scales[nearest].tails.reach(variance[rows].sqrt())
        return StatedPosterior(posterior, variance, downwards, upwards)


@dataclass(frozen=True)
class StatedScales:
    """How large the errors of a surrogate and of its cross-fits are, by the code of the novelty class."""

    whole: Mapping[int, ErrorScale]  # of the surrogate
    folds: tuple[Mapping[int, ErrorScale], ...]  # of its cross-fits; nothing of those without an error model

    @classmethod
    def of(cls, fitted: FittedCalibrated) -> "StatedScales":
        """Learn them from the held-out predictions that a surrogate kept."""
        views = [fold.fitted for fold in fitted.cross]
        learnt = [_learn(view) if isinstance(view, FittedCalibrated) else {} for view in views]
        forms = _most_likely_forms(fitted.cross, learnt)
        return cls(_chosen(_learn(fitted), forms), tuple(_chosen(each, forms) for each in learnt))

    def fit(self, fitted: FittedCalibrated) -> bool:
        """Tell whether they can be those of a surrogate."""
        every = [scale for each in (self.whole, *self.folds) for scale in each.values()]
        readouts = len(fitted.readouts)
        return len(self.folds) == len(fitted.cross) and all(len(each.tails.lower) == readouts for each in every)


@dataclass(frozen=True)
class StatedErrors:
    """A calibrated surrogate and its cross-fits, which all state their errors."""

    whole: FittedStatedErrors  # the surrogate
    folds: tuple[HeldOutFit, ...]  # its cross-fits, each with the perturbations that it has not seen

    @classmethod
    def of(cls, fitted: FittedCalibrated, scales: StatedScales | None = None) -> "StatedErrors":
        """Learn how large the errors of a surrogate are, unless that is known."""
        known = StatedScales.of(fitted) if scales is None else scales
        folds = tuple(
            replace(fold, fitted=FittedStatedErrors(fold.fitted, each))
            if isinstance(fold.fitted, FittedCalibrated)
            else fold
            for fold, each in zip(fitted.cross, known.folds, strict=True)
        )
        return cls(FittedStatedErrors(fitted, known.whole), folds)


def state_errors(fitted: FittedCalibrated) -> FittedStatedErrors:
    """Let a surrogate state its errors."""
    return StatedErrors.of(fitted).whole


# Scales of each form, by the code of the novelty class.
_Learnt = Mapping[int, Mapping[Form, ErrorScale]]


def _learn(fitted: FittedCalibrated) -> _Learnt:
    """Learn scales of each form.

    Perturbations with parts of one unseen target err alike: they are too few to learn factors from.
    """
    scales: dict[int, Mapping[Form, ErrorScale]] = {}
    for code, evidence in fitted.evidence.items():
        if len(evidence) < FEWEST_ERRORS:
            continue
        mean = evidence.mean + fitted.law(code).offset
        given = _circumstances(fitted, code, evidence.batch, mean, evidence.scale)
        learnt = ErrorScale.learn(evidence.measured - mean, given)
        if not _every_part_seen(code):
            learnt.pop("combinations", None)
        scales[code] = learnt
    return scales


def _chosen(learnt: _Learnt, forms: Mapping[int, Form]) -> dict[int, ErrorScale]:
    """Take the form that was chosen for each class; the simplest where a fit has no scale of that form."""
    return {code: scales.get(forms.get(code, "readouts"), scales["readouts"]) for code, scales in learnt.items()}


def _most_likely_forms(folds: Sequence[HeldOutFit], learnt: Sequence[_Learnt]) -> dict[int, Form]:
    """Choose the form for each class by the log density of what the cross-fits have not seen."""
    densities: dict[int, dict[Form, float]] = {}
    for fold, scales in zip(folds, learnt, strict=True):
        if not isinstance(fold.fitted, FittedCalibrated):
            continue
        posterior, codes = fold.fitted.predict(fold.batch), fold.codes
        for code in scales.keys() & set(codes.tolist()):
            rows = torch.nonzero(codes == code).flatten()
            mean = posterior.mean[rows]
            given = _circumstances(fold.fitted, code, fold.batch.rows(rows), mean, posterior.scale[rows])
            squares = (fold.effects[rows] - mean).square()
            # Readouts that were silent where the scales were learnt say nothing of their forms.
            moves = scales[code]["readouts"].readouts.moves
            found = densities.setdefault(code, dict.fromkeys(get_args(Form), 0.0))
            for form in get_args(Form):
                scale = scales[code].get(form, scales[code]["readouts"])
                found[form] += float(_density(squares, scale.variance(given))[:, moves].sum())
    return {code: max(found, key=found.__getitem__) for code, found in densities.items()}


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
    """Describe predictions of one class; of parts that a model may not have seen, the effects stay out of it."""
    columns = own_columns(fitted.vocabulary, fitted.readouts)
    return Circumstances.of(
        mean,
        scale,
        batch,
        singles=fitted.singles,
        alone=fitted.measured_alone & _every_part_seen(code),
        own=own_marks(batch, columns, len(fitted.readouts)),
    )


def _every_part_seen(code: int) -> bool:
    return code == seen_code(code // 16)


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
    __repr__ = summary

    @property
    def total(self) -> Float[Tensor, "b g"]:
        """Variance of what will be measured."""
        return self.epistemic + self.aleatoric


def decompose(
    fitted: FittedCalibrated | FittedStatedErrors, batch: PerturbationBatch, screen: Screen
) -> Decomposition:
    """Take the uncertainty of predictions apart.

    The total is what the surrogate states of its errors, see above: held-out errors hold both parts. What the
    model says of its own uncertainty is epistemic, the rest aleatoric. (Kendall and Gal 2017 name the parts; the
    sum is the variance of the mixture of Lakshminarayanan 2017.)

    Args:
        fitted: A surrogate with its error models and held-out predictions; or as it states its errors, if that
            was learnt already.
        batch: Perturbations.
        screen: What it was fitted to, for the standard errors.

    Returns:
        The parts.
    """
    stated = fitted if isinstance(fitted, FittedStatedErrors) else state_errors(fitted)
    total = stated.predict(batch).variance
    # The noise was measured: whatever else is found, it stays.
    noise = torch.minimum(measurement_variance(screen), total)
    epistemic = torch.minimum(_epistemic(stated.fitted, batch), total - noise)
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
    """Take the mean squared standard error of combinations, or of all conditions where there are none."""
    if screen.standard_errors is None:
        return torch.zeros(len(screen.readouts), dtype=torch.float64)
    together = screen.batch.order > 1
    rows = together if bool(together.any()) else torch.ones_like(together)
    return screen.standard_errors[rows].square().mean(0)
