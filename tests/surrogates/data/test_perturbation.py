import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies.perturbations import interventions, perturbations

from surrogates.data.perturbation import Intervention, Perturbation, split_label
from surrogates.errors import DataError


@given(interventions())
def test_intervention_label_reads_back(intervention: Intervention) -> None:
    assert Intervention.parse(intervention.label, mode=intervention.mode) == intervention


@given(perturbations(lowest=1))
def test_label_reads_back(perturbation: Perturbation) -> None:
    mode = perturbation.interventions[0].mode
    assert Perturbation.parse(perturbation.label, mode=mode) == perturbation


@given(perturbations(), st.randoms())
def test_order_of_parts_never_matters(perturbation: Perturbation, shuffler: object) -> None:
    parts = list(perturbation.interventions)
    shuffler.shuffle(parts)  # type: ignore[attr-defined]
    again = Perturbation(tuple(parts))
    assert (again, hash(again), again.label) == (perturbation, hash(perturbation), perturbation.label)


@given(st.text(alphabet="AB +_x", max_size=12), st.sampled_from(["+", "_", " ", " x ", "__"]))
def test_a_label_without_brackets_is_divided_as_with_an_empty_pair_behind_it(label: str, sep: str) -> None:
    *parts, last = split_label(f"{label}()", sep)
    assert split_label(label, sep) == (*parts, last.removesuffix("()").strip())


def test_empty_label_is_the_control() -> None:
    assert Perturbation.parse("  ") == Perturbation()
    assert str(Perturbation()) == "control"


def test_mode_and_dose_are_read_from_the_end() -> None:
    assert Intervention.parse("HLA-A:knockdown@0.5") == Intervention("HLA-A", "knockdown", 0.5)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("KLF1+KLF1", "names KLF1 more than once"),
        ("KLF1+", "printable target name, not ''"),
        ("KLF1@0", "dose 0.0 of 'KLF1' is not a positive"),
        ("KL\x07F1", "printable target name"),
    ],
)
def test_bad_labels_are_refused(label: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Perturbation.parse(label)
