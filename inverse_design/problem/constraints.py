"""What may be proposed: names that are excluded, required or allowed, a mode, a range of doses."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from inverse_design.errors import SpaceError
from surrogates.data.perturbation import Intervention, Mode
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import UnknownNameError


@dataclass(frozen=True)
class Selection:
    """Constraints in the numbers of one vocabulary.

    Attributes:
        entries: Vocabulary ids that may be used, ascending.
        required: For each required target, the ids of which every candidate holds one.
    """

    entries: Int[Tensor, "v"]
    required: tuple[tuple[int, ...], ...]


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
    """

    excluded: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    allowed: tuple[str, ...] | None = None
    measured: Literal["keep", "leave_out"] = "leave_out"
    mode: Mode | None = None
    dose: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse a range of doses that holds none."""
        if self.dose is not None and not 0 <= self.dose[0] <= self.dose[1]:
            raise SpaceError(f"doses from {self.dose[0]} to {self.dose[1]} are not a range; give (low, high)")

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
        excluded = _flat(_named_ids(vocabulary, self.excluded))
        usable = set(range(len(vocabulary)) if within is None else map(int, within))
        if self.allowed is not None:
            usable &= _flat(_named_ids(vocabulary, self.allowed))
        entries = {one for one in usable - excluded if self._admits(vocabulary.entries[one])}
        required: dict[str, set[int]] = {}
        for name, alternatives in zip(self.required, _named_ids(vocabulary, self.required), strict=True):
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
        )

    def _admits(self, entry: Intervention) -> bool:
        low, high = self.dose or (entry.dose, entry.dose)
        return self.mode in {None, entry.mode} and low <= entry.dose <= high


def _flat(groups: Iterable[list[int]]) -> set[int]:
    return set(chain.from_iterable(groups))


def _named_ids(vocabulary: Vocabulary, names: tuple[str, ...]) -> list[list[int]]:
    """For each name, the ids that it stands for; never empty."""
    doses: dict[str, list[int]] = {}
    for number, target in enumerate(vocabulary.targets):
        doses.setdefault(target, []).append(number)
    return [doses[name] if name in doses else [_labelled_id(vocabulary, name)] for name in names]


def _labelled_id(vocabulary: Vocabulary, name: str) -> int:
    try:
        return vocabulary.id(name)
    except UnknownNameError as error:
        if name.partition(":")[0] in vocabulary.targets:  # a known target: the error says what is wrong with it
            raise
        known = {*vocabulary.ids, *vocabulary.targets}
        raise UnknownNameError.from_known("gene or compound", name, known) from error
