"""Which pairs of entries can stand together in a candidate, tile by tile: constraints inside the scan."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from inverse_design.problem.set_rules import SetRules

_ROWS = 512


@dataclass(frozen=True)
class PairMask:
    """Pairs that the rules of a space allow; of a larger order, pairs that some candidate may hold.

    Measured combinations are not looked at. For pairs the mask is exact; for larger orders it only rules out
    what cannot be completed: a budget then has to leave the cheapest entries to the other members.

    Attributes:
        rules: The rules.
        order: How many members a candidate has; at least two.
    """

    rules: SetRules
    order: int = 2

    @property
    def free(self) -> bool:
        """Whether every pair is allowed."""
        return not (self._shared or len(self._exclusive) or len(self._apart) or self._affordable or self._binding)

    def tile(self, rows: slice, columns: slice) -> Bool[np.ndarray, "rows columns"] | None:
        """Tell which cells of a tile are allowed.

        Args:
            rows: Positions of the first entries.
            columns: Positions of the second entries; those on the diagonal and below it count as any other.

        Returns:
            True where allowed; ``None`` if the whole tile is.
        """
        if self.free:
            return None
        one, other = slice(*rows.indices(self._size)), slice(*columns.indices(self._size))
        allowed = np.ones((one.stop - one.start, other.stop - other.start), dtype=bool)
        if self._affordable is not None:
            rank, most = self._affordable
            allowed &= rank[None, other] < most[one, None]
        if self._binding:
            lacking = sum((~(held[one, None] | held[None, other])).astype(np.int8) for held in self._required)
            allowed &= lacking <= self.order - 2
        if self._shared and self._targets[other.start] <= self._targets[one.stop - 1]:
            allowed &= self._targets[one, None] != self._targets[None, other]
        for members in self._exclusive:
            allowed[np.ix_(_within(members, one), _within(members, other))] = False
        here = self._apart[slice(*np.searchsorted(self._apart[:, 0], (one.start, one.stop)))]
        here = here[(here[:, 1] >= other.start) & (here[:, 1] < other.stop)]
        allowed[here[:, 0] - one.start, here[:, 1] - other.start] = False
        return allowed

    def count(self) -> int:
        """Count the allowed pairs.

        Returns:
            Their number, exactly.
        """
        total = self._size * (self._size - 1) // 2
        return total - sum(int(np.triu(~allowed, 1).sum()) for allowed in self._blocks() if allowed is not None)

    def _blocks(self) -> Iterator[Bool[np.ndarray, "rows columns"] | None]:
        for start in range(0, 0 if self.free else self._size, _ROWS):
            yield self.tile(slice(start, start + _ROWS), slice(start, None))

    @property
    def _size(self) -> int:
        return len(self.rules.entries)

    @cached_property
    def _targets(self) -> NDArray[np.int64]:
        return np.asarray(self.rules.target[self.rules.entries].numpy(), dtype=np.int64)

    @cached_property
    def _shared(self) -> bool:
        """Whether some target is there at several doses."""
        return bool((self._targets[1:] == self._targets[:-1]).any())

    @cached_property
    def _affordable(self) -> tuple[Int[np.ndarray, "v"], Int[np.ndarray, "v"]] | None:
        """Places in the order of costs, and how many of the cheapest each entry can be paired with."""
        budget, costs = self.rules.limits.budget, self.rules.costs
        if budget is None:
            return None
        by_cost = np.argsort(costs, kind="stable")
        rank = np.empty(self._size, dtype=np.int32)
        rank[by_cost] = np.arange(self._size, dtype=np.int32)
        left = budget - self.rules.reserve(self.order - 2) - costs
        return rank, np.searchsorted(costs[by_cost], left, side="right").astype(np.int32)

    @property
    def _binding(self) -> bool:
        """Whether a pair can leave too little room for what is required."""
        return len(self.rules.required) > self.order - 2

    @cached_property
    def _required(self) -> list[Bool[np.ndarray, "v"]]:
        ids = self.rules.entries.numpy()
        return [np.isin(ids, alternatives) for alternatives in self.rules.required]

    @cached_property
    def _exclusive(self) -> list[NDArray[np.int64]]:
        """Positions of the members of each group of which a candidate may hold one."""
        limits = self.rules.limits
        single = [members for members, most in zip(limits.groups, limits.at_most, strict=True) if most == 1]
        return [each for each in map(self.rules.positions, single) if len(each) > 1]

    @cached_property
    def _apart(self) -> Int[np.ndarray, "m 2"]:
        """Positions of incompatible entries, in both orders, by the first."""
        pairs = np.array(self.rules.limits.apart, dtype=np.int64).reshape(-1, 2)
        pairs = pairs[np.isin(pairs, self.rules.entries.numpy()).all(axis=1)]
        places = np.searchsorted(self.rules.entries.numpy(), pairs)
        both = np.concatenate([places, places[:, ::-1]])
        return np.asarray(both[np.argsort(both[:, 0], kind="stable")], dtype=np.int64)


def _within(members: NDArray[np.int64], part: slice) -> NDArray[np.int64]:
    first, stop = np.searchsorted(members, (part.start, part.stop))
    return np.asarray(members[first:stop] - part.start, dtype=np.int64)
