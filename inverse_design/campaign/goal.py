"""The target of a campaign, as it is written into its log."""

from collections.abc import Mapping
from typing import Any

import torch

from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget, Target

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
