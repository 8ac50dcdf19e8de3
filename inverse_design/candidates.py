"""The table of ranked candidates: the utility of each, whether it made the target, and what will be measured."""

import math
from dataclasses import dataclass, replace
from functools import cache as once
from functools import cached_property, partial

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.problem.explanation import Explanation
from inverse_design.problem.likelihood import Baselines, TargetLikelihood, replicates
from inverse_design.problem.objective import DISTANCE, Distance, Objective, SquaredDistance
from inverse_design.problem.problem import Problem, scale_remark
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.first_rows import FirstRows, RowLaw, first_rows
from inverse_design.search.identification import asked_of_others
from inverse_design.search.inverse_set import CandidatePosterior, candidate_posterior
from inverse_design.search.survey import SpacePosterior
from inverse_design.search.topk import Progress
from surrogates.cached_fit import ALONE, BesideFit
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code, novelty_name
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.base import Fitted
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.conformal import FittedConformal, conformal
from surrogates.models.wrappers.public_law import BORROWED, PUBLIC_SCREENS, SingleSpread, public_law
from surrogates.models.wrappers.stated_errors import Decomposition, FittedStatedErrors, StatedErrors, StatedScales
from surrogates.uncertainty.conformal.quantiles import coverage_band
from surrogates.uncertainty.posterior import Outcome

_DRAWS = 1000
DOUBTED = 0.5  # that a candidate made a target which none explains, or which need not have been made by any
_ROUNDING = 1e-6


def borrows(fitted: FittedCalibrated, code: int = SEEN_DOUBLE) -> bool:
    """Say whether the law of a novelty class is that of public screens."""
    return code == SEEN_DOUBLE and fitted.law(code).origin == BORROWED


def borrowed_bounds(
    outcome: Outcome, fitted: FittedCalibrated, batch: PerturbationBatch, level: float, *, seed: int = 0
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Float[Tensor, "b"]]:
    """Bound what an experiment with each perturbation will show by the law that public screens lend."""
    law, spread = public_law(), SingleSpread.of(fitted.singles, fitted.measured_alone)
    errors = law.errors(spread, _DRAWS, seed=seed)
    return quantiles_of(outcome, fitted.predict(batch).mean, law.relative(spread, batch).sqrt(), errors, level)


def borrowed_note(name: str, level: float) -> str:
    """Say what stands behind the bounds."""
    law, count = public_law(), len(PUBLIC_SCREENS)
    low, high = (pick(each.ratio for each in PUBLIC_SCREENS) for pick in (min, max))
    return (
        f"warning: as no combination was held out, lower and upper are {BORROWED}: in {count} of them combinations"
        f" are {law.scale:.2f} of the sum of their parts on average, and miss it by {low:.2f} to {high:.2f} of the"
        f" parts' variance; {name} is a median, and {100 * level:.3g} % are within if this screen is like those"
    )


def quantiles_of(
    outcome: Outcome,
    mean: Float[Tensor, "b g"],
    reach: Float[Tensor, "b"],
    errors: Float[Tensor, "s g"],
    level: float,
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Float[Tensor, "b"]]:
    """Cut the tails off the outcomes of predictions with drawn errors."""
    tails = torch.tensor([(1 - level) / 2, 0.5, (1 + level) / 2], dtype=torch.float64)
    if isinstance(outcome, Distance):
        drawn = outcome.drawn(mean, reach, errors)
    else:
        drawn = torch.stack([outcome.measured(row + far * errors) for row, far in zip(mean, reach, strict=True)])
    lower, median, upper = drawn.quantile(tails, dim=1)
    return lower, median, upper


PICKED_MAY_FAIL = "the best candidates are not random ones: bounds may hold less often for them (docs: certainty)"
_AT_ONCE = 64


@dataclass(frozen=True)
class OutcomeBounds:
    """What an experiment with each candidate will show."""

    name: str  # the number that is bounded: ``"distance"`` to the target, or the utility itself
    expected: Float[Tensor, "b"]  # its expectation
    lower: Float[Tensor, "b"]  # calibrated lower bounds, ``nan`` where nothing could be calibrated
    upper: Float[Tensor, "b"]  # calibrated upper bounds
    notes: tuple[str, ...]  # what stands behind the bounds


def outcome_bounds(
    objective: Objective,
    fitted: FittedCalibrated,
    batch: PerturbationBatch,
    level: float,
    stated: StatedErrors | None = None,
) -> OutcomeBounds:
    """Bound what an experiment with each candidate will show, by conformal intervals.

    ``stated`` is how the surrogate and its cross-fits state their errors, if that was learnt already.
    """
    outcome, calibrated = objective.outcome, once(partial(conformal, fitted, stated))
    expected = expected_outcome(outcome, fitted, batch)
    lower, upper = torch.full((2, len(batch)), math.nan, dtype=torch.float64)
    notes: list[str] = []
    codes = novelty_code(batch, fitted.measured_alone)
    for code in codes.unique().tolist():
        rows = torch.nonzero(codes == code).flatten()
        if borrows(fitted, code):
            lower[rows], expected[rows], upper[rows] = borrowed_bounds(outcome, fitted, batch.rows(rows), level)
            notes.append(borrowed_note(outcome.name, level))
            continue
        try:
            lower[rows], expected[rows], upper[rows], note = _class_bounds(
                outcome, calibrated(), batch.rows(rows), level
            )
        except CalibrationError as error:
            note = f"warning: lower and upper of {novelty_name(code)!r} cannot be calibrated: {error}"
        notes.append(note)
    if bool(lower.isfinite().any()):
        notes.append(PICKED_MAY_FAIL)
    if outcome.name == DISTANCE:  # none is negative
        lower = lower.clamp(min=0)
    return OutcomeBounds(outcome.name, expected, lower, upper, tuple(notes))


def _class_bounds(
    outcome: Outcome, calibrated: FittedConformal, batch: PerturbationBatch, level: float
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Float[Tensor, "b"], str]:
    """Bound the outcomes of candidates of one novelty class around what is expected, and say by what."""
    code = int(novelty_code(batch, calibrated.measured_alone)[0])
    interval, behind = calibrated.scalar(outcome, batch, level), calibrated.calibration(code, level)
    low, high = coverage_band(len(behind.rows), level)
    note = (
        f"lower and upper hold the {outcome.name} of {100 * level:.3g} % of new perturbations, by {behind.line};"
        f" so few leave the true share at {low:.2f} to {high:.2f}"
    )
    return interval.lower, expected_outcome(outcome, calibrated.fitted, batch), interval.upper, note


def expected_outcome(outcome: Outcome, fitted: Fitted, batch: PerturbationBatch) -> Float[Tensor, "b"]:
    """Foretell what an experiment with each candidate will show, a few at a time."""
    rows = torch.arange(len(batch)).split(_AT_ONCE)
    return torch.cat([outcome.predicted(fitted.predict(batch.rows(each))).mean for each in rows])


def candidates_table(
    objective: Objective,
    fitted: FittedCalibrated,
    batch: PerturbationBatch,
    bounds: OutcomeBounds,
    explanations: tuple[Explanation, ...],
    *,
    nothing: Baselines,
) -> pd.DataFrame:
    """Lay the candidates out, the best first."""
    codes = novelty_code(batch, fitted.measured_alone).tolist()
    table = pd.DataFrame({
        "rank": range(1, len(batch) + 1),
        "perturbation": [fitted.vocabulary.perturbation(genes).label for genes in batch.genes],
        "order": batch.order.tolist(),
        "utility": objective.utility(fitted, batch).mean.tolist(),
        DISTANCE: bounds.expected.tolist(),
        "lower": bounds.lower.tolist(),
        "upper": bounds.upper.tolist(),
        "beats_nothing": nothing.beaten(bounds.expected).tolist(),
        "probability": math.nan,
        "in_set": pd.Series([pd.NA] * len(batch), dtype="boolean"),
        "novelty": [novelty_name(code) for code in codes],
        "nearest_measured": [each.nearest for each in explanations],
        "reason": [each.reason for each in explanations],
    })  # fmt: skip
    return table if bounds.name == DISTANCE else table.drop(columns=DISTANCE)


def spread_table(parts: Decomposition, labels: pd.Series, columns: Int[Tensor, "m"]) -> pd.DataFrame:
    """Lay out why the effects of candidates are unsure."""
    variances = {"epistemic": parts.epistemic, "aleatoric": parts.aleatoric, "measurement": parts.measurement}
    deviations = {name: each[:, columns].mean(1).sqrt().tolist() for name, each in variances.items()}
    return pd.DataFrame({"perturbation": labels, **deviations})


@dataclass(frozen=True)
class Inquiry:
    """A question, and the model that answers it."""

    question: Problem  # what is asked
    aligned: AlignedProfile  # the target in the coordinates of the screen
    objective: Objective  # the utility of candidates
    # Log density of the target, by which rows are named; ``None`` for a target that is no profile.
    likelihood: TargetLikelihood | None
    fitted: FittedCalibrated  # the surrogate with its error models and cross-fits
    space: CombinationSpace  # what may be proposed
    level: float  # probability of the bounds, and of the set
    seed: int  # fixes everything that is random
    beside: BesideFit = ALONE  # where what serves other questions is kept

    @cached_property
    def stated(self) -> StatedErrors:
        """The surrogate and its cross-fits, which state their errors."""
        fitted = self.fitted
        scales = self.beside.of(
            StatedScales, lambda: StatedScales.of(fitted), fits=lambda found: found.fit(fitted)
        )
        return StatedErrors.of(fitted, scales)

    def place(
        self, batch: PerturbationBatch, posterior: SpacePosterior | None, progress: Progress | None
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
            posterior=posterior,
            level=self.level,
            seed=self.seed,
            progress=progress,
            beside=self.beside,
        )

    def law(self, placed: CandidatePosterior) -> RowLaw | None:
        """Learn what first rows show from held-out doubles."""
        likelihood = self.likelihood
        found = placed.found
        if found is None or likelihood is None or self.objective.outcome.name != DISTANCE:
            return None
        # A mismatch that the likelihood allows for ranks; what made a target is found without one.
        objective = self.objective if isinstance(self.objective, SquaredDistance) else likelihood
        variance = self.aligned.variance if bool((self.aligned.variance > 0).any()) else None
        if self.question.standard_errors is not None:
            variance = self.question.standard_errors[self.aligned.columns].square()
        screen, held_out = self.question.training, self.fitted.evidence.get(SEEN_DOUBLE)
        rows = self.beside.of(
            FirstRows,
            lambda: first_rows(objective, likelihood.log_prior, self.stated, self.space, found, seed=self.seed),
            type(objective).__name__,
            *asked_of_others(likelihood, self.space, self.seed),
        )
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
            found = row_bounds(self.objective, self.stated.whole, batch, made, law)
        else:
            found = outcome_bounds(self.objective, self.fitted, batch, self.level, self.stated)
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


_CERTAIN = 0.999


def percentage(probability: float) -> str:
    """Write a probability as a percentage, the extremes as bounds."""
    if probability > _CERTAIN:
        return "more than 99.9 %"
    if probability < 1 - _CERTAIN:
        return "less than 0.1 %"
    return f"{100 * probability:.3g} %"
