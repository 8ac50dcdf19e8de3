"""What can be acted upon, as numbered entries, and perturbations as rows of those numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.io.labels import read_label
from surrogates.data.perturbation import Intervention, Perturbation, split_label
from surrogates.errors import DataError, UnknownNameError
from surrogates.summary import summary

EMPTY = -1


@dataclass(frozen=True)
class PerturbationBatch:
    """Many perturbations as numbers: the only form in which bulk code sees them.

    Attributes:
        genes: Vocabulary ids, ascending in each row, with ``-1`` for an empty slot (at the end).
        dose: The dose of each slot, 0 where it is empty.
    """

    genes: Int[Tensor, "b k"]
    dose: Float[Tensor, "b k"]
    __repr__ = summary

    def __post_init__(self) -> None:
        """Refuse ids and doses of different shapes."""
        if self.genes.shape != self.dose.shape or self.genes.ndim != 2:
            raise DataError(
                f"ids of shape {tuple(self.genes.shape)} and doses of shape {tuple(self.dose.shape)}"
                " are not both (b, k)"
            )

    def __len__(self) -> int:
        return len(self.genes)

    @property
    def present(self) -> Bool[Tensor, "b k"]:
        """Which slots hold an intervention."""
        return self.genes != EMPTY

    @property
    def order(self) -> Int[Tensor, "b"]:
        """How many interventions each perturbation has."""
        return self.present.sum(dim=1)

    def rows(self, index: Int[Tensor, "m"] | slice) -> "PerturbationBatch":
        """Take some of the perturbations, in the order given."""
        return PerturbationBatch(self.genes[index], self.dose[index])

    def multi_hot(self, size: int) -> Float[Tensor, "b v"]:
        """Mark the entries that each perturbation holds with ones, for a vocabulary of some size."""
        marks = torch.zeros(len(self), size + 1, dtype=torch.float64)
        marks.scatter_(1, torch.where(self.present, self.genes, size), 1.0)
        return marks[:, :size]


@dataclass(frozen=True)
class Vocabulary:
    """The interventions that a screen or a space knows, numbered from zero.

    The same target at two doses is two entries.

    Attributes:
        entries: Sorted and unique.
    """

    entries: tuple[Intervention, ...]
    __repr__ = summary

    def __post_init__(self) -> None:
        """Sort the entries and refuse duplicates and labels that would name two of them."""
        ordered = tuple(sorted(self.entries))
        counts = Counter(entry.label for entry in ordered)
        if twice := sorted(label for label, count in counts.items() if count > 1):
            raise DataError(
                f"{', '.join(map(repr, twice[:3]))} would name two entries of the vocabulary (same target in"
                " two modes?); read one mode at a time"
            )
        object.__setattr__(self, "entries", ordered)

    @classmethod
    def of(cls, perturbations: Iterable[Perturbation]) -> "Vocabulary":
        """Collect all interventions of some perturbations."""
        return cls(tuple({each for one in perturbations for each in one.interventions}))

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def ids(self) -> dict[str, int]:
        """From an entry's label to its number."""
        return {entry.label: number for number, entry in enumerate(self.entries)}

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The target of each entry."""
        return tuple(entry.target for entry in self.entries)

    @cached_property
    def doses(self) -> Float[Tensor, "v"]:
        """The dose of each entry."""
        return torch.tensor([entry.dose for entry in self.entries], dtype=torch.float64)

    def id(self, label: str) -> int:
        """Find an entry by its label, such as ``901@1.5``; a mode in it (``:knockdown``) is checked."""
        wanted = Intervention.parse(label)
        number = self.ids.get(wanted.label)
        if number is None:
            raise UnknownNameError.from_known("gene or compound", label, self.ids)
        if label.strip() != wanted.label and ":" in label and self.entries[number].mode != wanted.mode:
            raise UnknownNameError(f"{label!r}: {wanted.target} is known in mode {self.entries[number].mode} only")
        return number

    def perturbation(self, genes: Sequence[int] | Int[Tensor, "k"]) -> Perturbation:
        """Spell a row of ids out; empty slots are skipped."""
        return Perturbation(tuple(self.entries[int(gene)] for gene in genes if int(gene) != EMPTY))

    def parse(self, text: str) -> Perturbation:
        """Read a label whose parts must all be known.

        A label that is unknown as it stands is read as a file may have written it: with another separator, another
        case, or a word for the control as one part (``KLF1_CEBPE``, ``klf1+NTC``), if that can mean one
        thing only.

        Args:
            text: A label such as ``"KLF1+CEBPE"``.

        Returns:
            The perturbation, with the modes and doses of the vocabulary.

        Raises:
            UnknownNameError: If a part is not in the vocabulary.
            DataError: If a part occurs twice.
        """
        try:
            return Perturbation(tuple(self.entries[self.id(part)] for part in split_label(text, "+")))
        except UnknownNameError:
            meant = read_label(text, self.ids)
            if meant is None:
                raise
            return Perturbation(tuple(self.entries[self.id(each.target)] for each in meant.interventions))

    def batch(self, perturbations: Sequence[Perturbation | str], *, slots: int | None = None) -> PerturbationBatch:
        """Number some perturbations.

        Args:
            perturbations: ``b`` perturbations, or labels of them, whose interventions are all entries.
            slots: Width ``k``; by default the largest order, at least one.

        Returns:
            Their ids and doses.

        Raises:
            UnknownNameError: If an intervention is not an entry.
            DataError: If a perturbation has more interventions than ``slots``.
        """
        done = [self.parse(one) if isinstance(one, str) else one for one in perturbations]
        width = slots or max([1, *(one.order for one in done)])
        if too_long := next((one for one in done if one.order > width), None):
            raise DataError(f"{too_long.label!r} has order {too_long.order}, more than {width} slots")
        rows = [
            sorted(
                self.ids[label] if (label := e.label) in self.ids else self.id(label) for e in one.interventions
            )
            for one in done
        ]
        genes = torch.tensor([row + [EMPTY] * (width - len(row)) for row in rows], dtype=torch.int64)
        return self.dosed(genes.reshape(len(rows), width))

    def dosed(self, genes: Int[Tensor, "b k"]) -> PerturbationBatch:
        """Complete rows of ids, ``-1`` where empty, with the doses of their entries."""
        dose = self.doses[genes.clamp(min=0)] if len(self) else torch.zeros(genes.shape, dtype=torch.float64)
        return PerturbationBatch(genes, torch.where(genes == EMPTY, torch.zeros_like(dose), dose))
