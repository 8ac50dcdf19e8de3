"""Any surrogate with intervals that hold for perturbations it has not seen.

Three promises, each calibrated on its own, by novelty class:

* an interval for each readout: over new perturbations of the class, each readout is within its bounds with the
  stated probability, one readout at a time;
* a band: all readouts are within it at once with the stated probability;
* an interval of one number, such as the distance to a target. The bounds that a band implies for it would be
  several times as wide.

The errors of held-out perturbations are laid around what each cross-fit predicts of the new ones
(:mod:`surrogates.uncertainty.conformal.quantiles`): as they are, in standard deviations of the posterior, or in
those that were learnt from held-out errors (:mod:`surrogates.models.wrappers.stated_errors`), where own readouts
are a class of their own. Nothing is promised for candidates that were chosen because their prediction looked good:
see ``docs/concepts/certainty.md``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import novelty_code, own_columns, own_marks, splits_over_doubles, splits_over_targets
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import CalibrationError
from surrogates.models.base import Fitted, Surrogate
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.cross_fitting import HeldOutFit
from surrogates.models.wrappers.stated_errors import StatedErrors
from surrogates.summary import summary
from surrogates.uncertainty.conformal.quantiles import (
    ClassRows,
    class_rows,
    conformal_quantile,
    least_count,
    plus_bounds,
    require_level,
)
from surrogates.uncertainty.heteroscedastic import StatedPosterior
from surrogates.uncertainty.posterior import Interval, Outcome, Posterior, ScalarInterval

_NUMBERS_AT_ONCE = 2**17


@dataclass(frozen=True)
class Reach:
    """A prediction, and what its errors are in units of."""

    centre: Float[Tensor, "b *g"]  # what is predicted
    downwards: Float[Tensor, "b *g"]  # unit of errors below it
    upwards: Float[Tensor, "b *g"]  # unit of errors above it

    @classmethod
    def alike(cls, centre: Float[Tensor, "b *g"], spread: Float[Tensor, "b *g"]) -> "Reach":
        """Take errors in both directions in one unit."""
        positive = spread.clamp(min=torch.finfo(spread.dtype).tiny)
        return cls(centre, positive, positive)

    @classmethod
    def joined(cls, parts: Sequence["Reach"]) -> "Reach":
        """Lay predictions one after the other."""
        downwards = torch.cat([part.downwards for part in parts])
        alike = all(part.alike_in_both for part in parts)
        upwards = downwards if alike else torch.cat([part.upwards for part in parts])
        return cls(torch.cat([part.centre for part in parts]), downwards, upwards)

    @property
    def alike_in_both(self) -> bool:
        """Whether errors in both directions are in one unit."""
        return self.upwards is self.downwards

    def only(self, marks: Bool[Tensor, "b g"]) -> "Reach":
        """Take some numbers of some perturbations."""
        downwards = self.downwards[marks]
        return Reach(self.centre[marks], downwards, downwards if self.alike_in_both else self.upwards[marks])

    def errors(self, truth: Float[Tensor, "b *g"]) -> Float[Tensor, "b *g"]:
        """Measure how far off the prediction is."""
        above = truth - self.centre
        return torch.maximum(above / self.upwards, -above / self.downwards)


@dataclass(frozen=True)
class Bounded:
    """What is bounded.

    Attributes:
        measured: From measured effects to the numbers that are bounded.
        own_apart: Whether readouts that are targets of the perturbation itself are calibrated by such readouts
            only, where there are enough.
    """

    view: Callable[[Posterior], Reach]  # from a posterior to the prediction and the unit of its errors
    measured: Callable[[Float[Tensor, "b g"]], Float[Tensor, "b *g"]] = lambda effects: effects
    at_once: bool = False  # whether the bounds hold all numbers of a perturbation at once, by its largest error
    own_apart: bool = False

    def of(self, fitted: Fitted, batch: PerturbationBatch) -> Reach:
        """Predict a few perturbations at a time: covariance factors of all would fill the memory."""
        rows = torch.arange(len(batch)).split(max(16, _NUMBERS_AT_ONCE // len(fitted.readouts)))
        parts = [self.view(fitted.predict(batch.rows(each))) for each in rows]
        return Reach.joined(parts)


@dataclass(frozen=True)
class _Behind:
    """A cross-fit, and those of its held-out perturbations that stand behind a class."""

    fold: HeldOutFit
    rows: Int[Tensor, "n"]
    scores: Float[Tensor, "n *g"]


def bounds_by_class(
    fitted: Fitted, folds: Sequence[HeldOutFit], batch: PerturbationBatch, bounded: Bounded, level: float
) -> tuple[Float[Tensor, "b *g"], Float[Tensor, "b *g"]]:
    """Bound what new perturbations will show."""
    require_level(level)
    # What is predicted of them gives the bounds their shape.
    lower = torch.empty_like(bounded.of(fitted, batch).centre)
    upper = torch.empty_like(lower)
    for asked, behind in _classes(fitted, folds, batch, bounded, level):
        reaches = [bounded.of(each.fold.fitted, batch.rows(asked)) for each in behind]
        lower[asked], upper[asked] = _around(reaches, [each.scores for each in behind], level)
        if bounded.own_apart:
            marks = _own(fitted, batch.rows(asked))
            own = [each.scores[_own(fitted, each.fold.batch.rows(each.rows))] for each in behind]
            if bool(marks.any()) and sum(map(len, own)) >= least_count(level):
                rows, columns = marks.nonzero(as_tuple=True)
                at = asked[rows], columns
                lower[at], upper[at] = _around([each.only(marks) for each in reaches], own, level)
    return lower, upper


def _classes(
    fitted: Fitted, folds: Sequence[HeldOutFit], batch: PerturbationBatch, bounded: Bounded, level: float
) -> Iterator[tuple[Int[Tensor, "n"], list[_Behind]]]:
    """For each class of the new perturbations which they are, and what stands behind it."""
    scores = [bounded.of(fold.fitted, fold.batch).errors(bounded.measured(fold.effects)) for fold in folds]
    if bounded.at_once:
        scores = [each.amax(1, keepdim=True) for each in scores]
    held = torch.cat([fold.codes for fold in folds])
    starts = [0, *torch.tensor([len(each) for each in scores]).cumsum(0).tolist()]
    codes = novelty_code(batch, fitted.measured_alone)
    for code in codes.unique().tolist():
        rows = class_rows(held, code, level).rows
        behind = []
        for fold, each, start, stop in zip(folds, scores, starts, starts[1:], strict=False):
            own = rows[(rows >= start) & (rows < stop)] - start
            if len(own):
                behind.append(_Behind(fold, own, each[own]))
        yield from _knowing_as_much(torch.nonzero(codes == code).flatten(), batch, code, behind, level)


def _knowing_as_much(
    asked: Int[Tensor, "n"], batch: PerturbationBatch, code: int, behind: list[_Behind], level: float
) -> Iterator[tuple[Int[Tensor, "n"], list[_Behind]]]:
    """Leave cross-fits out to which a new perturbation is of another class, where the others are enough.

    A cross-fit that hides a part which the whole fit has seen predicts worse than what is to be bounded.
    """
    some = batch.rows(asked)
    same = [novelty_code(some, each.fold.fitted.measured_alone) == code for each in behind]
    patterns, group = torch.unique(torch.stack(same, dim=1), dim=0, return_inverse=True)
    for number, pattern in enumerate(patterns.tolist()):
        kept = [each for each, alike in zip(behind, pattern, strict=True) if alike]
        enough = sum(len(each.rows) for each in kept) >= least_count(level)
        yield asked[group == number], kept if enough else behind


def _around(
    reaches: Sequence[Reach], scores: Sequence[Float[Tensor, "_n *#g"]], level: float
) -> tuple[Float[Tensor, "b *g"], Float[Tensor, "b *g"]]:
    centres = [each.centre for each in reaches]
    lower, upper = plus_bounds(centres, [each.downwards for each in reaches], scores, level)
    if not all(each.alike_in_both for each in reaches):
        _, upper = plus_bounds(centres, [each.upwards for each in reaches], scores, level)
    return lower, upper


def _own(fitted: Fitted, batch: PerturbationBatch) -> Bool[Tensor, "b g"]:
    return own_marks(batch, own_columns(fitted.vocabulary, fitted.readouts), len(fitted.readouts))


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
            where the fits state them, see :class:`surrogates.models.wrappers.stated_errors.StatedErrors`.
    """

    fitted: Fitted
    folds: tuple[HeldOutFit, ...]
    score: Score = "absolute"
    __repr__ = summary

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
        """Predict as the model does; the posterior's own intervals stay nominal."""
        return self.fitted.predict(batch)

    @property
    def codes(self) -> Int[Tensor, "n"]:
        """Novelty class of each held-out perturbation, fold after fold."""
        return torch.cat([fold.codes for fold in self.folds])

    def calibration(self, code: int, level: float) -> ClassRows:
        """Find the held-out perturbations that stand behind a novelty class, maybe borrowed from a coarser one.

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
        """Bound all readouts at once, by their largest error in standard deviations, as :meth:`interval`."""
        bounded = Bounded(self._together, at_once=True)
        return Interval(*bounds_by_class(self.fitted, self.folds, batch, bounded, level), level)

    def scalar(self, outcome: Outcome, batch: PerturbationBatch, level: float) -> ScalarInterval:
        """Bound one number, such as the distance to a target, directly, as :meth:`interval`.

        ``outcome`` says how the number follows from predicted and from measured effects.
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
        """Fit on everything, and on everything but each part."""
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


def conformal(fitted: FittedCalibrated, stated: StatedErrors | None = None) -> FittedConformal:
    """Give a calibrated model conformal intervals, by the cross-fits that its error models were learnt from.

    Args:
        fitted: A surrogate with its error models.
        stated: How it and its cross-fits state their errors, if that was learnt already.

    Returns:
        The same model with intervals.

    Raises:
        CalibrationError: If nothing was held out.
    """
    stated = StatedErrors.of(fitted) if stated is None else stated
    if stated.whole.scales:
        return FittedConformal(stated.whole, stated.folds, "learnt")
    return FittedConformal(fitted, fitted.cross, choose_score(fitted.cross) if fitted.cross else "absolute")


def choose_score(folds: Sequence[HeldOutFit]) -> Score:
    """Choose the score with the narrower intervals of single readouts, on held-out perturbations.

    What the model says of its own uncertainty is used only if it pays clearly: a model that is wrong alike
    everywhere does not know its errors.
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
