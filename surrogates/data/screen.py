"""A screen: measured effects of perturbations on readouts, with their design."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError, UnknownNameError

FEWEST_CONDITIONS = 3


@dataclass(frozen=True)
class Screen:
    """A table of measured effects against the control of the same context.

    Attributes:
        effects: Change of each readout, in the unit ``provenance["unit"]`` (often log fold change).
        batch: What was done in each row.
        vocabulary: What the ids of ``batch`` mean.
        readouts: Names of the measured variables.
        contexts: Cell type, line or batch of each row.
        standard_errors: Of each effect, or ``None`` when the source has no replicates.
        annotations: Further columns of the source, one row per condition (for example ``double_fold``).
        provenance: Where the numbers come from: path, hash, unit, what was detected.
    """

    effects: Float[Tensor, "n g"]
    batch: PerturbationBatch
    vocabulary: Vocabulary
    readouts: tuple[str, ...]
    contexts: tuple[str, ...]
    standard_errors: Float[Tensor, "n g"] | None = None
    annotations: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit, values that are not finite, and readouts named twice."""
        n, g = self.effects.shape
        if (n, g, n) != (len(self.batch), len(self.readouts), len(self.contexts)):
            raise DataError(
                f"effects of shape {(n, g)} do not fit {len(self.batch)} perturbations,"
                f" {len(self.contexts)} contexts and {len(self.readouts)} readouts"
            )
        _refuse_repeats("readout", self.readouts)
        _refuse_not_finite(self.effects, "effect", self)
        if self.standard_errors is not None:
            if self.standard_errors.shape != self.effects.shape:
                raise DataError(
                    f"standard errors of shape {tuple(self.standard_errors.shape)} beside effects of {(n, g)}"
                )
            _refuse_not_finite(self.standard_errors, "standard error", self)
            if bool((self.standard_errors < 0).any()):
                raise DataError("a standard error is negative")

    @classmethod
    def from_labels(
        cls,
        effects: Float[Tensor, "n g"],
        perturbations: Sequence[Perturbation],
        readouts: Sequence[str],
        *,
        contexts: Sequence[str] | None = None,
        standard_errors: Float[Tensor, "n g"] | None = None,
        annotations: pd.DataFrame | None = None,
        provenance: Mapping[str, str] | None = None,
    ) -> "Screen":
        """Build a screen from spelled-out perturbations, with every check that a reader owes.

        Args:
            effects: Measured effects, one row per perturbation.
            perturbations: What was done in each row; none may be the control.
            readouts: Names of the columns.
            contexts: Context of each row; one unnamed context by default.
            standard_errors: Of each effect, if known.
            annotations: Further columns, one row per perturbation.
            provenance: Where the numbers come from.

        Returns:
            The screen.

        Raises:
            DataError: On a condition measured twice, a constant readout, fewer than three conditions, a
                control among the rows, values that are not finite, or shapes that do not fit.
        """
        context = tuple(contexts) if contexts is not None else ("",) * len(perturbations)
        if any(one.order == 0 for one in perturbations):
            raise DataError("the control is among the effects; effects are already relative to it")
        if len(perturbations) < FEWEST_CONDITIONS:
            raise DataError(
                f"{len(perturbations)} condition(s) are too few; a screen needs at least {FEWEST_CONDITIONS}"
            )
        vocabulary = Vocabulary.of(perturbations)
        screen = cls(
            effects=effects.to(torch.float64),
            batch=vocabulary.batch(perturbations),
            vocabulary=vocabulary,
            readouts=tuple(readouts),
            contexts=context,
            standard_errors=None if standard_errors is None else standard_errors.to(torch.float64),
            annotations=pd.DataFrame(index=range(len(perturbations)))
            if annotations is None
            else annotations.reset_index(drop=True),
            provenance=dict(provenance or {}),
        )
        _refuse_repeated_conditions(screen)
        _refuse_constant_readouts(screen)
        return screen

    def __len__(self) -> int:
        return len(self.effects)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The canonical label of each row."""
        return tuple(self.perturbation(row).label for row in range(len(self)))

    def perturbation(self, row: int) -> Perturbation:
        """Spell one row out.

        Args:
            row: Number of the row.

        Returns:
            What was done.
        """
        return self.vocabulary.perturbation(self.batch.genes[row])

    def rows(self, index: Int[Tensor, "m"] | Sequence[int]) -> "Screen":
        """Take some of the conditions; the vocabulary stays, so ids keep their meaning.

        Args:
            index: Which rows.

        Returns:
            Those rows as a screen.
        """
        at = torch.as_tensor(index, dtype=torch.int64)
        return replace(
            self,
            effects=self.effects[at],
            batch=self.batch.rows(at),
            contexts=tuple(self.contexts[int(row)] for row in at),
            standard_errors=None if self.standard_errors is None else self.standard_errors[at],
            annotations=self.annotations.iloc[at.numpy()].reset_index(drop=True),
        )

    def with_readouts(self, keep: Sequence[int]) -> "Screen":
        """Take some of the readouts.

        Args:
            keep: Their numbers.

        Returns:
            The screen with those columns.
        """
        at = torch.as_tensor(keep, dtype=torch.int64)
        return replace(
            self,
            effects=self.effects[:, at],
            standard_errors=None if self.standard_errors is None else self.standard_errors[:, at],
            readouts=tuple(self.readouts[int(column)] for column in at),
        )

    def in_context(self, context: str) -> "Screen":
        """Take the conditions of one context.

        Args:
            context: Its name.

        Returns:
            Those rows as a screen.

        Raises:
            UnknownNameError: If there is no such context.
        """
        if context not in self.contexts:
            raise UnknownNameError.from_known("context", context, self.contexts)
        return self.rows([row for row, name in enumerate(self.contexts) if name == context])

    def in_canonical_order(self) -> "Screen":
        """Sort the rows by condition and context, so that whatever draws rows at random does not see their order.

        Returns:
            The same rows, sorted.
        """
        return self.rows(sorted(range(len(self)), key=lambda row: (self.labels[row], self.contexts[row])))

    def row_of(self, perturbation: Perturbation) -> int:
        """Find the row in which a perturbation was measured.

        Args:
            perturbation: What was done.

        Returns:
            The number of its first row.

        Raises:
            UnknownNameError: If it was not measured.
        """
        if perturbation.label not in self.labels:
            raise UnknownNameError.from_known("condition", perturbation.label, self.labels)
        return self.labels.index(perturbation.label)

    @cached_property
    def single_rows(self) -> Int[Tensor, "v"]:
        """For each vocabulary entry the row in which it was measured alone, ``-1`` if it never was.

        With several contexts this is the first such row: take one context first.
        """
        rows = torch.full((len(self.vocabulary),), -1, dtype=torch.int64)
        singles = torch.nonzero(self.batch.order == 1).flatten().flip(0)
        rows[self.batch.genes[singles, 0]] = singles
        return rows


def _refuse_repeats(kind: str, names: Sequence[str]) -> None:
    values, counts = np.unique(np.asarray(names, dtype=object), return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{kind} {values[counts > 1][0]!r} occurs {counts.max()} times; names must be unique")


def _refuse_not_finite(values: Float[Tensor, "n g"], what: str, screen: Screen) -> None:
    bad = torch.nonzero(~torch.isfinite(values))
    if len(bad):
        row, column = (int(each) for each in bad[0])
        raise DataError(
            f"{len(bad)} {what}(s) are not finite, the first is {values[row, column].item()} for condition"
            f" {screen.labels[row]!r}, readout {screen.readouts[column]!r}; remove or impute them first"
        )


def _refuse_repeated_conditions(screen: Screen) -> None:
    first: dict[tuple[str, str], int] = {}
    for row, key in enumerate(zip(screen.labels, screen.contexts, strict=True)):
        if key not in first:
            first[key] = row
            continue
        gap = float((screen.effects[row] - screen.effects[first[key]]).abs().max())
        where = f" in context {key[1]!r}" if key[1] else ""
        said = f"with values that differ by up to {gap:.3g}" if gap > 0 else "with equal values"
        raise DataError(
            f"condition {key[0]!r}{where} is measured twice (rows {first[key]} and {row}; the order of genes"
            f" does not matter) {said}; average or remove one first"
        )


def _refuse_constant_readouts(screen: Screen) -> None:
    constant = torch.nonzero(screen.effects.amax(0) == screen.effects.amin(0)).flatten()
    if len(constant):
        names = ", ".join(repr(screen.readouts[int(column)]) for column in constant[:3])
        raise DataError(f"{len(constant)} readout(s) never change, such as {names}; remove them first")
