import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from surrogates.errors import CalibrationError
from surrogates.uncertainty.conformal.selection import ConformalSelection, benjamini_hochberg, select_candidates

values = st.integers(-4, 4).map(float)  # few values, so that there are ties
pairs = st.lists(st.tuples(values, values), min_size=1, max_size=25)


def double(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def clipped(threshold: float, predicted: float, truth: float) -> float:
    """The score ``M 1{y >= c} - m(x)``, with its ``M``."""
    return 1000.0 * (truth >= threshold) - predicted


def by_hand(
    drawn: list[tuple[float, float]], predicted: list[float], threshold: float, rate: float
) -> tuple[list[float], set[int]]:
    """Conformal selection as it is defined: scores of a candidate whose hypothesis is true, then step-up."""
    scores = [clipped(threshold, m, y) for m, y in drawn]
    null = [clipped(threshold, m, -math.inf) for m in predicted]
    p = [(1 + sum(score <= own for score in scores)) / (len(drawn) + 1) for own in null]
    selected: set[int] = set()
    for k in range(1, len(p) + 1):
        passing = {at for at, each in enumerate(p) if each <= k * rate / len(p) + 1e-12}
        if len(passing) >= k:
            selected = passing
    return p, selected


@given(pairs, st.lists(values, max_size=12), values, st.sampled_from([0.05, 0.2, 0.5]))
def test_selection_is_that_of_the_definition(
    drawn: list[tuple[float, float]], predicted: list[float], threshold: float, rate: float
) -> None:
    calibration, truth = (double(list(each)) for each in zip(*drawn, strict=True))
    found = select_candidates(calibration, truth, double(predicted), threshold=threshold, rate=rate)
    p, selected = by_hand(drawn, predicted, threshold, rate)
    assert found.p_values.tolist() == pytest.approx(p)
    assert set(torch.nonzero(found.selected).flatten().tolist()) == selected
    assert not selected or len(selected) >= found.fewest
    assert all(each >= found.smallest_p - 1e-12 for each in p)


def simulate(
    *, worlds: int, count: int, pool: int, least: float | None, short: bool = False
) -> tuple[float, float, float]:
    """Mean false share, mean share of the good that are found, and share of worlds with a selection.

    ``least`` drops candidates with lower predictions, and calibration perturbations too unless ``short``.
    """
    generator = torch.Generator().manual_seed(0)
    false, power, some = [], [], []
    for _ in range(worlds):
        predicted = torch.randn(count + pool, generator=generator, dtype=torch.float64)
        truth = predicted + 0.7 * torch.randn(count + pool, generator=generator, dtype=torch.float64)
        kept = predicted >= (-torch.inf if least is None else least)
        calibrating = kept[:count] | short
        candidates = predicted[count:][kept[count:]]
        found = select_candidates(
            predicted[:count][calibrating], truth[:count][calibrating], candidates, threshold=1.0, rate=0.2
        ).selected
        good = truth[count:][kept[count:]] >= 1.0
        false.append(float((found & ~good).sum()) / max(1, int(found.sum())))
        power.append(float((found & good).sum()) / max(1, int(good.sum())))
        some.append(float(found.any()))
    return sum(false) / worlds, sum(power) / worlds, sum(some) / worlds


@pytest.mark.parametrize("least", [None, 0.5])
def test_few_are_false_and_some_are_found(least: float | None) -> None:
    false, power, some = simulate(worlds=400, count=200, pool=100, least=least)
    assert false <= 0.2
    assert power > 0.2
    assert some > 0.5


def test_a_list_that_predictions_have_shortened_breaks_the_promise() -> None:
    false, _, _ = simulate(worlds=400, count=200, pool=100, least=0.5, short=True)
    assert false > 0.25


def test_notes_say_why_nothing_is_selected() -> None:
    truth = torch.zeros(50, dtype=torch.float64)

    def note(candidates: int, rate: float, count: int = 50) -> str:
        predicted = torch.zeros(candidates, dtype=torch.float64)
        return select_candidates(truth[:count], truth[:count], predicted, threshold=1.0, rate=rate).note

    none = "none of {} candidates is said to reach 1 at a false share of {}: "
    assert note(100, 0.2) == none.format(100, "20%") + (
        "50 held-out perturbations give p-values down to 0.0196, so that 10 must be selected at once;"
        " hold out more, or list fewer"
    )
    assert note(100, 0.01) == none.format(100, "1%") + (
        "50 held-out perturbations give p-values down to 0.0196, and even all together would need 0.01;"
        " hold out 99 or more"
    )
    assert note(5, 0.2) == none.format(5, "20%") + "the smallest p-value is 1"
    assert note(0, 0.2) == "there are no candidates"
    assert "even all together" not in note(100, 0.2, count=4)  # 4 are just enough
    assert "even all together" in note(100, 0.2, count=3)


def test_what_is_selected_is_said() -> None:
    calibration = torch.arange(40.0, dtype=torch.float64)
    found = select_candidates(calibration, calibration, double([39.0, 35.0, 1.0]), threshold=20.0, rate=0.1)
    assert found.selected.tolist() == [True, True, False]
    assert found.note == "2 of 3 candidates reach 20, at most 10% of them falsely"
    assert found.smallest_p == pytest.approx(1 / 41)
    assert found.fewest == 1


def test_fewest_is_the_smallest_number_that_step_up_can_select() -> None:
    for count, m, rate in ((50, 100, 0.2), (9, 10, 0.5), (19, 100, 0.05), (4, 5, 0.2)):
        p_values = torch.full((m,), 1.0, dtype=torch.float64)
        fewest = ConformalSelection(p_values, p_values > 2, 0.0, rate, count).fewest
        for k in range(1, m + 1):
            p_values[:k] = 1 / (count + 1)
            assert bool(benjamini_hochberg(p_values, rate).any()) == (k >= fewest)


def test_bad_input_is_refused() -> None:
    one = double([1.0])
    for rate in (0.0, 1.0, math.nan):
        with pytest.raises(CalibrationError, match="not between 0 and 1"):
            select_candidates(one, one, one, threshold=0.0, rate=rate)
    with pytest.raises(CalibrationError, match="no perturbation was held out"):
        select_candidates(one[:0], one[:0], one, threshold=0.0, rate=0.1)
    bad = double([math.nan])
    for numbers in ((bad, one, one), (one, bad, one), (one, one, bad)):
        with pytest.raises(CalibrationError, match="NaN"):
            select_candidates(*numbers, threshold=0.0, rate=0.1)
    with pytest.raises(CalibrationError, match="NaN"):
        select_candidates(one, one, one, threshold=math.nan, rate=0.1)
