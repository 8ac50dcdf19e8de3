"""What may be proposed: by name, mode and dose, and what may not stand together in one candidate."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.limits import Group, Limits, in_millionths
from surrogates.data.perturbation import Intervention, Mode
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import UnknownNameError


@dataclass(frozen=True)
class Selection:
    """Constraints in the numbers of one vocabulary.

    Attributes:
        entries: Vocabulary ids that may be used, ascending.
        required: For each required target, the ids of which every candidate holds one.
        limits: What may not stand together.
    """

    entries: Int[Tensor, "v"]
    required: tuple[tuple[int, ...], ...]
    limits: Limits


@dataclass(frozen=True)
class Constraints:
    """Which candidates the bench can and wants to make.

    A name is a label such as ``"901@1.5"``, or a target, which stands for all its doses.

    Attributes:
        excluded: Names that no candidate may hold.
        required: Names that every candidate must hold (for a target: at one of its doses).
        allowed: The only names that candidates may hold; ``None`` for the whole vocabulary.
        measured: Whether perturbations that were measured already may be proposed again.
        mode: The only mode, or ``None`` for any.
        dose: The lowest and the highest dose, both included, in the unit of the vocabulary; ``None`` for any.
        doses: The only doses that a target may have, for each target that is named; others may have any.
        groups: Sets of targets of which a candidate holds few.
        incompatible: Pairs of names that may not stand together.
        costs: What each name costs, in any unit; a label goes before its target.
        budget: The most that the parts of a candidate may cost together; goes with ``costs``.
    """

    excluded: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    allowed: tuple[str, ...] | None = None
    measured: Literal["keep", "leave_out"] = "leave_out"
    mode: Mode | None = None
    dose: tuple[float, float] | None = None
    doses: tuple[tuple[str, tuple[float, ...]], ...] = ()
    groups: tuple[Group, ...] = ()
    incompatible: tuple[tuple[str, str], ...] = ()
    costs: tuple[tuple[str, float], ...] = ()
    budget: float | None = None

    def __post_init__(self) -> None:
        """Refuse a range of doses that holds none, and a budget without costs."""
        if self.dose is not None and not 0 <= self.dose[0] <= self.dose[1]:
            raise SpaceError(f"doses from {self.dose[0]} to {self.dose[1]} are not a range; give (low, high)")
        if (self.budget is None) == bool(self.costs):
            given, lacking = ("costs", "a budget") if self.costs else ("a budget", "costs")
            raise SpaceError(f"{given} without {lacking} restrict nothing; give both or none")

    def resolve(self, vocabulary: Vocabulary, *, within: Int[Tensor, "m"] | None = None) -> Selection:
        """Translate the names into vocabulary ids.

        Args:
            vocabulary: What can be acted upon.
            within: Vocabulary ids that may be used at all; by default each.

        Returns:
            The ids that may be used and those that must be.

        Raises:
            UnknownNameError: If a name is neither a label nor a target of the vocabulary.
            SpaceError: If a required name is ruled out by another constraint.
        """
        names = _Names(vocabulary)
        excluded = _flat(names.each(self.excluded))
        usable = set(range(len(vocabulary)) if within is None else map(int, within))
        if self.allowed is not None:
            usable &= _flat(names.each(self.allowed))
        grid = self._grid(names)
        entries = {one for one in usable - excluded if self._admits(vocabulary.entries[one], grid)}
        required: dict[str, set[int]] = {}
        for name, alternatives in zip(self.required, names.each(self.required), strict=True):
            target = vocabulary.targets[alternatives[0]]
            required[target] = required.get(target, entries).intersection(alternatives)
            if not required[target]:
                raise SpaceError(
                    f"{name!r} is required, but cannot be used: remove it from `required`, or relax `excluded`,"
                    " `allowed`, `mode`, `dose` or the other required dose of the same target"
                )
        return Selection(
            torch.tensor(sorted(entries), dtype=torch.int64),
            tuple(tuple(sorted(required[target])) for target in sorted(required)),
            self._limits(names, entries),
        )

    def _admits(self, entry: Intervention, grid: Mapping[str, tuple[float, ...]]) -> bool:
        low, high = self.dose or (entry.dose, entry.dose)
        on_grid = entry.dose in grid.get(entry.target, (entry.dose,))
        return on_grid and self.mode in {None, entry.mode} and low <= entry.dose <= high

    def _grid(self, names: "_Names") -> dict[str, tuple[float, ...]]:
        """The doses that each named target may have; refuses those that nobody knows."""
        for target, doses in self.doses:
            if target not in names.doses:
                raise UnknownNameError.from_known("gene or compound", target, names.doses)
            known = sorted(names.vocabulary.entries[one].dose for one in names.doses[target])
            if strange := sorted(set(doses) - set(known)):
                listed = ", ".join(f"{dose:g}" for dose in known)
                raise SpaceError(f"dose {strange[0]:g} of {target!r} is not known; known are {listed}")
        return dict(self.doses)

    def _limits(self, names: "_Names", usable: set[int]) -> Limits:
        groups = [_flat(names.each(group.members)) & usable for group in self.groups]
        pairs = [names.each(pair) for pair in self.incompatible]
        for (one, other), (first, second) in zip(self.incompatible, pairs, strict=True):
            if set(first) & set(second):
                raise SpaceError(f"{one!r} and {other!r} are one target, which never stands by itself twice")
        apart = {(min(each), max(each)) for first, second in pairs for each in product(first, second)}
        return Limits(
            groups=tuple(tuple(sorted(ids)) for ids in groups),
            at_most=tuple(group.at_most for group in self.groups),
            apart=tuple(sorted(apart)),
            costs=() if self.budget is None else self._costs(names, usable),
            budget=None if self.budget is None else in_millionths("budget", self.budget),
        )

    def _costs(self, names: "_Names", usable: set[int]) -> tuple[int, ...]:
        """The cost of each entry; those that may not be used need none."""
        known: dict[int, int] = {}
        for name, amount in sorted(self.costs, key=lambda each: each[0] not in names.doses):  # labels go last
            known.update(dict.fromkeys(names.ids(name), in_millionths(f"cost of {name!r}", amount)))
        if missing := sorted(usable - known.keys()):
            shown = ", ".join(names.vocabulary.entries[one].label for one in missing[:3])
            raise SpaceError(f"{len(missing):,} allowed names have no cost, such as {shown}; add or exclude them")
        return tuple(known.get(one, 0) for one in range(len(names.vocabulary)))


def _flat(groups: Iterable[Sequence[int]]) -> set[int]:
    return set(chain.from_iterable(groups))


@dataclass(frozen=True)
class _Names:
    """What the names of one vocabulary stand for."""

    vocabulary: Vocabulary

    @cached_property
    def doses(self) -> dict[str, list[int]]:
        """The ids of each target."""
        doses: dict[str, list[int]] = {}
        for number, target in enumerate(self.vocabulary.targets):
            doses.setdefault(target, []).append(number)
        return doses

    def ids(self, name: str) -> list[int]:
        """The ids that a target or a label stands for; never empty."""
        return self.doses[name] if name in self.doses else [self._labelled(name)]

    def each(self, names: Iterable[str]) -> list[list[int]]:
        return [self.ids(name) for name in names]

    def _labelled(self, name: str) -> int:
        try:
            return self.vocabulary.id(name)
        except UnknownNameError as error:
            if name.partition(":")[0] in self.doses:  # a known target: the error says what is wrong with it
                raise
            known = {*self.vocabulary.ids, *self.doses}
            raise UnknownNameError.from_known("gene or compound", name, known) from error
