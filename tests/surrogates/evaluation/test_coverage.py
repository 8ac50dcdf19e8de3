import math
from itertools import product

import pytest
import torch
from scipy.stats import betabinom, binomtest
from strategies.screens import normal

from surrogates.errors import CalibrationError
from surrogates.evaluation.intervals import mean
from surrogates.evaluation.metrics import (
    all_covered_rows,
    covered_rows,
    exact_binomial_interval,
    expected_coverage,
    pit_decile,
    pit_deviation,
    pit_shares,
    responding_readouts,
    width_rows,
)
from surrogates.uncertainty.posterior import Interval, isotropic

WHOLE = torch.arange(4)[None]


def test_rows_are_those_of_a_loop() -> None:
    truth, centre = normal(5, 7, seed=0), normal(5, 7, seed=1)
    reach = normal(5, 7, seed=2).abs() + 0.5
    chosen = normal(5, 7, seed=3) > 0
    chosen[4] = False
    interval = Interval(centre - reach, centre + reach, 0.9)
    share, width = covered_rows(interval, truth, chosen), width_rows(interval, chosen)
    every = all_covered_rows(interval, truth)
    for row in range(4):
        counted = [column for column in range(7) if chosen[row, column]]
        within = [abs(float(truth[row, c] - centre[row, c])) <= float(reach[row, c]) for c in counted]
        assert float(share[row]) == pytest.approx(sum(within) / len(counted))
        mean = sum(2 * float(reach[row, c]) for c in counted) / len(counted)
        assert float(width[row]) == pytest.approx(mean)
    for row in range(5):
        assert float(every[row]) == all(
            abs(float(truth[row, c] - centre[row, c])) <= float(reach[row, c]) for c in range(7)
        )
    assert math.isnan(float(share[4]))
    assert math.isnan(float(width[4]))


def test_bounds_belong_to_the_interval_and_infinite_ones_cover() -> None:
    edge = Interval(torch.zeros(1, 2).double(), torch.tensor([[1.0, torch.inf]]).double(), 0.9)
    truth = torch.tensor([[1.0, 1e9]]).double()
    every = torch.ones(1, 2, dtype=torch.bool)
    assert covered_rows(edge, truth, every).tolist() == [1.0]
    assert all_covered_rows(edge, truth).tolist() == [1.0]
    assert all_covered_rows(edge, truth + 0.1).tolist() == [0.0]
    assert covered_rows(edge, truth + 0.1, every).tolist() == [0.5]


def test_responding_readouts_are_chosen_by_prediction() -> None:
    mean = torch.tensor([[0.1, -3.0, 2.0, 0.0], [5.0, 0.0, 0.0, 0.0]]).double()
    assert responding_readouts(mean, 0.5).tolist() == [[False, True, True, False], [True, True, False, False]]
    assert responding_readouts(mean).sum(1).tolist() == [1, 1]
    assert responding_readouts(normal(3, 2000, seed=0)).sum(1).tolist() == [100] * 3


def test_transforms_are_binned_as_spelled_out() -> None:
    posterior = isotropic(normal(3, 6, seed=0), normal(6, seed=1).square() + 0.1)
    truth = normal(3, 6, seed=2)
    shares = pit_shares(posterior, truth, bins=10)
    counts = torch.zeros(3, 10).double()
    for row, column in product(range(3), range(6)):
        standard = (truth - posterior.mean)[row, column] / posterior.variance[row, column].sqrt()
        value = (1 + math.erf(float(standard) / math.sqrt(2))) / 2
        counts[row, min(int(value * 10), 9)] += 1 / 6
    torch.testing.assert_close(shares, counts)
    tenths = [float(pit_decile(shares, number)(torch.arange(3)[None])[0]) for number in range(10)]
    assert tenths == pytest.approx(counts.mean(0).tolist())


@pytest.mark.parametrize(("spread", "low", "high"), [(1.0, 0.0, 0.01), (1e3, 0.2, 0.26), (1e-3, 0.24, 0.26)])
def test_deviation_is_small_for_an_honest_posterior_only(spread: float, low: float, high: float) -> None:
    truth = normal(4, 20_000, seed=0)
    posterior = isotropic(torch.zeros_like(truth), torch.full((20_000,), spread**2).double())
    assert low <= float(pit_deviation(pit_shares(posterior, truth))(WHOLE)[0]) <= high


def test_a_bias_deviates_most_and_an_exact_prediction_is_no_error() -> None:
    sure = isotropic(torch.zeros(4, 9).double(), torch.full((9,), 1e-6).double())
    assert float(pit_deviation(pit_shares(sure, torch.ones(4, 9).double()))(WHOLE)[0]) == pytest.approx(0.495)
    exact = isotropic(torch.zeros(4, 9).double(), torch.zeros(9).double())
    assert float(pit_shares(exact, torch.zeros(4, 9).double())[:, 50].sum()) == 4.0


def test_deviations_of_drawn_rows_are_those_of_the_rows() -> None:
    shares = pit_shares(isotropic(normal(4, 30, seed=1), torch.ones(30).double()), normal(4, 30, seed=2))
    drawn = torch.tensor([[0, 0, 3, 1], [2, 2, 2, 2]])
    both = pit_deviation(shares)(drawn)
    for number, rows in enumerate(drawn):
        alone = pit_deviation(shares[rows])(WHOLE)
        torch.testing.assert_close(both[number : number + 1], alone)


def test_undefined_rows_are_left_out_of_means() -> None:
    values = torch.tensor([1.0, torch.nan, 3.0]).double()
    assert mean(values)(torch.tensor([[0, 1, 2], [1, 0, 0]])).tolist() == [2.0, 1.0]


def test_expected_coverage_holds_what_honest_calibrations_show() -> None:
    low, high = expected_coverage(100, 126, 0.9)
    assert 0 < low < 0.9 < high < 1
    law = betabinom(126, 91, 10)
    within = sum(float(law.pmf(count)) for count in range(round(low * 126), round(high * 126) + 1))
    assert within >= 0.99
    outside = within - float(law.pmf(round(low * 126))) - float(law.pmf(round(high * 126)))
    assert outside < 0.99
    wide = expected_coverage(10, 126, 0.9)
    assert wide[1] - wide[0] > high - low
    with pytest.raises(CalibrationError, match="needs 9"):
        expected_coverage(8, 126, 0.9)


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (5, 5), (3, 12), (90, 100)])
def test_exact_intervals_are_those_of_scipy(hits: int, count: int) -> None:
    reference = binomtest(hits, count).proportion_ci(0.95, method="exact")
    assert exact_binomial_interval(hits, count) == pytest.approx((reference.low, reference.high))


def test_without_trials_nothing_is_known() -> None:
    assert exact_binomial_interval(0, 0) == (0.0, 1.0)
