"""What a set of experiments gains together: exact for each alone, by scenarios for how they depend on each other.

Each scenario says how candidates fare relative to what was expected of them; given the scenario they are
independent. With ``P_j(y)`` the chance that ``j`` improves by more than ``y``, and ``p_js(y)`` that in scenario
``s``,

    f(S) = mean over s of  integral of  1 - prod_{j in S} (1 - p_js(y))  dy,      mean over s of p_js(y) = P_j(y)

so that ``f({j})`` is the expected gain of ``j``, to the last digit, whatever the scenarios are, and every
candidate that may gain adds something. ``f`` is monotone and submodular: for each ``s`` and ``y`` it is a
coverage. Draws of the improvement itself have none of this: where they all miss, nothing gains. ``p_js`` is a
normal copula, smoothed so that the chance is never all in one scenario,

    p_js(y) = Phi((t_j(y) + (1 - h²)^1/2 e_js) / h)

with ``e_js`` the normal score of the rank of ``j``'s utility in joint draw ``s``, and ``t_j(y)`` such that the
mean is ``P_j(y)``. Scenarios are the same for every seed.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.acquisition.joint_effects import JointEffects
from inverse_design.acquisition.normal_scores import NormalScores
from inverse_design.acquisition.worth import Worth

LIKELY = 1e-3  # chance of an improvement below which none is to be expected
SCENARIOS, _SEED = 512, 0
_SMOOTHING = 0.05  # h²: the part of a utility's variance that depends on nothing else
_CELLS_PER_HALVING, _HALVINGS = 2, 20  # of the largest improvement
_ALMOST_ONE = 1 - 1e-12
_LOWEST, _TABLE = -45.0, 6000  # normal scores of chances below any float, and entries of the table of them


@dataclass(frozen=True)
class JointGain:
    """What each candidate adds to those that are chosen.

    Attributes:
        chance: Chance in each scenario that each candidate improves by more than each cell of improvements, on
            average over the cell.
        width: Of each cell, in the unit of the utility.
        chosen: Chance in each scenario and cell that any of the chosen candidates does.
        left: One less that; both keep their digits where they are small.
    """

    chance: Float[Tensor, "b s c"]
    width: Float[Tensor, "c"]
    chosen: Float[Tensor, "s c"]
    left: Float[Tensor, "s c"]

    @classmethod
    def of(cls, alone: NormalScores, draws: Float[Tensor, "s b"]) -> "JointGain":
        """Begin with nothing chosen.

        Args:
            alone: How much each candidate improves.
            draws: Joint draws of the utilities, larger is better: only their order counts.

        Returns:
            The gains.
        """
        largest = float(alone.reach.amax()) if len(alone.at) else 1.0
        halvings = torch.arange(_HALVINGS * _CELLS_PER_HALVING, -1, -1, dtype=torch.float64) / _CELLS_PER_HALVING
        bounds = torch.cat([torch.zeros(1, dtype=torch.float64), largest * 2**-halvings])
        beyond = alone.beyond(bounds)
        beyond[:, -1] = 0.0  # beyond what is worth counting
        width = bounds.diff()
        mean = ((beyond[:, :-1] - beyond[:, 1:]) / width).clamp(0.0, 1.0)
        chance = _in_scenarios(mean, _ranked(draws))
        nothing = torch.zeros(chance.shape[1:], dtype=torch.float64)
        return cls(chance, width, nothing, 1 - nothing)

    @cached_property
    def total(self) -> float:
        """Expected gain of what is chosen."""
        return float(self.chosen.mean(0) @ self.width)

    def gains(self) -> Float[Tensor, "b"]:
        """What each candidate adds to the expected gain."""
        return self.gains_of(torch.arange(len(self.chance)))

    def gains_of(self, numbers: Int[Tensor, "c"]) -> Float[Tensor, "c"]:
        """What some candidates add, for lazy evaluation.

        Args:
            numbers: Which.

        Returns:
            The same as :meth:`gains`, of those only.
        """
        weight = self.left * self.width / len(self.left)
        added: Tensor = self.chance[numbers].flatten(1) @ weight.flatten()
        return added

    def adding(self, number: int) -> "JointGain":
        """Choose a candidate.

        Args:
            number: Which.

        Returns:
            The gains with it.
        """
        chance = self.chance[number]
        return JointGain(self.chance, self.width, self.chosen + self.left * chance, self.left * (1 - chance))

    def only(self, some: Bool[Tensor, "b"]) -> "JointGain":
        """Let the others gain nothing.

        Args:
            some: Which candidates may gain.

        Returns:
            The gains of those.
        """
        return replace(self, chance=self.chance * some[:, None, None])


def joint_gain(joint: JointEffects, alone: NormalScores, worth: Worth) -> JointGain:
    """Say what some candidates gain together, by scenarios of their joint law.

    Args:
        joint: The joint law of their effects.
        alone: How much each improves.
        worth: What effects are worth.

    Returns:
        The gains, with nothing chosen.
    """
    return JointGain.of(alone, joint.believe(worth, SCENARIOS, seed=_SEED).joint())


def _ranked(draws: Float[Tensor, "s b"]) -> Float[Tensor, "b s"]:
    """Normal scores of ranks: the same numbers for every candidate, in the order of its draws."""
    count = len(draws)
    places = draws.argsort(dim=0, stable=True).argsort(dim=0)
    scores: Tensor = torch.special.ndtri((places.T.double() + 0.5) / count)
    return scores


def _in_scenarios(mean: Float[Tensor, "b c"], fared: Float[Tensor, "b s"]) -> Float[Tensor, "b s c"]:
    """Spread chances over scenarios."""
    spread, shared = math.sqrt(_SMOOTHING), math.sqrt(1 - _SMOOTHING)
    table = torch.linspace(_LOWEST, -_LOWEST, _TABLE, dtype=torch.float64)
    logs = torch.special.log_ndtr((table[:, None] + shared * fared[0]) / spread).logsumexp(1)
    wanted = mean.log()
    at = torch.from_numpy(np.interp(wanted.numpy(), logs.numpy() - math.log(fared.shape[1]), table.numpy()))

    def scores() -> Float[Tensor, "b s c"]:
        return (at[:, None] + shared * fared[..., None]) / spread

    # One step of Newton's method for the logarithm of the mean: the table is off in the fourth digit.
    z = scores()
    share = torch.special.log_ndtr(z)
    density = (-z.square() / 2 - share).exp() / (math.sqrt(2 * math.pi) * spread)
    slope = (share.softmax(1) * density).sum(1)
    miss = wanted - (share.logsumexp(1) - math.log(fared.shape[1]))
    at = at + torch.where(wanted.isfinite() & (mean < _ALMOST_ONE), miss / slope, 0.0)
    raw = torch.special.log_ndtr(scores()).exp()
    # What is left is put right, for small chances and for large ones, so that the mean is exact.
    got = raw.mean(1, keepdim=True)
    low = raw * (mean[:, None] / got.clamp(min=torch.finfo(got.dtype).tiny))
    high = 1 - (1 - raw) * ((1 - mean[:, None]) / (1 - got).clamp(min=1 - _ALMOST_ONE))
    return torch.where(mean[:, None] < 0.5, low, high).clamp(0.0, 1.0)
