"""Scores of all pairs: the contract between an objective and the search."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from surrogates.errors import DataError

_UNIT = 2.0**-24  # relative rounding error of single precision
_TINY = torch.finfo(torch.float32).tiny
_EXACT_CELLS = 1 << 19  # numbers gathered at a time


@runtime_checkable
class PairScore(Protocol):
    """Scores of the pairs of ``v`` entries, larger is better.

    Entries are counted in *positions*: place ``i`` is ``space.entries[i]`` of the space that is searched. A pair
    is ``(i, j)`` with ``i < j``.
    """

    @property
    def size(self) -> int:
        """Number of entries ``v``."""
        ...

    @property
    def error(self) -> float:
        """A bound on ``|block - exact|`` over all pairs; the search is exact because, and if, it holds."""
        ...

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Score pairs quickly, in single precision; several threads may ask at the same time.

        Args:
            start: First row ``i``.
            stop: One past the last row.
            columns: First column ``j`` and one past the last; by default all from ``start`` on.

        Returns:
            ``stop - start`` first entries by second entries. Cells with ``j <= i`` mean nothing, but are not NaN.
        """
        ...

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Score chosen pairs in double precision.

        Args:
            first: Positions ``i``.
            second: Positions ``j``, each larger than its ``i``.

        Returns:
            Their scores; that of a pair does not depend on what else is asked for.
        """
        ...


@dataclass(frozen=True)
class ProductScore:
    """The score ``side_i + side_j + left_i · right_j`` of the pair ``i < j``.

    Attributes:
        side: What an entry is worth by itself.
        left: Factor of the first entry.
        right: Factor of the second entry.
    """

    side: Float64[Tensor, "v"]
    left: Float[Tensor, "v d"]
    right: Float[Tensor, "v d"]

    def __post_init__(self) -> None:
        """Refuse factors that are not finite or overflow single precision."""
        if not 4 * self.magnitude < torch.finfo(torch.float32).max:
            raise DataError(
                f"pair scores of size up to {self.magnitude:.3g} are not finite in single precision; rescale"
                " the effects, or remove values that are not finite"
            )

    @classmethod
    def of_distance(cls, rows: Float64[Tensor, "v d"], target: Float64[Tensor, "d"]) -> "ProductScore":
        """Score pairs by the negative squared distance ``-|target - rows_i - rows_j|²``.

        Args:
            rows: What each entry contributes.
            target: Where the sum of two rows should be.

        Returns:
            The score, as ``-|c_i|² - |c_j|² - 2 c_i · c_j`` with ``c = rows - target / 2``.
        """
        centred = rows - target / 2
        return cls(-centred.square().sum(1), -2 * centred, centred)

    @property
    def size(self) -> int:
        """Number of entries ``v``."""
        return len(self.side)

    @property
    def error(self) -> float:
        """A bound on the single-precision error, by the standard analysis of an inner product.

        Rounding both factors and summing ``n = d + 2`` products in any order, fused or not, is wrong by at most
        ``γ_{n+2} Σ|x y|`` with ``γ_m = m u / (1 - m u)`` and ``u = 2^-24`` [Higham 2002, section 3.1]; the sum is
        at most :attr:`magnitude` by Cauchy-Schwarz. The slack of four more roundings covers those of the bound
        and of the double-precision score; the second term covers underflow.
        """
        steps = (self.left.shape[1] + 8) * _UNIT
        return self.magnitude * steps / (1 - steps) + steps / _UNIT * _TINY * (4 + self.magnitude)

    @cached_property
    def magnitude(self) -> float:
        """A bound on the size of any pair's score, by Cauchy-Schwarz."""
        if self.size == 0:
            return 0.0
        left, right = (torch.linalg.vector_norm(each, dim=1).max() for each in (self.left, self.right))
        return float(left * right + 2 * self.side.abs().max())

    @cached_property
    def _folded(self) -> tuple[Float32[Tensor, "v n"], Float32[Tensor, "v n"]]:
        """Both factors with the sides as two more columns: one product then makes the whole score."""
        side = self.side.float()[:, None]
        ones = torch.ones_like(side)
        return (
            torch.cat([self.left.float(), side, ones], dim=1),
            torch.cat([self.right.float(), ones, side], dim=1),
        )

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Score the pairs of rows ``start`` to ``stop`` with some columns.

        Args:
            start: First row.
            stop: One past the last row.
            columns: First column and one past the last; by default all from ``start`` on.

        Returns:
            Single-precision scores; cells with ``j <= i`` mean nothing.
        """
        left, right = self._folded
        return left[start:stop] @ right[slice(*(columns or (start, None)))].T

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Score chosen pairs in double precision.

        Args:
            first: Positions of the first entries.
            second: Positions of the second entries.

        Returns:
            Their scores.
        """
        chunk = max(2, _EXACT_CELLS // max(1, self.left.shape[1]))
        if len(first) <= chunk:  # a search asks for few, again and again
            return self._exact(first, second)
        scores = [self._exact(i, j) for i, j in zip(first.split(chunk), second.split(chunk), strict=True)]
        return torch.cat(scores)

    def _exact(self, i: Int[Tensor, "m"], j: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        return self.side[i] + self.side[j] + (self.left[i].double() * self.right[j].double()).sum(1)
