import pytest

from inverse_design.errors import SpaceError
from inverse_design.problem.constraints import Constraints, Group
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
        (Constraints(doses=(("DRUG", (0.5,)),)), ["CEBPA", "CEBPE", "DRUG@0.5", "KLF1"]),
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


def test_limits_speak_of_all_doses_of_a_target() -> None:
    rules = Constraints(
        groups=(Group("family", ("CEBPA", "CEBPE", "DRUG"), at_most=2),),
        incompatible=(("KLF1", "DRUG"), ("CEBPA", "KLF1")),
        costs=(("DRUG", 3.0), ("DRUG@2", 8.5), ("CEBPA", 1.0), ("CEBPE", 0.25), ("KLF1", 2.0)),
        budget=9.0,
    )
    limits = rules.resolve(LIBRARY).limits
    assert (limits.groups, limits.at_most) == (((0, 1, 2, 3),), (2,))
    assert limits.apart == ((0, 4), (2, 4), (3, 4))
    assert limits.costs == (1_000_000, 250_000, 3_000_000, 8_500_000, 2_000_000)
    assert limits.budget == 9_000_000


def test_what_is_excluded_needs_no_cost() -> None:
    rules = Constraints(allowed=("CEBPA", "CEBPE"), costs=(("CEBPA", 1.0), ("CEBPE", 1.0)), budget=2.0)
    assert rules.resolve(LIBRARY).limits.costs == (1_000_000, 1_000_000, 0, 0, 0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"costs": (("CEBPA", 1.0),), "budget": 2.0}, "4 allowed names have no cost, such as CEBPE, DRUG@0.5"),
        ({"budget": 2.0}, "without costs, a budget cannot restrict anything"),
        ({"costs": (("CEBPA", 1.0),)}, "without a budget, costs cannot restrict anything"),
        ({"costs": (("CEBPA", -1.0),), "budget": 2.0}, "-1.0 as the cost of 'CEBPA' is not between 0 and"),
        ({"costs": (("CEBPA", float("nan")),), "budget": 2.0}, "nan as the cost of 'CEBPA'"),
        ({"incompatible": (("DRUG@2", "DRUG"),)}, "are one target"),
        ({"doses": (("DRUG", (0.5, 1.5)),)}, "dose 1.5 of 'DRUG' is not known; known are 0.5, 2"),
    ],
)
def test_limits_that_make_no_sense_are_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Constraints(**more).resolve(LIBRARY)


@pytest.mark.parametrize(
    "more",
    [
        {"groups": (Group("family", ("CEBPA", "CEPBA")),)},
        {"incompatible": (("CEBPE", "CEPBA"),)},
        {"costs": (("CEPBA", 1.0),), "budget": 1.0},
        {"doses": (("CEPBA", (1.0,)),)},
    ],
)
def test_limits_with_unknown_names_are_refused_with_their_neighbours(more: dict[str, object]) -> None:
    with pytest.raises(UnknownNameError, match=r"'CEPBA': did you mean .*'CEBPA'"):
        Constraints(**more).resolve(LIBRARY)


def test_a_group_of_which_nothing_may_be_held_is_an_exclusion() -> None:
    with pytest.raises(SpaceError, match="exclude its members instead"):
        Group("family", ("CEBPA",), at_most=0)
