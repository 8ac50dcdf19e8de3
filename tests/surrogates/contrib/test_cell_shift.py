import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from strategies.screens import normal
from torch import Tensor

from surrogates.contrib.cells.shift import TwoFactorCells, balanced_shifts
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.base import FittedCells

A, B, AB, ABC = (Perturbation.parse(label) for label in ("A", "B", "A+B", "A+B+C"))
SIZES = {(CONTROL, "T"): 5, (A, "T"): 30, (CONTROL, "M"): 7, (A, "M"): 2, (B, "M"): 4, (CONTROL, "N"): 3}


def drawn(sizes: dict[tuple[Perturbation, str], int] = SIZES, *, readouts: int = 4, seed: int = 0) -> Cells:
    return Cells(
        values=normal(sum(sizes.values()), readouts, seed=seed),
        codes=torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(list(sizes.values()))),
        perturbations=tuple(what for what, _ in sizes),
        contexts=tuple(where for _, where in sizes),
        readouts=tuple(f"r{number}" for number in range(readouts)),
    )


def mean(cells: Cells, what: Perturbation, where: str) -> Float[Tensor, "g"]:
    return cells.of(what, where).mean(0)


def test_each_context_counts_the_same() -> None:
    cells = drawn()
    fitted = TwoFactorCells().fit(cells, seed=0)
    control = cells.of(CONTROL, "N")
    effects = [mean(cells, A, where) - mean(cells, CONTROL, where) for where in ("T", "M")]
    torch.testing.assert_close(fitted.predict(control, A), control + (effects[0] + effects[1]) / 2)
    torch.testing.assert_close(
        fitted.predict(control, B), control + mean(cells, B, "M") - mean(cells, CONTROL, "M")
    )


def test_a_combination_gets_the_sum_of_its_parts_unless_measured() -> None:
    cells = drawn()
    control = cells.of(CONTROL, "N")
    fitted = TwoFactorCells().fit(cells, seed=0)
    parts = fitted.predict(control, A) + fitted.predict(control, B) - control
    torch.testing.assert_close(fitted.predict(control, AB), parts)
    measured = drawn(SIZES | {(AB, "M"): 3})
    own = TwoFactorCells().fit(measured, seed=0).predict(control, AB)
    torch.testing.assert_close(own, control + mean(measured, AB, "M") - mean(measured, CONTROL, "M"))


def test_the_control_is_returned_as_it_is() -> None:
    cells = drawn()
    control = cells.of(CONTROL, "T")
    assert torch.equal(TwoFactorCells().fit(cells, seed=0).predict(control, CONTROL), control)


@given(st.permutations(range(sum(SIZES.values()))))
def test_the_order_of_cells_does_not_matter(order: list[int]) -> None:
    cells = drawn()
    one, other = (TwoFactorCells().fit(each, seed=0) for each in (cells, cells.rows(torch.tensor(order))))
    assert one.shifts.labels == other.shifts.labels
    assert torch.equal(one.shifts.rows, other.shifts.rows)


def test_perturbations_without_a_control_beside_them_are_unknown() -> None:
    cells = drawn(SIZES | {(Perturbation.parse("C"), "K"): 4})
    fitted = TwoFactorCells().fit(cells, seed=0)
    with pytest.raises(UnknownNameError, match="unknown perturbation 'C'"):
        fitted.predict(cells.of(CONTROL, "T"), ABC)


@pytest.mark.parametrize("sizes", [{(CONTROL, "T"): 4}, {(A, "T"): 4}, {(CONTROL, "T"): 4, (A, "M"): 4}])
def test_cells_of_one_condition_are_refused(sizes: dict[tuple[Perturbation, str], int]) -> None:
    with pytest.raises(DataError, match="no context has both control and treated cells"):
        TwoFactorCells().fit(drawn(sizes), seed=0)
    with pytest.raises(DataError, match="no context has both"):
        balanced_shifts(drawn(sizes).values, drawn(sizes))


def test_cells_that_do_not_fit_are_refused() -> None:
    fitted = TwoFactorCells().fit(drawn(), seed=0)
    with pytest.raises(DataError, match="3 readouts for a model of 4"):
        fitted.predict(normal(2, 3, seed=0), A)
    with pytest.raises(DataError, match="control cells hold NaN"):
        fitted.predict(torch.full((2, 4), torch.nan), A)


def test_the_protocols_hold() -> None:
    assert isinstance(TwoFactorCells().fit(drawn(), seed=0), FittedCells)
