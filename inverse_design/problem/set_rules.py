"""Which sets of entries are candidates, and which pairs can stand together in one, tile by tile."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.errors import NothingToProposeError, SpaceError
from inverse_design.problem.constraints import MILLIONTHS, Constraint, Limits
from surrogates.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class BoundConstraint:
    """A constraint and the vocabulary whose ids it is asked about."""

    constraint: Constraint
    vocabulary: Vocabulary

    @property
    def name(self) -> str:
        """What to call it in counts of what is ruled out."""
        return f"ruled out by {type(self.constraint).__name__}"

    def admit(self, genes: Int[Tensor, "b k"]) -> Bool[Tensor, "b"]:
        """Tell which sets may be proposed."""
        allowed: object = self.constraint.allows(self.vocabulary.dosed(genes), self.vocabulary)
        if isinstance(allowed, Tensor) and allowed.dtype == torch.bool and allowed.shape == (len(genes),):
            return allowed
        raise SpaceError(
            f"constraint {type(self.constraint).__name__} must answer {len(genes)} candidates with as many truth"
            " values in one tensor"
        )


@dataclass(frozen=True)
class SetRules:
    """The rules of one space, measured combinations aside."""

    # Vocabulary ids that may be used, ascending; *position* means a place in this tensor.
    entries: Int[Tensor, "v"]
    target: Int[Tensor, "w"]  # a number for the target of each vocabulary id; entries of one target are neighbours
    required: tuple[tuple[int, ...], ...]  # for each required target, the ids of which a candidate must hold one
    limits: Limits  # what may not stand together
    further: tuple["BoundConstraint", ...] = ()  # constraints that only whole candidates are held against

    def admit(self, genes: Int[Tensor, "b k"]) -> Bool[Tensor, "b"]:
        """Tell which sets may be proposed."""
        admitted = self.limits.admit(genes)
        targets = self.target[genes.clamp(min=0)]
        admitted &= ~((targets[:, 1:] == targets[:, :-1]) & (genes[:, 1:] >= 0)).any(dim=1)
        for alternatives in self.required:
            admitted &= torch.isin(genes, torch.tensor(alternatives)).any(dim=1)
        for each in self.further:
            admitted[admitted.clone()] = each.admit(genes[admitted])
        return admitted

    def completable(self, genes: Int[Tensor, "b k"], missing: int) -> Bool[Tensor, "b"]:
        """Tell which sets of distinct targets may still grow into candidates."""
        lacking = torch.zeros(len(genes), dtype=torch.int64)
        for alternatives in self.required:
            lacking += ~torch.isin(genes, torch.tensor(alternatives)).any(dim=1)
        return (lacking <= missing) & self.limits.admit(genes, spare=self.reserve(missing))

    def reserve(self, members: int) -> int:
        """Bound from below what some members cost."""
        return int(self.costs[np.argsort(self.costs, kind="stable")[:members]].sum())

    @cached_property
    def costs(self) -> NDArray[np.int64]:
        """What the entry at each position costs, in millionths; zero without a budget."""
        if self.limits.budget is None:
            return np.zeros(len(self.entries), dtype=np.int64)
        return np.asarray(self.limits.cost(self.entries[:, None]).numpy(), dtype=np.int64)

    def positions(self, ids: tuple[int, ...]) -> NDArray[np.int64]:
        """Find the positions of vocabulary ids."""
        return np.flatnonzero(np.isin(self.entries.numpy(), ids))

    def affordable(self, orders: tuple[int, ...], vocabulary: Vocabulary) -> "SetRules":
        """Drop the entries that no candidate can pay for."""
        _refuse_orders(self, orders)
        if self.limits.budget is None:
            return self
        order = next(each for each in orders if each >= len(self.required))
        cost, members = self.cheapest(order)
        if cost > self.limits.budget:
            raise NothingToProposeError(
                f"the budget of {self.limits.budget / MILLIONTHS:g} is below the cheapest candidate,"
                f" {vocabulary.perturbation(members).label} for {cost / MILLIONTHS:g}; raise it"
            )
        kept = self.entries[torch.from_numpy(self.costs + self.reserve(order - 1) <= self.limits.budget)]
        ids = set(kept.tolist())
        required = tuple(tuple(one for one in alternatives if one in ids) for alternatives in self.required)
        left = replace(self, entries=kept, required=required)
        _refuse_orders(left, orders)
        return left

    def cheapest(self, order: int) -> tuple[int, tuple[int, ...]]:
        """Find the cheapest set of distinct targets with all that is required, whatever the other limits say."""
        by_cost = self.entries[torch.from_numpy(np.argsort(self.costs, kind="stable"))].tolist()
        chosen: dict[int, int] = {}
        for alternatives in self.required:
            first = next(one for one in by_cost if one in alternatives)
            chosen[int(self.target[first])] = first
        for one in by_cost:
            if len(chosen) < order:
                chosen.setdefault(int(self.target[one]), one)
        members = tuple(sorted(chosen.values()))
        return int(self.limits.cost(torch.tensor(members))), members


def _refuse_orders(rules: SetRules, orders: tuple[int, ...]) -> None:
    n_targets, n_required = len(rules.target[rules.entries].unique()), len(rules.required)
    if not orders or orders[0] < 1:
        raise SpaceError(f"orders {orders} are not one or more positive numbers")
    if n_targets == 0:
        raise NothingToProposeError("the constraints allow no gene or compound; relax one")
    if orders[-1] > n_targets:
        raise SpaceError(f"order {orders[-1]} needs as many targets, but the constraints allow {n_targets}")
    if n_required > orders[-1]:
        raise SpaceError(f"{n_required} targets are required, more than the largest order {orders[-1]}")


_ROWS = 512


@dataclass(frozen=True)
class PairMask:
    """Pairs that the rules of a space allow; of a larger order, pairs that some candidate may hold.

    Measured combinations are not looked at. For pairs the mask is exact; for larger orders it only rules out
    what cannot be completed: a budget then has to leave the cheapest entries to the other members.
    """

    rules: SetRules  # the rules
    order: int = 2  # how many members a candidate has; at least two

    @property
    def free(self) -> bool:
        """Whether every pair is allowed."""
        return not (self._shared or len(self._exclusive) or len(self._apart) or self._affordable or self._binding)

    def tile(self, rows: slice, columns: slice) -> Bool[np.ndarray, "rows columns"] | None:
        """Tell which cells of a tile are allowed."""
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

    def whole_tile(self, rows: slice, columns: slice) -> Bool[np.ndarray, "rows columns"] | None:
        """Tell which cells above the diagonal of a tile are allowed by the further constraints, too."""
        allowed = self.tile(rows, columns)
        if not self.rules.further:
            return allowed
        (one, last, _), (other, end, _) = rows.indices(self._size), columns.indices(self._size)
        allowed = np.ones((last - one, end - other), dtype=bool) if allowed is None else allowed
        allowed &= np.arange(one, last)[:, None] < np.arange(other, end)
        row, column = np.nonzero(allowed)
        positions = torch.from_numpy(np.column_stack([row + one, column + other]))
        allowed[row, column] = self.rules.admit(self.rules.entries[positions]).numpy()
        return allowed

    def count(self) -> int:
        """Count the allowed pairs."""
        total = self._size * (self._size - 1) // 2
        return total - sum(int(np.triu(~allowed, 1).sum()) for allowed in self._blocks() if allowed is not None)

    def _blocks(self) -> Iterator[Bool[np.ndarray, "rows columns"] | None]:
        for start in range(0, 0 if self.free and not self.rules.further else self._size, _ROWS):
            yield self.whole_tile(slice(start, start + _ROWS), slice(start, None))

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
