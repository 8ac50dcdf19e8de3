"""A condition that all experiments of one batch share, such as a dose, a temperature or a medium."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from jaxtyping import Bool
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.constraints import Constraint, Constraints
from surrogates.data.names import name_of
from surrogates.data.vocabulary import EMPTY, PerturbationBatch, Vocabulary
from surrogates.errors import UnknownNameError

DOSE = "dose"


@dataclass(frozen=True)
class BatchWide:
    """All experiments of one batch have one value of a condition; another batch may have another one.

    The context of an experiment needs none: a campaign is run in one.
    """

    name: str = DOSE  # what the condition is: ``"dose"`` for the doses of the screen, else any name
    # From the name or label of each gene or compound that ties its experiment to a value, such as a temperature,
    # to that value; those that are not named go with any. None for ``"dose"``.
    values: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names that are not printable, values of a dose, and a condition without values."""
        object.__setattr__(self, "name", name_of(self.name, "name of a batch-wide condition"))
        values = {one: name_of(value, f"value of {self.name!r}") for one, value in self.values.items()}
        object.__setattr__(self, "values", values)
        if (self.name == DOSE) == bool(self.values):
            what = "has its values in the screen; leave them out" if self.values else "needs values"
            raise SpaceError(f"the batch-wide condition {self.name!r} {what}: from each name to its value")

    def of(self, vocabulary: Vocabulary) -> tuple[str | None, ...]:
        """Give the value of each vocabulary entry; ``None`` where it goes with any."""
        if self.name == DOSE:
            return tuple(repr(entry.dose).removesuffix(".0") for entry in vocabulary.entries)
        known = {*vocabulary.targets, *vocabulary.ids}
        for name in self.values:
            if name not in known:
                raise UnknownNameError.from_known("gene or compound", name, known)
        return tuple(self.values.get(one.label, self.values.get(one.target)) for one in vocabulary.entries)

    def allows(self, candidates: PerturbationBatch, vocabulary: Vocabulary) -> Bool[Tensor, "b"]:
        """Tell which candidates can be in a batch at all: all their parts go with one value."""
        values = self.of(vocabulary)
        numbers = {value: number for number, value in enumerate(dict.fromkeys(values)) if value is not None}
        code = torch.tensor([*(-1 if value is None else numbers[value] for value in values), -1])
        found = code[torch.where(candidates.genes == EMPTY, len(values), candidates.genes)]
        largest = found.amax(1, keepdim=True)
        allowed: Tensor = ((found == largest) | (found < 0)).all(1)
        return allowed


def batch_wide(constraints: Sequence[Constraint]) -> tuple[BatchWide, ...]:
    """Take the conditions of whole batches among some constraints."""
    return tuple(each for each in constraints if isinstance(each, BatchWide))


def refuse_batch_wide(constraints: Constraints | Sequence[Constraint] | None, verb: str) -> None:
    """Refuse conditions of whole batches where candidates are ranked one by one."""
    if found := batch_wide(Constraints.of(constraints).further):
        raise SpaceError(
            f"that a batch shares one {found[0].name} has no meaning in {verb}, which ranks candidates one by one;"
            " state it for a campaign, whose batches keep it (campaign create --batch-wide)"
        )


def levels_of(conditions: Sequence[BatchWide], vocabulary: Vocabulary) -> Mapping[str, tuple[int, ...]]:
    """Give the ids that may be used at each value, or at each combination of values of several conditions."""
    by_entry = [each.of(vocabulary) for each in conditions]
    known = [dict.fromkeys(value for value in values if value is not None) for values in by_entry]
    found = {}
    for chosen in product(*known):
        words = ", ".join(f"{each.name} {value}" for each, value in zip(conditions, chosen, strict=True))
        found[words] = tuple(
            number
            for number in range(len(vocabulary))
            if all(values[number] in {None, value} for values, value in zip(by_entry, chosen, strict=True))
        )
    return found
