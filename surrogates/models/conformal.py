"""Any surrogate with intervals that hold for perturbations it has not seen.

Three promises, each calibrated on its own, by novelty class:

* an interval for each readout: over new perturbations of the class, each readout is within its bounds with the
  stated probability, one readout at a time;
* a band: all readouts are within it at once with the stated probability;
* an interval of one number, such as the distance to a target. The bounds that a band implies for it would be
  several times as wide.

Errors are taken as they are, in standard deviations of the posterior, or in those that were learnt from held-out
errors (:mod:`surrogates.models.stated_errors`): then readouts that are targets of the perturbation itself are a
class of their own, and a band knows how heavy the tails of each readout are.

What they do not promise: anything for candidates that were chosen because their prediction looked good. See
``docs/guides/intervals.md``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.splits import splits_over_doubles, splits_over_targets
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import CalibrationError
from surrogates.models.base import Fitted, Surrogate
from surrogates.models.calibrated import FittedCalibrated
from surrogates.models.conformal_bounds import Bounded, Reach, bounds_by_class
from surrogates.models.held_out import HeldOutFit
from surrogates.models.stated_errors import StatedErrors
from surrogates.uncertainty.conformal import conformal_quantile
from surrogates.uncertainty.mondrian import ClassRows, class_rows
from surrogates.uncertainty.posterior import Interval, Posterior
from surrogates.uncertainty.scalar import Outcome, ScalarInterval
from surrogates.uncertainty.stated import StatedPosterior

Score = Literal["absolute", "normalised", "learnt"]
_CHOICE_LEVEL = 0.9
# Narrower by this share at least: less is noise of the quantiles, or rounding where both are the same.
_CLEAR_GAIN = 0.02


@dataclass(frozen=True)
class FittedConformal:
    """A fitted model and the held-out perturbations that calibrate it.

    Attributes:
        fitted: The model, fitted on all that it may see.
        folds: Fits with perturbations that they have not seen. One fold that holds ``fitted`` itself is split
            conformal prediction; several fits are CV+, and one per perturbation is jackknife+.
        score: Whether errors are taken as they are, in standard deviations of the posterior, or in learnt ones
            where the fits state them, see :class:`surrogates.models.stated_errors.StatedErrors`.
    """

    fitted: Fitted
    folds: tuple[HeldOutFit, ...]
    score: Score = "absolute"

    def __post_init__(self) -> None:
        """Refuse a calibration by nothing, and an unknown score."""
        if not self.folds:
            raise CalibrationError(
                "nothing was held out, so nothing can be calibrated: a screen needs combinations of perturbations"
                " that were also measured alone, or several targets"
            )
        if self.score not in get_args(Score):
            raise CalibrationError(f"score is {self.score!r}; take one of {', '.join(get_args(Score))}")

    @classmethod
    def split(cls, fitted: Fitted, held_out: Screen, *, score: Score = "absolute") -> "FittedConformal":
        """Calibrate a model by a screen that it has not seen.

        Args:
            fitted: Any fitted model.
            held_out: Perturbations in the vocabulary of the model, each once, none of them in its training data.
            score: Whether errors are taken as they are or in standard deviations.

        Returns:
            Split conformal prediction.

        Raises:
            CalibrationError: If a perturbation is repeated, as cells or replicates are.
        """
        return cls(fitted, (HeldOutFit(fitted, held_out.batch, held_out.effects),), score)

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

    def predict(self, batch: PerturbationBatch) -> Posterior:
        """Predict as the model does; the posterior's own intervals stay nominal.

        Args:
            batch: Ids of the vocabulary.

        Returns:
            The model's posterior.
        """
        return self.fitted.predict(batch)

    @property
    def codes(self) -> Int[Tensor, "n"]:
        """Novelty class of each held-out perturbation, fold after fold."""
        return torch.cat([fold.codes for fold in self.folds])

    def calibration(self, code: int, level: float) -> ClassRows:
        """Find the held-out perturbations that stand behind a novelty class.

        Args:
            code: A value of :func:`surrogates.data.novelty.novelty_code`.
            level: Nominal probability.

        Returns:
            Which they are, and whether they are borrowed from a coarser class.

        Raises:
            CalibrationError: If there are too few for the level.
        """
        return class_rows(self.codes, code, level)

    def interval(self, batch: PerturbationBatch, level: float) -> Interval:
        """Bound each readout on its own.

        Args:
            batch: New perturbations.
            level: Nominal probability, between 0 and 1.

        Returns:
            The bounds.

        Raises:
            CalibrationError: If the level is no probability, or too few perturbations were held out for it.
        """
        bounded = Bounded(self._readouts, own_apart=self.score == "learnt")
        return Interval(*bounds_by_class(self.fitted, self.folds, batch, bounded, level), level)

    def band(self, batch: PerturbationBatch, level: float) -> Interval:
        """Bound all readouts at once, by the largest error over readouts in standard deviations.

        Args:
            batch: New perturbations.
            level: Nominal probability that every readout is within the band.

        Returns:
            The bounds.

        Raises:
            CalibrationError: If the level is no probability, or too few perturbations were held out for it.
        """
        bounded = Bounded(self._together, at_once=True)
        return Interval(*bounds_by_class(self.fitted, self.folds, batch, bounded, level), level)

    def scalar(self, outcome: Outcome, batch: PerturbationBatch, level: float) -> ScalarInterval:
        """Bound one number, such as the distance to a target, directly.

        Args:
            outcome: How the number follows from predicted and from measured effects.
            batch: New perturbations.
            level: Nominal probability, between 0 and 1.

        Returns:
            The bounds.

        Raises:
            CalibrationError: If the level is no probability, or too few perturbations were held out for it.
        """

        def view(posterior: Posterior) -> Reach:
            found = outcome.predicted(posterior)
            unit = torch.ones_like(found.mean) if self.score == "absolute" else found.variance.sqrt()
            return Reach.alike(found.mean, unit)

        bounded = Bounded(view, outcome.measured)
        return ScalarInterval(*bounds_by_class(self.fitted, self.folds, batch, bounded, level), level)

    def _readouts(self, posterior: Posterior) -> Reach:
        if self.score == "absolute":
            return Reach.alike(posterior.mean, torch.ones_like(posterior.mean))
        return Reach.alike(posterior.mean, posterior.variance.sqrt())

    def _together(self, posterior: Posterior) -> Reach:
        """Readouts differ in size, so a band is in standard deviations whatever the score of the rest is."""
        if isinstance(posterior, StatedPosterior):
            return Reach(posterior.mean, posterior.downwards, posterior.upwards)
        scale = 1.0 if self.score == "normalised" else posterior.scale[:, None]
        return Reach.alike(posterior.mean, (posterior.variance / scale).sqrt())


@dataclass(frozen=True)
class Conformal:
    """Fits a surrogate, and fits it again without each of several parts of the data to calibrate its intervals.

    Doubles of two entries measured alone are held out by double, everything else by target; cells never.

    Attributes:
        base: The surrogate.
        folds: Number of parts of each kind; as many as there are perturbations is jackknife+.
        score: How errors are taken, ``"absolute"`` or ``"normalised"``; by default the data choose.
    """

    base: Surrogate
    folds: int = 5
    score: Score | None = None

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing to learn from."""
        if self.folds < 2:
            raise CalibrationError(
                f"folds is {self.folds}; at least 2 are needed, so that some data stay to learn from"
            )
        if self.score == "learnt":
            raise CalibrationError(
                "learnt scales need held-out predictions of nested fits; calibrate the surrogate, and take"
                " conformal(Calibrated(surrogate).fit(screen))"
            )
        if self.score is not None and self.score not in get_args(Score):
            raise CalibrationError(f"score is {self.score!r}; take one of {', '.join(get_args(Score))}")

    def fit(self, screen: Screen, *, seed: int) -> FittedConformal:
        """Fit on everything, and on everything but each part.

        Args:
            screen: Measured effects in one context.
            seed: Fixes the parts and the fits.

        Returns:
            The calibrated model.

        Raises:
            CalibrationError: If nothing can be held out.
        """
        splits = [
            *splits_over_doubles(screen, folds=self.folds, seed=seed),
            *splits_over_targets(screen, folds=self.folds, seed=seed),
        ]
        folds = tuple(
            HeldOutFit(
                self.base.fit(screen.rows(split.train), seed=seed),
                screen.batch.rows(split.test),
                screen.effects[split.test],
            )
            for split in splits
        )
        score = self.score or (choose_score(folds) if folds else "absolute")
        return FittedConformal(self.base.fit(screen, seed=seed), folds, score)


def conformal(fitted: FittedCalibrated) -> FittedConformal:
    """Give a calibrated model conformal intervals, by the cross-fits that its error laws were learnt from.

    Args:
        fitted: A surrogate with its error laws.

    Returns:
        The same model with intervals.

    Raises:
        CalibrationError: If nothing was held out.
    """
    stated = StatedErrors.of(fitted)
    if stated.whole.scales:
        return FittedConformal(stated.whole, stated.folds, "learnt")
    return FittedConformal(fitted, fitted.cross, choose_score(fitted.cross) if fitted.cross else "absolute")


def choose_score(folds: Sequence[HeldOutFit]) -> Score:
    """Choose the score with the narrower intervals of single readouts, on held-out perturbations.

    What the model says of its own uncertainty is used only if it pays clearly: a model that is wrong alike
    everywhere does not know its errors.

    Args:
        folds: Fits with perturbations that they have not seen.

    Returns:
        The score.
    """
    errors, spreads = [], []
    for fold in folds:
        posterior = fold.fitted.predict(fold.batch)
        errors.append((fold.effects - posterior.mean).abs())
        spreads.append(_positive(posterior.variance.sqrt()))
    error, spread = torch.cat(errors), torch.cat(spreads)
    # In units of each readout's usual error, so that no readout counts for more than another.
    unit = _positive(error.mean(0))
    absolute = conformal_quantile(error, _CHOICE_LEVEL) / unit
    normalised = conformal_quantile(error / spread, _CHOICE_LEVEL) * spread.mean(0) / unit
    return "normalised" if bool(normalised.mean() < (1 - _CLEAR_GAIN) * absolute.mean()) else "absolute"


def _positive(spread: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    return spread.clamp(min=torch.finfo(spread.dtype).tiny)
