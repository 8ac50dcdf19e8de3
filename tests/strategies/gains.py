"""The slow and obvious gain of a set: the mean over joint draws."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class DrawnMaximum:
    """``E[max(max_j u_j - u*, 0)]`` over the chosen candidates by draws: none of them may hit."""

    draws: Float[Tensor, "s b"]
    best: Float[Tensor, "s"]
    start: float

    @classmethod
    def of(cls, draws: Float[Tensor, "s b"], incumbent: float) -> "DrawnMaximum":
        """Begin with the incumbent alone."""
        return cls(draws, draws.new_full((len(draws),), incumbent), incumbent)

    @cached_property
    def total(self) -> float:
        """Gain of what is chosen."""
        return float(self.best.mean()) - self.start

    def gains(self) -> Float[Tensor, "b"]:
        """What each candidate adds."""
        return self.gains_of(torch.arange(self.draws.shape[1]))

    def gains_of(self, numbers: Int[Tensor, "c"]) -> Float[Tensor, "c"]:
        """What some candidates add."""
        return (self.draws[:, numbers] - self.best[:, None]).clamp(min=0).mean(0)

    def adding(self, number: int) -> "DrawnMaximum":
        """Choose a candidate."""
        return replace(self, best=torch.maximum(self.best, self.draws[:, number]))
