import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from surrogates.evaluation.metrics import (
    bootstrap_interval,
    mean_squared_error,
    median,
    median_pearson,
    pearson_rows,
    ratio_of_sums,
    squared_error_ratio,
    squared_errors,
)


def _rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


TRUTH = _rows([1, 2, 3], [0, 0, 4])


def test_squared_errors_by_hand() -> None:
    prediction = _rows([1, 2, 5], [1, 0, 4])
    assert squared_errors(prediction, TRUTH).tolist() == [4, 1]
    assert mean_squared_error(prediction, TRUTH) == pytest.approx(5 / 6)
    assert squared_error_ratio(prediction, TRUTH, torch.zeros_like(TRUTH)) == pytest.approx(5 / 30)


def test_a_model_is_as_good_as_itself() -> None:
    prediction = TRUTH + 0.5
    assert squared_error_ratio(prediction, TRUTH, prediction) == 1


@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_pearson_agrees_with_numpy_and_ignores_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    one, other = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(one.numpy(), other.numpy(), strict=True)]
    np.testing.assert_allclose(pearson_rows(scale * one + shift, other).numpy(), expected, atol=1e-9)


def test_a_constant_row_has_no_correlation() -> None:
    prediction = _rows([0.1, 0.1, 0.1], [0, 0, 1])
    rows = pearson_rows(prediction, TRUTH)
    assert math.isnan(rows[0])
    assert float(rows[1]) == pytest.approx(1)
    assert median_pearson(prediction, TRUTH) == pytest.approx(1)
    assert math.isnan(median_pearson(prediction[:1], TRUTH[:1]))


def test_the_median_of_two_is_their_middle() -> None:
    assert median_pearson(_rows([1, 2, 3], [0, 0, -1]), TRUTH) == pytest.approx(0)


def test_statistics_take_many_draws_at_once() -> None:
    draws = torch.tensor([[0, 1], [1, 1]])
    assert ratio_of_sums(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 8.0]))(draws).tolist() == pytest.approx(
        [0.3, 0.25]
    )
    assert median(torch.tensor([1.0, 2.0]))(draws).tolist() == [1.5, 2]
    assert median(torch.tensor([math.nan, 2.0]))(draws).tolist() == [2, 2]


def test_the_bootstrap_of_a_mean_is_about_two_standard_errors_wide() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = bootstrap_interval(lambda rows: values[rows].mean(1), 400, seed=0)
    half = 1.96 * float(values.std()) / 20
    assert low == pytest.approx(float(values.mean()) - half, abs=0.015)
    assert high == pytest.approx(float(values.mean()) + half, abs=0.015)


def test_the_bootstrap_is_paired_and_seeded() -> None:
    errors = torch.tensor([1.0, 5.0, 9.0])
    assert bootstrap_interval(ratio_of_sums(errors, errors), 3, seed=0) == (1, 1)
    statistic = ratio_of_sums(errors, torch.tensor([2.0, 1.0, 3.0]))
    assert bootstrap_interval(statistic, 3, seed=0) == bootstrap_interval(statistic, 3, seed=0)


def test_an_undefined_statistic_has_undefined_bounds() -> None:
    low, high = bootstrap_interval(median(torch.full((3,), math.nan)), 3, seed=0)
    assert math.isnan(low)
    assert math.isnan(high)
