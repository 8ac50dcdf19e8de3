"""The table of ranked candidates: the utility of each, and the bounds on what an experiment will show."""

import math
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.problem.explanation import Explanation
from inverse_design.problem.objective import DISTANCE, Objective
from inverse_design.problem.replicates import Baselines
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code, novelty_name
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.base import Fitted
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.conformal import conformal
from surrogates.models.wrappers.public_law import BORROWED, PUBLIC_SCREENS, SingleSpread, public_law
from surrogates.models.wrappers.stated_errors import Decomposition
from surrogates.uncertainty.conformal.quantiles import coverage_band
from surrogates.uncertainty.posterior import Outcome

_DRAWS = 1000


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
    bounds = [outcome.measured(row + far * errors).quantile(tails) for row, far in zip(mean, reach, strict=True)]
    lower, median, upper = torch.stack(bounds, 1)
    return lower, median, upper


PICKED_MAY_FAIL = "the best candidates are not random ones: bounds may hold less often for them (docs: intervals)"
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
    objective: Objective, fitted: FittedCalibrated, batch: PerturbationBatch, level: float
) -> OutcomeBounds:
    """Bound what an experiment with each candidate will show, by conformal intervals."""
    outcome = objective.outcome
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
                outcome, fitted, batch.rows(rows), level
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
    outcome: Outcome, fitted: FittedCalibrated, batch: PerturbationBatch, level: float
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Float[Tensor, "b"], str]:
    """Bound the outcomes of candidates of one novelty class around what is expected, and say by what."""
    code = int(novelty_code(batch, fitted.measured_alone)[0])
    calibrated = conformal(fitted)
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
