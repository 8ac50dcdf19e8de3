"""Quick scores of all pairs of a space, and bounds on the sets that hold a pair."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.problem.pair_mask import PairMask
from inverse_design.problem.set_rules import SetRules
from inverse_design.problem.set_score import PairwiseSetScore
from inverse_design.problem.space import CombinationSpace

_ROWS = 512  # rows of a product
_ALONE, _GROUPS = 32, 96  # groups of further entries: the strongest one by one, the others together
_CELLS = 1 << 20  # bounds held at a time

_Singles = NDArray[np.float32]
_Places = NDArray[np.int64]


@dataclass(frozen=True)
class PairBounds:
    """Quick scores of all pairs of a space, and bounds on the sets of which a pair is the *leading* one.

    If no target is required, the leading pair of a set is its pair of the largest score. Else it is that of a
    entry of the required target with the fewest entries, the lead, with its best partner in the set.

    Attributes:
        pairs: Symmetric; minus infinity on the diagonal and where no candidate may hold both entries.
        required: Positions of the entries of each required target, the fewest first.
        order: How many entries a set has; at least three.
        rules: What makes a set a candidate.
    """

    pairs: Float32[np.ndarray, "v v"]
    required: tuple[Int[np.ndarray, "_"], ...]
    order: int
    rules: SetRules

    @classmethod
    def of(cls, score: PairwiseSetScore, space: CombinationSpace) -> "PairBounds":
        """Score all pairs quickly.

        Args:
            score: Scores of sets of the entries of a space.
            space: What may be proposed.

        Returns:
            The bounds; four bytes for each of ``v²`` pairs.
        """
        pairs, mask = _symmetric(score), PairMask(space.rules, score.order)
        for start in range(0, len(pairs), _ROWS):
            allowed = mask.tile(slice(start, start + _ROWS), slice(None))
            if allowed is not None:
                pairs[start : start + _ROWS][~allowed] = -np.inf
        required = sorted((space.rules.positions(one) for one in space.required), key=len)
        return cls(pairs, tuple(required), score.order, space.rules)

    @property
    def leads(self) -> Int[np.ndarray, "l"]:
        """Positions of which each set holds one: all, or the entries of the required target with the fewest."""
        return self.required[0] if self.required else np.arange(len(self.pairs))

    @cached_property
    def ceiling(self) -> float:
        """A bound on pairs without the lead; minus infinity where none exceeds the leading pair."""
        return float(self.pairs.max()) if self.required else -math.inf

    def starts(self, limit: int) -> Int[np.ndarray, "n s"]:
        """Choose what good sets may grow from: an entry of each required target, or else the strongest entries.

        Args:
            limit: How many at most.

        Returns:
            The beginning of a set per row.
        """
        if self.required:
            return np.array(list(islice(product(*self.required), limit)), dtype=np.int64)
        return np.argsort(-self.best, kind="stable")[:limit, None]

    def meeting(self, positions: Int[np.ndarray, "n k"]) -> Int[np.ndarray, "m k"]:
        """Drop sets that lack a required target or break a limit.

        Args:
            positions: One set per row, each with a lead.

        Returns:
            Those that hold an entry of each, and keep all limits.
        """
        for one in self.required[1:]:
            positions = positions[np.isin(positions, one).any(axis=1)]
        if not self.rules.limits.free:
            positions = positions[self.rules.limits.admit(self._ids(positions)).numpy()]
        return positions

    def open_to(self, positions: Int[np.ndarray, "n k"]) -> Bool[np.ndarray, "n v"] | None:
        """Tell which entries may still join some growing sets, as far as budget and groups go.

        Args:
            positions: One set per row, smaller than the order.

        Returns:
            False where every set that grows so breaks a limit; ``None`` if all entries are open to all sets.
        """
        limits, missing = self.rules.limits, self.order - positions.shape[1]
        if limits.budget is None and not limits.groups:
            return None
        ids = self._ids(positions)
        room = np.ones((len(positions), len(self.pairs)), dtype=bool)
        if limits.budget is not None:
            left = limits.budget - self.rules.reserve(missing - 1) - limits.cost(ids).numpy()
            room &= self.rules.costs <= left[:, None]
        if limits.groups:
            room &= ~limits.full(ids, self.rules.entries).numpy()
        return room

    def _ids(self, positions: Int[np.ndarray, "n k"]) -> Int[Tensor, "n k"]:
        return self.rules.entries[torch.from_numpy(np.sort(positions, axis=1))]

    @cached_property
    def best(self) -> Float32[np.ndarray, "v"]:
        """The largest score of a pair with each entry."""
        best: _Singles = self.pairs.max(axis=1)
        return best

    @cached_property
    def _groups(self) -> _Singles:
        """The largest score of a pair of each entry with the members of each group."""
        order = np.argsort(-self.best, kind="stable")
        parts = [part for part in np.array_split(order[_ALONE:], _GROUPS) if len(part)]
        columns = [self.pairs[:, part].max(axis=1) for part in parts]
        groups: _Singles = np.column_stack([self.pairs[:, order[:_ALONE]], *columns])
        return groups

    def square(self, rows: Int[np.ndarray, "n"], start: int, stop: int) -> Float32[np.ndarray, "n m"]:
        """Bound the sets that some pairs lead, by what their members score at best with any entry.

        Args:
            rows: Leads.
            start: First of their partners.
            stop: One past the last partner; may exceed the number of entries.

        Returns:
            One bound per pair, minus infinity for pairs that are looked at from their other side.
        """
        largest = self.pairs[rows, start:stop]
        bound = self._bounds(largest, self.best[rows, None], self.best[None, start:stop])
        if not self.required:
            bound[rows[:, None] >= np.arange(start, start + largest.shape[1])] = -np.inf
        return bound

    def tightened(self, first: Int[np.ndarray, "n"], second: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
        """Bound the sets that some pairs lead, by what both members score with the same group of entries.

        Args:
            first: Leads.
            second: Their partners.

        Returns:
            One bound per pair.
        """
        step = max(1, _CELLS // self._groups.shape[1])
        bound = np.empty(len(first), dtype=np.float32)
        for at in range(0, len(first), step):
            i, j = first[at : at + step], second[at : at + step]
            parts = self._bounds(self.pairs[i, j][:, None], self._groups[i], self._groups[j])
            bound[at : at + step] = parts.max(axis=1)
        return bound

    def _bounds(self, largest: _Singles, first: _Singles, second: _Singles) -> _Singles:
        """Bound sets by their leading pair and the most that both its members score with another one."""
        others = self.order - 2
        cap = np.maximum(largest, np.float32(self.ceiling))
        bound: _Singles = largest + others * (np.minimum(first, largest) + np.minimum(second, cap))
        if others > 1:  # none times minus infinity would not be a number
            bound += math.comb(others, 2) * cap
        return bound


def _symmetric(score: PairwiseSetScore) -> _Singles:
    """Score every pair in both of its cells, and none in the diagonal."""
    pairs = np.empty((score.size, score.size), dtype=np.float32)
    for start in range(0, score.size, _ROWS):
        stop = min(score.size, start + _ROWS)
        block = score.quick(start, stop).numpy()
        corner = np.triu(block[:, : stop - start], 1)
        pairs[start:stop, stop:] = block[:, stop - start :]
        pairs[stop:, start:stop] = block[:, stop - start :].T
        pairs[start:stop, start:stop] = corner + corner.T
    np.fill_diagonal(pairs, -np.inf)
    return pairs
