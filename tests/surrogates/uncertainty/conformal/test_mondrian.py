import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surrogates.errors import CalibrationError
from surrogates.uncertainty.conformal.quantiles import class_rows, least_count

SINGLE, NEITHER, ONE, BOTH, TRIPLE = 16, 32, 33, 34, 51
CLASSES = (SINGLE, NEITHER, ONE, BOTH, TRIPLE)


def codes(**counts: int) -> torch.Tensor:
    """So many perturbations of each class, one class after the other."""
    names = dict(zip(("single", "neither", "one", "both", "triple"), CLASSES, strict=True))
    return torch.tensor([names[name] for name, count in counts.items() for _ in range(count)], dtype=torch.int64)


def test_a_class_with_enough_is_calibrated_by_itself() -> None:
    found = class_rows(codes(single=20, one=9, both=30), ONE, 0.9)
    assert found.rows.tolist() == list(range(20, 29))
    assert (found.code, found.origin, found.borrowed) == (ONE, "double, 1 of 2 seen", False)
    assert found.line == "9 held-out perturbations (double, 1 of 2 seen)"


def test_one_too_few_borrows_from_its_order() -> None:
    found = class_rows(codes(single=20, one=8, both=30), ONE, 0.9)
    assert found.rows.tolist() == list(range(20, 58))
    assert (found.origin, found.borrowed) == ("all of order 2", True)
    assert found.line == "'double, 1 of 2 seen' borrows from 38 held-out perturbations (all of order 2)"


@pytest.mark.parametrize(("code", "order"), [(BOTH, 2), (TRIPLE, 3)])
def test_another_order_lends_nothing(code: int, order: int) -> None:
    with pytest.raises(CalibrationError, match=rf"0 of class .* and 0 of order {order} in all: measure more"):
        class_rows(codes(single=200), code, 0.9)


def test_a_class_of_which_none_was_held_out_borrows() -> None:
    found = class_rows(codes(single=20, both=10), NEITHER, 0.9)
    assert found.rows.tolist() == list(range(20, 30))
    assert found.borrowed


@pytest.mark.parametrize(("level", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_the_level_says_how_many_are_enough(level: float, needed: int) -> None:
    assert not class_rows(codes(both=needed, one=200), BOTH, level).borrowed
    if needed > 1:
        assert class_rows(codes(both=needed - 1, one=200), BOTH, level).borrowed


def test_too_few_in_all_are_refused_with_what_they_support() -> None:
    with pytest.raises(
        CalibrationError,
        match=r"level 0\.9 needs 9 held-out perturbations; there are 3 of class 'double, 1 of 2 seen' and 7 of"
        r" order 2 in all, which support levels up to 0\.875: measure more perturbations of order 2, or lower the",
    ):
        class_rows(codes(single=40, one=3, both=4), ONE, 0.9)
    assert len(class_rows(codes(single=40, one=3, both=4), ONE, 0.875).rows) == 7


def test_none_at_all_support_no_level() -> None:
    for level in (1e-12, 0.5, 0.99):
        with pytest.raises(CalibrationError, match=r"there are 0 of class .* and 0 of order 2 in all: measure"):
            class_rows(codes(), BOTH, level)


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5, math.nan])
def test_a_level_that_is_no_probability_is_refused(level: float) -> None:
    with pytest.raises(CalibrationError, match="not between 0 and 1"):
        class_rows(codes(both=30), BOTH, level)


@given(
    st.lists(st.sampled_from(CLASSES), max_size=60),
    st.sampled_from(CLASSES),
    st.sampled_from([0.5, 0.8, 0.9, 0.95]),
)
def test_the_finest_group_that_is_enough_is_taken(drawn: list[int], code: int, level: float) -> None:
    held_out, needed = torch.tensor(drawn, dtype=torch.int64), least_count(level)
    groups = [
        [row for row, each in enumerate(drawn) if each == code],
        [row for row, each in enumerate(drawn) if each // 16 == code // 16],
    ]
    enough = [number for number, rows in enumerate(groups) if len(rows) >= needed]
    if not enough:
        with pytest.raises(CalibrationError, match=f"and {len(groups[1])} of order {code // 16} in all"):
            class_rows(held_out, code, level)
        return
    found = class_rows(held_out, code, level)
    assert found.rows.tolist() == groups[enough[0]]
    assert found.borrowed == (enough[0] > 0)
