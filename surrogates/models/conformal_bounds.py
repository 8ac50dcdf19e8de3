"""Bounds on what new perturbations will show, class by class, by the errors of held-out ones.

The errors of the held-out perturbations of a novelty class are laid around what each cross-fit predicts of the new
ones, see :mod:`surrogates.uncertainty.plus`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import novelty_code
from surrogates.data.own_readouts import own_columns, own_marks
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.base import Fitted
from surrogates.models.held_out import HeldOutFit
from surrogates.uncertainty.conformal import least_count, require_level
from surrogates.uncertainty.mondrian import class_rows
from surrogates.uncertainty.plus import plus_bounds
from surrogates.uncertainty.posterior import Posterior

_NUMBERS_AT_ONCE = 2**17


@dataclass(frozen=True)
class Reach:
    """A prediction, and what its errors are in units of.

    Attributes:
        centre: What is predicted.
        downwards: Unit of errors below it.
        upwards: Unit of errors above it.
    """

    centre: Float[Tensor, "b *g"]
    downwards: Float[Tensor, "b *g"]
    upwards: Float[Tensor, "b *g"]

    @classmethod
    def alike(cls, centre: Float[Tensor, "b *g"], spread: Float[Tensor, "b *g"]) -> "Reach":
        """Take errors in both directions in one unit.

        Args:
            centre: What is predicted.
            spread: The unit, not negative.

        Returns:
            Both.
        """
        positive = spread.clamp(min=torch.finfo(spread.dtype).tiny)
        return cls(centre, positive, positive)

    @classmethod
    def joined(cls, parts: Sequence["Reach"]) -> "Reach":
        """Lay predictions one after the other.

        Args:
            parts: At least one.

        Returns:
            All of them.
        """
        downwards = torch.cat([part.downwards for part in parts])
        alike = all(part.alike_in_both for part in parts)
        upwards = downwards if alike else torch.cat([part.upwards for part in parts])
        return cls(torch.cat([part.centre for part in parts]), downwards, upwards)

    @property
    def alike_in_both(self) -> bool:
        """Whether errors in both directions are in one unit."""
        return self.upwards is self.downwards

    def only(self, marks: Bool[Tensor, "b g"]) -> "Reach":
        """Take some numbers of some perturbations.

        Args:
            marks: Which.

        Returns:
            Those, in the order of rows and columns.
        """
        downwards = self.downwards[marks]
        return Reach(self.centre[marks], downwards, downwards if self.alike_in_both else self.upwards[marks])

    def errors(self, truth: Float[Tensor, "b *g"]) -> Float[Tensor, "b *g"]:
        """Measure how far off the prediction is.

        Args:
            truth: What was measured.

        Returns:
            Errors in their unit, not negative.
        """
        above = truth - self.centre
        return torch.maximum(above / self.upwards, -above / self.downwards)


@dataclass(frozen=True)
class Bounded:
    """What is bounded.

    Attributes:
        view: From a posterior to the prediction and the unit of its errors.
        measured: From measured effects to the numbers that are bounded.
        at_once: Whether the bounds hold all numbers of a perturbation at once, by its largest error.
        own_apart: Whether readouts that are targets of the perturbation itself are calibrated by such readouts
            only, where there are enough.
    """

    view: Callable[[Posterior], Reach]
    measured: Callable[[Float[Tensor, "b g"]], Float[Tensor, "b *g"]] = lambda effects: effects
    at_once: bool = False
    own_apart: bool = False

    def of(self, fitted: Fitted, batch: PerturbationBatch) -> Reach:
        """Predict a few perturbations at a time: covariance factors of all would fill the memory.

        Args:
            fitted: A model.
            batch: Perturbations.

        Returns:
            Predictions, and units of their errors.
        """
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
    """Bound what new perturbations will show.

    Args:
        fitted: The model, for the classes of the perturbations.
        folds: Fits with perturbations that they have not seen.
        batch: New perturbations.
        bounded: What is bounded.
        level: Nominal probability, between 0 and 1.

    Returns:
        Lower and upper bounds.

    Raises:
        CalibrationError: If the level is no probability, or too few perturbations were held out for it.
    """
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
