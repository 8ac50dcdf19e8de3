"""The lazy set of all candidates: every combination of the allowed entries, by number."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.errors import NothingToProposeError, SpaceError
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.ranking import LARGEST_INT64, CombinationNumbers, Numbers
from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import EMPTY, PerturbationBatch, Vocabulary

_ABSENT = -2  # beside EMPTY: an entry that may not be used
_KINDS = {1: "single", 2: "pair", 3: "triple"}


@dataclass(frozen=True)
class CombinationSpace:
    """All combinations of the given orders over the allowed entries, numbered from zero.

    Orders ascend; within an order the combinations stand in the order of :func:`itertools.combinations`. The
    numbers count every combination, also those that may not be proposed (measured already, two doses of one
    target, a required target missing): :meth:`valid` tells them apart. Build one with :meth:`of`.

    Attributes:
        vocabulary: What the ids of a batch mean.
        entries: Vocabulary ids that may be used, ascending; *position* means a place in this tensor.
        orders: How many interventions are given together, ascending.
        required: For each required target, the ids of which a candidate must hold one.
        excluded: Numbers of the measured combinations that are left out, ascending.
    """

    vocabulary: Vocabulary
    entries: Int[Tensor, "v"]
    orders: tuple[int, ...]
    required: tuple[tuple[int, ...], ...]
    excluded: Numbers

    @classmethod
    def of(
        cls,
        vocabulary: Vocabulary,
        *,
        orders: Iterable[int] = (1, 2),
        constraints: Constraints | None = None,
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
        rules = constraints or Constraints()
        chosen = rules.resolve(vocabulary, within=within)
        wanted = tuple(sorted(set(orders)))
        _refuse_orders(wanted, len({vocabulary.targets[one] for one in chosen.entries}), len(chosen.required))
        whole = cls(vocabulary, chosen.entries, wanted, chosen.required, np.empty(0, dtype=np.int64))
        if measured is None or rules.measured == "keep":
            space = whole
        else:
            inside = torch.nonzero(whole._contains(measured)).flatten()
            known = np.unique(whole._rank(measured.rows(inside)))
            space = cls(vocabulary, chosen.entries, wanted, chosen.required, known)
        if space.count_valid == 0:
            raise NothingToProposeError(f"no candidate is left ({space.summary}); relax a constraint")
        return space

    @cached_property
    def _numbers(self) -> CombinationNumbers:
        return CombinationNumbers(len(self.entries), self.orders)

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
            False where one is left out as measured, holds two doses of one target, or lacks a required target.
        """
        allowed = self._feasible(batch)
        if len(self.excluded):
            ranks = self._rank(batch)
            at = np.searchsorted(self.excluded, ranks).clip(max=len(self.excluded) - 1)
            allowed &= torch.from_numpy(np.asarray(self.excluded[at] != ranks, dtype=bool))
        return allowed

    @cached_property
    def count_valid(self) -> int:
        """Number of combinations that may be proposed, exactly."""
        return sum(self.count_valid_of(order) for order in self.orders)

    def count_valid_of(self, order: int) -> int:
        """Count the combinations of one order that may be proposed, exactly.

        Args:
            order: One of ``orders``.

        Returns:
            Their number.

        Raises:
            SpaceError: If the space has no such order.
        """
        start, stop = self.span(order)
        left_out = self.excluded[(self.excluded >= start) & (self.excluded < stop)]
        return self._count_feasible(order) - int(self._feasible(self._spell(left_out)).sum())

    @cached_property
    def count_left_out(self) -> int:
        """Number of combinations that may not be proposed only because they were measured."""
        return int(self._feasible(self._spell(self.excluded)).sum())

    @property
    def summary(self) -> str:
        """What the space holds, such as ``105 singles and 5,460 pairs, 131 measured left out``."""
        counts = [_counted(self._count_feasible(order), order) for order in self.orders]
        parts = " and ".join([", ".join(counts[:-1]), counts[-1]] if len(counts) > 1 else counts)
        return parts + (f", {self.count_left_out:,} measured left out" if self.count_left_out else "")

    @cached_property
    def _positions(self) -> NDArray[np.int64]:
        """The position of each vocabulary id; the last place answers for the empty slot."""
        positions = np.full(len(self.vocabulary) + 1, _ABSENT, dtype=np.int64)
        positions[self.entries.numpy()] = np.arange(len(self.entries))
        positions[EMPTY] = EMPTY
        return positions

    @cached_property
    def _target_numbers(self) -> Int[Tensor, "v"]:
        """A number for the target of each vocabulary id; entries of one target are neighbours."""
        return torch.from_numpy(np.unique(np.array(self.vocabulary.targets), return_inverse=True)[1])

    def _contains(self, batch: PerturbationBatch) -> Bool[Tensor, "b"]:
        usable = torch.from_numpy((self._positions[batch.genes.numpy()] != _ABSENT).all(axis=1))
        return usable & torch.isin(batch.order, torch.tensor(self.orders))

    def _feasible(self, batch: PerturbationBatch) -> Bool[Tensor, "b"]:
        """Whether all targets differ and the required ones are there."""
        targets = self._target_numbers[batch.genes.clamp(min=0)]
        feasible = ~((targets[:, 1:] == targets[:, :-1]) & batch.present[:, 1:]).any(dim=1)
        for alternatives in self.required:
            feasible &= torch.isin(batch.genes, torch.tensor(alternatives)).any(dim=1)
        return feasible

    def _count_feasible(self, order: int) -> int:
        """Ways to choose the required targets' entries, times ways to choose distinct other targets."""
        doses = torch.bincount(self._target_numbers[self.entries])
        for one in self.required:
            doses[self._target_numbers[one[0]]] = 0
        ways = [math.prod(len(one) for one in self.required)] + [0] * order
        for n_doses, n_targets in enumerate(torch.bincount(doses).tolist()):
            choose = [math.comb(n_targets, each) * n_doses**each for each in range(order + 1)]
            ways = [sum(ways[a] * choose[total - a] for a in range(total + 1)) for total in range(order + 1)]
        free = order - len(self.required)
        return ways[free] if free >= 0 else 0

    def _rank(self, batch: PerturbationBatch) -> Numbers:
        return self._numbers.rank(self._positions[batch.genes.numpy()])

    def _spell(self, numbers: Numbers) -> PerturbationBatch:
        positions = torch.from_numpy(self._numbers.unrank(numbers))
        genes = self.entries[positions.clamp(min=0)]
        return self.vocabulary.dosed(torch.where(positions == EMPTY, EMPTY, genes))


def _counted(count: int, order: int) -> str:
    if order not in _KINDS:
        return f"{count:,} of order {order}"
    return f"{count:,} {_KINDS[order]}{'' if count == 1 else 's'}"


def _refuse_orders(orders: tuple[int, ...], n_targets: int, n_required: int) -> None:
    if not orders or orders[0] < 1:
        raise SpaceError(f"orders {orders} are not one or more positive numbers")
    if n_targets == 0:
        raise NothingToProposeError("the constraints allow no gene or compound; relax one")
    if orders[-1] > n_targets:
        raise SpaceError(f"order {orders[-1]} needs as many targets, but the constraints allow {n_targets}")
    if n_required > orders[-1]:
        raise SpaceError(f"{n_required} targets are required, more than the largest order {orders[-1]}")
