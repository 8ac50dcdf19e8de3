import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies.perturbations import libraries, targets

from surrogates.data.io.labels import CONTROL_LABELS, SEPARATORS, LabelFormat, dose_parts, find_separator
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.errors import DataError


def read(label: str, form: LabelFormat, *doses: str) -> Perturbation:
    return form.perturbation(form.split(label), doses, "compound")


@given(libraries(), st.sampled_from([*SEPARATORS, "_"]))
def test_any_separator_is_found_when_a_pair_uses_it(library: list[Perturbation], sep: str) -> None:
    labels = {sep.join(one.targets) for one in library} | {"GENE0", "GENE1", sep.join(("GENE0", "GENE1"))}
    form, _ = find_separator(labels | {f"GENE{number}" for number in range(6)}, CONTROL_LABELS)
    assert form.sep == sep
    assert all(read(sep.join(one.targets), form).targets == one.targets for one in library)


@given(targets, st.sampled_from(["ctrl", "CTRL", "control"]))
def test_control_tokens_vanish(target: str, token: str) -> None:
    form = LabelFormat("+", CONTROL_LABELS)
    done = {read(label, form).targets for label in (target, f"{target}+{token}", f"{token}+{target}")}
    assert done == {(target,)}
    assert read(f"{token}+{token}", form) == Perturbation()


def test_underscores_divide_only_between_known_names() -> None:
    form, rule = find_separator({"A", "B", "A_B", "HLA_X", "A_ctrl"}, CONTROL_LABELS)
    assert [form.split(label) for label in ("A_B", "HLA_X", "A_ctrl")] == [("A", "B"), ("HLA_X",), ("A", "ctrl")]
    assert "1 kept whole, such as 'HLA_X'" in rule


def test_an_underscore_that_divides_in_two_ways_is_refused() -> None:
    with pytest.raises(DataError, match=r"'A_B_C' can be A\+B_C or A_B\+C"):
        find_separator({"A", "B_C", "A_B", "C", "A_B_C"}, frozenset())


def test_doses_stand_in_labels() -> None:
    form, _ = find_separator({"901|1.5", "901|1.5,HN|6"}, CONTROL_LABELS)
    wanted = Perturbation((Intervention("901", "compound", 1.5), Intervention("HN", "compound", 6.0)))
    assert read("901|1.5,HN|6", form) == wanted


@pytest.mark.parametrize(("text", "dose"), [("1.0uM", 1.0), ("250 nM", 0.25), ("3", 3.0), ("1e-2µM", 0.01)])
def test_doses_have_units(text: str, dose: float) -> None:
    assert read(f"drug@{text}", LabelFormat("+", frozenset())).interventions[0].dose == dose


def test_doses_of_parts_are_matched_before_controls_vanish() -> None:
    form = LabelFormat("+", frozenset({"ctrl"}))
    assert read("ctrl+A", form, *dose_parts("1+2.5")).interventions == (Intervention("A", "compound", 2.5),)
    assert read("A+B", form, "3").label == "A@3+B@3"


def test_a_lone_dose_may_be_written_with_an_exponent() -> None:
    assert dose_parts("1e+3") == ("1e+3",)


@pytest.mark.parametrize(
    ("label", "doses", "message"),
    [
        ("x" * 1000, (), "a label of 1000 characters"),
        ("A\x00", (), "printable"),
        ("(+)-JQ1", (), "rename it in the file"),
        ("A:knockdown", (), "rename it in the file"),
        ("A", ("high",), "dose 'high' of 'A' is not a number"),
        ("A", ("0",), "not a positive"),
        ("A+B+C", ("1", "2"), "2 doses .1, 2. for 3 parts"),
    ],
)
def test_hostile_labels_are_refused(label: str, doses: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(label, LabelFormat("+", CONTROL_LABELS), *doses)
