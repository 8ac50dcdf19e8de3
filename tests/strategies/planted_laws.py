"""Models whose error laws are planted, and the questions that are asked of them."""

import math
from functools import cache
from typing import Any

import torch
from strategies.screens import normal, pairs_of, planted_screen

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE
from surrogates.data.screen import Screen
from surrogates.models.base import Surrogate, single_effects
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.calibrated import FittedCalibrated, HeldOutError
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance

GENES, READOUTS = 8, 6
BASES: dict[str, Surrogate] = {
    "additive": Additive(),
    "scaled": ScaledAdditive(),
    "interaction": Interaction(components=4, leading=2),
}
LAWS: dict[str, dict[str, float]] = {
    "normal": {"coefficient_variance": 0.0, "degrees": math.inf},
    "scattered": {"coefficient_variance": 0.2, "degrees": math.inf},
    "student": {"coefficient_variance": 0.0, "degrees": 9.0},
    "scattered student": {"coefficient_variance": 0.05, "degrees": 3.0},
}
WHOLE = AlignedProfile.exact(range(READOUTS), normal(READOUTS, seed=5))
PART = AlignedProfile(
    columns=torch.tensor([4, 0, 3, 2]),
    values=torch.tensor([1.5, -0.7, 0.4, 2.0]).double(),
    variance=torch.tensor([0.0, 0.1, 0.3, 0.02]).double(),
    weights=torch.tensor([1.0, 2.0, 0.5, 3.0]).double(),
)
PRIOR = normal(GENES, seed=9)


@cache
def screen() -> Screen:
    return planted_screen(alone=range(GENES), together=pairs_of(GENES, 14), readouts=READOUTS, bend=0.6)


def law(rank: int, seed: int, **more: float) -> ErrorLaw:
    covariance = FactorCovariance(
        normal(READOUTS, seed=seed).abs() * 0.2 + 0.05, 0.4 * normal(READOUTS, rank, seed=seed + 1)
    )
    return ErrorLaw(
        0.3 * normal(READOUTS, seed=seed + 2), covariance, temperature=0.4, support=14, origin="planted", **more
    )


@cache
def calibrated(base: str, kind: str) -> FittedCalibrated:
    doubles = law(3, 10, **LAWS[kind])
    singles = law(1, 20, coefficient_variance=0.0, degrees=math.inf)
    return FittedCalibrated(
        BASES[base].fit(screen(), seed=0),
        {SEEN_DOUBLE: doubles, SEEN_SINGLE: singles},
        single_effects(screen())[0],
        None,
        HeldOutError(1.0, 1.0, 0),
    )


def space_of(**rules: Any) -> CombinationSpace:
    return CombinationSpace.of(
        screen().vocabulary, orders=(1, 2), constraints=Constraints(**rules), measured=screen().batch
    )
