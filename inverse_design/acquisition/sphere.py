"""Maxima of smooth functions on a sphere: shifts that spend a whole budget."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from inverse_design.errors import PlanError

Slope = Callable[[Float[Tensor, "g"]], tuple[float, Float[Tensor, "g"]]]
_STEPS = 60


def maximise_on_sphere(slope: Slope, starts: Sequence[Float[Tensor, "g"]], *, radius: float) -> Float[Tensor, "g"]:
    """Climb from several starts by L-BFGS, and keep the highest end.

    Args:
        slope: From a point on the sphere to the value and its gradient in space.
        starts: Directions to begin with; those without length are left out.
        radius: Of the sphere.

    Returns:
        The best point that was found: a local maximum.

    Raises:
        PlanError: If no start has a direction.
    """

    def downhill(free: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        vector = torch.from_numpy(free)
        length = vector.norm()
        direction = vector / length
        value, gradient = slope(radius * direction)
        along = radius * (gradient - direction * (direction @ gradient)) / length
        return -value, -along.numpy()

    ends = []
    for start in starts:
        if float(start.norm()) > 0:
            found = minimize(
                downhill, (start / start.norm()).numpy(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
            )
            ends.append((float(found.fun), torch.from_numpy(np.array(found.x))))
    if not ends:
        raise PlanError(f"none of {len(starts)} start(s) has a direction; give a vector that is not zero")
    best = min(ends, key=lambda end: end[0])[1]
    return torch.mul(best, radius / best.norm())
