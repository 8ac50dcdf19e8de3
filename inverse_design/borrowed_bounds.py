"""Bounds on outcomes where no combination was held out: errors are drawn from the law that public screens lend."""

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.calibrated import FittedCalibrated
from surrogates.models.public_law import BORROWED, PUBLIC_SCREENS, SingleSpread, public_law
from surrogates.uncertainty.scalar import Outcome

_DRAWS = 1000


def borrows(fitted: FittedCalibrated, code: int = SEEN_DOUBLE) -> bool:
    """Say whether the law of a novelty class is that of public screens.

    Args:
        fitted: A surrogate with its error laws.
        code: A value of :func:`surrogates.data.novelty.novelty_code`.

    Returns:
        True for doubles of measured singles if none could be held out. Public screens tell of no other class.
    """
    return code == SEEN_DOUBLE and fitted.law(code).origin == BORROWED


def borrowed_bounds(
    outcome: Outcome, fitted: FittedCalibrated, batch: PerturbationBatch, level: float, *, seed: int = 0
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Float[Tensor, "b"]]:
    """Bound what an experiment with each perturbation will show by the law that public screens lend.

    Args:
        outcome: The number that a measurement shows.
        fitted: The surrogate: its predictions and single effects.
        batch: Doubles of entries measured alone.
        level: Nominal probability of the bounds.
        seed: Fixes the draws.

    Returns:
        Lower bounds, medians and upper bounds; errors of Student's law may have no mean.
    """
    law, spread = public_law(), SingleSpread.of(fitted.singles, fitted.measured_alone)
    errors = law.errors(spread, _DRAWS, seed=seed)
    return quantiles_of(outcome, fitted.predict(batch).mean, law.relative(spread, batch).sqrt(), errors, level)


def borrowed_note(name: str, level: float) -> str:
    """Say what stands behind the bounds.

    Args:
        name: Of the outcome.
        level: Nominal probability of the bounds.

    Returns:
        A sentence of the notes.
    """
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
    """Cut the tails off the outcomes of predictions with drawn errors.

    Args:
        outcome: The number that a measurement shows.
        mean: Predicted effects of at least one perturbation.
        reach: How many times as large as drawn the errors of each prediction are.
        errors: Drawn errors, the same for all predictions.
        level: Nominal probability of the bounds.

    Returns:
        Lower bounds, medians and upper bounds.
    """
    tails = torch.tensor([(1 - level) / 2, 0.5, (1 + level) / 2], dtype=torch.float64)
    bounds = [outcome.measured(row + far * errors).quantile(tails) for row, far in zip(mean, reach, strict=True)]
    lower, median, upper = torch.stack(bounds, 1)
    return lower, median, upper
