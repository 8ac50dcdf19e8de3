import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score
from strategies.screens import normal
from torch import Tensor

from surrogates.evaluation.intervals import bootstrap_interval, median, ratio_of_sums
from surrogates.evaluation.metrics import (
    absolute_errors,
    pearson_rows,
    r_squared_rows,
    squared_errors,
    systema_rows,
)

SEEDS = st.integers(0, 1000)


def _rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


TRUTH = _rows([1, 2, 3], [0, 0, 4])


def test_errors_by_hand() -> None:
    prediction = _rows([1, 2, 5], [1, 0, 3])
    assert squared_errors(prediction, TRUTH).tolist() == [4, 2]
    assert absolute_errors(prediction, TRUTH).tolist() == [2, 2]


@given(seed=SEEDS, unit=st.floats(0.01, 100))
def test_errors_carry_the_unit_of_effects(seed: int, unit: float) -> None:
    one, other = normal(2, 4, 6, seed=seed)
    torch.testing.assert_close(squared_errors(unit * one, unit * other), unit**2 * squared_errors(one, other))
    torch.testing.assert_close(absolute_errors(unit * one, unit * other), unit * absolute_errors(one, other))


@given(seed=SEEDS)
def test_r_squared_agrees_with_scikit_learn(seed: int) -> None:
    prediction, truth = normal(2, 4, 6, seed=seed)
    expected = r2_score(truth.T.numpy(), prediction.T.numpy(), multioutput="raw_values")
    np.testing.assert_allclose(r_squared_rows(prediction, truth).numpy(), expected, rtol=1e-9)


def test_r_squared_is_one_for_the_truth_zero_for_its_mean_and_undefined_for_a_constant() -> None:
    assert r_squared_rows(TRUTH, TRUTH).tolist() == [1, 1]
    torch.testing.assert_close(r_squared_rows(TRUTH.mean(1, keepdim=True).expand(2, 3), TRUTH), _rows([0, 0])[0])
    assert r_squared_rows(TRUTH, torch.full_like(TRUTH, 0.1)).isnan().all()


@given(seed=SEEDS, scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_pearson_agrees_with_numpy_and_ignores_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    one, other = normal(2, 4, 6, seed=seed)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(one.numpy(), other.numpy(), strict=True)]
    np.testing.assert_allclose(pearson_rows(scale * one + shift, other).numpy(), expected, atol=1e-9)


def test_a_constant_row_has_no_correlation() -> None:
    rows = pearson_rows(_rows([0.1, 0.1, 0.1], [0, 0, 1]), TRUTH)
    assert math.isnan(rows[0])
    assert float(rows[1]) == pytest.approx(1)


@given(seed=SEEDS, scale=st.floats(0.01, 100))
def test_systema_is_pearson_around_the_centroid(seed: int, scale: float) -> None:
    one, other, shared = normal(3, 4, 6, seed=seed)
    centroid = 10 * shared[0]
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(one.numpy(), other.numpy(), strict=True)]
    np.testing.assert_allclose(
        systema_rows(scale * one + centroid, other + centroid, centroid).numpy(), expected, atol=1e-9
    )
    torch.testing.assert_close(systema_rows(one, other, torch.zeros_like(centroid)), pearson_rows(one, other))


def test_the_mean_perturbation_has_no_systema_correlation_however_it_was_added_up() -> None:
    effects = 0.3 * normal(50, 20, seed=0) + normal(20, seed=1)
    forward, backward = effects.mean(0), effects.flip(0).cumsum(0)[-1] / 50
    assert not torch.equal(forward, backward), "the test needs rounding to differ"
    assert systema_rows(backward.expand(50, 20), effects, forward).isnan().all()
    assert pearson_rows(backward.expand(50, 20), effects).median() > 0.8  # which is what Systema is for


def test_a_statistic_of_rows_is_the_statistic_of_each_row() -> None:
    prediction, truth = normal(2, 5, 7, seed=3)
    for metric in (
        squared_errors,
        absolute_errors,
        r_squared_rows,
        pearson_rows,
        lambda one, other: systema_rows(one, other, torch.linspace(-1, 1, 7, dtype=torch.float64)),
    ):
        alone = torch.cat([metric(prediction[[row]], truth[[row]]) for row in range(5)])
        torch.testing.assert_close(metric(prediction, truth), alone)


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
