import pytest
import torch

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.base import single_effects, sum_over_interventions


def _screen(effects: dict[str, list[float]], contexts: list[str] | None = None) -> Screen:
    return Screen.from_labels(
        torch.tensor([*effects.values()], dtype=torch.float64),
        [Perturbation.parse(label) for label in effects],
        ["x", "y"],
        contexts=contexts,
    )


def test_an_entry_not_measured_alone_gets_the_mean_single_effect() -> None:
    rows, measured = single_effects(_screen({"A": [1, 2], "B": [3, 6], "A+C": [9, 9]}))
    assert rows.tolist() == [[1, 2], [3, 6], [2, 4]]
    assert measured.tolist() == [True, True, False]


def test_two_doses_of_a_target_have_their_own_effects() -> None:
    rows, measured = single_effects(_screen({"A": [1, 2], "A@0.5": [5, 7], "B": [0, 0]}))
    assert rows.tolist() == [[5, 7], [1, 2], [0, 0]]
    assert measured.all()


def test_a_screen_without_singles_is_refused() -> None:
    with pytest.raises(DataError, match="none of the 3 interventions was measured alone"):
        single_effects(_screen({"A+B": [1, 2], "A+C": [2, 3], "B+C": [4, 5]}))


def test_several_contexts_are_refused() -> None:
    with pytest.raises(DataError, match="2 contexts"):
        single_effects(_screen({"A": [1, 2], "B": [2, 3], "C": [4, 5]}, contexts=["u", "v", "v"]))


def test_sums_skip_empty_slots() -> None:
    screen = _screen({"A": [1, 2], "B": [3, 6], "A+B": [9, 9]})
    batch = screen.vocabulary.batch([Perturbation(), Perturbation.parse("B"), Perturbation.parse("A+B")])
    rows = torch.tensor([[1, 2], [3, 6]], dtype=torch.float64)
    assert sum_over_interventions(rows, batch).tolist() == [[0, 0], [3, 6], [4, 8]]
