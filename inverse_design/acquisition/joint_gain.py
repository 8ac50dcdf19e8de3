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
_LOWEST, _TABLE = -45.0, 2000  # normal scores of chances below any float, and entries of the table of them
_SMALL = 1e-4  # mean chance up to which none in a scenario is near one
_AT_ONCE = 64  # candidates


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

    chance: Float[Tensor, "b c s"]
    width: Float[Tensor, "c"]
    chosen: Float[Tensor, "c s"]
    left: Float[Tensor, "c s"]

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
        chance = _in_scenarios(mean, _places(draws))
        nothing = torch.zeros(chance.shape[1:], dtype=torch.float64)
        return cls(chance, width, nothing, 1 - nothing)

    @cached_property
    def total(self) -> float:
        """Expected gain of what is chosen."""
        return float(self.chosen.mean(1) @ self.width)

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
        weight = self.left * self.width[:, None] / self.left.shape[1]
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


def _places(draws: Float[Tensor, "s b"]) -> Int[Tensor, "b s"]:
    """Rank of each candidate's utility in every draw."""
    return draws.argsort(dim=0, stable=True).argsort(dim=0).T


def _in_scenarios(mean: Float[Tensor, "b c"], places: Int[Tensor, "b s"]) -> Float[Tensor, "b c s"]:
    """Spread chances over scenarios, by a table of what every threshold makes of every rank."""
    spread, shared, count = math.sqrt(_SMOOTHING), math.sqrt(1 - _SMOOTHING), places.shape[1]
    thresholds = torch.linspace(_LOWEST, -_LOWEST, _TABLE, dtype=torch.float64)
    fared = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
    table = torch.special.log_ndtr((thresholds[:, None] + shared * fared) / spread)
    logs = table.logsumexp(1) - math.log(count)
    at = torch.from_numpy(np.interp(mean.log().numpy(), logs.numpy(), np.arange(_TABLE)))
    chance = torch.empty(*mean.shape, count, dtype=torch.float64)
    for rows in torch.arange(len(mean)).split(_AT_ONCE):
        low = at[rows].floor().long().clamp(max=_TABLE - 2)
        part = (at[rows] - low)[..., None]
        ranked = torch.lerp(table[low], table[low + 1], part).exp()
        order = places[rows, None].expand(-1, mean.shape[1], -1)
        chance[rows] = _with_mean(ranked, mean[rows]).gather(2, order)
    return chance


def _with_mean(chance: Float[Tensor, "b c s"], mean: Float[Tensor, "b c"]) -> Float[Tensor, "b c s"]:
    """Put what interpolation misses right, for small chances and for large ones."""
    wanted, got = mean[..., None], chance.mean(2, keepdim=True)
    tiny = torch.finfo(got.dtype).tiny
    # Where a factor above one would lead beyond one, the missing part is shared by what is left.
    low = chance * (wanted / got.clamp(min=tiny)).clamp(max=1.0)
    high = 1 - (1 - chance) * ((1 - wanted) / (1 - got).clamp(min=tiny)).clamp(max=1.0)
    raised = torch.where(wanted < _SMALL, chance * (wanted / got.clamp(min=tiny)), high)
    return torch.where(wanted > got, raised, low)
