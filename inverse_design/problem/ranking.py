"""Numbers for combinations: lazy ranking and unranking in the combinatorial number system, for any size."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inverse_design.errors import SpaceError
from surrogates.data.vocabulary import EMPTY

Numbers: TypeAlias = NDArray[Any]  # int64, or Python integers where 64 bits are too few
LARGEST_INT64 = 2**63 - 1


@dataclass(frozen=True)
class CombinationNumbers:
    """Numbers all combinations of some orders from zero.

    Orders ascend; within an order the combinations stand in the order of :func:`itertools.combinations`.

    Attributes:
        items: How many items there are.
        orders: How many are taken together, ascending.
    """

    items: int
    orders: tuple[int, ...]

    def span(self, order: int) -> tuple[int, int]:
        """Find where the combinations of one order stand.

        Args:
            order: One of ``orders``.

        Returns:
            The first number and one past the last.

        Raises:
            SpaceError: If there is no such order.
        """
        if order not in self.orders:
            raise SpaceError(f"the space has orders {self.orders}, not {order}")
        start = sum(math.comb(self.items, each) for each in self.orders if each < order)
        return start, start + math.comb(self.items, order)

    @cached_property
    def dtype(self) -> type[np.int64] | type[np.object_]:
        """The type in which every binomial coefficient and every number is exact."""
        largest = sum(math.comb(self.items, each) for each in range(self.orders[-1] + 1))
        return np.int64 if largest <= LARGEST_INT64 else np.object_

    @cached_property
    def _binomials(self) -> list[Numbers]:
        """``C(x, j)`` for ``x`` from 0 to ``items``, one array per ``j`` up to the largest order."""
        columns: list[Numbers] = [np.ones(self.items + 1, dtype=np.int64).astype(self.dtype)]
        for _ in range(self.orders[-1]):
            columns.append(np.concatenate([columns[0][:1] - 1, np.cumsum(columns[-1])[:-1]]))
        return columns

    def rank(self, positions: NDArray[np.int64]) -> Numbers:
        """Number combinations: the complement of ``sum_t C(v - 1 - c_t, k - t)`` over positions ``c``.

        Args:
            positions: One combination per row, ascending, ``-1`` in the empty slots at the end.

        Returns:
            Their numbers.
        """
        taken = (positions != EMPTY).sum(axis=1)
        ranks = np.zeros(len(positions), dtype=np.int64).astype(self.dtype)
        for order in self.orders:
            rows = np.flatnonzero(taken == order)
            if not len(rows):
                continue
            ranks[rows] = self.span(order)[1] - 1
            for slot in range(order):
                mirrored = self.items - 1 - positions[rows, slot]
                ranks[rows] = ranks[rows] - self._binomials[order - slot][mirrored]
        return ranks

    def unrank(self, numbers: Numbers) -> NDArray[np.int64]:
        """Invert :meth:`rank`: greedily the largest ``x`` with ``C(x, k - t)`` within what remains.

        Args:
            numbers: Numbers of combinations.

        Returns:
            Positions, one combination per row.
        """
        positions = np.full((len(numbers), self.orders[-1]), EMPTY, dtype=np.int64)
        for order in self.orders:
            start, stop = self.span(order)
            rows = np.flatnonzero((numbers >= start) & (numbers < stop))
            if not len(rows):
                continue
            remaining = stop - 1 - numbers[rows]
            for slot in range(order):
                column = self._binomials[order - slot]
                mirrored = np.searchsorted(column, remaining, side="right") - 1
                positions[rows, slot] = self.items - 1 - mirrored
                remaining = remaining - column[mirrored]
        return positions


def pair_row(items: int, number: int) -> int:
    """Find the first item of a pair by its number among all pairs.

    Args:
        items: How many items there are.
        number: From 0 to the number of pairs; that number itself gives ``items``.

    Returns:
        The place of the first item.
    """
    left = math.comb(items, 2) - number  # row i starts where C(items - i, 2) pairs are left
    if left <= 0:
        return items
    rows = (1 + math.isqrt(8 * left + 1)) // 2
    return items - rows if math.comb(rows, 2) == left else items - rows - 1
