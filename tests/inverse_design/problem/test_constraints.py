import pytest

from inverse_design.errors import SpaceError
from inverse_design.problem.constraints import Constraints
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import UnknownNameError

LIBRARY = Vocabulary(
    (
        Intervention("CEBPA", "knockdown"),
        Intervention("CEBPE", "knockdown"),
        Intervention("DRUG", "compound", 0.5),
        Intervention("DRUG", "compound", 2.0),
        Intervention("KLF1", "activation"),
    )
)


def names(rules: Constraints) -> list[str]:
    return [LIBRARY.entries[int(one)].label for one in rules.resolve(LIBRARY).entries]


def test_everything_is_allowed_by_default() -> None:
    assert names(Constraints()) == ["CEBPA", "CEBPE", "DRUG@0.5", "DRUG@2", "KLF1"]


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        (Constraints(excluded=("DRUG",)), ["CEBPA", "CEBPE", "KLF1"]),
        (Constraints(excluded=("DRUG@2",)), ["CEBPA", "CEBPE", "DRUG@0.5", "KLF1"]),
        (Constraints(allowed=("DRUG", "KLF1")), ["DRUG@0.5", "DRUG@2", "KLF1"]),
        (Constraints(mode="knockdown"), ["CEBPA", "CEBPE"]),
        (Constraints(dose=(0.5, 1.0)), ["CEBPA", "CEBPE", "DRUG@0.5", "KLF1"]),
        (Constraints(dose=(2.0, 2.0)), ["DRUG@2"]),
    ],
)
def test_names_modes_and_doses_choose_entries(rules: Constraints, left: list[str]) -> None:
    assert names(rules) == left


def test_a_required_target_stands_for_its_allowed_doses() -> None:
    assert Constraints(required=("DRUG",)).resolve(LIBRARY).required == ((2, 3),)
    assert Constraints(required=("DRUG", "DRUG@2", "KLF1")).resolve(LIBRARY).required == ((3,), (4,))
    assert Constraints(required=("DRUG",), excluded=("DRUG@2",)).resolve(LIBRARY).required == ((2,),)


@pytest.mark.parametrize(
    "rules",
    [
        Constraints(required=("KLF1",), excluded=("KLF1",)),
        Constraints(required=("KLF1",), allowed=("CEBPA",)),
        Constraints(required=("KLF1",), mode="knockdown"),
        Constraints(required=("DRUG@0.5", "DRUG@2")),
    ],
)
def test_contradictions_are_refused(rules: Constraints) -> None:
    with pytest.raises(SpaceError, match="is required, but cannot be used"):
        rules.resolve(LIBRARY)


def test_a_range_without_doses_is_refused() -> None:
    with pytest.raises(SpaceError, match="not a range"):
        Constraints(dose=(2.0, 1.0))


@pytest.mark.parametrize("field", ["excluded", "required", "allowed"])
def test_an_unknown_name_is_refused_with_its_neighbours(field: str) -> None:
    with pytest.raises(UnknownNameError, match=r"'CEPBA': did you mean .*'CEBPA'"):
        Constraints(**{field: ("CEPBA",)}).resolve(LIBRARY)


def test_an_unknown_dose_names_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="DRUG@"):
        Constraints(excluded=("DRUG@3",)).resolve(LIBRARY)


def test_a_name_in_the_wrong_mode_says_which_mode_is_known() -> None:
    with pytest.raises(UnknownNameError, match="known in mode activation only"):
        Constraints(excluded=("KLF1:knockdown",)).resolve(LIBRARY)
