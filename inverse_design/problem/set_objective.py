"""Objectives over sets of three and more, as sums over pairs, where the model makes them so."""

import math
from dataclasses import replace
from typing import Protocol, runtime_checkable

from jaxtyping import Float64
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood, class_constant, law_on
from inverse_design.problem.objective import Objective, SignedProjection, SquaredDistance
from inverse_design.problem.set_score import PairwiseSetScore
from inverse_design.problem.space import CombinationSpace
from surrogates.data.novelty import SEEN_DOUBLE, seen_code
from surrogates.models.calibrated import FittedCalibrated


@runtime_checkable
class SetScored(Protocol):
    """An objective that knows its own score of sets; those of this package are asked by :func:`set_score`."""

    def set_score(self, fitted: FittedCalibrated, space: CombinationSpace, order: int) -> PairwiseSetScore | None:
        """Write the worth of the sets of an order as a sum over pairs.

        Args:
            fitted: A surrogate with its error laws.
            space: Whose entries are put together; all of them measured alone.
            order: How many entries a set has.

        Returns:
            A score that ranks the sets as the expected utility does; ``None`` if there is none.
        """
        ...


def set_score(
    objective: Objective, fitted: FittedCalibrated, space: CombinationSpace, order: int
) -> PairwiseSetScore | None:
    """Write the worth of the sets of an order as a sum over pairs, so that bounds on pairs bound sets.

    If the mean effect is a sum of rows and the posterior scale is one, a squared distance has terms of one and of
    two members only, whatever the covariance it is measured in; so has a projection. The log density of the
    normal law is such a distance. That of the Student law falls with it, and ranks alike where the prior is flat.
    Scattered coefficients, interactions and correlations couple all members of a set: they have no such sum.

    Args:
        objective: What candidates are worth.
        fitted: A surrogate with its error laws.
        space: Whose entries are put together; all of them measured alone.
        order: How many entries a set has.

    Returns:
        A score that ranks the sets as the expected utility does; ``None`` if there is none.
    """
    if isinstance(objective, SetScored):
        return objective.set_score(fitted, space, order)
    rows = fitted.set_rows(order)
    if rows is None:
        return None
    rows = rows[space.entries]
    if isinstance(objective, SquaredDistance):
        return _of_distance(objective, rows, fitted, order)
    if isinstance(objective, SignedProjection):
        none = rows.new_zeros(len(rows), 1)
        return PairwiseSetScore(objective.measured(rows), none, none, 0.0, order)
    if isinstance(objective, TargetLikelihood):
        return _of_likelihood(objective, rows, fitted, space, order)
    return None


def _of_distance(
    objective: SquaredDistance, rows: Float64[Tensor, "v g"], fitted: FittedCalibrated, order: int
) -> PairwiseSetScore:
    target = objective.target
    root = target.weights.sqrt()
    spread = float((fitted.law(seen_code(order)).covariance.variance[target.columns] * target.weights).sum())
    score = PairwiseSetScore.of_distance(rows[:, target.columns] * root, target.values * root, order)
    return replace(score, constant=-spread)


def _of_likelihood(
    objective: TargetLikelihood,
    rows: Float64[Tensor, "v g"],
    fitted: FittedCalibrated,
    space: CombinationSpace,
    order: int,
) -> PairwiseSetScore | None:
    target, prior = objective.target, objective.log_prior[space.entries]
    power = fitted.law(SEEN_DOUBLE).temperature
    law = law_on(fitted.law(seen_code(order)), target).with_temperature(power)
    flat = bool((prior == prior[0]).all()) if len(prior) else True
    if law.coefficient_variance > 0 or (math.isfinite(law.degrees) and not flat):
        return None
    half, whiten = math.sqrt(power / 2), law.covariance.whiten
    score = PairwiseSetScore.of_distance(
        half * whiten(rows[:, target.columns]), half * whiten(target.values[None])[0], order
    )
    return replace(score, side=score.side + prior, constant=class_constant(law))
