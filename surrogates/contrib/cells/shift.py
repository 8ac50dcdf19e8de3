"""The two-factor model of single cells: each perturbation shifts every cell alike."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError


def known_parts(perturbation: Perturbation, labels: Collection[str]) -> list[str]:
    """Name a perturbation whose cells were measured, else its parts."""
    if perturbation.label in labels:
        return [perturbation.label]
    parts = [part.label for part in perturbation.interventions]
    if unknown := next((part for part in parts if part not in labels), None):
        raise UnknownNameError.from_known("perturbation", unknown, tuple(labels))
    return parts


@dataclass(frozen=True)
class Shifts:
    """How far each perturbation moves a cell."""

    labels: tuple[str, ...]  # label of each perturbation that was measured beside a control
    rows: Float[Tensor, "n r"]  # its shift

    def of(self, perturbation: Perturbation) -> Float[Tensor, "r"]:
        """Look the shift of a perturbation up, or add those of its parts."""
        return self.rows[[self.labels.index(label) for label in known_parts(perturbation, self.labels)]].sum(0)


def treated_beside_controls(cells: Cells) -> dict[Perturbation, tuple[str, ...]]:
    """List for each perturbation the contexts in which cells with it stand beside control cells."""
    found = {
        treatment: tuple(
            context
            for context in cells.context_names
            if {(treatment, context), (CONTROL, context)} <= cells.sizes.keys()
        )
        for treatment in cells.treatments
    }
    if not any(found.values()):
        present = ", ".join(f"{str(what)!r} in {where!r}" for what, where in list(cells.sizes)[:6])
        raise DataError(
            f"no context has both control and treated cells (there are {present}); a shift needs both in at least"
            " one of the contexts"
        )
    return {treatment: contexts for treatment, contexts in found.items() if contexts}


def balanced_shifts(values: Float[Tensor, "cells r"], cells: Cells) -> Shifts:
    """Average over contexts how far treated cells are from control cells, each context counting the same."""
    named, sizes = zip(cells.perturbations, cells.contexts, strict=True), cells.sizes
    codes = {condition: code for code, condition in enumerate(named) if condition in sizes}
    means = {condition: values[cells.codes == code].double().mean(0) for condition, code in codes.items()}
    found = {
        treatment.label: torch.stack([means[treatment, each] - means[CONTROL, each] for each in contexts]).mean(0)
        for treatment, contexts in treated_beside_controls(cells).items()
    }
    return Shifts(tuple(found), torch.stack(list(found.values())))


def checked_cells(values: Float[Tensor, "cells g"], readouts: tuple[str, ...]) -> Float[Tensor, "cells g"]:
    """Take cells to predict from."""
    if values.shape[1] != len(readouts):
        raise DataError(
            f"cells with {values.shape[1]} readouts for a model of {len(readouts)}; give the same ones"
        )
    if not bool(torch.isfinite(values).all()):
        raise DataError("the control cells hold NaN or infinite values; remove those cells")
    return values.double()


@dataclass(frozen=True)
class FittedTwoFactorCells:
    """Control cells plus the mean effect over the contexts of the training data."""

    readouts: tuple[str, ...]  # names of the readouts
    shifts: Shifts  # mean effect of each perturbation

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        """Add the effect of a perturbation to control cells."""
        return checked_cells(control, self.readouts) + self.shifts.of(perturbation)


@dataclass(frozen=True)
class TwoFactorCells:
    """Predicts ``x_ca = x_c0 + beta_a`` cell by cell [Zhu 2025]: an effect is the same in every context."""

    def fit(self, cells: Cells, *, seed: int) -> FittedTwoFactorCells:  # noqa: ARG002 - nothing is random
        """Average the effects over contexts."""
        ordered = cells.in_canonical_order()
        return FittedTwoFactorCells(cells.readouts, balanced_shifts(ordered.values, ordered))
