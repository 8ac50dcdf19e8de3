import math
from typing import Any

import pytest
import torch
from torch import Tensor

from inverse_design.errors import TargetError
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget, shift
from surrogates.errors import UnknownNameError

SCREEN = ("KLF1", "CEBPA", "CEBPE", "GATA1")


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def profile(**changed: Any) -> ProfileTarget:
    return ProfileTarget(**{
        "name": "wanted",
        "readouts": ("CEBPE", "OTHER", "KLF1"),
        "values": numbers(1.0, 2.0, 3.0),
        **changed,
    })  # fmt: skip


def test_a_profile_keeps_the_readouts_of_the_screen_in_its_own_order() -> None:
    aligned = profile(standard_errors=numbers(0.5, 9, 0.1), weights=numbers(2, 9, 4)).on(SCREEN)
    assert aligned.columns.tolist() == [2, 0]
    assert aligned.values.tolist() == [1.0, 3.0]
    assert aligned.variance.tolist() == pytest.approx([0.25, 0.01])
    assert aligned.weights.tolist() == [2.0, 4.0]


def test_a_plain_profile_is_exact_and_weighs_all_readouts_alike() -> None:
    aligned = profile(values=torch.tensor([1.0, 2.0, 3.0])).on(SCREEN)
    assert aligned.values.dtype == torch.float64
    assert aligned.variance.tolist() == [0.0, 0.0]
    assert aligned.weights.tolist() == [1.0, 1.0]


def test_a_readout_of_weight_zero_is_left_open() -> None:
    assert profile(weights=numbers(0, 1, 4)).on(SCREEN).columns.tolist() == [0]
    with pytest.raises(TargetError, match="that the screen has is of weight zero"):
        profile(weights=numbers(0, 1, 0)).on(SCREEN)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"readouts": ("KLF1", "CEBPA", "KLF1")}, "'KLF1' more than once"),
        ({"values": numbers(1.0, math.nan, 3.0)}, "value nan of 'OTHER' is not finite"),
        ({"values": numbers(1.0, 2.0, math.inf)}, "value inf of 'KLF1' is not finite"),
        ({"values": numbers(1.0, 2.0)}, "2 values for 3 readouts"),
        ({"standard_errors": numbers(1, math.nan, 1)}, "standard error nan of 'OTHER' is not finite"),
        ({"standard_errors": numbers(1, -1, 1)}, "negative standard error"),
        ({"weights": numbers(1, 1, math.inf)}, "weight inf of 'KLF1' is not finite"),
        ({"weights": numbers(1, -0.5, 1)}, "negative weight"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        profile(**changed)


@pytest.mark.parametrize(
    "target",
    [
        ProfileTarget("wanted", ("CEPBE", "X"), numbers(1, 1)),
        SignatureTarget("wanted", {"CEPBE": 1.0}, {"X": 1.0}),
    ],
)
def test_nothing_in_common_names_the_nearest(target: ProfileTarget | SignatureTarget) -> None:
    with pytest.raises(TargetError, match=r"'wanted' has no readout in common .*'CEPBE': did you mean 'CEBPE'"):
        target.on(SCREEN)


def test_symbols_of_another_species_are_named() -> None:
    with pytest.raises(
        TargetError, match=r"differ in case only, as 'Gata1' and 'GATA1' do, like symbols of human"
    ):
        ProfileTarget("wanted", ("Gata1", "Klf1"), numbers(1, 1)).on(SCREEN)


def test_an_empty_profile_is_refused_by_any_screen() -> None:
    with pytest.raises(TargetError, match="no readout in common"):
        ProfileTarget("wanted", (), numbers()).on(SCREEN)


def test_a_signature_is_a_direction_of_unit_length() -> None:
    aligned = SignatureTarget("s", {"GATA1": 3.0, "ELSEWHERE": 7.0}, {"KLF1": 4.0}).on(SCREEN)
    assert dict(zip(aligned.columns.tolist(), aligned.values.tolist(), strict=True)) == pytest.approx(
        {3: 0.6, 0: -0.8}
    )
    assert aligned.weights.tolist() == [1.0, 1.0]
    assert aligned.variance.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("up", "down", "message"),
    [
        ({}, {}, "is empty"),
        ({"A": 1.0, "B": 1.0}, {"B": 2.0}, "'B' both up and down"),
        ({"A": 0.0}, {}, "weight 0.0 of 'A' is not positive"),
        ({}, {"A": -1.0}, "weight -1.0 of 'A' is not positive"),
        ({"A": math.nan}, {}, "weight nan of 'A' is not positive"),
        ({"A": math.inf}, {}, "weight inf of 'A' is not positive"),
    ],
)
def test_signatures_that_cannot_be_meant_are_refused(
    up: dict[str, float], down: dict[str, float], message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        SignatureTarget("s", up, down)


@pytest.mark.parametrize(
    ("target", "value", "name"),
    [
        (ScalarTarget("CEBPE", "maximise"), 1.0, "maximise CEBPE"),
        (ScalarTarget("CEBPE", "minimise"), -1.0, "minimise CEBPE"),
        (ScalarTarget("CEBPE", "reach", -2.5), -2.5, "reach CEBPE = -2.5"),
        (ScalarTarget("CEBPE", "reach", 0.0), 0.0, "reach CEBPE = 0"),
    ],
)
def test_one_readout_is_one_column(target: ScalarTarget, value: float, name: str) -> None:
    aligned = target.on(SCREEN)
    assert aligned.columns.tolist() == [2]
    assert aligned.values.tolist() == [value]
    assert aligned.values.dtype == torch.float64
    assert target.name == name


def test_only_reaching_has_a_value() -> None:
    with pytest.raises(TargetError, match="only 'reach' has one"):
        ScalarTarget("CEBPE", "reach")
    with pytest.raises(TargetError, match="only 'reach' has one"):
        ScalarTarget("CEBPE", "maximise", 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_to_reach_is_finite(value: float) -> None:
    with pytest.raises(TargetError, match="is not finite"):
        ScalarTarget("CEBPE", "reach", value)


def test_an_unknown_readout_is_refused_with_its_neighbours() -> None:
    with pytest.raises(UnknownNameError, match="unknown readout 'CEPBE': did you mean 'CEBPE'"):
        ScalarTarget("CEPBE", "maximise").on(SCREEN)


def test_a_shift_is_the_difference_on_the_common_readouts() -> None:
    start = ProfileTarget("from", ("A", "B", "C"), numbers(1, 2, 4), standard_errors=numbers(3, 1, 0))
    end = ProfileTarget("to", ("D", "C", "A"), numbers(9, 7, 0.5), standard_errors=numbers(1, 2, 4))
    way = shift("way", start, end)
    assert way.name == "way"
    assert way.readouts == ("A", "C")
    assert way.values.tolist() == [-0.5, 3.0]
    assert way.standard_errors is not None
    assert way.standard_errors.tolist() == pytest.approx([5.0, 2.0])


def test_a_shift_has_the_errors_that_are_known() -> None:
    bare = ProfileTarget("from", ("A", "B"), numbers(1, 2))
    sure = ProfileTarget("to", ("B", "A"), numbers(1, 2), standard_errors=numbers(0.5, 0.25))
    for start, end in ((bare, sure), (sure, bare)):
        way = shift("way", start, end)
        assert way.standard_errors is not None
        errors = dict(zip(way.readouts, way.standard_errors.tolist(), strict=True))
        assert errors == pytest.approx({"B": 0.5, "A": 0.25})
    assert shift("way", bare, bare).standard_errors is None


def test_states_without_common_readouts_have_no_way_between_them() -> None:
    with pytest.raises(TargetError, match="'way' has no readout in common"):
        shift("way", ProfileTarget("a", ("A",), numbers(1)), ProfileTarget("b", ("B",), numbers(1)))


def test_a_shift_keeps_the_weights_of_its_end() -> None:
    start = ProfileTarget("a", ("x", "y"), torch.tensor([1.0, 2.0]))
    end = ProfileTarget("b", ("y", "x"), torch.tensor([5.0, 3.0]), weights=torch.tensor([2.0, 0.5]))
    way = shift("way", start, end)
    assert way.readouts == ("x", "y")
    assert way.values.tolist() == [2.0, 3.0]
    assert way.weights is not None
    assert way.weights.tolist() == [0.5, 2.0]


def test_states_without_a_common_readout_have_no_way_between_them() -> None:
    one, other = (ProfileTarget(name, (name,), torch.tensor([1.0])) for name in ("x", "z"))
    with pytest.raises(TargetError, match="no readout in common with the end state"):
        shift("way", one, other)
