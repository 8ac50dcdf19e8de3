"""What makes a set of entries a candidate: targets that differ, required ones that are there, limits that hold."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.errors import NothingToProposeError, SpaceError
from inverse_design.problem.limits import MILLIONTHS, Limits
from surrogates.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class SetRules:
    """The rules of one space, measured combinations aside.

    Attributes:
        entries: Vocabulary ids that may be used, ascending; *position* means a place in this tensor.
        target: A number for the target of each vocabulary id; entries of one target are neighbours.
        required: For each required target, the ids of which a candidate must hold one.
        limits: What may not stand together.
    """

    entries: Int[Tensor, "v"]
    target: Int[Tensor, "w"]
    required: tuple[tuple[int, ...], ...]
    limits: Limits

    def admit(self, genes: Int[Tensor, "b k"]) -> Bool[Tensor, "b"]:
        """Tell which sets may be proposed.

        Args:
            genes: Vocabulary ids, ascending, ``-1`` in empty slots.

        Returns:
            False where two entries share a target, a required target is missing, or a limit is broken.
        """
        admitted = self.limits.admit(genes)
        targets = self.target[genes.clamp(min=0)]
        admitted &= ~((targets[:, 1:] == targets[:, :-1]) & (genes[:, 1:] >= 0)).any(dim=1)
        for alternatives in self.required:
            admitted &= torch.isin(genes, torch.tensor(alternatives)).any(dim=1)
        return admitted

    def hopeful(self, genes: Int[Tensor, "b k"], missing: int) -> Bool[Tensor, "b"]:
        """Tell which sets of distinct targets may still grow into candidates.

        Args:
            genes: Vocabulary ids, ascending.
            missing: How many members are to come.

        Returns:
            False where they cannot bring all that is required, or what is there breaks a limit already.
        """
        lacking = torch.zeros(len(genes), dtype=torch.int64)
        for alternatives in self.required:
            lacking += ~torch.isin(genes, torch.tensor(alternatives)).any(dim=1)
        return (lacking <= missing) & self.limits.admit(genes, spare=self.reserve(missing))

    def reserve(self, members: int) -> int:
        """Bound from below what some members cost.

        Args:
            members: How many.

        Returns:
            Millionths; zero without a budget.
        """
        return int(self.costs[np.argsort(self.costs, kind="stable")[:members]].sum())

    @cached_property
    def costs(self) -> NDArray[np.int64]:
        """What the entry at each position costs, in millionths; zero without a budget."""
        if self.limits.budget is None:
            return np.zeros(len(self.entries), dtype=np.int64)
        return np.asarray(self.limits.cost(self.entries[:, None]).numpy(), dtype=np.int64)

    def positions(self, ids: tuple[int, ...]) -> NDArray[np.int64]:
        """Find the positions of vocabulary ids.

        Args:
            ids: Ascending; those that may not be used are left out.

        Returns:
            Their positions, ascending.
        """
        return np.flatnonzero(np.isin(self.entries.numpy(), ids))

    def affordable(self, orders: tuple[int, ...], vocabulary: Vocabulary) -> "SetRules":
        """Drop the entries that no candidate can pay for.

        Args:
            orders: How many members candidates have, ascending.
            vocabulary: For messages.

        Returns:
            The rules over what is left.

        Raises:
            SpaceError: If candidates of some order cannot be made of the entries.
            NothingToProposeError: If no entry is left, or the budget pays for no candidate.
        """
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
        """Find the cheapest set of distinct targets with all that is required, whatever the other limits say.

        Args:
            order: How many members it has; not more than there are targets, nor fewer than are required.

        Returns:
            Its cost in millionths, and the vocabulary ids of its members.
        """
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
