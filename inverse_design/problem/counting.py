"""How many sets of entries the rules of a space allow, and which set has which number.

Targets that no group and no incompatible pair ties together are independent: the number of sets is the coefficient
of a product of small polynomials, one per tied component, in the number of members and in their cost. A component
that is one group has the product of its targets' polynomials, cut off at what the group allows; any other one is
listed. Pairs are counted by their mask, and small spaces set by set. Sets are numbered in the combinatorial number
system, lazily and for any size.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.constraints import UNLIMITED, Limits
from inverse_design.problem.set_rules import PairMask, SetRules
from surrogates.data.vocabulary import EMPTY

Numbers: TypeAlias = NDArray[Any]  # int64, or Python integers where 64 bits are too few
LARGEST_INT64 = 2**63 - 1


@dataclass(frozen=True)
class CombinationNumbers:
    """Numbers all combinations of some orders from zero.

    Orders ascend; within an order the combinations stand in the order of :func:`itertools.combinations`.
    """

    items: int  # how many items there are
    orders: tuple[int, ...]  # how many are taken together, ascending

    def span(self, order: int) -> tuple[int, int]:
        """Find where the combinations of one order stand."""
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
        """Number combinations: the complement of ``sum_t C(v - 1 - c_t, k - t)`` over positions ``c``."""
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
        """Invert :meth:`rank`: greedily the largest ``x`` with ``C(x, k - t)`` within what remains."""
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
    """Find the first item of a pair by its number among all pairs."""
    left = math.comb(items, 2) - number  # row i starts where C(items - i, 2) pairs are left
    if left <= 0:
        return items
    rows = (1 + math.isqrt(8 * left + 1)) // 2
    return items - rows if math.comb(rows, 2) == left else items - rows - 1


_KINDS = {1: "single", 2: "pair", 3: "triple"}
_LISTED = 1 << 19  # sets that may be looked at one by one
_LOOKED_AT = 1 << 21  # sets that a further constraint is asked about only to count them
_BLOCK = 1 << 16  # of these at a time
_TERMS = 1 << 16  # terms of a polynomial; beyond, costs are left out and the count is a bound

# How many sets there are of each number of members and each cost.
_Ways: TypeAlias = Mapping[tuple[int, int], int]
_NONE: _Ways = {(0, 0): 1}


@dataclass(frozen=True)
class Count:
    """A number of sets."""

    number: int  # how many, or at most how many
    exact: bool = True  # whether it is the number itself

    def words(self, order: int) -> str:
        """Say the number, such as ``5,460 pairs`` or ``at most 20 of order 4``."""
        number = f"{self.number:,}" if self.exact else f"at most {self.number:,}"
        if order not in _KINDS:
            return f"{number} of order {order}"
        return f"{number} {_KINDS[order]}{'' if self.number == 1 else 's'}"


def count_sets(rules: SetRules, order: int) -> Count:
    """Count the sets of an order that rules allow."""
    if order == 1:
        return Count(int(rules.admit(rules.entries[:, None]).sum()))
    if rules.further and math.comb(len(rules.entries), order) > _LOOKED_AT:
        return replace(count_sets(replace(rules, further=()), order), exact=False)
    if order == 2 and (rules.further or not rules.limits.free):
        return Count(PairMask(rules).count())
    if rules.further:
        return Count(_listed(rules, order))
    if not rules.limits.free and math.comb(len(rules.entries), order) <= _LISTED:
        return Count(_listed(rules, order))
    return _multiplied(rules, order)


def ruled_out(rules: SetRules, orders: tuple[int, ...]) -> dict[str, int]:
    """Tell how many combinations each kind of rule takes away, of those that the kinds before it leave."""
    limits = rules.limits
    bare = replace(rules, required=(), limits=UNLIMITED, further=())
    own = replace(rules, further=())
    stages = {
        "two doses of one target": bare,
        "required target missing": replace(bare, required=rules.required),
        "too many of a group": replace(own, limits=Limits(limits.groups, limits.at_most)),
        "incompatible": replace(own, limits=replace(limits, costs=(), budget=None)),
        "over budget": own,
    }
    stages |= {each.name: replace(own, further=rules.further[:at]) for at, each in enumerate(rules.further, 1)}
    reasons: dict[str, int] = {}
    for order in orders:
        left, before = math.comb(len(rules.entries), order), None
        for reason, stage in stages.items():
            same = before is not None and _parts(stage) == _parts(before)
            count = Count(left) if same else count_sets(stage, order)
            if not count.exact:
                break
            reasons[reason] = reasons.get(reason, 0) + left - count.number
            left, before = count.number, stage
    return {reason: number for reason, number in reasons.items() if number}


def _parts(rules: SetRules) -> tuple[object, ...]:
    return rules.required, rules.limits, rules.further


def _listed(rules: SetRules, order: int) -> int:
    """Look at each set."""
    sets = _all_sets(len(rules.entries), order)
    return sum(int(rules.admit(rules.entries[part]).sum()) for part in sets.split(_BLOCK))


def _multiplied(rules: SetRules, order: int) -> Count:
    """Multiply the polynomials of all components; without the costs if they take too many values."""
    try:
        return _product_of_components(rules, order)
    except OverflowError:
        unpriced = replace(rules, limits=replace(rules.limits, costs=(), budget=None))
        return replace(_product_of_components(unpriced, order), exact=False)


def _product_of_components(rules: SetRules, order: int) -> Count:
    tied, loose = _taken_apart(rules)
    factors = [_power(_of_costs(costs), times, order) for costs, times in loose.items()]
    counted = [component.ways(order) for component in tied]
    total = _product([*factors, *(ways for ways, _ in counted)], order)
    most = math.inf if rules.limits.budget is None else rules.limits.budget
    number = sum(ways for (members, cost), ways in total.items() if members == order and cost <= most)
    return Count(number, all(exact for _, exact in counted))


def _of_costs(costs: Iterable[int]) -> _Ways:
    """Choose none or one of the entries of a target."""
    ways = Counter(_NONE)
    ways.update((1, cost) for cost in costs)
    return ways


@dataclass(frozen=True)
class _Component:
    """Entries whose targets groups and incompatible pairs tie together."""

    ids: tuple[int, ...]  # vocabulary ids, ascending
    targets: tuple[int, ...]  # number of the target of each
    costs: tuple[int, ...]  # of each
    required: tuple[tuple[int, ...], ...]  # of the targets that are required, the ids of which a set holds one
    limits: Limits  # among them, without a budget

    def ways(self, order: int) -> tuple[_Ways, bool]:
        """Count the sets of up to ``order`` members; a bound if they are too many to be listed."""
        alone = [self._of_target(target) for target in dict.fromkeys(self.targets)]
        limits, size = self.limits, len(self.ids)
        if len(alone) == 1:
            return alone[0], True
        if len(limits.groups) == 1 and not limits.apart and len(limits.groups[0]) == size:
            return _product(alone, min(order, limits.at_most[0])), True
        if sum(math.comb(size, members) for members in range(order + 1)) > _LISTED:
            return _product(alone, order), False
        return self._of_sets(order), True

    def _of_target(self, target: int) -> _Ways:
        """None or one of the entries of a target; of a required target, one of the named ones."""
        held = {
            one: cost for one, its, cost in zip(self.ids, self.targets, self.costs, strict=True) if its == target
        }
        named = [alternatives for alternatives in self.required if not held.keys().isdisjoint(alternatives)]
        ways = Counter[tuple[int, int]]() if named else Counter(_NONE)
        ways.update((1, cost) for one, cost in held.items() if all(one in each for each in named))
        return ways

    def _of_sets(self, order: int) -> _Ways:
        target = torch.zeros(self.ids[-1] + 1, dtype=torch.int64)
        target[list(self.ids)] = torch.tensor(self.targets)
        rules = SetRules(torch.tensor(self.ids), target, self.required, self.limits)
        ways = Counter[tuple[int, int]]()
        for members in range(order + 1):
            positions = _all_sets(len(self.ids), members)
            allowed = positions[rules.admit(rules.entries[positions])]
            costs, times = torch.tensor(self.costs)[allowed].sum(1).unique(return_counts=True)
            ways.update({(members, int(cost)): int(count) for cost, count in zip(costs, times, strict=True)})
        return ways


def _taken_apart(rules: SetRules) -> tuple[list[_Component], Counter[tuple[int, ...]]]:
    """Gather what is tied together or required, and count all other targets by what their entries cost."""
    cost = dict(zip(rules.entries.tolist(), rules.costs.tolist(), strict=True))
    target = dict(zip(cost, rules.target[rules.entries].tolist(), strict=True))
    limits = _binding(rules.limits, target)
    ties = [[target[one] for one in tied] for tied in (*limits.groups, *limits.apart, *rules.required)]
    root = _roots(ties)
    free: dict[int, list[int]] = defaultdict(list)
    ids, groups, apart, required = (defaultdict[int, list[Any]](list) for _ in range(4))
    for one, its in target.items():
        (ids[root[its]].append(one) if its in root else free[its].append(cost[one]))
    for members, most in zip(limits.groups, limits.at_most, strict=True):
        groups[root[target[members[0]]]].append((members, most))
    for pair in limits.apart:
        apart[root[target[pair[0]]]].append(pair)
    for alternatives in rules.required:
        required[root[target[alternatives[0]]]].append(alternatives)
    tied = []
    for number, held in ids.items():
        inner = Limits(
            tuple(members for members, _ in groups[number]),
            tuple(most for _, most in groups[number]),
            tuple(apart[number]),
        )
        targets, costs = tuple(target[one] for one in held), tuple(cost[one] for one in held)
        tied.append(_Component(tuple(held), targets, costs, tuple(required[number]), inner))
    return tied, Counter(tuple(sorted(each)) for each in free.values())


def _binding(limits: Limits, target: Mapping[int, int]) -> Limits:
    """Keep of the limits what entries can break at all."""
    pairs = zip(limits.groups, limits.at_most, strict=True)
    held = [(tuple(one for one in members if one in target), most) for members, most in pairs]
    groups = [(members, most) for members, most in held if len({target[one] for one in members}) > most]
    apart = tuple(pair for pair in limits.apart if pair[0] in target and pair[1] in target)
    return Limits(tuple(members for members, _ in groups), tuple(most for _, most in groups), apart)


def _roots(ties: Iterable[Sequence[int]]) -> dict[int, int]:
    """Give tied numbers one root, by union and find."""
    parent: dict[int, int] = {}

    def root(number: int) -> int:
        while parent.setdefault(number, number) != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for tied in ties:
        for number in tied:
            parent[root(number)] = root(tied[0])
    return {number: root(number) for number in list(parent)}


def _all_sets(items: int, members: int) -> Int[Tensor, "n k"]:
    if members == 0:
        return torch.empty(1, 0, dtype=torch.int64)
    numbers = np.arange(math.comb(items, members), dtype=np.int64)
    return torch.from_numpy(CombinationNumbers(items, (members,)).unrank(numbers))


def _product(factors: Iterable[_Ways], order: int) -> _Ways:
    """Multiply polynomials, up to some number of members."""
    total = _NONE
    for factor in factors:
        grown = Counter[tuple[int, int]]()
        for (members, cost), ways in total.items():
            for (more, price), times in factor.items():
                if members + more <= order:
                    grown[members + more, cost + price] += ways * times
        if len(grown) > _TERMS:
            raise OverflowError(f"{len(grown)} terms")
        total = grown
    return total


def _power(factor: _Ways, times: int, order: int) -> _Ways:
    """Raise a polynomial to a power by squaring."""
    if times == 1:
        return factor
    half = _power(factor, times // 2, order)
    return _product([half, half] if times % 2 == 0 else [half, half, factor], order)
