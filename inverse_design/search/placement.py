"""Where listed candidates stand among all: their probability, and the inverse conformal set."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.exhaustive import search, survey
from inverse_design.search.identification import Identification, identify
from inverse_design.search.inverse_set import InverseSet, inverse_set
from inverse_design.search.topk import Progress, TopK
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.calibrated import FittedCalibrated

LISTED = 1000  # candidates that are listed to read the set off
_SUMMED = 1 << 28  # effects on single readouts that may be predicted to sum over larger sets: half a minute


@dataclass(frozen=True)
class Placement:
    """What the whole space says of some candidates.

    Attributes:
        density: Log density of the target under each.
        probability: Posterior probability of each among all; ``nan`` where the sum over all would be too long, and
            where no double could be held out.
        inverse_set: The set; ``None`` where it cannot be calibrated.
        notes: Why something is missing.
        found: Where the truths of held-out targets stood among all; ``None`` where none was asked.
    """

    density: Float[Tensor, "b"]
    probability: Float[Tensor, "b"]
    inverse_set: InverseSet | None
    notes: tuple[str, ...]
    found: Identification | None = None


def place(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    batch: PerturbationBatch,
    *,
    listed: TopK | None,
    level: float,
    seed: int,
    progress: Progress | None = None,
) -> Placement:
    """Place candidates among all of a space.

    Args:
        likelihood: Log density of the target.
        fitted: A surrogate with its cross-fits.
        space: All candidates.
        batch: Those to place.
        listed: The best candidates by the likelihood, if they were searched for already.
        level: Probability that the set holds the truth.
        seed: Fixes which held-out doubles calibrate the set where there are too many.
        progress: Called with the number of doubles asked, of how many.

    Returns:
        Their probabilities and the set. Neither is made up: the sum over larger sets is taken where they are few,
        and the set is calibrated on doubles, for singles and pairs only.
    """
    density = likelihood.utility(fitted, batch).mean
    if not any(bool((fold.codes == SEEN_DOUBLE).any()) for fold in fitted.cross):
        missing = (
            "warning: probability and in_set are not given: no double was held out, so nothing calibrates them"
        )
        return Placement(density, torch.full_like(density, math.nan), None, (missing,))
    if space.orders[-1] > 2:
        return _among_larger(likelihood, fitted, space, density)
    top = listed or search(likelihood, fitted, space, LISTED).top
    log_sum = survey(likelihood, fitted, space, peak=float(top.score[0])).log_sum
    probability = (density - log_sum).exp()
    held_out = identify(likelihood, fitted, space, seed=seed, progress=progress)
    try:
        found = inverse_set(likelihood, fitted, space, top, log_sum=log_sum, found=held_out, level=level)
    except CalibrationError as error:
        missing = f"warning: the set cannot be calibrated: {error}"
        return Placement(density, probability, None, (missing,), held_out)
    return Placement(density, probability, found, (), held_out)


def _among_larger(
    likelihood: TargetLikelihood, fitted: FittedCalibrated, space: CombinationSpace, density: Float[Tensor, "b"]
) -> Placement:
    without = (
        f"in_set is not given: no set of order {space.orders[-1]} was held out, so that nothing calibrates it"
    )
    if space.size * len(fitted.readouts) > _SUMMED:
        unsummed = f"probability is not given: it takes the sum over {space.summary}"
        return Placement(density, torch.full_like(density, math.nan), None, (unsummed, without))
    log_sum = survey(likelihood, fitted, space, peak=float(density[0])).log_sum
    return Placement(density, (density - log_sum).exp(), None, (without,))
