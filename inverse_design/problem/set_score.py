"""Scores of sets of three and more entries as sums over their pairs."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from inverse_design.problem.score import ProductScore
from surrogates.errors import DataError

_UNIT = 2.0**-24  # relative rounding error of single precision
_SPARE_ROUNDINGS = 24  # of a bound, of a threshold turned to single precision, and of their comparison
_EXACT_CELLS = 1 << 22  # numbers gathered at a time


@dataclass(frozen=True)
class PairwiseSetScore:
    """The score ``constant + sum_i side_i + sum_{i<j} left_i · right_j`` of a set of ``order`` entries.

    It is the constant plus a sum over pairs of ``P_ij = (side_i + side_j) / (order - 1) + left_i · right_j``.
    Entries are counted in *positions*: place ``i`` is ``space.entries[i]`` of the space that is searched.

    Attributes:
        side: What an entry is worth by itself.
        left: Factor of the earlier entry of a pair.
        right: Factor of the later entry of a pair.
        constant: What each set is worth.
        order: How many entries a set has; at least two.
    """

    side: Float64[Tensor, "v"]
    left: Float64[Tensor, "v d"]
    right: Float64[Tensor, "v d"]
    constant: float
    order: int

    def __post_init__(self) -> None:
        """Refuse sets without pairs, and numbers that are not finite or overflow single precision."""
        if self.order < 2:
            raise DataError(f"sets of order {self.order} have no pairs; ask for order two or more")
        if not math.isfinite(self.constant):
            raise DataError(f"the constant {self.constant} of a set score is not finite; leave it out")
        if not 4 * self.pairs * self._product.magnitude < torch.finfo(torch.float32).max:
            raise DataError(
                f"scores of {self.pairs} pairs of size up to {self._product.magnitude:.3g} are not finite in"
                " single precision; rescale the effects, or remove values that are not finite"
            )

    @classmethod
    def of_distance(
        cls, rows: Float64[Tensor, "v d"], target: Float64[Tensor, "d"], order: int
    ) -> "PairwiseSetScore":
        """Score sets by the negative squared distance ``-|target - sum_i rows_i|²``.

        Args:
            rows: What each entry contributes.
            target: Where the sum of the rows of a set should be.
            order: How many entries a set has.

        Returns:
            The score, as ``-sum_i |c_i|² - 2 sum_{i<j} c_i · c_j`` with ``c = rows - target / order``.
        """
        centred = rows - target / max(1, order)
        return cls(-centred.square().sum(1), -2 * centred, centred, 0.0, order)

    @property
    def size(self) -> int:
        """Number of entries ``v``."""
        return len(self.side)

    @property
    def pairs(self) -> int:
        """Number of pairs in a set."""
        return math.comb(self.order, 2)

    @cached_property
    def _product(self) -> ProductScore:
        return ProductScore(self.side / (self.order - 1), self.left, self.right)

    @property
    def error(self) -> float:
        """A bound on the error of sums of quick pair scores, and of bounds made of them, less the constant.

        Each of the ``n`` pairs is wrong by at most :attr:`ProductScore.error`. Adding them up in single
        precision in any order takes ``n - 1`` roundings of sums that are at most ``n`` times the magnitude of a
        pair [Higham 2002, section 4.2]; the spare ones cover those of bounds and thresholds. The last term
        covers the roundings of :meth:`exact` in double precision, which grow with the constant.
        """
        largest = self.pairs * self._product.magnitude
        steps = (self.pairs + _SPARE_ROUNDINGS) * _UNIT
        double = (self.pairs * (self.left.shape[1] + 2) + 2 * self.order) * _UNIT**2
        return (
            self.pairs * self._product.error
            + largest * steps / (1 - steps)
            + double * (largest + abs(self.constant))
        )

    def quick(self, start: int, stop: int) -> Float32[Tensor, "rows columns"]:
        """Score pairs ``P_ij`` in single precision.

        Args:
            start: First row ``i``.
            stop: One past the last row.

        Returns:
            ``stop - start`` earlier entries by ``v - start`` later entries, ``j`` from ``start`` on. Cells with
            ``j <= i`` mean nothing.
        """
        return self._product.block(start, stop)

    def exact(self, positions: Int[Tensor, "m k"]) -> Float64[Tensor, "m"]:
        """Score chosen sets in double precision.

        Args:
            positions: One set per row, ascending.

        Returns:
            Their scores; that of a set does not depend on what else is asked for.

        Raises:
            DataError: If the sets are not of the order of the score.
        """
        if positions.shape[1] != self.order:
            raise DataError(f"sets of {positions.shape[1]} entries do not fit a score of order {self.order}")
        chunk = max(2, _EXACT_CELLS // max(1, self.left.shape[1]))
        return torch.cat([self._exact(part) for part in positions.split(chunk)])

    def _exact(self, positions: Int[Tensor, "m k"]) -> Float[Tensor, "m"]:
        """Add up in a fixed order: first the entries, then the pairs."""
        members = positions.unbind(1)
        total = torch.full((len(positions),), self.constant, dtype=torch.float64)
        for member in members:
            total = total + self.side[member]
        for later in range(1, self.order):
            for earlier in range(later):
                total = total + (self.left[members[earlier]] * self.right[members[later]]).sum(1)
        return total
