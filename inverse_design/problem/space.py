"""The lazy set of all candidates: every combination of the allowed entries, by number."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.errors import NothingToProposeError, SpaceError
from inverse_design.problem.constraints import UNLIMITED, Constraint, Constraints, Limits
from inverse_design.problem.counting import (
    LARGEST_INT64,
    CombinationNumbers,
    Count,
    Numbers,
    count_sets,
    ruled_out,
)
from inverse_design.problem.set_rules import BoundConstraint, SetRules
from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import EMPTY, PerturbationBatch, Vocabulary
from surrogates.summary import summary

_ABSENT = -2  # beside EMPTY: an entry that may not be used


@dataclass(frozen=True)
class CombinationSpace:
    """All combinations of the given orders over the allowed entries, numbered from zero.

    Orders ascend; within an order the combinations stand in the order of :func:`itertools.combinations`. The
    numbers count every combination, also those that may not be proposed (measured already, two doses of one
    target, a required target missing, a limit broken): :meth:`valid` separates them. Build one with :meth:`of`.

    Attributes:
        vocabulary: What the ids of a batch mean.
        entries: Vocabulary ids that may be used, ascending; *position* means a place in this tensor.
        orders: How many interventions are given together, ascending.
        required: For each required target, the ids of which a candidate must hold one.
        excluded: Numbers of the measured combinations that are left out, ascending.
        limits: What may not stand together.
        further: Constraints of other packages: candidates are held against them, one by one.
    """

    vocabulary: Vocabulary
    entries: Int[Tensor, "v"]
    orders: tuple[int, ...]
    required: tuple[tuple[int, ...], ...]
    excluded: Numbers
    limits: Limits = UNLIMITED
    further: tuple[Constraint, ...] = ()

    __repr__ = summary

    @classmethod
    def of(
        cls,
        vocabulary: Vocabulary,
        *,
        orders: Iterable[int] = (1, 2),
        constraints: Constraints | Iterable[Constraint] | None = None,
        measured: PerturbationBatch | None = None,
        within: Int[Tensor, "w"] | None = None,
    ) -> "CombinationSpace":
        """Build the space that some constraints leave.

        Args:
            vocabulary: What can be acted upon.
            orders: How many interventions are given together.
            constraints: What may be proposed; by default everything that is not measured.
            measured: What was measured, in ids of ``vocabulary``.
            within: Vocabulary ids that may be used at all; by default each.

        Returns:
            The space; it holds at least one valid candidate.

        Raises:
            UnknownNameError: If a constraint names something that the vocabulary does not know.
            SpaceError: If constraints contradict each other or an order cannot be made.
            NothingToProposeError: If no candidate is left.
        """
        asked = Constraints.of(constraints)
        chosen = asked.resolve(vocabulary, within=within)
        wanted = tuple(sorted(set(orders)))
        rules = SetRules(chosen.entries, _target_numbers(vocabulary), chosen.required, chosen.limits)
        rules = rules.affordable(wanted, vocabulary)
        none = np.empty(0, dtype=np.int64)
        space = cls(vocabulary, rules.entries, wanted, rules.required, none, rules.limits, asked.plugged)
        if measured is not None and asked.measured != "keep":
            inside = torch.nonzero(space._contains(measured)).flatten()
            space = replace(space, excluded=np.unique(space._rank(measured.rows(inside))))
        if space.count_valid == 0:
            raise NothingToProposeError(f"no candidate is left ({space.summary}); relax a constraint")
        return space

    @cached_property
    def rules(self) -> SetRules:
        """What makes a set of entries a candidate, measured ones aside."""
        further = tuple(BoundConstraint(each, self.vocabulary) for each in self.further)
        return SetRules(self.entries, _target_numbers(self.vocabulary), self.required, self.limits, further)

    @cached_property
    def _numbers(self) -> CombinationNumbers:
        return CombinationNumbers(len(self.entries), self.orders)

    def order_of(self, number: int) -> int:
        """Tell of which order a combination is."""
        return next(order for order in self.orders if number < self.span(order)[1])

    @cached_property
    def size(self) -> int:
        """Number of combinations, valid or not; may exceed 64 bits."""
        return self.span(self.orders[-1])[1]

    def span(self, order: int) -> tuple[int, int]:
        """Find where the combinations of one order stand.

        Args:
            order: One of ``orders``.

        Returns:
            The first number and one past the last.

        Raises:
            SpaceError: If the space has no such order.
        """
        return self._numbers.span(order)

    def batch(self, start: int, stop: int) -> PerturbationBatch:
        """Spell out consecutive combinations.

        Args:
            start: First number.
            stop: One past the last number.

        Returns:
            ``stop - start`` combinations with as many slots as the largest order.

        Raises:
            SpaceError: If the range is not within the space.
        """
        if not 0 <= start <= stop <= self.size:
            raise SpaceError(f"numbers {start} to {stop} are not within a space of {self.size}")
        return self._spell(np.array(range(start, stop), dtype=self._numbers.dtype))

    def take(self, index: Int[Tensor, "m"]) -> PerturbationBatch:
        """Spell out chosen combinations.

        Args:
            index: Numbers within the space.

        Returns:
            Those combinations with as many slots as the largest order.
        """
        return self._spell(index.numpy().astype(self._numbers.dtype))

    def index(self, perturbation: Perturbation) -> int:
        """Find the number of one perturbation.

        Args:
            perturbation: A combination of the space, valid or not.

        Returns:
            Its number.

        Raises:
            UnknownNameError: If it holds something that the vocabulary does not know.
            SpaceError: If it is not in the space.
        """
        batch = self.vocabulary.batch([perturbation])
        if not bool(self._contains(batch).all()):
            raise SpaceError(f"{str(perturbation)!r} is not in the space ({self.summary})")
        return int(self._rank(batch)[0])

    def indices(self, batch: PerturbationBatch) -> Int[Tensor, "b"]:
        """Find the numbers of many perturbations.

        Args:
            batch: Combinations of the space, valid or not.

        Returns:
            Their numbers.

        Raises:
            SpaceError: If one is not in the space, or the space is too large for 64 bits.
        """
        if self.size > LARGEST_INT64:
            raise SpaceError(f"the numbers of {self.size} combinations do not fit 64 bits; use `index`")
        inside = self._contains(batch)
        if not bool(inside.all()):
            outside = self.vocabulary.perturbation(batch.genes[int((~inside).int().argmax())])
            raise SpaceError(f"{str(outside)!r} is not in the space ({self.summary})")
        return torch.from_numpy(self._rank(batch).astype(np.int64))

    def holds(self, batch: PerturbationBatch) -> Bool[Tensor, "b"]:
        """Tell which perturbations are in the space and may be proposed.

        Args:
            batch: Any perturbations of the vocabulary.

        Returns:
            True for the candidates among them.
        """
        inside = self._contains(batch)
        inside[inside.clone()] = self.valid(batch.rows(torch.nonzero(inside).flatten()))
        return inside

    def valid(self, batch: PerturbationBatch) -> Bool[Tensor, "b"]:
        """Tell which combinations may be proposed.

        Args:
            batch: Combinations of the space.

        Returns:
            False where one is left out as measured, holds two doses of one target, lacks a required target,
            breaks a limit, or is not allowed by a further constraint.
        """
        allowed = self._admitted(batch)
        if len(self.excluded):
            ranks = self._rank(batch)
            at = np.searchsorted(self.excluded, ranks).clip(max=len(self.excluded) - 1)
            allowed &= torch.from_numpy(np.asarray(self.excluded[at] != ranks, dtype=bool))
        return allowed

    @cached_property
    def count_valid(self) -> int:
        """Number of combinations that may be proposed; an upper bound unless :attr:`counted`."""
        return sum(self.count_valid_of(order) for order in self.orders)

    @property
    def counted(self) -> bool:
        """Whether the counts are exact: without further constraints always up to pairs; see :func:`count_sets`."""
        return all(count.exact for count in self._feasible.values())

    def count_valid_of(self, order: int) -> int:
        """Count the combinations of one order that may be proposed.

        Args:
            order: One of ``orders``.

        Returns:
            Their number; an upper bound unless :attr:`counted`.

        Raises:
            SpaceError: If the space has no such order.
        """
        start, stop = self.span(order)
        left_out = self.excluded[(self.excluded >= start) & (self.excluded < stop)]
        return self._feasible[order].number - int(self._admitted(self._spell(left_out)).sum())

    def left_out_of(self, order: int) -> Int[Tensor, "m k"]:
        """Positions of the measured combinations of an order that are left out, ascending."""
        start, stop = self.span(order)
        left_out = self.excluded[(self.excluded >= start) & (self.excluded < stop)]
        genes = self.take(torch.as_tensor(left_out.astype("int64"))).genes[:, :order].contiguous()
        return torch.searchsorted(self.entries, genes)

    @cached_property
    def count_left_out(self) -> int:
        """Number of combinations that may not be proposed only because they were measured."""
        return int(self._admitted(self._spell(self.excluded)).sum())

    @cached_property
    def ruled_out(self) -> dict[str, int]:
        """How many combinations may not be proposed, by reason; of several the first counts.

        What cannot be counted exactly is left out.
        """
        measured = {"measured": self.count_left_out} if self.count_left_out else {}
        return ruled_out(self.rules, self.orders) | measured

    @property
    def summary(self) -> str:
        """What the space holds, such as ``105 singles and 5,460 pairs, 131 measured left out``."""
        counts = [self._feasible[order].words(order) for order in self.orders]
        parts = " and ".join([", ".join(counts[:-1]), counts[-1]] if len(counts) > 1 else counts)
        return parts + (f", {self.count_left_out:,} measured left out" if self.count_left_out else "")

    @cached_property
    def _feasible(self) -> dict[int, Count]:
        """How many combinations of each order may be proposed, measured ones among them."""
        return {order: count_sets(self.rules, order) for order in self.orders}

    @cached_property
    def _positions(self) -> NDArray[np.int64]:
        """The position of each vocabulary id; the last place answers for the empty slot."""
        positions = np.full(len(self.vocabulary) + 1, _ABSENT, dtype=np.int64)
        positions[self.entries.numpy()] = np.arange(len(self.entries))
        positions[EMPTY] = EMPTY
        return positions

    def _contains(self, batch: PerturbationBatch) -> Bool[Tensor, "b"]:
        usable = torch.from_numpy((self._positions[batch.genes.numpy()] != _ABSENT).all(axis=1))
        return usable & torch.isin(batch.order, torch.tensor(self.orders))

    def _admitted(self, batch: PerturbationBatch) -> Bool[Tensor, "b"]:
        return self.rules.admit(batch.genes)

    def _rank(self, batch: PerturbationBatch) -> Numbers:
        return self._numbers.rank(self._positions[batch.genes.numpy()])

    def _spell(self, numbers: Numbers) -> PerturbationBatch:
        positions = torch.from_numpy(self._numbers.unrank(numbers))
        genes = self.entries[positions.clamp(min=0)]
        return self.vocabulary.dosed(torch.where(positions == EMPTY, EMPTY, genes))


def _target_numbers(vocabulary: Vocabulary) -> Int[Tensor, "v"]:
    """A number for the target of each vocabulary id; entries of one target are neighbours."""
    return torch.from_numpy(np.unique(np.array(vocabulary.targets), return_inverse=True)[1])
