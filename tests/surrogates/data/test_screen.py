import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.perturbations import libraries
from strategies.screens import pairs_of, planted_screen

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError

LABELS = ("A", "B", "A+B")


def screen(effects: torch.Tensor, labels: tuple[str, ...] = LABELS, **more: object) -> Screen:
    done = [Perturbation.parse(label) for label in labels]
    readouts = tuple(f"g{column}" for column in range(effects.shape[1]))
    return Screen.from_labels(effects, done, more.pop("readouts", readouts), **more)  # type: ignore[arg-type]


def ramp(rows: int = 3, columns: int = 2) -> torch.Tensor:
    return torch.arange(rows * columns, dtype=torch.float64).reshape(rows, columns)


@given(libraries())
def test_rows_keep_what_was_done(library: list[Perturbation]) -> None:
    whole = Screen.from_labels(ramp(len(library)), library, ["g0", "g1"])
    backwards = whole.rows(list(range(len(library)))[::-1])
    assert backwards.labels == whole.labels[::-1]
    assert [whole.row_of(one) for one in library] == list(range(len(library)))


def test_single_rows_point_at_singles() -> None:
    assert screen(ramp()).single_rows.tolist() == [0, 1]


@given(st.lists(st.sampled_from(range(7)), unique=True, min_size=1, max_size=7))
def test_a_part_has_the_table_of_its_own_singles(rows: list[int]) -> None:
    values = ramp(7).square()
    whole = screen(values, ("A", "B", "A+B", "A+C", "A", "B", "C"), contexts=(*"kkkk", *"jjj"))
    alone = screen(values, whole.labels, contexts=whole.contexts).rows(rows)
    assert whole.singles.shape == (3, 2)
    torch.testing.assert_close(whole.rows(rows).singles, alone.singles, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("labels", [("A+B", "A", "B"), ("A", "A+B", "B"), ("B", "A", "A+B")])
def test_single_effects_that_lie_together_are_no_copy(labels: tuple[str, ...]) -> None:
    whole = screen(ramp(), labels)
    together = labels[1:] == ("A", "B")
    assert (whole.singles.untyped_storage().data_ptr() == whole.effects.untyped_storage().data_ptr()) == together
    assert torch.equal(whole.singles, whole.effects[whole.single_rows])


def test_parts_of_a_screen_fit_together() -> None:
    annotations = pd.DataFrame({"fold": [7, 8, 9]}, index=["x", "y", "z"])
    whole = screen(ramp(), annotations=annotations, standard_errors=ramp(), contexts=("k", "k", "j"))
    part = whole.in_context("j").with_readouts([1])
    assert (part.labels, part.readouts, part.annotations["fold"].tolist()) == (("A+B",), ("g1",), [9])
    assert part.effects.tolist() == [[5.0]]


def test_unknown_names_come_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean"):
        screen(ramp()).row_of(Perturbation.parse("A+C"))
    with pytest.raises(UnknownNameError, match="unknown context 'K562'"):
        screen(ramp()).in_context("K562")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    effects = ramp()
    effects[1, 1] = value
    with pytest.raises(DataError, match=f"first is {value} for condition 'B', readout 'g1'"):
        screen(effects)


def test_a_pair_in_two_orders_is_refused() -> None:
    with pytest.raises(DataError, match=r"'A\+B' is measured twice \(rows 1 and 2.*average"):
        screen(ramp(), ("A", "A+B", "B+A"))


def test_a_condition_may_occur_in_two_contexts() -> None:
    assert len(screen(ramp(), ("A", "A", "B"), contexts=("k", "j", "j"))) == 3


@pytest.mark.parametrize(
    ("effects", "more", "message"),
    [
        (ramp(2), {"labels": ("A", "B")}, "2 condition.s. are too few; a screen needs at least 3"),
        (ramp() * 0, {}, "2 readout.s. never change, such as 'g0', 'g1'"),
        (ramp(), {"readouts": ("g", "g")}, "readout 'g' occurs 2 times"),
        (ramp(), {"labels": ("A", "", "B")}, "the control is among the effects"),
        (ramp(), {"contexts": ("k",)}, "do not fit"),
        (ramp(), {"standard_errors": -ramp()}, "negative"),
    ],
)
def test_bad_tables_are_refused(effects: torch.Tensor, more: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        screen(effects, **more)  # type: ignore[arg-type]


def test_parts_of_a_screen_inherit_its_singles_and_its_order() -> None:
    whole = planted_screen(alone=range(6), together=pairs_of(6, 9))
    kept = [row for row in range(len(whole)) if row not in {7, 11}]
    alone = whole.rows(kept)
    known = (whole.singles, whole.places)
    part = whole.rows(kept)
    assert part.singles is known[0]
    assert "places" in part.__dict__
    assert torch.equal(part.places, alone.places)
    assert "places" not in whole.rows(kept[::-1]).__dict__
    assert "places" not in whole.rows(range(1, len(whole))).__dict__
