"""What may be proposed: by name, mode and dose, and what may not stand together in one candidate."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain, product
from typing import Literal, Protocol, get_origin, get_type_hints, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from inverse_design.errors import SpaceError
from surrogates.data.perturbation import Intervention, Mode
from surrogates.data.vocabulary import EMPTY, PerturbationBatch, Vocabulary
from surrogates.errors import UnknownNameError
from surrogates.registry import Registry
from surrogates.summary import summary

MILLIONTHS = 1_000_000  # costs are counted in whole millionths of their unit: sums are exact in any order
_DEAREST = 1e9


@runtime_checkable
class Constraint(Protocol):
    """Which candidates may be proposed: a frozen dataclass with this method, in any package.

    Written once, it holds in ``propose``, ``rank`` and campaigns, in searches of pairs, sets and streams. Named in
    the entry-point group ``inverse_design.constraints`` it is also reached from the command line.
    """

    def allows(self, candidates: PerturbationBatch, vocabulary: Vocabulary) -> Bool[Tensor, "b"]:
        """Tell which candidates may be proposed.

        Args:
            candidates: Whole candidates, each on its own: an answer must not depend on the others. Their
                ``genes`` are ids of the vocabulary, -1 in slots that are not used.
            vocabulary: What the ids mean: ``vocabulary.targets`` are names, ``vocabulary.doses`` doses.

        Returns:
            True where one may be proposed.
        """
        ...


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

    def allows(self, candidates: PerturbationBatch, vocabulary: Vocabulary) -> Bool[Tensor, "b"]:
        """Tell which candidates hold no more members than they may; see :meth:`Constraint.allows`."""
        return Constraints(groups=(self,)).allows(candidates, vocabulary)


@dataclass(frozen=True)
class Limits:
    """Groups, incompatible pairs and costs, in the numbers of one vocabulary."""

    groups: tuple[tuple[int, ...], ...] = ()  # the vocabulary ids of each group, ascending
    at_most: tuple[int, ...] = ()  # how many of each group a candidate may hold
    # Ids of two entries that may not stand together, the smaller first; ascending.
    apart: tuple[tuple[int, int], ...] = ()
    # Cost of each vocabulary entry in :data:`MILLIONTHS`; empty where there is no budget.
    costs: tuple[int, ...] = ()
    budget: int | None = None  # the most that the entries of a candidate may cost together, in the same unit

    @property
    def free(self) -> bool:
        """Whether everything may stand together."""
        return not self.groups and not self.apart and self.budget is None

    def admit(self, genes: Int[Tensor, "b k"], *, spare: int = 0) -> Bool[Tensor, "b"]:
        """Tell which sets keep the limits."""
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
        """Add the costs of the members of some sets up."""
        return self._priced[genes].sum(-1)  # an empty slot takes the last place, which costs nothing

    def full(self, genes: Int[Tensor, "b k"], entries: Int[Tensor, "v"]) -> Bool[Tensor, "b v"]:
        """Tell which entries belong to a group of which a set already holds all it may."""
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
    """Turn a cost into whole millionths."""
    if not 0 <= amount <= _DEAREST:
        raise SpaceError(f"{amount} as the {name} is not between 0 and {_DEAREST:,.0f}; use another unit")
    return round(amount * MILLIONTHS)


@dataclass(frozen=True)
class ResolvedConstraints:
    """Constraints in the numbers of one vocabulary."""

    entries: Int[Tensor, "v"]  # vocabulary ids that may be used, ascending
    required: tuple[tuple[int, ...], ...]  # for each required target, the ids of which every candidate holds one
    limits: Limits  # what may not stand together


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
        further: Constraints of other packages, or your own.
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
    further: tuple[Constraint, ...] = ()

    __repr__ = summary

    @classmethod
    def of(cls, stated: "Constraints | Iterable[object] | None") -> "Constraints":
        """Take constraints as they are stated: none, all in one, or one by one.

        Raises:
            SpaceError: If one of them has no method ``allows``.
        """
        if isinstance(stated, Constraints):
            return stated
        each = () if stated is None else tuple(stated)
        if wrong := [one for one in each if not isinstance(one, Constraint)]:
            raise SpaceError(f"{wrong[0]!r} is no constraint: it has no method allows(candidates, vocabulary)")
        return cls(further=tuple(one for one in each if isinstance(one, Constraint)))

    @property
    def plugged(self) -> tuple[Constraint, ...]:
        """The further constraints of which nothing is known but what they allow."""
        return tuple(each for each in self.further if not isinstance(each, Group))

    def allows(self, candidates: PerturbationBatch, vocabulary: Vocabulary) -> Bool[Tensor, "b"]:
        """Tell which candidates keep all constraints, measured or not; see :meth:`Constraint.allows`."""
        chosen = self.resolve(vocabulary)
        allowed = (torch.isin(candidates.genes, chosen.entries) | (candidates.genes == EMPTY)).all(1)
        for alternatives in chosen.required:
            allowed &= torch.isin(candidates.genes, torch.tensor(alternatives)).any(1)
        # costs are known of allowed entries only: others must not be looked up
        allowed[allowed.clone()] = chosen.limits.admit(candidates.genes[allowed])
        for each in self.plugged:
            allowed &= each.allows(candidates, vocabulary)
        return allowed

    def __post_init__(self) -> None:
        """Refuse a range of doses that holds none, and a budget without costs."""
        if self.dose is not None and not 0 <= self.dose[0] <= self.dose[1]:
            raise SpaceError(f"doses from {self.dose[0]} to {self.dose[1]} are not a range; give (low, high)")
        if (self.budget is None) == bool(self.costs):
            given, lacking = ("costs", "a budget") if self.costs else ("a budget", "costs")
            raise SpaceError(f"without {lacking}, {given} cannot restrict anything; give both or none")

    def resolve(self, vocabulary: Vocabulary, *, within: Int[Tensor, "m"] | None = None) -> ResolvedConstraints:
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
        return ResolvedConstraints(
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
        stated = (*self.groups, *(each for each in self.further if isinstance(each, Group)))
        groups = [_flat(names.each(group.members)) & usable for group in stated]
        pairs = [names.each(pair) for pair in self.incompatible]
        for (one, other), (first, second) in zip(self.incompatible, pairs, strict=True):
            if set(first) & set(second):
                raise SpaceError(f"{one!r} and {other!r} are one target, which never stands by itself twice")
        apart = {(min(each), max(each)) for first, second in pairs for each in product(first, second)}
        return Limits(
            groups=tuple(tuple(sorted(ids)) for ids in groups),
            at_most=tuple(group.at_most for group in stated),
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


CONSTRAINTS: Registry[type[Constraint]] = Registry(
    kind="constraint",
    group="inverse_design.constraints",
    shipped={
        "group": "inverse_design.problem.constraints:Group",
        "batch_wide": "inverse_design.problem.batch_wide:BatchWide",
    },
)


def read_constraint(text: str) -> Constraint:
    """Read a constraint as ``NAME``, ``NAME:key=value,key=value`` or ``NAME:{JSON}``.

    A value without a key goes to the key before it: ``group:name=kinases,members=CDK4,CDK6``.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - where one is stated in words

    name, _, stated = text.partition(":")
    kind = CONSTRAINTS.load(name.strip())
    given, known = _stated(stated.strip(), name), [each.name for each in fields(kind)]  # type: ignore[arg-type]
    if unknown := [key for key in given if key not in known]:
        raise UnknownNameError.from_known(f"setting of constraint {name!r}", unknown[0], known)
    hints = get_type_hints(kind)
    many = {key for key, value in given.items() if isinstance(value, str) and get_origin(hints[key]) is tuple}
    try:
        return TypeAdapter(kind).validate_python({k: [v] if k in many else v for k, v in given.items()})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(each) for each in first["loc"])
        raise SpaceError(f"constraint {text!r}: {where}: {first['msg']}") from error


def _stated(text: str, name: str) -> Mapping[str, object]:
    if text.startswith("{"):
        try:
            found: dict[str, object] = json.loads(text)
        except ValueError as error:
            raise SpaceError(f"constraint {name!r}: {text!r} is no JSON: {error}") from error
        return found
    given: dict[str, list[str]] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        key, equals, value = part.partition("=")
        if equals:
            given[key.strip()] = [value.strip()]
        elif given:
            next(reversed(given.values())).append(part)
        else:
            raise SpaceError(f"constraint {name!r}: {part!r} has no key; write key=value")
    return {key: values[0] if len(values) == 1 else values for key, values in given.items()}
