"""What one more experiment would teach: expected gain after its result, by members, on a short list.

A result at ``x`` makes the members that foretold it more credible, with weights ``p(y | member)``; what is then
believed of all candidates may have another best. The knowledge gradient is the expected rise of that best [Frazier
2008]: zero where the result could change no decision, however unsure it is.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.acquisition.belief import Belief
from surrogates.errors import DataError

_OUTCOMES = 5  # of the noise, for each member: nodes of Gauss-Hermite quadrature
_LEAST_NOISE = 1e-6  # of the deviation of the members: a result without noise would leave one member


@dataclass(frozen=True)
class LookAhead:
    """Expected rise of the best posterior mean by one experiment.

    Attributes:
        noise: Standard deviation of the measured utility about the true one, not negative.
    """

    noise: float

    def __post_init__(self) -> None:
        """Refuse noise that is negative or not finite."""
        if not 0 <= self.noise < math.inf:
            raise DataError(
                f"noise {self.noise} is negative or not finite; give the error of one measured utility"
            )

    def score(self, belief: Belief, incumbent: float) -> Float[Tensor, "b"]:
        """Score candidates, in ``O(b² s²)``.

        Args:
            belief: With joint draws of a short list.
            incumbent: Utility of the best that is known.

        Returns:
            Expected rises, in units of the utility.

        Raises:
            DataError: If the belief has no draws.
        """
        draws = belief.joint()
        before = max(float(belief.mean.max()), incumbent)
        rises = [self._after(draws, number, incumbent) - before for number in range(len(belief))]
        return torch.tensor(rises, dtype=torch.float64).clamp(min=0)

    def _after(self, draws: Float[Tensor, "s b"], number: int, incumbent: float) -> float:
        """Expected best once the result of a candidate is known, over members and noise."""
        own = draws[:, number]
        noise = max(self.noise, _LEAST_NOISE * float(own.std(correction=0)), torch.finfo(own.dtype).tiny)
        nodes, weights = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(_OUTCOMES))
        total = 0.0
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            results = own + noise * node
            credible = (-((results[:, None] - own) / noise).square() / 2).softmax(1)
            best = (credible @ draws).amax(1).clamp(min=incumbent)
            total += float(weight * best.mean())
        return total
