"""A small question of the main job: a screen of planted effects, a fitted model, a target and its space."""

from functools import cache

import torch
from strategies.screens import pairs_of, planted_screen

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Objective, SquaredDistance
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from surrogates.data.screen import Screen
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated

GENES, READOUTS = 12, 6


@cache
def question_screen() -> Screen:
    """Twelve genes alone and 20 of their 66 pairs."""
    return planted_screen(alone=range(GENES), together=pairs_of(GENES, 20), readouts=READOUTS)


@cache
def question_model() -> FittedCalibrated:
    """A model that factorises."""
    return Calibrated(ScaledAdditive(), folds=3).fit(question_screen(), seed=0)


def question_space(*orders: int, constraints: Constraints | None = None) -> CombinationSpace:
    """Everything that was not measured; of singles alone, all."""
    screen = question_screen()
    measured = None if orders == (1,) else screen.batch
    return CombinationSpace.of(
        screen.vocabulary, orders=orders or (2,), constraints=constraints, measured=measured
    )


def question_objective(kind: str = "likelihood") -> Objective:
    """A measured pair as the target."""
    target = AlignedProfile.exact(range(READOUTS), question_screen().effects[-1])
    if kind == "distance":
        return SquaredDistance(target)
    return TargetLikelihood(target, torch.zeros(GENES).double())
