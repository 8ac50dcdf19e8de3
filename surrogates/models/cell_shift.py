"""Predicting the cells of a new context by one shift per perturbation, and the two-factor baseline of it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.cells import CONTROL, Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError


@runtime_checkable
class FittedCells(Protocol):
    """A model that turns control cells into treated ones."""

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts that it takes and predicts."""
        ...

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        """Predict what control cells become.

        Args:
            control: Control cells of any context, each predicted on its own.
            perturbation: What is done to them.

        Returns:
            As many treated cells, in float64.
        """
        ...


@runtime_checkable
class CellSurrogate(Protocol):
    """A frozen configuration of a model of single cells."""

    def fit(self, cells: Cells, *, seed: int) -> FittedCells:
        """Learn from cells.

        Args:
            cells: Control and treated cells of any number of contexts.
            seed: Fixes everything that is random.

        Returns:
            Another value: the fitted model.
        """
        ...


@dataclass(frozen=True)
class Shifts:
    """How far each perturbation moves a cell.

    Attributes:
        labels: Label of each perturbation that was measured beside a control.
        rows: Its shift.
    """

    labels: tuple[str, ...]
    rows: Float[Tensor, "n r"]

    def of(self, perturbation: Perturbation) -> Float[Tensor, "r"]:
        """Look the shift of a perturbation up.

        Args:
            perturbation: What is done.

        Returns:
            Its own shift, or the sum of the shifts of its parts if it was not measured.

        Raises:
            UnknownNameError: If neither it nor each of its parts was measured.
        """
        if perturbation.label in self.labels:
            return self.rows[self.labels.index(perturbation.label)]
        parts = [part.label for part in perturbation.interventions]
        if unknown := next((part for part in parts if part not in self.labels), None):
            raise UnknownNameError.from_known("perturbation", unknown, self.labels)
        return self.rows[[self.labels.index(part) for part in parts]].sum(0)


def balanced_shifts(values: Float[Tensor, "cells r"], cells: Cells) -> Shifts:
    """Average over contexts how far treated cells are from control cells, each context counting the same.

    Args:
        values: One row of coordinates per cell, readouts or latent ones.
        cells: What was done to each cell.

    Returns:
        For each perturbation the mean over its contexts of (mean of treated - mean of control cells). Contexts
        without control cells, or without cells of the perturbation, have no say in it.

    Raises:
        DataError: If no context has both.
    """
    named, sizes = zip(cells.perturbations, cells.contexts, strict=True), cells.sizes
    codes = {condition: code for code, condition in enumerate(named) if condition in sizes}
    means = {condition: values[cells.codes == code].double().mean(0) for condition, code in codes.items()}
    found: dict[str, Tensor] = {}
    for treatment in cells.treatments:
        differences = [
            mean - means[CONTROL, context]
            for (perturbation, context), mean in sorted(means.items(), key=lambda item: item[0][1])
            if perturbation == treatment and (CONTROL, context) in means
        ]
        if differences:
            found[treatment.label] = torch.stack(differences).mean(0)
    if not found:
        present = ", ".join(f"{str(what)!r} in {where!r}" for what, where in list(cells.sizes)[:6])
        raise DataError(
            f"no context has both control and treated cells (there are {present}); a shift needs both in at least"
            " one of the contexts"
        )
    return Shifts(tuple(found), torch.stack(list(found.values())))


def checked_cells(values: Float[Tensor, "cells g"], readouts: tuple[str, ...]) -> Float[Tensor, "cells g"]:
    """Take cells to predict from.

    Args:
        values: The cells.
        readouts: The readouts that a model knows.

    Returns:
        The cells in float64.

    Raises:
        DataError: If they have other columns than the model, or values that are not finite.
    """
    if values.shape[1] != len(readouts):
        raise DataError(
            f"cells with {values.shape[1]} readouts for a model of {len(readouts)}; give the same ones"
        )
    if not bool(torch.isfinite(values).all()):
        raise DataError("the control cells hold NaN or infinite values; remove those cells")
    return values.double()


@dataclass(frozen=True)
class FittedTwoFactorCells:
    """Control cells plus the mean effect over the contexts of the training data.

    Attributes:
        readouts: Names of the readouts.
        shifts: Mean effect of each perturbation.
    """

    readouts: tuple[str, ...]
    shifts: Shifts

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        """Add the effect of a perturbation to control cells.

        Args:
            control: Control cells of any context.
            perturbation: What is done to them; a combination that was not measured gets the sum of its parts.

        Returns:
            As many cells, ``x + beta``; values may fall below zero. The control returns the cells as they are.

        Raises:
            UnknownNameError: If part of the perturbation was not measured beside a control.
            DataError: If the cells have other readouts, or values that are not finite.
        """
        return checked_cells(control, self.readouts) + self.shifts.of(perturbation)


@dataclass(frozen=True)
class TwoFactorCells:
    """Predicts ``x_ca = x_c0 + beta_a`` cell by cell [Zhu 2025]: an effect is the same in every context."""

    def fit(self, cells: Cells, *, seed: int) -> FittedTwoFactorCells:  # noqa: ARG002 - nothing is random
        """Average the effects over contexts.

        Args:
            cells: Control and treated cells of any number of contexts.
            seed: Not used.

        Returns:
            The fitted model.

        Raises:
            DataError: If no context has both control and treated cells.
        """
        ordered = cells.in_canonical_order()
        return FittedTwoFactorCells(cells.readouts, balanced_shifts(ordered.values, ordered))
