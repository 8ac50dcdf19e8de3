"""What is said of each row of a proposal: whether it made the target, and how far an experiment will be."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.candidates import OutcomeBounds, expected_outcome, outcome_bounds
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import DISTANCE, Objective, SquaredDistance
from inverse_design.problem.problem import Problem, scale_remark
from inverse_design.problem.replicates import replicates
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.first_rows import RowLaw, first_rows
from inverse_design.search.inverse_set import CandidatePosterior, candidate_posterior
from inverse_design.search.topk import Progress, TopK
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.stated_errors import FittedStatedErrors, StatedErrors
from surrogates.uncertainty.conformal.quantiles import coverage_band

DOUBTED = 0.5  # that a candidate made a target which none explains, or which need not have been made by any
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Inquiry:
    """A question, and the model that answers it.

    Attributes:
        likelihood: Log density of the target, by which rows are named; ``None`` for a target that is no profile.
    """

    question: Problem  # what is asked
    aligned: AlignedProfile  # the target in the coordinates of the screen
    objective: Objective  # the utility of candidates
    likelihood: TargetLikelihood | None
    fitted: FittedCalibrated  # the surrogate with its error models and cross-fits
    space: CombinationSpace  # what may be proposed
    level: float  # probability of the bounds, and of the set
    seed: int  # fixes everything that is random

    @cached_property
    def _stated(self) -> StatedErrors:
        return StatedErrors.of(self.fitted)

    def place(
        self, batch: PerturbationBatch, listed: TopK | None, progress: Progress | None
    ) -> CandidatePosterior:
        """Place rows among all candidates."""
        unknown = torch.full((len(batch),), math.nan, dtype=torch.float64)
        if self.likelihood is None:
            return CandidatePosterior(unknown, unknown, None, ())
        if scale_remark(self.question, self.aligned):
            said = "probability and in_set are not given, as the target does not seem to be in the screen's unit"
            return CandidatePosterior(unknown, unknown, None, (f"warning: {said}",))
        return candidate_posterior(
            self.likelihood,
            self.fitted,
            self.space,
            batch,
            listed=listed if isinstance(self.objective, TargetLikelihood) else None,
            level=self.level,
            seed=self.seed,
            progress=progress,
        )

    def law(self, placed: CandidatePosterior) -> RowLaw | None:
        """Learn what first rows show from held-out doubles."""
        likelihood = self.likelihood
        if placed.found is None or likelihood is None or self.objective.outcome.name != DISTANCE:
            return None
        # A mismatch that the likelihood allows for ranks; what made a target is found without one.
        objective = self.objective if isinstance(self.objective, SquaredDistance) else likelihood
        variance = self.aligned.variance if bool((self.aligned.variance > 0).any()) else None
        if self.question.standard_errors is not None:
            variance = self.question.standard_errors[self.aligned.columns].square()
        screen, held_out = self.question.training, self.fitted.evidence.get(SEEN_DOUBLE)
        rows = first_rows(objective, likelihood.log_prior, self._stated, self.space, placed.found, seed=self.seed)
        try:
            noise = replicates(self.aligned, screen, held_out, variance=variance, seed=self.seed)
            return RowLaw.learn(rows, noise, self.level)
        except CalibrationError:
            return None

    def bounds(self, batch: PerturbationBatch, placed: CandidatePosterior, law: RowLaw | None) -> OutcomeBounds:
        """State the outcome of rows."""
        made, doubt = placed.probability.nan_to_num(0.0), self._doubt(placed)
        if doubt:
            made = made * DOUBTED
        if law is not None:
            found = row_bounds(self.objective, self._stated.whole, batch, made, law)
        else:
            found = outcome_bounds(self.objective, self.fitted, batch, self.level)
            found = with_makers(found, made, self.level) if found.name == DISTANCE else found
        if not doubt or not bool(made.any()):
            return found
        note = f"distance: {doubt}, so that one is taken to have made it with a probability of {DOUBTED:g}"
        return replace(found, notes=(*found.notes, note))

    def _doubt(self, placed: CandidatePosterior) -> str:
        """Say why none of the candidates may have made the target; nothing if one of them did."""
        if placed.inverse_set is not None and placed.inverse_set.complaint:
            return "no candidate explains the target"
        maker, vocabulary = self.question.maker, self.space.vocabulary
        if maker is not None and bool(self.space.holds(vocabulary.batch([maker])).all()):
            return ""
        return "the target need not have been made by any candidate"


def row_bounds(
    objective: Objective,
    fitted: FittedStatedErrors,
    batch: PerturbationBatch,
    probability: Float[Tensor, "b"],
    law: RowLaw,
) -> OutcomeBounds:
    """Bound the distance that each candidate will show, given how probably it made the target."""
    found = law.state(probability, expected_outcome(objective.outcome, fitted, batch))
    low, high = coverage_band(len(law.ratio), law.level)
    said, tail = f"{100 * law.level:.3g} %", (1 - law.level) / 2
    notes = [
        "distance: what a new measurement is expected to show; with its probability the row made the target, and"
        f" then it shows noise, {law.noise.mean:.3g} on average (from {law.noise.source}); otherwise it shows"
        f" {float(law.ratio.mean()):.3g} times what its stated error lets expect, as other first rows did",
        f"lower and upper hold the distance of {said} of first rows, by {len(law.ratio)} held-out doubles, each a"
        f" target with its maker among the rows; so few leave the true share at {low:.2f} to {high:.2f}",
        "where lower is 0, the row may have made the target: the measurement that is the target is at 0, and a new"
        " one at the noise",
    ]
    others = novelty_code(batch, fitted.measured_alone) != SEEN_DOUBLE
    if bool(others.any()):
        notes.append(
            f"bounds of {int(others.sum())} rows that are no doubles of measured singles are borrowed from them"
        )
    if law.tail < tail - _ROUNDING:
        notes.append(
            f"warning: lower and upper were widened: cutting off {tail:.2g} on either side they would have held"
            f" fewer than {said} of the first rows of held-out doubles, so that {law.tail:.2g} is cut off"
        )
    return OutcomeBounds(DISTANCE, found.expected, found.lower, found.upper, tuple(notes))


def with_makers(bounds: OutcomeBounds, probability: Float[Tensor, "b"], level: float) -> OutcomeBounds:
    """Extend bounds by the chance that a candidate made the target: its distance is then zero, or noise."""
    unknown = bounds.lower.isnan() | (probability <= (1 - level) / 2)
    return replace(bounds, lower=torch.where(unknown, bounds.lower, 0.0))
