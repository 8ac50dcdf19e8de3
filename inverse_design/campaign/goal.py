"""The target of a campaign: written into its log, and what measured effects are worth by it."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.objective import SignedProjection
from inverse_design.problem.outcome import Distance
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget, Target, is_state
from surrogates.data.screen import Screen

Goal = dict[str, Any]


def goal_of(target: Target) -> Goal:
    """Spell a target out in the values of JSON.

    Args:
        target: Where the cells should go.

    Returns:
        What :func:`target_of` reads back, number by number.
    """
    if isinstance(target, ScalarTarget):
        return {"kind": "scalar", "readout": target.readout, "goal": target.goal, "value": target.value}
    if isinstance(target, SignatureTarget):
        return {"kind": "signature", "name": target.name, "up": dict(target.up), "down": dict(target.down)}
    return {
        "kind": "profile",
        "name": target.name,
        "readouts": list(target.readouts),
        "values": target.values.tolist(),
        "standard_errors": None if target.standard_errors is None else target.standard_errors.tolist(),
        "weights": None if target.weights is None else target.weights.tolist(),
    }


def target_of(goal: Mapping[str, Any]) -> Target:
    """Read a target from the log.

    Args:
        goal: What :func:`goal_of` has written.

    Returns:
        The target.
    """
    stated = {key: value for key, value in goal.items() if key != "kind"}
    if goal["kind"] == "scalar":
        return ScalarTarget(**stated)
    if goal["kind"] == "signature":
        return SignatureTarget(**stated)
    errors, weights = stated["standard_errors"], stated["weights"]
    return ProfileTarget(
        name=stated["name"],
        readouts=tuple(stated["readouts"]),
        values=torch.tensor(stated["values"], dtype=torch.float64),
        standard_errors=None if errors is None else torch.tensor(errors, dtype=torch.float64),
        weights=None if weights is None else torch.tensor(weights, dtype=torch.float64),
    )


def utility_of(target: Target, screen: Screen) -> Float[Tensor, "n"]:
    """Value what was measured.

    Args:
        target: Where the cells should go.
        screen: Measured effects.

    Returns:
        The utility of each row, larger is better: the projection on a direction (signatures, readouts to raise or
        lower), or minus the root mean square distance to the wanted values.
    """
    aligned = target.on(screen.readouts)
    if not is_state(target):
        return SignedProjection(aligned).measured(screen.effects)
    return -Distance(aligned).measured(screen.effects)


def noise_of(target: Target, screen: Screen) -> float | None:
    """Say how exactly a utility is known, to first order.

    A projection on ``a`` has the variance ``sum_g a_g^2 s_g^2``. The distance ``d = (sum_g w_g x_g^2 / W)^(1/2)``
    has the gradient ``w_g x_g / (W d)``; gaps ``x`` of equal size give it the variance
    ``sum_g w_g^2 s_g^2 / W^2``.

    Args:
        target: Where the cells should go.
        screen: Measured effects, with standard errors ``s`` or without.

    Returns:
        The standard error of the utility of the median row, ``None`` if the screen has no standard errors.
    """
    if screen.standard_errors is None:
        return None
    aligned = target.on(screen.readouts)
    gradient = aligned.weights / aligned.weights.sum()
    if not is_state(target):
        gradient = aligned.values * aligned.weights
    variance = screen.standard_errors[:, aligned.columns].square() @ gradient.square()
    return float(variance.median().sqrt())
