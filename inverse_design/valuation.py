"""What experiments are worth: predictions with bounds, expected gain with its interval, and why."""

import math
from dataclasses import dataclass

import pandas as pd
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.acquisition.joint_gain import JointEffects, joint_effects
from inverse_design.acquisition.quadratic import NormalScores
from inverse_design.acquisition.utility import EffectLaw, Incumbent, Nearness, Utility, best_measured, utility_of
from inverse_design.candidates import outcome_bounds
from inverse_design.problem.explanation import explain
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import SignedProjection, SquaredDistance
from inverse_design.problem.target import AlignedProfile, Target, endless
from surrogates.data.novelty import novelty_code, novelty_name
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.wrappers.calibrated import FittedCalibrated

_AT_ONCE = 128  # candidates whose covariance factors are held together


@dataclass(frozen=True)
class ScreenObjective:
    """What is wanted of effects on a screen, and the best that was measured."""

    utility: Utility  # of effects
    endless: AlignedProfile  # its target for explanations, with the end of a mere direction out of reach
    incumbent: Incumbent  # the best that was measured

    @classmethod
    def of(cls, target: Target, screen: Screen) -> "ScreenObjective":
        """Ask for a target on a screen."""
        aligned = target.on(screen.readouts)
        utility = utility_of(target, aligned)
        return cls(utility, endless(target, aligned), best_measured(utility, aligned, screen))

    @property
    def aligned(self) -> AlignedProfile:
        """The target in the coordinates of the screen."""
        return self.utility.target

    @property
    def searched(self) -> SquaredDistance | SignedProjection:
        """The objective of searches, whose outcome the utility is made of."""
        return SquaredDistance(self.aligned) if self.is_state else SignedProjection(self.aligned)

    @property
    def is_state(self) -> bool:
        """Whether there is a state to come near to; else there is a direction to go."""
        return isinstance(self.utility, Nearness)

    def likelihood(self, screen: Screen) -> TargetLikelihood:
        """Ask under which candidates the target is likely, which tells where no gain does."""
        return TargetLikelihood(self.aligned, torch.zeros(len(screen.vocabulary), dtype=torch.float64))

    def outcome(self, utility: float) -> float:
        """Turn a utility into the outcome that an experiment shows: a distance, or a projection."""
        return -utility if self.is_state else utility


@dataclass(frozen=True)
class Valuation:
    """What some experiments that were not done are worth.

    Attributes:
        table: One row per candidate, in their order: perturbation, the outcome (``distance`` or ``projection``),
            lower, upper, expected_gain, gain_lower, gain_upper, probability, novelty, nearest_measured, reason.
    """

    table: pd.DataFrame
    joint: JointEffects  # the joint posterior of their effects
    alone: NormalScores  # how much each improves on the best observed
    notes: tuple[str, ...]  # what stands behind the bounds


def value(
    fitted: FittedCalibrated, batch: PerturbationBatch, objective: ScreenObjective, screen: Screen, *, level: float
) -> Valuation:
    """Value experiments."""
    joint = joint_effects(fitted, batch, objective.aligned.columns, screen)
    whole, folds = improvements(joint, objective)
    low, high = gain_interval(joint, whole.expected, folds, level=level)
    bounds = outcome_bounds(objective.searched, fitted, batch, level)
    reasons = [
        each
        for rows in torch.arange(len(batch)).split(_AT_ONCE)
        for each in explain(fitted, batch.rows(rows), objective.endless, screen, top=3)
    ]
    codes = novelty_code(batch, fitted.measured_alone).tolist()
    table = pd.DataFrame({
        "perturbation": [fitted.vocabulary.perturbation(genes).label for genes in batch.genes],
        bounds.name: bounds.expected.tolist(),
        "lower": bounds.lower.tolist(),
        "upper": bounds.upper.tolist(),
        "expected_gain": whole.expected.tolist(),
        "gain_lower": low.tolist(),
        "gain_upper": high.tolist(),
        "probability": whole.probability.tolist(),
        "novelty": [novelty_name(code) for code in codes],
        "nearest_measured": [each.nearest for each in reasons],
        "reason": [each.reason for each in reasons],
    })  # fmt: skip
    return Valuation(table, joint, whole, bounds.notes)


def improvements(joint: JointEffects, objective: ScreenObjective) -> tuple[NormalScores, Float[Tensor, "j b"]]:
    """Compare candidates with the best observed, by the whole fit and by each cross-fit."""
    b, law = len(joint), joint.marginal()
    every = EffectLaw(
        torch.cat([law.mean, *joint.leave_one_out()]),
        torch.cat([law.shared, torch.zeros_like(law.shared).repeat(len(joint.used), 1, 1)]),
        law.covariances,
        law.group.repeat(1 + len(joint.used)),
        law.spread.repeat(1 + len(joint.used)),
    )
    found = objective.utility.improvement(every, objective.incumbent.utility)
    rows = torch.arange(len(every.mean))
    return found.rows(rows[:b]), found.rows(rows[b:]).expected.reshape(-1, b)


def gain_interval(
    joint: JointEffects, expected: Float[Tensor, "b"], gains: Float[Tensor, "j b"], *, level: float
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """Say how far the cross-fits agree on expected gains.

    Each fit without one of ``K`` parts of the combinations predicts a gain of its own; their jackknife error is
    ``((K - 1) / K sum_k (G_k - mean)²)^(1/2)``, with ``K - 1`` degrees of freedom.
    """
    folds, used = joint.folds, joint.used
    count = folds.clamp(min=1)
    centre = torch.where(used, gains, 0.0).sum(0) / count
    square = torch.where(used, (gains - centre).square(), 0.0).sum(0) * (folds - 1).clamp(min=0) / count
    quantile = torch.from_numpy(scipy.stats.t.ppf((1 + level) / 2, (folds - 1).clamp(min=1).numpy()))
    half = torch.where(folds > 1, quantile * square.sqrt(), math.nan)
    return (expected - half).clamp(min=0), expected + half
