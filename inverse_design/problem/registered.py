"""The objectives that can be chosen by name, and the one that fits a target."""

from collections.abc import Callable, Mapping
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from inverse_design.errors import TargetError
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Correlation, Objective, SignedProjection, SquaredDistance
from inverse_design.problem.target import AlignedProfile, ProfileTarget, ScalarTarget, Target
from surrogates.errors import UnknownNameError

ObjectiveName = Literal["likelihood", "distance", "pearson", "cosine", "projection"]

_PROFILE_OBJECTIVES: Mapping[str, Callable[[AlignedProfile, Tensor], Objective]] = {
    "likelihood": TargetLikelihood,
    "distance": lambda aligned, _: SquaredDistance(aligned),
    "pearson": lambda aligned, _: Correlation(aligned, "pearson"),
    "cosine": lambda aligned, _: Correlation(aligned, "cosine"),
    "projection": lambda aligned, _: SignedProjection(aligned),
}


def make_objective(
    target: Target, aligned: AlignedProfile, name: ObjectiveName | None, log_prior: Float[Tensor, "v"]
) -> Objective:
    """Choose the objective that fits a target.

    Raises:
        TargetError: If the objective cannot judge such a target.
    """
    if name is not None and name not in _PROFILE_OBJECTIVES:
        raise UnknownNameError.from_known("objective", name, _PROFILE_OBJECTIVES)
    profile = isinstance(target, ProfileTarget)
    wanted = name or ("likelihood" if profile else "projection")
    if not profile:
        reach = isinstance(target, ScalarTarget) and target.goal == "reach"
        if wanted == "distance" or (reach and name is None):
            return SquaredDistance(aligned)
        if wanted == "projection" and not reach:
            return SignedProjection(aligned)
        raise TargetError(f"objective {wanted!r} cannot judge target {target.name!r}")
    return _PROFILE_OBJECTIVES[wanted](aligned, log_prior)
