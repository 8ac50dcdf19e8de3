"""What may not stand together in one candidate: many of a group, incompatible pairs, more than a budget buys."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from inverse_design.errors import SpaceError
from surrogates.data.vocabulary import EMPTY

MILLIONTHS = 1_000_000  # costs are counted in whole millionths of their unit: sums are exact in any order
_DEAREST = 1e9


@dataclass(frozen=True)
class Group:
    """Targets of which one candidate holds few, such as paralogues or a pathway.

    Attributes:
        name: What to call it in messages.
        members: Names of its targets, or labels of single doses.
        at_most: How many of them a candidate may hold; at least one.
    """

    name: str
    members: tuple[str, ...]
    at_most: int = 1

    def __post_init__(self) -> None:
        """Refuse a group of which nothing may be held: that is an exclusion."""
        if self.at_most < 1:
            raise SpaceError(
                f"at most {self.at_most} of group {self.name!r} is none of it; exclude its members instead"
            )


@dataclass(frozen=True)
class Limits:
    """Groups, incompatible pairs and costs, in the numbers of one vocabulary.

    Attributes:
        groups: The vocabulary ids of each group, ascending.
        at_most: How many of each group a candidate may hold.
        apart: Ids of two entries that may not stand together, the smaller first; ascending.
        costs: Cost of each vocabulary entry in :data:`MILLIONTHS`; empty where there is no budget.
        budget: The most that the entries of a candidate may cost together, in the same unit.
    """

    groups: tuple[tuple[int, ...], ...] = ()
    at_most: tuple[int, ...] = ()
    apart: tuple[tuple[int, int], ...] = ()
    costs: tuple[int, ...] = ()
    budget: int | None = None

    @property
    def free(self) -> bool:
        """Whether everything may stand together."""
        return not self.groups and not self.apart and self.budget is None

    def admit(self, genes: Int[Tensor, "b k"], *, spare: int = 0) -> Bool[Tensor, "b"]:
        """Tell which sets keep the limits.

        Args:
            genes: Vocabulary ids, ascending, ``-1`` in empty slots.
            spare: How much of the budget has to be left, for members that are still to come.

        Returns:
            True where no limit is broken.
        """
        admitted = torch.ones(len(genes), dtype=torch.bool)
        if self.groups:
            places = self._places(genes)
            for inside, most in zip(self._inside, self.at_most, strict=True):
                admitted &= inside[places].sum(1) <= most
        if self.apart:
            for later in range(1, genes.shape[1]):
                for earlier in range(later):
                    admitted &= ~self._stands_apart(genes[:, earlier], genes[:, later])
        if self.budget is not None:
            admitted &= self.cost(genes) + spare <= self.budget
        return admitted

    def cost(self, genes: Int[Tensor, "*b k"]) -> Int[Tensor, "*b"]:
        """Add the costs of the members of some sets up.

        Args:
            genes: Vocabulary ids, ``-1`` in empty slots.

        Returns:
            Millionths.
        """
        return self._priced[genes].sum(-1)  # an empty slot takes the last place, which costs nothing

    def full(self, genes: Int[Tensor, "b k"], entries: Int[Tensor, "v"]) -> Bool[Tensor, "b v"]:
        """Tell which entries belong to a group of which a set already holds all it may.

        Args:
            genes: Vocabulary ids, ``-1`` in empty slots.
            entries: Vocabulary ids that might join.

        Returns:
            True for entries that may not.
        """
        places, joining = self._places(genes), self._places(entries[None])[0]
        full = torch.zeros(len(genes), len(entries), dtype=torch.bool)
        for inside, most in zip(self._inside, self.at_most, strict=True):
            full |= (inside[places].sum(1) >= most)[:, None] & inside[joining]
        return full

    def _places(self, genes: Int[Tensor, "b k"]) -> Int[Tensor, "b k"]:
        """Columns of the table of groups; its last one stands for ids that no group holds."""
        known = self._inside.shape[1] - 1
        return torch.where(genes == EMPTY, known, genes.clamp(max=known))

    @cached_property
    def _inside(self) -> Bool[Tensor, "n w"]:
        """Which ids each group holds, as far as the largest one; the last column stands for all other ids."""
        width = max((one[-1] for one in self.groups if one), default=-1) + 2
        inside = torch.zeros(len(self.groups), width, dtype=torch.bool)
        for number, members in enumerate(self.groups):
            inside[number, list(members)] = True
        return inside

    @cached_property
    def _priced(self) -> Int[Tensor, "w"]:
        return torch.tensor([*self.costs, 0], dtype=torch.int64)

    @cached_property
    def _apart_keys(self) -> Int[Tensor, "m"]:
        first, second = torch.tensor(self.apart, dtype=torch.int64).unbind(1)
        return (first << 32) | second

    def _stands_apart(self, first: Int[Tensor, "b"], second: Int[Tensor, "b"]) -> Bool[Tensor, "b"]:
        keys = (first << 32) | second
        at = torch.searchsorted(self._apart_keys, keys).clamp(max=len(self._apart_keys) - 1)
        return (self._apart_keys[at] == keys) & (second != EMPTY)


UNLIMITED = Limits()


def in_millionths(name: str, amount: float) -> int:
    """Turn a cost into whole millionths.

    Args:
        name: What it is the cost of.
        amount: In the user's unit.

    Returns:
        The nearest whole number of millionths.

    Raises:
        SpaceError: If it is negative, not finite, or too large to be added up exactly.
    """
    if not 0 <= amount <= _DEAREST:
        raise SpaceError(f"{amount} as the {name} is not between 0 and {_DEAREST:,.0f}; use another unit")
    return round(amount * MILLIONTHS)
