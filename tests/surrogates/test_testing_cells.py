"""Every shipped model of cells keeps the contract, and the checks find what breaks it."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from jaxtyping import Float
from strategies.cells import A, planted
from torch import Tensor

from surrogates.contrib.cells.shift import FittedTwoFactorCells, TwoFactorCells
from surrogates.data.io.cells import Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError
from surrogates.models.base import FittedCells
from surrogates.models.registry import CELL_SURROGATES
from surrogates.models.training import Schedule
from surrogates.testing import check_cell_surrogate

CELLS, _ = planted(each=5, readouts=12)
SMALL = {"components": 4, "hidden": (8,), "latent": 4, "pairs": 32, "schedule": Schedule(epochs=2), "steps": 3}


def small(model: Any) -> Any:
    """Make what a configuration has of sizes and schedules small."""
    return replace(model, **{each.name: SMALL[each.name] for each in fields(model) if each.name in SMALL})


@pytest.mark.parametrize("name", CELL_SURROGATES.shipped)
def test_every_shipped_model_keeps_the_contract(name: str) -> None:
    check_cell_surrogate(small(CELL_SURROGATES.load(name)()), CELLS)


@dataclass(frozen=True)
class Damaged:
    """Mean effects whose predictions are tampered with."""

    honest: FittedTwoFactorCells
    damage: Callable[[Float[Tensor, "cells g"], Float[Tensor, "cells g"], Perturbation], Float[Tensor, "cells g"]]

    @property
    def readouts(self) -> tuple[str, ...]:
        return self.honest.readouts

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        return self.damage(self.honest.predict(control, perturbation), control, perturbation)


@dataclass(frozen=True)
class Lenient:
    """Takes what the honest model refuses for no effect."""

    honest: FittedTwoFactorCells

    @property
    def readouts(self) -> tuple[str, ...]:
        return self.honest.readouts

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        try:
            return self.honest.predict(control, perturbation)
        except DataError:
            return control.double()


@dataclass(frozen=True)
class Broken:
    damage: Callable[[FittedTwoFactorCells, Cells, int], FittedCells]

    def fit(self, cells: Cells, *, seed: int) -> FittedCells:
        return self.damage(TwoFactorCells().fit(cells, seed=seed), cells, seed)


def tampered(damage: Callable[..., Tensor]) -> Broken:
    return Broken(lambda honest, _, __: Damaged(honest, damage))


def moved(honest: FittedTwoFactorCells, by: float) -> FittedTwoFactorCells:
    return replace(honest, shifts=replace(honest.shifts, rows=honest.shifts.rows + by))


@pytest.mark.parametrize(
    ("model", "broken"),
    [
        (tampered(lambda found, *_: found.float()), r"predicted cells are torch.float32 of shape \(5, 12\)"),
        (tampered(lambda found, *_: found * torch.nan), "not finite"),
        (tampered(lambda found, *_: found + found.mean(0)), "a cell is predicted otherwise beside others"),
        (tampered(lambda found, *_: found + 1), "the control is predicted to have an effect"),
        (Broken(lambda honest, _, __: Lenient(honest)), "cells with a readout too few should be refused"),
        (Broken(lambda honest, _, __: moved(honest, float(torch.rand(1)))), "the same seed gave another"),
        (Broken(lambda honest, cells, _: moved(honest, float(cells.values[0, 0]))), "the order of the cells"),
        (Broken(lambda honest, _, __: replace(honest, readouts=honest.readouts[::-1])), "other readouts"),
        (Broken(lambda *_: None), "did not return a value that satisfies FittedCells"),
    ],
)
def test_what_breaks_the_contract_is_found(model: Broken, broken: str) -> None:
    with pytest.raises(AssertionError, match=broken):
        check_cell_surrogate(model, CELLS)


def test_a_fit_that_changes_its_cells_is_found() -> None:
    def scaled(honest: FittedTwoFactorCells, cells: Cells, _: int) -> FittedTwoFactorCells:
        cells.values.mul_(2)
        return honest

    with pytest.raises(AssertionError, match="fit changed the cells"):
        check_cell_surrogate(Broken(scaled), replace(CELLS, values=CELLS.values.clone()))


def test_a_single_cell_that_gives_nan_is_found() -> None:
    def spread(honest: FittedTwoFactorCells, cells: Cells, _: int) -> FittedTwoFactorCells:
        few = min(size for (what, _), size in cells.sizes.items() if what == A) < 2
        return moved(honest, torch.nan if few else 0.0)

    with pytest.raises(AssertionError, match="a condition of one cell"):
        check_cell_surrogate(Broken(spread), CELLS)
