"""Information about the optimum: in how many draws a candidate is among the best."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from inverse_design.acquisition.belief import Belief
from surrogates.errors import DataError


@dataclass(frozen=True)
class Optimum:
    """Share of joint draws in which a candidate is among the ``k`` best of those offered.

    For ``k = 1`` it is the probability of being the optimum; their sum over a batch is the probability that the
    batch holds it [Fromer et al. 2025]. Candidates that tie at the last place share it.

    Attributes:
        k: How many count as best.
    """

    k: int = 1

    def __post_init__(self) -> None:
        """Refuse to count none."""
        if self.k < 1:
            raise DataError(f"k is {self.k}; count at least the one best candidate")

    def score(self, belief: Belief, incumbent: float) -> Float[Tensor, "b"]:  # noqa: ARG002 - of the protocol
        """Score candidates.

        Args:
            belief: With joint draws of at least ``k`` candidates.
            incumbent: Not read: what was measured is not offered.

        Returns:
            Shares, which sum to ``k``.

        Raises:
            DataError: If the belief has no draws, or too few candidates.
        """
        draws = belief.joint()
        if self.k > len(belief):
            raise DataError(f"the {self.k} best of {len(belief)} candidates are all of them; take a smaller k")
        last = draws.topk(self.k, dim=1).values[:, -1:]
        above, level = (draws > last).double(), (draws == last).double()
        places: Tensor = (self.k - above.sum(1, keepdim=True)) / level.sum(1, keepdim=True)
        return (above + places * level).mean(0)
