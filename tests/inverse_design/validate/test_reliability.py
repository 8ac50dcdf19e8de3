import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inverse_design.validate.judged import calibration_errors, calibration_noise, reliability


def predictions(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    stated = torch.rand(count, generator=generator, dtype=torch.float64)
    return stated, torch.rand(count, generator=generator) < 0.5


def slow_error(stated: list[float], hit: list[bool]) -> float:
    """The definition, bin by bin."""
    total = 0.0
    for number in range(10):
        inside = [
            (p, h)
            for p, h in zip(stated, hit, strict=True)
            if number / 10 <= p < (number + 1) / 10 or (number == 9 and p == 1)
        ]
        if inside:
            gap = sum(p for p, _ in inside) / len(inside) - sum(h for _, h in inside) / len(inside)
            total += len(inside) / len(stated) * abs(gap)
    return total


@given(st.integers(1, 60), st.integers(0, 999))
def test_the_error_is_the_weighted_gap_over_bins(count: int, seed: int) -> None:
    lines = [predictions(count, seed + line) for line in range(3)]
    stated, hit = (torch.stack(each) for each in zip(*lines, strict=True))
    wanted = [slow_error(p.tolist(), h.tolist()) for p, h in lines]
    assert calibration_errors(stated, hit).tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@given(st.integers(1, 60), st.integers(0, 999))
def test_bins_hold_all_predictions_and_make_the_error(count: int, seed: int) -> None:
    stated, hit = predictions(count, seed)
    bins = reliability(stated, hit)
    assert sum(each.n for each in bins) == count
    assert [each.low for each in bins] == sorted({each.low for each in bins})
    assert all(each.low <= each.stated <= each.high and each.n > 0 for each in bins)
    error = sum(each.n / count * abs(each.stated - each.found) for each in bins)
    assert float(calibration_errors(stated[None], hit[None])) == pytest.approx(error, rel=1e-9, abs=1e-12)


def test_bins_of_a_few_predictions() -> None:
    stated = torch.tensor([0.0, 0.05, 0.1, 0.95, 1.0]).double()
    found = reliability(stated, torch.tensor([False, True, True, True, False]))
    assert [(each.low, each.high, each.found, each.n) for each in found] == [
        (0.0, 0.1, 0.5, 2),
        (0.1, 0.2, 1.0, 1),
        (0.9, 1.0, 0.5, 2),
    ]
    assert [each.stated for each in found] == pytest.approx([0.025, 0.1, 0.975])


@pytest.mark.parametrize(
    ("stated", "hit", "error"),
    [([1.0, 1.0], [True, True], 0.0), ([1.0, 1.0], [False, False], 1.0), ([0.25, 0.75], [True, False], 0.75)],
)
def test_errors_go_from_none_to_all(stated: list[float], hit: list[bool], error: float) -> None:
    assert float(calibration_errors(torch.tensor([stated]), torch.tensor([hit]))) == pytest.approx(error)


def test_noise_is_what_calibrated_probabilities_show() -> None:
    # One prediction of one half: the gap is one half whatever comes true.
    assert calibration_noise(torch.tensor([0.5]).double(), seed=0) == pytest.approx(0.5)
    # Sure predictions have no noise.
    assert calibration_noise(torch.tensor([0.0, 1.0, 1.0]).double(), seed=0) == 0.0
    # n predictions of one half: the mean of |Binomial(n, 1/2) / n - 1/2|, which is near sqrt(1 / (2 pi n)).
    noise = calibration_noise(torch.full((100,), 0.5).double(), seed=0, draws=4000)
    assert noise == pytest.approx(0.0398, rel=0.05)


def test_noise_is_fixed_by_the_seed() -> None:
    stated, _ = predictions(30, 0)
    assert calibration_noise(stated, seed=1, draws=50) == calibration_noise(stated, seed=1, draws=50)
    assert calibration_noise(stated, seed=1, draws=50) != calibration_noise(stated, seed=2, draws=50)
